// SPDX-License-Identifier: Apache-2.0
/// Two cores for the two processes of a measurement.
#pragma once

#include <optional>
#include <string_view>
#include <utility>
#include <vector>

namespace verbena::tools {

/// The first process's core, then the second's.
using CorePair = std::pair<int, int>;

/// The cores that this process may run on.
std::vector<int> allowed_cores();

/// Two of the allowed cores: different physical cores of one package where there are such. Nothing where the
/// process may run on one core only.
std::optional<CorePair> choose_cores();

/// Reads "0,1". Throws UsageError, naming the allowed cores, where one of them isn't allowed or both are the
/// same.
CorePair parse_cores(std::string_view text);

/// Keeps the calling thread, and threads that it starts later, on one core. Throws Failure.
void pin_to(int core);

}  // namespace verbena::tools
