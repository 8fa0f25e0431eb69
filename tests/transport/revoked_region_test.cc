// SPDX-License-Identifier: Apache-2.0
// Taking memory back from a peer in another process: it gets an error, and nothing worse happens to anybody.
#include <signal.h>

#include <algorithm>

#include "transport/reacher.h"

namespace verbena::test {
namespace {

constexpr std::size_t length = 40'000;

/// Memory of the loop's own, which peers on this host map, and memory of the program's.
enum class Whose { loops, programs };

class RevokedRegionTest : public testing::TestWithParam<Whose> {
 protected:
  RevokedRegionTest() {
    std::ranges::copy(message(length, 3), region.bytes().begin());
    std::ranges::copy(message(length, 4), other.bytes().begin());
  }

  Region make() {
    return GetParam() == Whose::loops ? loop.memory().allocate(length)
                                      : loop.memory().share(std::span(malloced), Access::all);
  }
  void until(const char* what, auto condition) {
    wait_until(what, [&] {
      loop.poll();
      Loops::look(loop);
      return condition();
    });
  }
  Loop loop{small_options()};
  Message malloced = Message(length);
  Region region = make();
  const RemoteRegion key = region.remote();
  Region other = loop.memory().allocate(length);
};

TEST_P(RevokedRegionTest, APeersReadFailsAndItsOtherConnectionGoesOn) {
  Reacher peer{loop, 2};
  const auto before = peer.read(key, 3);
  EXPECT_EQ(before.error, std::error_code{});
  EXPECT_TRUE(before.equal);
  ASSERT_EQ(region.revoke(), std::error_code{});
  EXPECT_EQ(peer.read(key, 3).error, code(errc::remote_access));
  const auto elsewhere = peer.read(other.remote(), 4, 1);
  EXPECT_EQ(elsewhere.error, std::error_code{});
  EXPECT_TRUE(elsewhere.equal);
  peer.finish();
}

TEST_P(RevokedRegionTest, APeersWriteFailsAndChangesNothing) {
  Reacher peer{loop};
  EXPECT_EQ(peer.write(key, 5), std::error_code{});
  expect_equal(region.bytes(), message(length, 5));
  ASSERT_EQ(region.revoke(), std::error_code{});
  EXPECT_EQ(peer.write(key, 6), code(errc::remote_access));
  expect_equal(region.bytes(), message(length, 5));
  peer.finish();
}

TEST_P(RevokedRegionTest, OnlyTheConnectionByWhichThePeerReachedForItEnds) {
  Reacher peer{loop, 2};
  Ending guilty{peer.connection(0)};
  Ending innocent{peer.connection(1)};
  ASSERT_EQ(region.revoke(), std::error_code{});
  EXPECT_EQ(peer.write(key, 6, 0), code(errc::remote_access));
  until("the end of the connection", [&] { return guilty.times > 0; });
  EXPECT_TRUE(guilty.error);
  EXPECT_EQ(innocent.times, 0);
  EXPECT_TRUE(peer.connection(1).is_open());
  peer.finish();
}

TEST_P(RevokedRegionTest, NothingIsWrittenOnceItReturnsThoughThePeerIsInTheMiddleOfIt) {
  for (std::size_t round = 0; round < rounds(20); ++round) {
    Region mine = make();
    Reacher peer{loop};
    peer.start_writing(mine.remote());
    ASSERT_EQ(mine.revoke(), std::error_code{});
    std::ranges::fill(mine.bytes(), std::byte{0xee});
    EXPECT_EQ(peer.writing_ended_with(), code(errc::remote_access));
    EXPECT_TRUE(std::ranges::all_of(mine.bytes(), [](std::byte byte) { return byte == std::byte{0xee}; }));
    peer.finish();
  }
}

TEST_P(RevokedRegionTest, AStoppedPeerHoldsUpNobody) {
  Reacher peer{loop};
  peer.start_writing(key);
  peer.child().signal(SIGSTOP);
  ASSERT_EQ(region.revoke(), std::error_code{});
  std::ranges::fill(region.bytes(), std::byte{0xee});
  peer.child().signal(SIGCONT);
  EXPECT_TRUE(peer.writing_ended_with());
  EXPECT_TRUE(std::ranges::all_of(region.bytes(), [](std::byte byte) { return byte == std::byte{0xee}; }));
}

TEST_P(RevokedRegionTest, ItsMemoryStaysAndMayBeSharedAnew) {
  Reacher peer{loop};
  ASSERT_EQ(region.revoke(), std::error_code{});
  expect_equal(region.bytes(), message(length, 3));
  const Region anew = loop.memory().share(region.bytes(), Access::remote_read);
  const auto read = peer.read(anew.remote(), 3);
  EXPECT_EQ(read.error, std::error_code{});
  EXPECT_TRUE(read.equal);
  peer.finish();
}

TEST_P(RevokedRegionTest, ItHasNoKeysAndMayBeRevokedAgain) {
  ASSERT_EQ(region.revoke(), std::error_code{});
  EXPECT_EQ(region.slice().key, 0U);
  EXPECT_EQ(region.slice(10, 10).key, 0U);
  EXPECT_EQ(region.remote().key, 0U);
  EXPECT_EQ(region.revoke(), std::error_code{});
  EXPECT_EQ(Region{}.revoke(), std::error_code{});
}

INSTANTIATE_TEST_SUITE_P(OfMemory, RevokedRegionTest, testing::Values(Whose::loops, Whose::programs),
                         [](const auto& test) {
                           return test.param == Whose::loops ? "OfTheLoops" : "OfTheProgram";
                         });

}  // namespace
}  // namespace verbena::test
