// SPDX-License-Identifier: Apache-2.0
// What two sides say first: bytes that anybody may send.
#include "transport/hello.h"

#include <gtest/gtest.h>

#include <cstring>

#include "support/seed.h"

namespace verbena::transport {
namespace {

using Bytes = std::array<std::byte, hello_size>;
using test::Dice;

Hello some_hello(Dice& dice) {
  Hello hello;
  hello.kind = static_cast<HelloKind>(dice.between(1, 4));
  hello.device_kind = static_cast<std::uint8_t>(dice.between(0, 1));
  hello.features = static_cast<std::uint32_t>(dice.word());
  hello.eager_size = static_cast<std::uint32_t>(dice.word());
  hello.request_depth = static_cast<std::uint16_t>(dice.word());
  hello.call_depth = static_cast<std::uint16_t>(dice.word());
  hello.large_depth = static_cast<std::uint16_t>(dice.word());
  hello.large_bytes = dice.word();
  hello.epoch = static_cast<std::uint32_t>(dice.word());
  hello.facts.qp_number = static_cast<std::uint32_t>(dice.word());
  hello.facts.packet_sequence = static_cast<std::uint32_t>(dice.word());
  hello.facts.lid = static_cast<std::uint16_t>(dice.word());
  hello.facts.mtu = static_cast<std::uint8_t>(dice.word());
  hello.facts.reads_accepted = static_cast<std::uint8_t>(dice.word());
  for (auto& byte : hello.facts.gid) byte = static_cast<std::uint8_t>(dice.word());
  for (auto& byte : hello.nonce) byte = static_cast<std::uint8_t>(dice.word());
  for (auto& byte : hello.proof) byte = static_cast<std::uint8_t>(dice.word());
  hello.text.assign(dice.between(0, 79), 'a');
  for (char& letter : hello.text) letter = static_cast<char>(dice.between(' ', '~'));
  return hello;
}

Bytes encoded(const Hello& hello) {
  Bytes bytes;
  encode(hello, bytes);
  return bytes;
}

void expect_same(const Hello& a, const Hello& b) {
  EXPECT_EQ(a.version, b.version);
  EXPECT_EQ(a.kind, b.kind);
  EXPECT_EQ(a.device_kind, b.device_kind);
  EXPECT_EQ(a.features, b.features);
  EXPECT_EQ(a.eager_size, b.eager_size);
  EXPECT_EQ(a.request_depth, b.request_depth);
  EXPECT_EQ(a.call_depth, b.call_depth);
  EXPECT_EQ(a.large_depth, b.large_depth);
  EXPECT_EQ(a.large_bytes, b.large_bytes);
  EXPECT_EQ(a.epoch, b.epoch);
  EXPECT_EQ(a.facts.qp_number, b.facts.qp_number);
  EXPECT_EQ(a.facts.packet_sequence, b.facts.packet_sequence);
  EXPECT_EQ(a.facts.lid, b.facts.lid);
  EXPECT_EQ(a.facts.mtu, b.facts.mtu);
  EXPECT_EQ(a.facts.reads_accepted, b.facts.reads_accepted);
  EXPECT_EQ(a.facts.gid, b.facts.gid);
  EXPECT_EQ(a.nonce, b.nonce);
  EXPECT_EQ(a.proof, b.proof);
  EXPECT_EQ(a.text, b.text);
}

TEST(HelloTest, EveryFieldComesBackFromItsBytes) {
  Dice dice;
  for (int round = 0; round < 10'000; ++round) {
    const Hello hello = some_hello(dice);
    const auto back = decode(encoded(hello));
    ASSERT_TRUE(back);
    expect_same(*back, hello);
  }
}

TEST(HelloTest, ALongReasonIsCutAtItsPlacesEnd) {
  Hello hello;
  hello.text.assign(1000, 'x');
  EXPECT_EQ(decode(encoded(hello))->text, std::string(79, 'x'));
}

TEST(HelloTest, AReasonHasNoControlCharactersForTheTerminal) {
  Hello hello;
  hello.text = "\x1b[2Jno\n";
  EXPECT_EQ(decode(encoded(hello))->text, "?[2Jno?");
}

TEST(HelloTest, AnotherMagicIsNoHello) {
  Bytes bytes = encoded({});
  bytes[0] ^= std::byte{1};
  EXPECT_FALSE(decode(bytes));
}

TEST(HelloTest, AnotherVersionIsOnlyAVersion) {
  Hello hello;
  hello.version = protocol_version + 1;
  hello.text = "another layout";
  const auto back = decode(encoded(hello));
  ASSERT_TRUE(back);
  EXPECT_EQ(back->version, protocol_version + 1);
  EXPECT_EQ(back->text, "");
}

TEST(HelloTest, ADecodedHelloIsInRangeWhateverTheBytes) {
  Dice dice;
  const Hello ours;
  std::size_t taken = 0;
  std::size_t refused = 0;
  for (int round = 0; round < 1'000'000; ++round) {
    Bytes bytes;
    if (dice.one_in(8)) {
      dice.fill(bytes);
    } else {  // nearly a hello
      bytes = encoded(ours);
      for (std::size_t n = dice.between(1, 4); n > 0; --n) {
        bytes[dice.between(0, hello_size - 1)] = static_cast<std::byte>(dice.word());
      }
    }
    const auto hello = decode(bytes);
    if (!hello) continue;
    ++taken;
    if (!find_mismatch(ours, *hello).empty()) ++refused;
    ASSERT_GE(static_cast<int>(hello->kind), 1);
    ASSERT_LE(static_cast<int>(hello->kind), 4);
    ASSERT_LE(hello->device_kind, 1);
    ASSERT_LE(hello->text.size(), 79U);
    for (const unsigned char letter : hello->text) ASSERT_GE(letter, 0x20);
  }
  EXPECT_GT(taken, 0U);
  EXPECT_GT(refused, 0U);
}

/// A peer that could be spoken to.
Hello good_hello() {
  Hello hello;
  hello.eager_size = 1024;
  hello.request_depth = hello.call_depth = hello.large_depth = 16;
  hello.facts.mtu = 3;
  return hello;
}

TEST(HelloTest, EqualSidesMatch) {
  EXPECT_EQ(find_mismatch(good_hello(), good_hello()), "");
}

TEST(HelloTest, AMismatchNamesBothVersions) {
  Hello theirs = good_hello();
  theirs.version = 7;
  const std::string why = find_mismatch(good_hello(), theirs);
  EXPECT_NE(why.find("version 7"), std::string::npos) << why;
  EXPECT_NE(why.find("this side " + std::to_string(protocol_version)), std::string::npos) << why;
}

TEST(HelloTest, AMismatchNamesBothKindsOfDevice) {
  Hello theirs = good_hello();
  theirs.device_kind = 1;
  const std::string why = find_mismatch(good_hello(), theirs);
  EXPECT_NE(why.find("soft0"), std::string::npos) << why;
  EXPECT_NE(why.find("RDMA device"), std::string::npos) << why;
}

TEST(HelloTest, ValuesThatNoDeviceHasAreAMismatch) {
  for (const auto& spoil :
       {+[](Hello& h) { h.facts.qp_number = 1 << 24; }, +[](Hello& h) { h.facts.mtu = 0; },
        +[](Hello& h) { h.facts.mtu = 6; }, +[](Hello& h) { h.facts.packet_sequence = 1 << 24; },
        +[](Hello& h) { h.request_depth = 0; }, +[](Hello& h) { h.call_depth = 0; }}) {
    Hello theirs = good_hello();
    spoil(theirs);
    EXPECT_NE(find_mismatch(good_hello(), theirs), "");
    EXPECT_NE(find_mismatch(theirs, good_hello()), "");  // as a server asks, in the words of its client
  }
}

}  // namespace
}  // namespace verbena::transport
