// SPDX-License-Identifier: Apache-2.0
/// Aligned columns of text.
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace verbena::tools {

/// Characters that a terminal shows, where `text` is UTF-8 without combining marks.
std::size_t width_of(std::string_view text);

/// `text` with blanks up to `width`, before it or behind it.
std::string pad_left(std::string_view text, std::size_t width);
std::string pad_right(std::string_view text, std::size_t width);

/// Rows printed one by one, as they come to be known: so a column's width is its title's or the declared one.
class Table {
 public:
  struct Column {
    std::string title;
    std::size_t width = 0;
  };
  explicit Table(std::vector<Column> columns);

  std::string header() const;
  /// As many cells as there are columns, aligned to the right.
  std::string row(const std::vector<std::string>& cells) const;

 private:
  std::vector<Column> columns_;
};

/// Two columns, names left: "  device    soft0".
std::string fact(std::string_view name, std::string_view value);

}  // namespace verbena::tools
