// SPDX-License-Identifier: Apache-2.0
/// Sizes, times and rates as people write and read them.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace verbena::tools {

/// Reads "64", "4K", "4KiB", "1M", "1MiB", "2G" … (powers of 1024) and comma lists of them. Throws
/// UsageError.
std::uint64_t parse_size(std::string_view text);
std::vector<std::uint64_t> parse_sizes(const std::vector<std::string>& texts);

std::string show_size(std::uint64_t bytes);      ///< "8 B", "4 KiB", "1.5 MiB"
std::string show_time(double ns);                ///< "52 ns", "1.23 µs", "4.56 ms", "7.8 s"
std::string show_bandwidth(double bytes_per_s);  ///< "194 MB/s", "53.2 GB/s"
std::string show_rate(double per_s);             ///< "41.6 M/s"
std::string show_count(std::uint64_t count);     ///< "1,000,000"

}  // namespace verbena::tools
