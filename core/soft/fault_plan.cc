// SPDX-License-Identifier: Apache-2.0
#include "core/soft/fault_plan.h"

#include <fmt/format.h>

#include <array>
#include <charconv>
#include <cmath>
#include <cstdlib>
#include <string>

#include "verbena/error.h"

namespace verbena::core::soft {
namespace {

constexpr std::string_view known_words =
    "seed=N, drop=P, rnr=P, late=TIME, late-chance=P, delay-completion=TIME, fail-nth=N, kill-link-after=N";

[[noreturn]] void refuse(std::string_view word, std::string_view wanted) {
  throw Error(errc::invalid_argument,
              fmt::format("a fault plan (VERBENA_FAULT) can't have \"{}\": {}", word, wanted));
}

// All of `text`, or nothing.
template <class Number>
bool read(std::string_view text, Number& value) {
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  return error == std::errc{} && end == text.data() + text.size();
}

std::uint64_t count_of(std::string_view word, std::string_view text, std::uint64_t least) {
  std::uint64_t value = 0;
  if (!read(text, value) || value < least)
    refuse(word, fmt::format("a whole number of at least {} is wanted", least));
  return value;
}

double chance_of(std::string_view word, std::string_view text) {
  double value = 0;
  if (!read(text, value) || !(value >= 0 && value <= 1)) refuse(word, "a probability is wanted, from 0 to 1");
  return value;
}

std::chrono::nanoseconds time_of(std::string_view word, std::string_view text) {
  struct Unit {
    std::string_view name;
    double ns;
  };
  constexpr std::array units{Unit{"ns", 1}, Unit{"us", 1e3}, Unit{"ms", 1e6}, Unit{"s", 1e9}};
  for (const Unit& unit : units) {
    double value = 0;
    if (!text.ends_with(unit.name) || !read(text.substr(0, text.size() - unit.name.size()), value)) continue;
    const double ns = value * unit.ns;
    if (!(ns >= 0 && ns <= static_cast<double>(longest_fault.count()))) break;
    return std::chrono::nanoseconds{std::llround(ns)};
  }
  refuse(word, "a time is wanted, a number with ns, us, ms or s, up to 10s");
}

void take(FaultPlan& plan, std::string_view word) {
  const std::size_t equals = word.find('=');
  if (equals == word.npos) refuse(word, fmt::format("known are {}", known_words));
  const std::string_view name = word.substr(0, equals);
  const std::string_view value = word.substr(equals + 1);
  if (name == "seed") {
    plan.seed = count_of(word, value, 0);
  } else if (name == "drop") {
    plan.drop = chance_of(word, value);
  } else if (name == "rnr") {
    plan.not_ready = chance_of(word, value);
  } else if (name == "late") {
    plan.late = time_of(word, value);
  } else if (name == "late-chance") {
    plan.late_chance = chance_of(word, value);
  } else if (name == "delay-completion") {
    plan.completion_delay = time_of(word, value);
  } else if (name == "fail-nth") {
    plan.failing_call = count_of(word, value, 1);
  } else if (name == "kill-link-after") {
    plan.link_life = count_of(word, value, 1);
  } else {
    refuse(word, fmt::format("known are {}", known_words));
  }
}

}  // namespace

FaultPlan FaultPlan::parse(std::string_view text) {
  FaultPlan plan;
  while (!text.empty()) {
    const std::size_t comma = text.find(',');
    take(plan, text.substr(0, comma));
    text.remove_prefix(comma == text.npos ? text.size() : comma + 1);
  }
  return plan;
}

std::optional<FaultPlan> FaultPlan::from_environment() {
  const char* text = std::getenv("VERBENA_FAULT");
  if (!text || !*text) return std::nullopt;
  return parse(text);
}

}  // namespace verbena::core::soft
