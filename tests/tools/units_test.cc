// SPDX-License-Identifier: Apache-2.0
#include <gtest/gtest.h>

#include "tools/common/failure.h"
#include "tools/common/table.h"
#include "tools/common/units.h"

namespace verbena::tools {
namespace {

TEST(Units, SizesAreReadWithAndWithoutSuffix) {
  EXPECT_EQ(parse_size("8"), 8U);
  EXPECT_EQ(parse_size("8B"), 8U);
  EXPECT_EQ(parse_size("4k"), 4096U);
  EXPECT_EQ(parse_size("4KiB"), 4096U);
  EXPECT_EQ(parse_size("1MB"), 1U << 20);
  EXPECT_EQ(parse_size("2g"), std::uint64_t{2} << 30);
  EXPECT_EQ(parse_sizes({"1,2", "3"}), (std::vector<std::uint64_t>{1, 2, 3}));
}

TEST(Units, WhatIsNoSizeIsRefused) {
  for (const char* text :
       {"", "x", "-1", "1.5K", "8Kx", "8KKB", "99999999999999999999", "99999999999G", "1,", ","})
    EXPECT_THROW(parse_sizes({text}), UsageError) << text;
}

TEST(Units, AreShownWithThreeDigits) {
  EXPECT_EQ(show_size(8), "8 B");
  EXPECT_EQ(show_size(65536), "64 KiB");
  EXPECT_EQ(show_size(1536 * 1024), "1.50 MiB");
  EXPECT_EQ(show_time(52.34), "52.3 ns");
  EXPECT_EQ(show_time(999.4), "999 ns");
  EXPECT_EQ(show_time(1234), "1.23 µs");
  EXPECT_EQ(show_time(7.8e9), "7.80 s");
  EXPECT_EQ(show_bandwidth(53.24e9), "53.2 GB/s");
  EXPECT_EQ(show_bandwidth(999.9e6), "1.00 GB/s");
  EXPECT_EQ(show_rate(41.6e6), "41.6 M/s");
  EXPECT_EQ(show_count(1'000'000), "1,000,000");
  EXPECT_EQ(show_count(999), "999");
}

TEST(Table, AlignsByWhatATerminalShows) {
  const Table table({{"size", 6}, {"time", 0}});
  EXPECT_EQ(table.header(), "    size  time\n");
  EXPECT_EQ(table.row({"8 B", "1 µs"}), "     8 B  1 µs\n");
}

}  // namespace
}  // namespace verbena::tools
