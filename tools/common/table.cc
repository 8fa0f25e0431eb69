// SPDX-License-Identifier: Apache-2.0
#include "tools/common/table.h"

#include <algorithm>
#include <cassert>

namespace verbena::tools {

std::size_t width_of(std::string_view text) {
  const auto continues = [](char byte) { return (static_cast<unsigned char>(byte) & 0xC0) == 0x80; };
  return text.size() - static_cast<std::size_t>(std::count_if(text.begin(), text.end(), continues));
}

std::string pad_left(std::string_view text, std::size_t width) {
  const std::size_t shown = width_of(text);
  return std::string(shown < width ? width - shown : 0, ' ').append(text);
}

std::string pad_right(std::string_view text, std::size_t width) {
  const std::size_t shown = width_of(text);
  return std::string(text).append(shown < width ? width - shown : 0, ' ');
}

Table::Table(std::vector<Column> columns) : columns_(std::move(columns)) {
  for (Column& column : columns_) column.width = std::max(column.width, width_of(column.title));
}

std::string Table::header() const {
  std::vector<std::string> titles;
  for (const Column& column : columns_) titles.push_back(column.title);
  return row(titles);
}

std::string Table::row(const std::vector<std::string>& cells) const {
  assert(cells.size() == columns_.size());
  std::string line;
  for (std::size_t i = 0; i < cells.size(); ++i) line += "  " + pad_left(cells[i], columns_[i].width);
  return line + "\n";
}

std::string fact(std::string_view name, std::string_view value) {
  constexpr std::size_t name_width = 10;
  return "  " + pad_right(name, name_width) + std::string(value) + "\n";
}

}  // namespace verbena::tools
