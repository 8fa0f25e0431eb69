// SPDX-License-Identifier: Apache-2.0
// What rdma_cm's private data says: bytes that anybody may send.
#include "transport/cm_hello.h"

#include <gtest/gtest.h>

#include <vector>

#include "support/seed.h"

namespace verbena::transport {
namespace {

using test::Dice;
using Offer = std::array<std::byte, cm_offer_size>;
using Refusal = std::array<std::byte, cm_refusal_size>;

Hello some_offer(Dice& dice) {
  Hello hello;
  hello.eager_size = static_cast<std::uint32_t>(dice.word());
  hello.request_depth = static_cast<std::uint16_t>(dice.word());
  hello.call_depth = static_cast<std::uint16_t>(dice.word());
  hello.large_depth = static_cast<std::uint16_t>(dice.between(0, 255));
  hello.large_bytes = dice.between(1, std::uint64_t{1} << 40);
  hello.features = static_cast<std::uint32_t>(dice.word());
  hello.epoch = static_cast<std::uint32_t>(dice.word());
  hello.facts.qp_number = static_cast<std::uint32_t>(dice.between(0, 0xff'ffff));
  hello.facts.packet_sequence = static_cast<std::uint32_t>(dice.between(0, 0xff'ffff));
  hello.facts.lid = static_cast<std::uint16_t>(dice.word());
  hello.facts.mtu = static_cast<std::uint8_t>(dice.word());
  hello.facts.reads_accepted = static_cast<std::uint8_t>(dice.word());
  for (auto& byte : hello.facts.gid) byte = static_cast<std::uint8_t>(dice.word());
  for (auto& byte : hello.nonce) byte = static_cast<std::uint8_t>(dice.word());
  return shortened(hello);
}

std::array<std::byte, hello_size> whole(const Hello& hello) {
  std::array<std::byte, hello_size> bytes;
  encode(hello, bytes);
  return bytes;
}

TEST(CmHelloTest, AnOfferArrivesAsItWasShortened) {
  Dice dice;
  for (int i = 0; i < 1000; ++i) {
    const Hello sent = some_offer(dice);
    Offer bytes;
    encode_offer(sent, bytes);
    const auto got = decode_offer(bytes, sent.facts.qp_number);
    ASSERT_TRUE(got);
    EXPECT_EQ(whole(*got), whole(sent));
  }
}

TEST(CmHelloTest, TheLongestMessageOfAllFitsAnOffer) {
  Hello sent;
  sent.large_bytes = std::uint64_t{1} << 40;  // as much as Options::validate() lets pass
  Offer bytes;
  encode_offer(sent, bytes);
  EXPECT_EQ(decode_offer(bytes, 0)->large_bytes, sent.large_bytes);
}

TEST(CmHelloTest, AReasonArrives) {
  Hello sent;
  sent.text = std::string(139, 'a');
  Refusal bytes;
  encode_refusal(sent, bytes);
  const auto got = decode_refusal(bytes);
  ASSERT_TRUE(got);
  EXPECT_EQ(got->kind, HelloKind::refuse);
  EXPECT_EQ(got->text, sent.text);
}

TEST(CmHelloTest, ALongerReasonIsCut) {
  Hello sent;
  sent.text = std::string(500, 'a');
  Refusal bytes;
  encode_refusal(sent, bytes);
  EXPECT_EQ(decode_refusal(bytes)->text, std::string(139, 'a'));
}

TEST(CmHelloTest, AnotherVersionIsTold) {
  Hello sent;
  sent.version = protocol_version + 1;
  Offer offer;
  encode_offer(sent, offer);
  EXPECT_EQ(decode_offer(offer, 0)->version, sent.version);
  Refusal refusal;
  encode_refusal(sent, refusal);
  EXPECT_EQ(decode_refusal(refusal)->version, sent.version);
}

TEST(CmHelloTest, AReasonReachesNoTerminalWithControlCharacters) {
  Hello sent;
  sent.text = "a\x1b[2Jb\n";
  Refusal bytes;
  encode_refusal(sent, bytes);
  EXPECT_EQ(decode_refusal(bytes)->text, "a?[2Jb?");
}

// ---- What isn't one ----

TEST(CmHelloTest, NoPrivateDataIsNone) {
  EXPECT_FALSE(decode_offer({}, 0));
  EXPECT_FALSE(decode_refusal({}));
  EXPECT_FALSE(decode_offer(Offer{}, 0));
  EXPECT_FALSE(decode_refusal(Refusal{}));
}

TEST(CmHelloTest, TheOtherKindIsNone) {
  Refusal bytes{};
  encode_refusal({}, bytes);
  EXPECT_FALSE(decode_offer(bytes, 0));
  encode_offer({}, std::span(bytes).first<cm_offer_size>());
  EXPECT_FALSE(decode_refusal(bytes));
}

TEST(CmHelloTest, AnyBytesAreSurvived) {
  Dice dice;
  for (int i = 0; i < 20'000; ++i) {
    std::vector<std::byte> bytes(dice.between(0, 256));
    for (std::byte& byte : bytes) byte = static_cast<std::byte>(dice.word());
    if (bytes.size() >= 8 && dice.between(0, 1)) {
      Offer offer;
      encode_offer({}, offer);
      std::copy_n(offer.begin(), 8, bytes.begin());
      bytes[6] = static_cast<std::byte>(dice.between(0, 4));
    }
    decode_offer(bytes, static_cast<std::uint32_t>(dice.word()));
    decode_refusal(bytes);
  }
}

}  // namespace
}  // namespace verbena::transport
