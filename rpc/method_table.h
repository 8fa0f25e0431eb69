// SPDX-License-Identifier: Apache-2.0
/// What a Loop counts of each method: a row a role and method, found by its id.
#pragma once

#include <array>
#include <cstddef>
#include <memory>
#include <string_view>
#include <system_error>

#include "transport/engine.h"
#include "verbena/rpc.h"
#include "verbena/statistics.h"

namespace verbena::rpc {

/// Rows are made when a method is first seen, stay where they are, and live as long as the Loop: what its
/// clients and servers have counted is still there when they are gone. Looking one up allocates nothing.
class MethodTable final : public transport::CallCounters {
 public:
  /// The engine's; made at the first use.
  static MethodTable& of(transport::Engine& engine);

  /// The method's row; the one of all others where there are most_methods already, or no memory.
  MethodStatistics& row(Role role, MethodId method) noexcept;
  /// Of methods without a row of their own.
  MethodStatistics& other(Role role) noexcept { return *side(role).other; }
  /// Throws Error (invalid_argument) where `name` isn't 1 to 64 printable ASCII characters.
  void name(Role role, MethodId method, std::string_view name);

  void add_to(Snapshot& snapshot) const override;

 private:
  MethodTable();

  struct Side {
    std::unique_ptr<MethodStatistics> other;
    // Open addressing by method id: half of it stays empty.
    std::array<std::unique_ptr<MethodStatistics>, 2 * most_methods> rows;
    std::size_t count = 0;
  };
  Side& side(Role role) noexcept { return sides_[static_cast<std::size_t>(role)]; }

  std::array<Side, 2> sides_;
};

/// Counts an error by its kind.
void count_failure(MethodStatistics& row, std::error_code error) noexcept;
void count_failure(MethodStatistics& row, errc error) noexcept;

}  // namespace verbena::rpc
