// SPDX-License-Identifier: Apache-2.0
// A peer that breaks the protocol loses its connection; it can't harm this program or its other peers.
#include <cstring>

#include "transport/rude_peer.h"

namespace verbena::test {
namespace {

using transport::CallHeader;
using transport::Kind;
using transport::LargeBody;
using transport::MessageHeader;

class MisbehaviourTest : public testing::Test {
 protected:
  MisbehaviourTest() {
    server.on(1, [this](rpc::Bytes, rpc::Reply& reply) { kept.push_back(std::move(reply)); });
    server.on(2, [](rpc::Bytes request, rpc::Reply& reply) { reply.send(request); });
    connect(loops.client_loop, address_of(server.port()),
            [this](const Error*, Connection made) { other = std::move(made); });
    loops.until("a well-behaved peer", [&] { return other.is_open() && server.connections() == 1; });
  }
  /// After what `rude` has said, it is gone and nobody else is.
  void expect_ended(std::uint64_t violations = 1) {
    loops.until("the end of the rude one", [&] { return server.connections() == 1; });
    EXPECT_EQ(loops.server_loop.statistics().violations, violations);
    EXPECT_TRUE(other.is_open());
    EXPECT_EQ(refusal_of(loops, address_of(server.port())).sentence, "");
  }
  void connected() {
    loops.until("a rude peer", [&] { return server.connections() == 2; });
  }

  Loops loops;
  rpc::Server server{loops.server_loop, address_of(0)};
  std::deque<rpc::Reply> kept;
  Connection other;
};

TEST_F(MisbehaviourTest, AWellBehavedStrangerStays) {
  RudePeer peer{loops, server.port()};
  connected();
  for (int i = 0; i < 10; ++i) ASSERT_TRUE(peer.say(peer.header(Kind::request), CallHeader{0, 0, 2, 0}));
  loops.settle();
  EXPECT_EQ(server.connections(), 2U);
  EXPECT_EQ(loops.server_loop.statistics().violations, 0U);
}

TEST_F(MisbehaviourTest, AMessageShorterThanItsHeader) {
  RudePeer peer{loops, server.port()};
  connected();
  peer.say(std::uint64_t{1});
  expect_ended();
}

TEST_F(MisbehaviourTest, AnUnknownKind) {
  RudePeer peer{loops, server.port()};
  connected();
  peer.say(peer.header(static_cast<Kind>(99)));
  expect_ended();
}

TEST_F(MisbehaviourTest, ACallShorterThanItsHeader) {
  RudePeer peer{loops, server.port()};
  connected();
  peer.say(peer.header(Kind::request), std::uint64_t{1});
  expect_ended();
}

TEST_F(MisbehaviourTest, AFloodWithoutCreditHarmsNobodyElse) {
  RudePeer peer{loops, server.port()};
  connected();
  for (int i = 0; i < 40; ++i) peer.say(peer.header(Kind::message));
  loops.settle();
  EXPECT_EQ(loops.server_loop.pinned_bytes(), small_options().budget().total());
  EXPECT_TRUE(other.is_open());
  EXPECT_EQ(refusal_of(loops, address_of(server.port())).sentence, "");
}

TEST_F(MisbehaviourTest, AGrantOfMoreThanItDeclared) {
  RudePeer peer{loops, server.port()};
  connected();
  MessageHeader header = peer.header(Kind::credit);
  header.granted = 1000;
  peer.say(header);
  expect_ended();
}

TEST_F(MisbehaviourTest, MoreCallsAtOnceThanItMayWaitFor) {
  RudePeer peer{loops, server.port()};
  connected();
  for (std::uint32_t i = 0; i < 1000; ++i) {
    if (!peer.say(peer.header(Kind::request), CallHeader{i, 0, 1, 0})) break;
    loops.settle(20);  // credits come back, replies don't
  }
  expect_ended();
  EXPECT_LE(kept.size(), small_options().call_depth);
  for (rpc::Reply& reply : kept) reply.send({});
  loops.settle();
}

TEST_F(MisbehaviourTest, ALargeMessageWithoutItsPlace) {
  RudePeer peer{loops, server.port()};
  connected();
  peer.say(peer.header(Kind::large_message), std::uint64_t{1});
  expect_ended();
}

TEST_F(MisbehaviourTest, ALargeMessageOfAnImpossibleLength) {
  std::uint64_t violations = 0;
  for (const std::uint32_t length : {0U, static_cast<std::uint32_t>(small_options().large_bytes + 1), ~0U}) {
    RudePeer peer{loops, server.port()};
    connected();
    peer.say(peer.header(Kind::large_message), LargeBody{1, length, 1});
    expect_ended(++violations);
  }
}

TEST_F(MisbehaviourTest, MoreLargeMessagesThanItDeclared) {
  RudePeer peer{loops, server.port()};
  connected();
  const Remote remote = peer.memory().remote();
  for (unsigned i = 0; i < small_options().large_depth + 1; ++i) {
    peer.say(peer.header(Kind::large_message), LargeBody{remote.address, 65536, remote.rkey});
  }
  expect_ended();
}

TEST_F(MisbehaviourTest, ALargeMessageThatCannotBeRead) {
  RudePeer peer{loops, server.port()};
  connected();
  const Remote remote = peer.memory().remote();
  peer.say(peer.header(Kind::large_message), LargeBody{remote.address, 65536, remote.rkey ^ 0x5500});
  expect_ended(0);
}

TEST_F(MisbehaviourTest, ALoanOfWhatCannotBeLent) {
  std::uint64_t violations = 0;
  const auto lent = [](MessageHeader header) {
    header.flags = transport::lent_flag;
    return header;
  };
  {
    RudePeer peer{loops, server.port()};
    connected();
    const Remote remote = peer.memory().remote();
    peer.say(lent(peer.header(Kind::large_message)), LargeBody{remote.address, 65536, remote.rkey});
    expect_ended(++violations);
  }
  RudePeer peer{loops, server.port()};
  connected();
  const Remote remote = peer.memory().remote();
  const LargeBody half{remote.address, 4096, remote.rkey};
  peer.say(lent(peer.header(Kind::large_request)), CallHeader{0, 0, 1, 0}, half, half);
  expect_ended(++violations);
}

// It reads as a loan that has been taken back meanwhile.
TEST_F(MisbehaviourTest, ALoanThatCannotBeReadIsDropped) {
  if (!on_soft0()) GTEST_SKIP() << "nothing is lent";
  RudePeer peer{loops, server.port()};
  connected();
  const Remote remote = peer.memory().remote();
  MessageHeader header = peer.header(Kind::large_request);
  header.flags = transport::lent_flag;
  peer.say(header, CallHeader{0, 0, 1, 0}, LargeBody{remote.address, 65536, remote.rkey ^ 0x5500});
  loops.settle();
  EXPECT_EQ(kept.size(), 0U);
  EXPECT_EQ(server.connections(), 2U);
}

TEST_F(MisbehaviourTest, AMessageWithTwoTokens) {
  RudePeer peer{loops, server.port()};
  connected();
  MessageHeader header = peer.header(Kind::release);
  header.flags = transport::released_flag;
  peer.say(header);
  expect_ended();
}

TEST_F(MisbehaviourTest, AnotherEpochIsDropped) {
  RudePeer peer{loops, server.port()};
  connected();
  MessageHeader header = peer.header(Kind::message);
  ++header.epoch;
  peer.say(header);
  loops.until("its drop", [&] { return loops.server_loop.statistics().stale_messages == 1; });
  EXPECT_EQ(server.connections(), 2U);
}

TEST_F(MisbehaviourTest, RepliesAndReleasesOfNothingAreDropped) {
  RudePeer peer{loops, server.port()};
  connected();
  for (std::uint32_t i = 0; i < 10; ++i) {
    MessageHeader release = peer.header(Kind::release);
    release.token = i * 0x01010101U;
    peer.say(release);
    peer.say(peer.header(Kind::reply), CallHeader{i * 7777, i, 0, 0});
    loops.settle(50);
  }
  EXPECT_EQ(server.connections(), 2U);
}

TEST_F(MisbehaviourTest, ARecordLongerThanItsFrame) {
  RudePeer peer{loops, server.port()};
  connected();
  MessageHeader header = peer.header(Kind::request);
  header.flags = transport::packed_flag;
  header.body = 1000;
  peer.say(header, CallHeader{0, 0, 2, 0});
  expect_ended();
}

TEST_F(MisbehaviourTest, AFurtherRecordLongerThanItsFrame) {
  RudePeer peer{loops, server.port()};
  connected();
  MessageHeader header = peer.header(Kind::request);
  header.flags = transport::packed_flag;
  header.body = 24;
  peer.say(header, CallHeader{0, 0, 2, 0}, std::uint64_t{},
           transport::RecordHeader{Kind::request, {}, 0xffff'fff0}, CallHeader{1, 0, 2, 0});
  expect_ended();
}

TEST_F(MisbehaviourTest, ALargeMessageAmongOthersInAFrame) {
  RudePeer peer{loops, server.port()};
  connected();
  MessageHeader header = peer.header(Kind::request);
  header.flags = transport::packed_flag;
  header.body = 24;
  peer.say(header, CallHeader{0, 0, 2, 0}, std::uint64_t{},
           transport::RecordHeader{Kind::large_message, {}, sizeof(LargeBody)}, LargeBody{});
  expect_ended();
}

TEST_F(MisbehaviourTest, ChanceFindsNothingWorse) {
  Dice dice;
  for (std::size_t round = 0; round < rounds(300); ++round) {
    RudePeer peer{loops, server.port()};
    const Remote remote = peer.memory().remote();
    for (int i = 0; i < 30; ++i) {
      constexpr Kind kinds[] = {Kind::message, Kind::large_message, Kind::credit, Kind::release,
                                Kind::request, Kind::large_request, Kind::reply,  Kind::large_reply};
      MessageHeader header = peer.header(kinds[dice.between(0, 7)]);
      header.token = static_cast<std::uint32_t>(dice.between(0, 5));
      const CallHeader call{static_cast<std::uint32_t>(dice.between(0, 3)), 0,
                            static_cast<std::uint32_t>(dice.between(0, 3)), 0};
      const LargeBody body{remote.address, static_cast<std::uint32_t>(dice.between(0, 70'000)), remote.rkey};
      Message bytes(sizeof header + sizeof call + sizeof body);
      std::memcpy(bytes.data(), &header, sizeof header);
      const bool is_call = transport::is_call(header.kind);
      if (is_call) std::memcpy(bytes.data() + 16, &call, sizeof call);
      std::memcpy(bytes.data() + (is_call ? 32 : 16), &body, sizeof body);
      if (transport::is_large(header.kind)) bytes.resize(is_call ? 48 : 32);
      for (std::size_t n = dice.one_in(4) ? dice.between(1, 3) : 0; n > 0; --n) {
        bytes[dice.between(0, bytes.size() - 1)] = static_cast<std::byte>(dice.word());
      }
      if (dice.one_in(10)) bytes.resize(dice.between(0, bytes.size()));
      if (!peer.say(std::span<const std::byte>(bytes))) break;
      loops.settle(5);
    }
    kept.clear();
    loops.settle(50);
  }
  loops.until("their end", [&] { return server.connections() == 1; });
  EXPECT_TRUE(other.is_open());
}

}  // namespace
}  // namespace verbena::test
