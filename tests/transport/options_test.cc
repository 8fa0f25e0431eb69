// SPDX-License-Identifier: Apache-2.0
#include "verbena/options.h"

#include <gtest/gtest.h>

#include <functional>

#include "verbena/error.h"

namespace verbena {
namespace {

TEST(OptionsTest, TheDefaultsAreValid) {
  EXPECT_NO_THROW(Options{}.validate());
}

TEST(OptionsTest, ManyPeersMayBeAsManyAsThereMayBePeers) {
  EXPECT_NO_THROW(Options::many_peers(1).validate());
  EXPECT_NO_THROW(Options::many_peers(4095).validate());
  EXPECT_THROW(Options::many_peers(4096).validate(), Error);
}

TEST(OptionsTest, ManyPeersPinATwentiethOfWhatAPeerPinsByDefault) {
  const auto a_further_peer = [](Options options) {
    const std::size_t before = options.budget().total();
    options.peers += 64;  // whole pages
    return (options.budget().total() - before) / 64;
  };
  EXPECT_LT(a_further_peer(Options::many_peers(1)), a_further_peer(Options{}) / 20);
  EXPECT_LE(a_further_peer(Options::many_peers(1)), 24U * 1024);
}

struct Mistake {
  const char* option;
  std::function<void(Options&)> make;
};

class BadOption : public testing::TestWithParam<Mistake> {};

TEST_P(BadOption, IsRefusedByItsName) {
  Options options;
  GetParam().make(options);
  try {
    options.validate();
    FAIL() << "it was taken";
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), make_error_code(errc::invalid_argument));
    EXPECT_NE(std::string(error.what()).find(GetParam().option), std::string::npos) << error.what();
  }
}

using std::chrono::hours;
using std::chrono::milliseconds;

INSTANTIATE_TEST_SUITE_P(
    Values, BadOption,
    testing::Values(Mistake{"peers", [](Options& o) { o.peers = 0; }},
                    Mistake{"peers", [](Options& o) { o.peers = 4096; }},
                    Mistake{"eager_size", [](Options& o) { o.eager_size = 63; }},
                    Mistake{"read_from", [](Options& o) { o.read_from = 64; }},
                    Mistake{"read_from", [](Options& o) { o.read_from = (1 << 20) + 1; }},
                    Mistake{"eager_size", [](Options& o) { o.eager_size = (1 << 20) + 1; }},
                    Mistake{"request_depth", [](Options& o) { o.request_depth = 1; }},
                    Mistake{"request_depth", [](Options& o) { o.request_depth = 16385; }},
                    Mistake{"call_depth", [](Options& o) { o.call_depth = 0; }},
                    Mistake{"call_depth", [](Options& o) { o.call_depth = 16385; }},
                    Mistake{"large_depth", [](Options& o) { o.large_depth = 0; }},
                    Mistake{"large_depth", [](Options& o) { o.large_depth = 256; }},
                    Mistake{"send_depth", [](Options& o) { o.send_depth = 0; }},
                    Mistake{"large_bytes", [](Options& o) { o.large_bytes = 4095; }},
                    Mistake{"ack_timeout_exponent", [](Options& o) { o.ack_timeout_exponent = 0; }},
                    Mistake{"ack_timeout_exponent", [](Options& o) { o.ack_timeout_exponent = 32; }},
                    Mistake{"retries", [](Options& o) { o.retries = 7; }},
                    Mistake{"latency_sample", [](Options& o) { o.latency_sample = 1'000'000'001; }},
                    Mistake{"keep_alive", [](Options& o) { o.keep_alive = milliseconds{-1}; }},
                    Mistake{"keep_alive", [](Options& o) { o.keep_alive = hours{2}; }},
                    Mistake{"connect_timeout", [](Options& o) { o.connect_timeout = milliseconds{0}; }},
                    Mistake{"connect_timeout", [](Options& o) { o.connect_timeout = hours{2}; }}));

TEST(OptionsTest, TheBudgetsTextEndsWithItsTotal) {
  const Budget budget = Options{}.budget();
  const std::string text = budget.to_string();
  const std::string last = text.substr(text.rfind('\n', text.size() - 2) + 1);
  EXPECT_TRUE(last.starts_with("total")) << text;
  EXPECT_NE(last.find(std::to_string(budget.total())), std::string::npos) << text;
}

TEST(OptionsTest, TheBudgetGrowsWithEachOptionThatPinsMemory) {
  const std::size_t least = Options{}.budget().total();
  const std::function<void(Options&)> changes[] = {
      [](Options& o) { o.peers *= 2; },       [](Options& o) { o.eager_size *= 2; },
      [](Options& o) { o.call_depth *= 2; },  [](Options& o) { o.request_depth *= 2; },
      [](Options& o) { o.large_depth *= 2; }, [](Options& o) { o.large_bytes *= 2; }};
  for (const auto& change : changes) {
    Options options;
    change(options);
    EXPECT_GT(options.budget().total(), least);
  }
}

}  // namespace
}  // namespace verbena
