// SPDX-License-Identifier: Apache-2.0
// A frame's records: where they lie, what the header says, and that none is cut.
#include <gtest/gtest.h>

#include <vector>

#include "support/seed.h"
#include "transport/frame.h"

namespace verbena::test {
namespace {

using transport::Kind;
using transport::MessageHeader;
using transport::OpenFrame;
using transport::RecordHeader;

struct Filled {
  static constexpr std::size_t first_body = 24;
  explicit Filled(std::size_t room) : bytes(room, std::byte{0xee}), limit(room) {
    write_header(bytes.data(), MessageHeader{Kind::request, 0, 7, 3, 0, 0});
    frame.open(bytes.data(), sizeof(MessageHeader) + first_body, limit);
  }
  std::vector<std::byte> bytes;
  std::size_t limit;
  OpenFrame frame;
};

TEST(FrameTest, ARecordsPayloadLiesAtAMultipleOfSixteen) {
  for (std::size_t size = 0; size < 100; ++size) {
    Filled filled(4096);
    ASSERT_NE(filled.frame.add(Kind::message, size), nullptr);
    const std::byte* second = filled.frame.add(Kind::message, 1);
    EXPECT_EQ((second - filled.bytes.data()) % 16, 0) << size;
  }
}

TEST(FrameTest, WhatDoesNotFitChangesNothing) {
  Dice dice;
  for (int i = 0; i < 1000; ++i) {
    Filled filled(dice.between(40, 600));
    const auto before = filled.bytes;
    const std::size_t room = filled.limit < 48 ? 0 : filled.limit - 48;
    EXPECT_EQ(filled.frame.add(Kind::reply, room + 1), nullptr);
    EXPECT_EQ(filled.frame.add(Kind::reply, SIZE_MAX - 1000), nullptr);
    EXPECT_EQ(filled.bytes, before);
    if (filled.limit < 48) continue;
    EXPECT_NE(filled.frame.add(Kind::reply, room), nullptr);
    EXPECT_EQ(filled.frame.length(), filled.limit);
  }
}

TEST(FrameTest, TheHeaderSaysWhereTheFirstRecordEnds) {
  Filled filled(4096);
  filled.frame.write_header_anew(9);
  EXPECT_EQ(transport::read_message_header(filled.bytes.data()).flags, 0);
  EXPECT_EQ(transport::read_message_header(filled.bytes.data()).granted, 9U);
  filled.frame.add(Kind::reply, 5);
  filled.frame.write_header_anew(10);
  const MessageHeader header = transport::read_message_header(filled.bytes.data());
  EXPECT_EQ(header.flags, transport::packed_flag);
  EXPECT_EQ(header.body, Filled::first_body);
  EXPECT_EQ(header.granted, 10U);
  EXPECT_EQ(header.epoch, 7U);
  const RecordHeader second = transport::read_record_header(filled.bytes.data() + 40);
  EXPECT_EQ(second.kind, Kind::reply);
  EXPECT_EQ(second.body, 5U);
}

TEST(FrameTest, NothingOldIsSentInTheGaps) {
  Filled filled(256);
  for (std::size_t size = 1; size < 6; ++size) {
    std::byte* to = filled.frame.add(Kind::message, size);
    ASSERT_NE(to, nullptr);
    std::fill_n(to, size, std::byte{1});
  }
  for (std::size_t at = sizeof(MessageHeader) + Filled::first_body; at < filled.frame.length(); ++at)
    EXPECT_NE(filled.bytes[at], std::byte{0xee}) << at;
}

TEST(FrameTest, AClosedOneTakesNothing) {
  Filled filled(256);
  filled.frame.close();
  EXPECT_FALSE(filled.frame.is_open());
  EXPECT_EQ(filled.frame.add(Kind::message, 0), nullptr);
}

}  // namespace
}  // namespace verbena::test
