// SPDX-License-Identifier: Apache-2.0
#include "tools/common/cores.h"

#include <fmt/format.h>
#include <fmt/ranges.h>
#include <sched.h>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <cstring>
#include <fstream>
#include <string>

#include "tools/common/failure.h"

namespace verbena::tools {
namespace {

std::string topology(int core, const char* what) {
  std::ifstream file(fmt::format("/sys/devices/system/cpu/cpu{}/topology/{}", core, what));
  std::string text;
  std::getline(file, text);
  return text;
}

/// 2: another physical core of the same package. 1: another physical core. 0: the other thread of the same
/// one.
int fitness(int first, int second) {
  if (topology(first, "thread_siblings_list") == topology(second, "thread_siblings_list")) return 0;
  return topology(first, "physical_package_id") == topology(second, "physical_package_id") ? 2 : 1;
}

int parse_core(std::string_view text) {
  int core = -1;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), core);
  const std::vector<int> allowed = allowed_cores();
  const bool known = std::find(allowed.begin(), allowed.end(), core) != allowed.end();
  if (error != std::errc{} || end != text.data() + text.size() || !known)
    throw UsageError(fmt::format("'{}' is not a core that this process may run on; choose two of {}.", text,
                                 fmt::join(allowed, ", ")));
  return core;
}

}  // namespace

std::vector<int> allowed_cores() {
  cpu_set_t set;
  CPU_ZERO(&set);
  std::vector<int> cores;
  if (::sched_getaffinity(0, sizeof set, &set) != 0) return cores;
  for (int core = 0; core < CPU_SETSIZE; ++core)
    if (CPU_ISSET(core, &set)) cores.push_back(core);
  return cores;
}

std::optional<CorePair> choose_cores() {
  const std::vector<int> cores = allowed_cores();
  if (cores.size() < 2) return std::nullopt;
  const int first = cores.front();
  const auto best = std::max_element(cores.begin() + 1, cores.end(),
                                     [&](int a, int b) { return fitness(first, a) < fitness(first, b); });
  return CorePair{first, *best};
}

CorePair parse_cores(std::string_view text) {
  const std::size_t comma = text.find(',');
  if (comma == std::string_view::npos)
    throw UsageError(fmt::format("'{}' does not name two cores; write them as in '--cores 0,1'.", text));
  const CorePair cores{parse_core(text.substr(0, comma)), parse_core(text.substr(comma + 1))};
  if (cores.first == cores.second)
    throw UsageError(
        fmt::format("core {} can't hold both processes; name two different cores.", cores.first));
  return cores;
}

void pin_to(int core) {
  cpu_set_t set;
  CPU_ZERO(&set);
  CPU_SET(core, &set);
  if (::sched_setaffinity(0, sizeof set, &set) != 0)
    throw Failure(fmt::format("the process could not be kept on core {}: {}.", core, std::strerror(errno)));
}

}  // namespace verbena::tools
