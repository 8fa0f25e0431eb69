// SPDX-License-Identifier: Apache-2.0
// A loop's pool: what lies in it leaves without a registration of its own.
#include "verbena/pool.h"

#include <algorithm>
#include <numeric>
#include <thread>
#include <vector>

#include "transport/engine.h"
#include "transport/loops.h"

namespace verbena::test {
namespace {

constexpr std::size_t pool_bytes = 1 << 20;

Options options_with_a_pool() {
  Options options = small_options();
  options.pool_bytes = pool_bytes;
  return options;
}

using Numbers = std::pmr::vector<std::uint32_t>;

class PoolTest : public testing::Test {
 protected:
  PoolTest() : both(small_options(), options_with_a_pool()), pool(both.client_loop.memory().pool()) {}

  Numbers numbers(std::size_t count) {
    Numbers made(count, &pool);
    std::iota(made.begin(), made.end(), 7U);
    return made;
  }
  static std::span<const std::byte> bytes_of(const Numbers& numbers) {
    return std::as_bytes(std::span{numbers});
  }
  std::uint64_t registrations() { return both.client_loop.statistics().registrations; }

  Connected both;
  Pool& pool;
};

// ---- Zero-copy by construction ----

TEST_F(PoolTest, AVectorInThePoolIsSentUnderThePoolsOwnRegistration) {
  Inbox inbox{both.server};
  const Numbers made = numbers(20'000);
  const std::span<const std::byte> bytes = bytes_of(made);
  ASSERT_GT(bytes.size(), both.client_loop.options().eager_size);
  for (int i = 0; i < 3; ++i) {
    Noted sent;
    ASSERT_EQ(both.client.send(bytes, sent), std::error_code{});
    both.until("the message", [&] { return sent.done() && !inbox.messages.empty(); });
    EXPECT_EQ(sent.error, std::error_code{});
    expect_equal(inbox.messages.front(), bytes);
    inbox.messages.pop_front();
  }
  EXPECT_EQ(registrations(), 0U);
}

TEST_F(PoolTest, ASliceOfItIsSentInTheSameWay) {
  Inbox inbox{both.server};
  const Numbers made = numbers(20'000);
  const std::array pieces{pool.slice(bytes_of(made))};
  Noted sent;
  ASSERT_EQ(both.client.send(pieces, sent), std::error_code{});
  both.until("the message", [&] { return sent.done() && !inbox.messages.empty(); });
  expect_equal(inbox.messages.front(), bytes_of(made));
  EXPECT_EQ(registrations(), 0U);
}

TEST_F(PoolTest, OtherMemoryIsRegisteredForIt) {
  const Message elsewhere = message(80'000);
  Noted sent;
  ASSERT_EQ(both.client.send(elsewhere, sent), std::error_code{});
  both.until("the message", [&] { return sent.done(); });
  EXPECT_EQ(registrations(), 1U);
}

TEST_F(PoolTest, AVectorInThePoolIsPutByThePoolsKey) {
  const Region far = both.server_loop.memory().allocate(80'000);
  const Numbers made = numbers(20'000);
  Noted put;
  ASSERT_EQ(both.client.put(pool.slice(bytes_of(made)), far.remote(), 0, put), std::error_code{});
  both.until("the put", [&] { return put.done(); });
  EXPECT_EQ(put.error, std::error_code{});
  expect_equal(far.bytes().first(80'000), bytes_of(made));
  EXPECT_EQ(registrations(), 0U);
}

TEST_F(PoolTest, AVectorInThePoolIsReadInto) {
  Region far = both.server_loop.memory().allocate(40'000);
  std::ranges::copy(message(40'000), far.bytes().begin());
  Numbers made(10'000, &pool);
  Noted get;
  ASSERT_EQ(both.client.get(pool.slice(bytes_of(made)), far.remote(), 0, get), std::error_code{});
  both.until("the get", [&] { return get.done(); });
  expect_equal(bytes_of(made), message(40'000));
}

TEST_F(PoolTest, PeersMayNotWriteToIt) {
  Numbers made = numbers(1000);
  const Slice slice = pool.slice(bytes_of(made));
  const RemoteRegion all{reinterpret_cast<std::uintptr_t>(slice.data), slice.length,
                         both.client_loop.engine().pool().rkey(), 0};
  const Region theirs = both.server_loop.memory().allocate(64);
  Noted put;
  ASSERT_EQ(both.server.put(theirs.slice(), all, 0, put), std::error_code{});
  both.until("the refusal", [&] { return put.done(); });
  EXPECT_EQ(put.error, code(errc::remote_access));
  EXPECT_EQ(made.front(), 7U);
}

TEST_F(PoolTest, MemoryOutsideHasNoSliceOfIt) {
  const Message elsewhere(100);
  EXPECT_FALSE(pool.contains(elsewhere));
  EXPECT_EQ(pool.slice(elsewhere).data, nullptr);
  EXPECT_EQ(pool.slice(elsewhere).length, 0U);
  std::byte* const block = pool.take(100);
  EXPECT_TRUE(pool.contains({block, 100}));
  EXPECT_FALSE(pool.contains({block, pool_bytes + 1})) << "it ends behind the pool";
  pool.give(block);
}

// ---- What it holds, and no more ----

TEST_F(PoolTest, AnExhaustedPoolSaysNoBufferAndTakesNothingFromElsewhere) {
  const std::size_t pinned = both.client_loop.pinned_bytes();
  std::vector<std::byte*> blocks;
  while (std::byte* block = pool.take(4096)) blocks.push_back(block);
  EXPECT_EQ(blocks.size(), pool_bytes / 4096);
  EXPECT_EQ(pool.figures().exhausted, 1U);
  try {
    const Numbers more(1000, &pool);
    FAIL() << "there was a block";
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), code(errc::no_buffer));
    EXPECT_NE(std::string(error.what()).find("pool_bytes"), std::string::npos) << error.what();
  }
  EXPECT_EQ(both.client_loop.pinned_bytes(), pinned);
  for (std::byte* block : blocks) pool.give(block);
  EXPECT_EQ(pool.figures().in_use, 0U);
  EXPECT_EQ(pool.figures().most_in_use, pool_bytes);
  EXPECT_EQ(numbers(1000).size(), 1000U);
}

TEST_F(PoolTest, AVectorThatGrowsStaysInThePool) {
  Numbers growing(&pool);
  for (std::uint32_t i = 0; i < 50'000; ++i) growing.push_back(i);
  EXPECT_TRUE(pool.contains(bytes_of(growing)));
  growing = Numbers(&pool);
  EXPECT_EQ(pool.figures().in_use, 0U);
}

TEST_F(PoolTest, ItsBlocksAreAlignedAsIsAskedForUpToAPage) {
  for (std::size_t alignment = 1; alignment <= 4096; alignment *= 2) {
    void* const block = pool.allocate(1, alignment);
    EXPECT_EQ(reinterpret_cast<std::uintptr_t>(block) % alignment, 0U);
    pool.deallocate(block, 1, alignment);
  }
  EXPECT_THROW(static_cast<void>(pool.allocate(1, 1 << 20)), Error);
}

TEST_F(PoolTest, AnotherThreadMayDestroyWhatTheLoopsThreadHasMade) {
  Numbers made = numbers(10'000);
  std::thread{[taken = std::move(made)]() mutable { Numbers{std::move(taken)}.clear(); }}.join();
  EXPECT_EQ(pool.figures().in_use, 0U);
}

TEST(PoolOfALoopTest, IsEmptyWhereNoneIsDeclared) {
  Loop loop{small_options()};
  EXPECT_EQ(loop.memory().pool().figures().capacity, 0U);
  EXPECT_EQ(loop.memory().pool().take(1), nullptr);
  EXPECT_FALSE(loop.memory().pool().contains({}));
}

TEST(PoolOfALoopTest, HasNoHugePagesWhereItIsNoMultipleOfThem) {
  Loop loop{options_with_a_pool()};
  EXPECT_FALSE(loop.memory().pool().figures().huge_pages);
  EXPECT_EQ(loop.memory().pool().figures().capacity, pool_bytes);
}

}  // namespace
}  // namespace verbena::test
