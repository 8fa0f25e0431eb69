// SPDX-License-Identifier: Apache-2.0
// Reaching the peer's memory while the peer does nothing.
#include <sys/mman.h>

#include <algorithm>
#include <cstring>

#include "transport/loops.h"

namespace verbena::test {
namespace {

class OneSidedTest : public testing::Test {
 protected:
  /// Turns the client alone: the server has no part in it.
  void complete(const Noted& operation) {
    wait_until("a one-sided operation", [&] {
      both.client_loop.poll();
      if (!on_soft0()) both.server_loop.poll();
      return operation.done();
    });
  }
  void succeed(std::error_code started, const Noted& operation) {
    ASSERT_EQ(started, std::error_code{});
    EXPECT_FALSE(operation.done()) << "completed inside the call that started it";
    complete(operation);
    EXPECT_EQ(operation.error, std::error_code{});
    EXPECT_EQ(operation.times, 1);
  }
  std::uint64_t word(const Region& region, std::size_t offset) {
    std::uint64_t value = 0;
    std::memcpy(&value, region.bytes().data() + offset, sizeof value);
    return value;
  }

  Connected both;
  Region near = both.client_loop.memory().allocate(65536);
  Region far = both.server_loop.memory().allocate(65536);
};

TEST_F(OneSidedTest, APutArrivesWhereItWasSent) {
  Dice dice;
  Message model(far.size());
  for (std::size_t round = 0; round < rounds(500); ++round) {
    dice.fill(near.bytes().first(64));
    const std::size_t size = dice.one_in(2) ? dice.between(0, 200) : dice.between(0, far.size());
    const std::size_t from = dice.between(0, near.size() - size);
    const std::size_t to = dice.between(0, far.size() - size);
    Noted put;
    succeed(both.client.put(near.slice(from, size), far.remote(), to, put), put);
    EXPECT_EQ(put.bytes, size);
    std::ranges::copy(near.bytes().subspan(from, size), model.begin() + static_cast<std::ptrdiff_t>(to));
    ASSERT_NO_FATAL_FAILURE(expect_equal(far.bytes(), model));
  }
}

TEST_F(OneSidedTest, AGetBringsWhatIsThere) {
  Dice dice;
  std::ranges::copy(message(far.size()), far.bytes().begin());
  for (std::size_t round = 0; round < rounds(500); ++round) {
    const std::size_t size = dice.between(0, far.size());
    const std::size_t from = dice.between(0, far.size() - size);
    const std::size_t to = dice.between(0, near.size() - size);
    Noted get;
    succeed(both.client.get(near.slice(to, size), far.remote(), from, get), get);
    EXPECT_EQ(get.bytes, size);
    ASSERT_NO_FATAL_FAILURE(expect_equal(near.bytes().subspan(to, size), far.bytes().subspan(from, size)));
  }
}

TEST_F(OneSidedTest, AnyMemoryIsPutAndGotten) {
  Dice dice;
  Message out(far.size());
  Message back(far.size());
  for (std::size_t round = 0; round < rounds(200); ++round) {
    dice.fill(out);
    const std::size_t size = dice.one_in(3) ? dice.between(0, 300) : dice.between(0, far.size());
    const std::size_t at = dice.between(0, far.size() - size);
    const std::span part = std::span(out).subspan(at, size);
    Noted put, get;
    succeed(both.client.put(part, far.remote(), at, put), put);
    succeed(both.client.get(std::span(back).first(size), far.remote(), at, get), get);
    EXPECT_EQ(put.bytes, size);
    EXPECT_EQ(get.bytes, size);
    ASSERT_NO_FATAL_FAILURE(expect_equal(std::span(back).first(size), part));
  }
  const Statistics& counted = both.client_loop.statistics();
  if (counted.registrations_not_kept == 0) {
    EXPECT_GT(counted.registration_hits, counted.registrations);
  }
}

TEST_F(OneSidedTest, WhatIsMappedAnewAtTheSameAddressIsWhatIsPut) {
  constexpr std::size_t size = 16'384;
  constexpr int protection = PROT_READ | PROT_WRITE;
  constexpr int flags = MAP_PRIVATE | MAP_ANONYMOUS;
  void* const place = mmap(nullptr, size, protection, flags, -1, 0);
  ASSERT_NE(place, MAP_FAILED);
  const std::span memory(static_cast<std::byte*>(place), size);
  for (std::uint32_t round = 0; round < 20; ++round) {
    const Message content = message(size, round);
    std::ranges::copy(content, memory.begin());
    Noted put;
    succeed(both.client.put(memory, far.remote(), 0, put), put);
    ASSERT_NO_FATAL_FAILURE(expect_equal(far.bytes().first(size), content));
    if (round % 2 == 0) {
      ASSERT_EQ(mmap(place, size, protection, flags | MAP_FIXED, -1, 0), place);
    } else {
      ASSERT_EQ(madvise(place, size, MADV_DONTNEED), 0);
    }
  }
  munmap(place, size);
}

TEST_F(OneSidedTest, MemoryThatIsNotThereIsRefusedAndNothingIsStarted) {
  Noted never;
  if (!on_soft0()) {  // which meets it when it copies, as the program itself would
    void* const place = mmap(nullptr, 8192, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    ASSERT_NE(place, MAP_FAILED);
    const std::span memory(static_cast<std::byte*>(place), 8192);
    EXPECT_EQ(both.client.get(memory, far.remote(), 0, never), code(errc::invalid_argument));
    munmap(place, 8192);
    EXPECT_EQ(both.client.put(memory, far.remote(), 0, never), code(errc::invalid_argument));
  }
  EXPECT_EQ(both.client.put(Message(far.size() + 1), far.remote(), 0, never), code(errc::invalid_argument));
  both.settle();
  EXPECT_EQ(never.times, 0);
}

TEST_F(OneSidedTest, PinnedMemoryIsRegisteredOnceForManyOperations) {
  Message bytes = message(20'000, 2);
  for (int i = 0; i < 3; ++i) {
    const Pinned pinned = both.client_loop.memory().pin(bytes);
    Noted put;
    succeed(both.client.put(pinned.slice(), far.remote(), 0, put), put);
    Noted get;
    succeed(both.client.get(pinned.slice(), far.remote(), 30'000, get), get);
    expect_equal(bytes, far.bytes().subspan(30'000, bytes.size()));
    bytes = message(20'000, 2);
  }
  expect_equal(far.bytes().first(bytes.size()), bytes);
  EXPECT_THROW(both.client_loop.memory().pin(bytes, Access::remote_read), Error);
}

TEST_F(OneSidedTest, FetchAddAddsAndTellsWhatWasThere) {
  for (std::uint64_t i = 0; i < 10; ++i) {
    Noted add;
    succeed(both.client.fetch_add(near.slice(0, 8), far.remote(), 16, 1 + i, add), add);
    EXPECT_EQ(word(near, 0), i * (i + 1) / 2);
  }
  EXPECT_EQ(word(far, 16), 55U);
}

TEST_F(OneSidedTest, CompareSwapSwapsOnlyWhatItExpects) {
  Noted hit;
  succeed(both.client.compare_swap(near.slice(8, 8), far.remote(), 0, 0, 77, hit), hit);
  EXPECT_EQ(word(near, 8), 0U);
  EXPECT_EQ(word(far, 0), 77U);
  Noted miss;
  succeed(both.client.compare_swap(near.slice(8, 8), far.remote(), 0, 0, 99, miss), miss);
  EXPECT_EQ(word(near, 8), 77U);
  EXPECT_EQ(word(far, 0), 77U);
}

TEST_F(OneSidedTest, OperationsCompleteInTheOrderInWhichTheyWereStarted) {
  std::vector<int> order;
  std::deque<Noted> unused;
  struct Numbered : Operation {
    std::vector<int>* order = nullptr;
    int number = 0;
  };
  std::deque<Numbered> operations(16);
  for (int i = 0; i < 16; ++i) {
    Numbered& one = operations[static_cast<std::size_t>(i)];
    one.order = &order;
    one.number = i;
    one.complete = [](Operation* self, std::error_code error, std::size_t) noexcept {
      EXPECT_FALSE(error);
      static_cast<Numbered*>(self)->order->push_back(static_cast<Numbered*>(self)->number);
    };
    const auto at = static_cast<std::size_t>(i) * 64;
    ASSERT_FALSE(i % 3 == 0   ? both.client.get(near.slice(at, 40'000 / (at + 1)), far.remote(), 0, one)
                 : i % 3 == 1 ? both.client.put(near.slice(at, 8), far.remote(), 0, one)
                              : both.client.fetch_add(near.slice(at, 8), far.remote(), 8, 1, one));
  }
  both.until("16 operations", [&] { return order.size() == 16; });
  EXPECT_TRUE(std::ranges::is_sorted(order));
}

TEST_F(OneSidedTest, MoreThanTheDeclaredDepthIsOverloadedAndPasses) {
  std::deque<Noted> puts;
  std::error_code error;
  while (!error && puts.size() < 1000) {
    error = both.client.put(near.slice(0, 500), far.remote(), 0, puts.emplace_back());
  }
  EXPECT_EQ(error, code(errc::overloaded));
  EXPECT_GE(puts.size() - 1, small_options().send_depth);
  complete(puts[puts.size() - 2]);
  EXPECT_FALSE(puts.back().done());
  Noted again;
  succeed(both.client.put(near.slice(0, 500), far.remote(), 0, again), again);
}

// ---- What is refused ----

TEST_F(OneSidedTest, WhatIsOutOfRangeIsRefusedBeforeItStarts) {
  const auto refused = code(errc::invalid_argument);
  Noted none;
  EXPECT_EQ(both.client.put(near.slice(0, 2), far.remote(), far.size() - 1, none), refused);
  EXPECT_EQ(both.client.get(near.slice(0, 2), far.remote(), far.size() + 1, none), refused);
  EXPECT_EQ(both.client.get(near.slice(0, 2), far.remote(), ~std::uint64_t{0}, none), refused);
  EXPECT_EQ(both.client.fetch_add(near.slice(0, 8), far.remote(), far.size() - 7, 1, none), refused);
  EXPECT_EQ(both.client.fetch_add(near.slice(0, 8), far.remote(), 4, 1, none), refused);
  EXPECT_EQ(both.client.fetch_add(near.slice(0, 4), far.remote(), 0, 1, none), refused);
  EXPECT_EQ(both.client.compare_swap(near.slice(0, 8), far.remote(), 9, 1, 1, none), refused);
  EXPECT_EQ(both.client.compare_swap(near.slice(0, 16), far.remote(), 0, 1, 1, none), refused);
  both.settle(100);
  EXPECT_FALSE(none.done());
  EXPECT_TRUE(both.client.is_open());
}

TEST_F(OneSidedTest, AWrongKeyEndsTheConnectionAndEachOperationOnce) {
  Ending near_end{both.client};
  Ending far_end{both.server};
  RemoteRegion wrong = far.remote();
  wrong.key ^= 0x5500;
  Noted before;
  Noted guilty;
  std::deque<Noted> behind(3);
  ASSERT_FALSE(both.client.put(near.slice(0, 8), far.remote(), 0, before));
  ASSERT_FALSE(both.client.put(near.slice(0, 8), wrong, 0, guilty));
  for (Noted& one : behind) ASSERT_FALSE(both.client.get(near.slice(0, 8), far.remote(), 0, one));
  both.until("both ends", [&] { return near_end.times > 0 && far_end.times > 0; });
  EXPECT_EQ(before.error, std::error_code{});
  EXPECT_EQ(guilty.error, code(errc::remote_access));
  EXPECT_EQ(near_end.error, code(errc::remote_access));
  EXPECT_EQ(guilty.times, 1);
  for (const Noted& one : behind) {
    EXPECT_EQ(one.times, 1);
    EXPECT_TRUE(one.error);
  }
  EXPECT_FALSE(both.client.is_open());
  EXPECT_EQ(both.client.put(near.slice(0, 8), far.remote(), 0, guilty), code(errc::connection_lost));
}

TEST_F(OneSidedTest, AMemoryForReadingIsNotWritten) {
  const Message text = message(4096);
  const Region readable = both.server_loop.memory().share(std::span<const std::byte>(text));
  Noted get;
  succeed(both.client.get(near.slice(0, 4096), readable.remote(), 0, get), get);
  expect_equal(near.bytes().first(4096), text);
  Noted put;
  ASSERT_FALSE(both.client.put(near.slice(64, 64), readable.remote(), 0, put));
  both.until("the refusal", [&] { return put.done(); });
  EXPECT_EQ(put.error, code(errc::remote_access));
  expect_equal(text, message(4096));
  EXPECT_THROW(both.server_loop.memory().share(std::span<const std::byte>(text), Access::all), Error);
}

}  // namespace
}  // namespace verbena::test
