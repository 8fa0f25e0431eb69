// SPDX-License-Identifier: Apache-2.0
#include "rpc/method_table.h"

#include <fmt/format.h>

#include <algorithm>
#include <new>
#include <string>
#include <vector>

#include "verbena/error.h"

namespace verbena::rpc {
namespace {

std::unique_ptr<MethodStatistics> make_row(Role role, MethodId method) {
  auto row = std::make_unique<MethodStatistics>();
  row->role = role;
  row->method = method;
  return row;
}

Failed kind_of(errc error) noexcept {
  switch (error) {
    case errc::timed_out:
      return Failed::timed_out;
    case errc::cancelled:
      return Failed::cancelled;
    case errc::rejected:
      return Failed::rejected;
    case errc::handler_failed:
      return Failed::handler_failed;
    case errc::overloaded:
      return Failed::overloaded;
    case errc::connection_lost:
    case errc::not_sent:
      return Failed::connection_lost;
    default:
      return Failed::other;
  }
}

}  // namespace

MethodTable::MethodTable() {
  for (const Role role : {Role::client, Role::server}) {
    side(role).other = make_row(role, 0);
    side(role).other->is_other = true;
  }
}

MethodTable& MethodTable::of(transport::Engine& engine) {
  if (!engine.call_counters) engine.call_counters.reset(new MethodTable);
  return static_cast<MethodTable&>(*engine.call_counters);  // rpc is the one layer above
}

MethodStatistics& MethodTable::row(Role role, MethodId method) noexcept {
  Side& its = side(role);
  constexpr std::size_t mask = 2 * most_methods - 1;
  static_assert((most_methods & (most_methods - 1)) == 0);
  std::size_t at = (method * 2654435761U >> 16) & mask;  // Fibonacci hashing: ids may be of any pattern
  for (; its.rows[at]; at = (at + 1) & mask) {
    if (its.rows[at]->method == method) return *its.rows[at];
  }
  if (its.count == most_methods) return *its.other;
  try {
    its.rows[at] = make_row(role, method);
  } catch (const std::bad_alloc&) {
    return *its.other;
  }
  ++its.count;
  return *its.rows[at];
}

void MethodTable::name(Role role, MethodId method, std::string_view name) {
  constexpr std::size_t longest = 64;
  const bool printable = std::ranges::all_of(name, [](char c) { return c >= ' ' && c <= '~'; });
  if (name.empty() || name.size() > longest || !printable)
    throw Error(
        errc::invalid_argument,
        fmt::format("the name of method {} has {} bytes; it must be 1 to {} printable ASCII characters",
                    method, name.size(), longest));
  if (MethodStatistics& its = row(role, method); !its.is_other) its.name = name;
}

void MethodTable::add_to(Snapshot& snapshot) const {
  for (const Side& side : sides_) {
    std::vector<const MethodStatistics*> rows;  // a row is too long to be moved about
    for (const auto& row : side.rows) {
      if (row) rows.push_back(row.get());
    }
    std::ranges::sort(rows, {}, &MethodStatistics::method);
    if (side.other->calls > 0) rows.push_back(side.other.get());
    snapshot.methods.reserve(snapshot.methods.size() + rows.size());
    for (const MethodStatistics* row : rows) snapshot.methods.push_back(*row);
  }
}

void count_failure(MethodStatistics& row, errc error) noexcept {
  ++row.errors[static_cast<std::size_t>(kind_of(error))];
}

void count_failure(MethodStatistics& row, std::error_code error) noexcept {
  count_failure(row, error.category() == verbena_category() ? static_cast<errc>(error.value()) : errc{});
}

}  // namespace verbena::rpc
