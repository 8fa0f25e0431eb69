// SPDX-License-Identifier: Apache-2.0
// TCP peers that aren't Verbena, or another version of it: they harm nobody.
#include <chrono>
#include <optional>

#include "transport/engine.h"
#include "transport/loops.h"
#include "transport/stranger.h"

namespace verbena::test {
namespace {

using namespace std::chrono_literals;
using transport::Hello;
using transport::HelloKind;
using transport::protocol_version;

std::span<const std::byte, transport::hello_size> hello_in(std::span<const std::byte> heard) {
  return heard.first<transport::hello_size>();
}

class StrangersTest : public testing::Test {
 protected:
  StrangersTest() : both(quick(), quick()) {}
  static Options quick() {
    Options options = small_options();
    options.connect_timeout = 200ms;
    return options;
  }
  /// The connection that was there before still works, and one more can be made.
  void expect_unharmed() {
    Inbox inbox{both.server};
    ASSERT_FALSE(both.client.send(message(50)));
    both.until("a message of the old connection", [&] { return inbox.messages.size() == 1; });
    EXPECT_EQ(refusal_of(both, address_of(both.listener.port())).sentence, "");
  }
  /// What a client would say.
  Hello offer() {
    transport::Engine& engine = both.client_loop.engine();
    const auto berth = engine.reserve();
    Hello hello = engine.make_hello(HelloKind::offer, *berth.queue_pair);
    engine.abandon(berth);
    return hello;
  }
  Connected both;
};

TEST_F(StrangersTest, GarbageIsHungUpOn) {
  Dice dice;
  for (int round = 0; round < 50; ++round) {
    Stranger stranger{both.listener.port()};
    Message garbage(dice.between(transport::hello_size, 2000));
    dice.fill(garbage);
    stranger.say(garbage);
    both.until("the end of a stranger's call", [&] { return stranger.was_hung_up_on(); });
    EXPECT_TRUE(stranger.heard().empty());
  }
  expect_unharmed();
}

TEST_F(StrangersTest, NearlyAHelloIsHungUpOn) {
  Dice dice;
  Hello hello = offer();
  for (int round = 0; round < 200; ++round) {
    std::array<std::byte, transport::hello_size> bytes;
    transport::encode(hello, bytes);
    for (std::size_t n = dice.between(1, 6); n > 0; --n) {
      bytes[dice.between(0, bytes.size() - 1)] = static_cast<std::byte>(dice.word());
    }
    Stranger stranger{both.listener.port()};
    stranger.say(bytes);
    both.until("an answer", [&] { return !stranger.heard().empty() || stranger.was_hung_up_on(); });
  }
  both.until("room for more",
             [&] { return refusal_of(both, address_of(both.listener.port())).sentence.empty(); });
  both.settle();
  expect_unharmed();
}

TEST_F(StrangersTest, SilenceIsHungUpOnInTime) {
  Stranger silent{both.listener.port()};
  Stranger halting{both.listener.port()};
  halting.say(message(17));
  expect_unharmed();
  both.until(
      "the end of their calls", [&] { return silent.was_hung_up_on() && halting.was_hung_up_on(); }, 2s);
  expect_unharmed();
}

TEST_F(StrangersTest, ThoseWhoLeaveAtOnceHarmNobody) {
  for (int round = 0; round < 100; ++round) {
    Stranger stranger{both.listener.port()};
    if (round % 2) stranger.say(message(100));
    both.turn();
  }
  both.settle();
  expect_unharmed();
}

TEST_F(StrangersTest, ManySilentOnesLeaveRoomForTheRest) {
  std::vector<Stranger> strangers;
  for (int i = 0; i < 50; ++i) strangers.emplace_back(both.listener.port());
  both.settle(200);
  expect_unharmed();
}

// ---- Another version ----

TEST_F(StrangersTest, AClientOfAnotherVersionIsToldBoth) {
  Stranger stranger{both.listener.port()};
  Hello hello;
  hello.version = protocol_version + 1;
  stranger.say(hello);
  both.until("a refusal", [&] { return stranger.heard().size() >= transport::hello_size; });
  const auto refusal = transport::decode(hello_in(stranger.heard()));
  ASSERT_TRUE(refusal);
  EXPECT_EQ(refusal->kind, HelloKind::refuse);
  EXPECT_NE(refusal->text.find("version " + std::to_string(protocol_version)), std::string::npos)
      << refusal->text;
  EXPECT_NE(refusal->text.find("this side " + std::to_string(protocol_version + 1)), std::string::npos)
      << refusal->text;
}

class StrangeServersTest : public StrangersTest {
 protected:
  /// What connecting to a server says that answers a hello by `bytes`.
  Refusal answered_by(std::span<const std::byte> bytes) {
    StrangeServer strange;
    std::optional<Stranger> answer;
    std::optional<Refusal> refusal;
    connect(both.client_loop, address_of(strange.port()), [&](const Error* error, Connection) {
      refusal = error ? Refusal{error->code(), error->what()} : Refusal{};
    });
    both.until("an end of it", [&] {
      if (!answer && strange.is_called()) {
        answer.emplace(strange.answer());
        answer->say(bytes);
      }
      return refusal.has_value();
    });
    return *refusal;
  }
  Refusal answered_by(const Hello& hello) {
    std::array<std::byte, transport::hello_size> bytes;
    transport::encode(hello, bytes);
    return answered_by(bytes);
  }
};

TEST_F(StrangeServersTest, OneOfAnotherVersionIsNamedWithBoth) {
  Hello hello;
  hello.version = protocol_version + 1;
  hello.kind = HelloKind::accept;
  const Refusal refusal = answered_by(hello);
  EXPECT_EQ(refusal.code, code(errc::protocol_mismatch));
  EXPECT_NE(refusal.sentence.find("version " + std::to_string(protocol_version + 1)), std::string::npos)
      << refusal.sentence;
  EXPECT_NE(refusal.sentence.find("this side " + std::to_string(protocol_version)), std::string::npos)
      << refusal.sentence;
}

TEST_F(StrangeServersTest, OneOfAnotherKindIsNoVerbenaServer) {
  const Refusal refusal = answered_by(message(300));
  EXPECT_EQ(refusal.code, code(errc::protocol_mismatch));
  EXPECT_NE(refusal.sentence.find("isn't a Verbena server"), std::string::npos) << refusal.sentence;
}

TEST_F(StrangeServersTest, AnAcceptanceOfNonsenseIsRefused) {
  Hello hello;
  hello.kind = HelloKind::accept;
  hello.device_kind = on_soft0() ? 0 : 1;  // not ours
  const Refusal refusal = answered_by(hello);
  EXPECT_EQ(refusal.code, code(errc::protocol_mismatch)) << refusal.sentence;
}

TEST_F(StrangeServersTest, AnOfferIsNoAnswer) {
  Hello hello = offer();
  const Refusal refusal = answered_by(hello);
  EXPECT_EQ(refusal.code, code(errc::protocol_mismatch)) << refusal.sentence;
}

}  // namespace
}  // namespace verbena::test
