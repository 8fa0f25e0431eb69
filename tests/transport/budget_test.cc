// SPDX-License-Identifier: Apache-2.0
// What was declared is what is pinned.
#include "transport/loops.h"

namespace verbena::test {
namespace {

TEST(BudgetTest, ALoopPinsWhatItsOptionsSaid) {
  Dice dice;
  for (int round = 0; round < 20; ++round) {
    Options options = small_options();
    options.peers = static_cast<std::uint32_t>(dice.between(1, 5));
    options.eager_size = static_cast<std::uint32_t>(dice.between(64, 5000));
    options.request_depth = static_cast<std::uint32_t>(dice.between(2, 50));
    options.call_depth = static_cast<std::uint32_t>(dice.between(1, 50));
    options.large_depth = static_cast<std::uint32_t>(dice.between(1, 20));
    options.large_bytes = dice.between(4096, 100'000);
    options.pool_bytes = dice.one_in(3) ? 0 : dice.between(1, 100'000);
    const Loop loop{options};
    EXPECT_EQ(loop.pinned_bytes(), options.budget().total()) << options.budget().to_string();
  }
}

TEST(BudgetTest, ALoopOfManyPeersPinsWhatItsOptionsSaid) {
  Options options = Options::many_peers(100);
  options.device = device_name();
  options.large_bytes = 64 * 1024;
  const Loop loop{options};
  EXPECT_EQ(loop.pinned_bytes(), options.budget().total()) << options.budget().to_string();
}

TEST(BudgetTest, TrafficPinsNoMore) {
  Connected both;
  Inbox inbox{both.server};
  const Message large = message(300'000);
  for (int i = 0; i < 10; ++i) {
    Noted sent;
    ASSERT_EQ(both.client.send(large, sent), std::error_code{});
    both.until("a large message", [&] { return sent.done(); });
    EXPECT_EQ(both.server_loop.pinned_bytes(), small_options().budget().total());
    EXPECT_EQ(both.client_loop.pinned_bytes(), small_options().budget().total());
  }
}

TEST(BudgetTest, ALoopOfBadOptionsIsNotMade) {
  Options options = small_options();
  options.peers = 0;
  EXPECT_THROW(Loop{options}, Error);
}

TEST(BudgetTest, ALoopOfAnUnknownDeviceSaysSo) {
  Options options = small_options();
  options.device = "mlx99";
  try {
    const Loop loop{options};
    FAIL() << "it was made";
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), code(errc::device_not_found));
    EXPECT_NE(std::string(error.what()).find("mlx99"), std::string::npos) << error.what();
  }
}

}  // namespace
}  // namespace verbena::test
