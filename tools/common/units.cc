// SPDX-License-Identifier: Apache-2.0
#include "tools/common/units.h"

#include <fmt/format.h>

#include <array>
#include <charconv>
#include <limits>

#include "tools/common/failure.h"

namespace verbena::tools {
namespace {

/// The power of 1024 that a suffix stands for, or -1.
int power_of(std::string_view suffix) {
  if (suffix.empty() || suffix == "B") return 0;
  const int power = static_cast<int>(std::string_view("BKMGT").find(static_cast<char>(suffix[0] & ~0x20)));
  const std::string_view rest = suffix.substr(1);
  return power > 0 && (rest.empty() || rest == "B" || rest == "iB") ? power : -1;
}

/// Three significant digits.
std::string three_digits(double value, std::string_view unit) {
  const int decimals = value < 9.995 ? 2 : value < 99.95 ? 1 : 0;
  return fmt::format("{:.{}f} {}", value, decimals, unit);
}

/// `units` are a factor of 1000 apart; the first is for values below 1000.
template <std::size_t count>
std::string scaled(double value, const std::array<std::string_view, count>& units) {
  std::size_t unit = 0;
  for (; unit + 1 < count && value >= 999.5; ++unit) value /= 1000;
  return three_digits(value, units[unit]);
}

}  // namespace

std::uint64_t parse_size(std::string_view text) {
  std::uint64_t value = 0;
  const char* const end = text.data() + text.size();
  const auto [rest, error] = std::from_chars(text.data(), end, value);
  const int power = power_of({rest, static_cast<std::size_t>(end - rest)});
  const bool fits = power >= 0 && value <= std::numeric_limits<std::uint64_t>::max() >> (10 * power);
  if (error != std::errc{} || !fits)
    throw UsageError(fmt::format("'{}' is not a size; write bytes, or as in 64K, 1MiB, 2G.", text));
  return value << (10 * power);
}

std::vector<std::uint64_t> parse_sizes(const std::vector<std::string>& texts) {
  std::vector<std::uint64_t> sizes;
  for (std::string_view text : texts)
    for (bool more = true; more;) {
      const std::size_t comma = text.find(',');
      sizes.push_back(parse_size(text.substr(0, comma)));
      more = comma != std::string_view::npos;
      if (more) text.remove_prefix(comma + 1);
    }
  return sizes;
}

std::string show_size(std::uint64_t bytes) {
  static constexpr std::array<std::string_view, 5> units{"B", "KiB", "MiB", "GiB", "TiB"};
  std::size_t unit = 0;
  auto value = static_cast<double>(bytes);
  for (; unit + 1 < units.size() && value >= 1024; ++unit) value /= 1024;
  const bool whole = value == static_cast<double>(static_cast<std::uint64_t>(value));
  return whole ? fmt::format("{:.0f} {}", value, units[unit]) : three_digits(value, units[unit]);
}

std::string show_time(double ns) {
  if (ns < 999.5) return fmt::format("{:.{}f} ns", ns, ns < 99.95 ? 1 : 0);
  return scaled(ns / 1000, std::array<std::string_view, 3>{"µs", "ms", "s"});
}

std::string show_bandwidth(double bytes_per_s) {
  return scaled(bytes_per_s, std::array<std::string_view, 4>{"B/s", "kB/s", "MB/s", "GB/s"});
}

std::string show_rate(double per_s) {
  return scaled(per_s, std::array<std::string_view, 4>{"/s", "k/s", "M/s", "G/s"});
}

std::string show_count(std::uint64_t count) {
  std::string digits = std::to_string(count);
  for (auto at = static_cast<std::ptrdiff_t>(digits.size()) - 3; at > 0; at -= 3)
    digits.insert(static_cast<std::size_t>(at), 1, ',');
  return digits;
}

}  // namespace verbena::tools
