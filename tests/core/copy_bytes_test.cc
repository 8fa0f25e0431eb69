// SPDX-License-Identifier: Apache-2.0
#include "core/copy_bytes.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <vector>

#include "support/seed.h"

namespace verbena::test {
namespace {

// Addresses and lengths of every way that it has: words, memcpy, and plain loads and stores where `to` lies a
// little further into its page than `from`.
TEST(CopyBytesTest, EveryByteArrivesAndNoOtherChanges) {
  Dice dice;
  constexpr std::size_t page = 4096;
  std::vector<std::byte> from(8 * page), to(8 * page);
  for (std::byte& byte : from) byte = static_cast<std::byte>(dice.word());
  for (int round = 0; round < 3000; ++round) {
    const std::size_t length = dice.one_in(3) ? dice.between(0, 200) : dice.between(1900, 4 * page);
    const std::size_t source = dice.between(0, page);
    const std::size_t target =
        dice.one_in(2) ? source + page + dice.between(0, 64) : dice.between(0, 2 * page);
    std::ranges::fill(to, std::byte{0xee});
    core::copy_bytes(to.data() + target, from.data() + source, length);
    const auto begin = to.begin() + static_cast<std::ptrdiff_t>(target);
    const auto end = begin + static_cast<std::ptrdiff_t>(length);
    ASSERT_TRUE(std::equal(begin, end, from.begin() + static_cast<std::ptrdiff_t>(source)))
        << length << " bytes from " << source << " to " << target;
    const auto is_old = [](std::byte byte) { return byte == std::byte{0xee}; };
    ASSERT_TRUE(std::all_of(to.begin(), begin, is_old) && std::all_of(end, to.end(), is_old))
        << length << " bytes from " << source << " to " << target;
  }
}

}  // namespace
}  // namespace verbena::test
