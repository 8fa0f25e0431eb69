// SPDX-License-Identifier: Apache-2.0
// After warm-up a call allocates nothing, on either side.
#include <atomic>
#include <cstdlib>
#include <new>

#include "rpc/calls.h"

namespace {

thread_local std::uint64_t allocations = 0;  // the agent's thread may still be busy with the meeting

void* counted(std::size_t size, std::size_t alignment) {
  ++allocations;
  void* memory = nullptr;
  if (posix_memalign(&memory, std::max(alignment, sizeof(void*)), size == 0 ? 1 : size) != 0)
    throw std::bad_alloc{};
  return memory;
}

}  // namespace

void* operator new(std::size_t size) {
  return counted(size, alignof(std::max_align_t));
}
void* operator new[](std::size_t size) {
  return counted(size, alignof(std::max_align_t));
}
void* operator new(std::size_t size, std::align_val_t alignment) {
  return counted(size, static_cast<std::size_t>(alignment));
}
void operator delete(void* memory) noexcept {
  std::free(memory);
}
void operator delete[](void* memory) noexcept {
  std::free(memory);
}
void operator delete(void* memory, std::size_t) noexcept {
  std::free(memory);
}
void operator delete[](void* memory, std::size_t) noexcept {
  std::free(memory);
}
void operator delete(void* memory, std::align_val_t) noexcept {
  std::free(memory);
}
void operator delete(void* memory, std::size_t, std::align_val_t) noexcept {
  std::free(memory);
}

namespace verbena::test {
namespace {

/// Turns the data path alone: the sockets beside it are Asio's.
template <class Condition>
void turn_until(Calls& calls, Condition condition) {
  for (std::uint64_t turns = 0; turns < 100'000'000 && !condition(); ++turns) {
    calls.server_loop.poll();
    calls.client_loop.poll();
  }
}

/// What the sockets still have to say of it allocates; on a busy machine it comes late.
void end_meeting(Loops& loops) {
  for (int i = 0; i < 100; ++i) {
    Loops::look(loops.server_loop);
    Loops::look(loops.client_loop);
  }
}

class AllocationsTest : public testing::TestWithParam<std::size_t> {};

TEST_P(AllocationsTest, TenThousandCallsMakeNone) {
  Calls calls;
  const Message request = message(GetParam());
  std::uint64_t finished = 0;
  const auto call_many = [&](std::uint64_t count) {
    finished = 0;
    std::uint64_t started = 0;
    turn_until(calls, [&] {
      while (started < count &&
             !calls.client.call(echo, request, [&](std::error_code, rpc::Bytes) { ++finished; }))
        ++started;
      return finished == count;
    });
  };
  call_many(1000);
  end_meeting(calls);
  const std::uint64_t before = allocations;
  call_many(10'000);
  const std::uint64_t after = allocations;
  EXPECT_EQ(finished, 10'000U);
  EXPECT_EQ(after - before, 0U);
}

TEST_P(AllocationsTest, CallsWithDeadlinesAndSmallCapturesMakeNone) {
  Calls calls;
  const Message request = message(GetParam());
  std::uint64_t finished = 0;
  std::uint64_t a = 1, b = 2, c = 3, d = 4;
  const auto handler = [&finished, &a, &b, &c, &d](std::error_code, rpc::Bytes) {
    finished += a * b * c * d / 24;
  };
  static_assert(sizeof handler <= rpc::CallHandler::capacity);
  std::uint64_t before = 0;
  for (int i = 0; i < 2000; ++i) {
    if (i == 1000) {
      end_meeting(calls);
      before = allocations;
    }
    ASSERT_FALSE(calls.client.call(echo, request, handler, std::chrono::seconds{60}));
    turn_until(calls, [&] { return finished == static_cast<std::uint64_t>(i) + 1; });
  }
  EXPECT_EQ(allocations - before, 0U);
}

TEST_P(AllocationsTest, MessagesMakeNone) {
  Connected both;
  std::uint64_t received = 0;
  both.server.on_message([&](std::span<const std::byte>) { ++received; });
  const Message bytes = message(GetParam());
  std::uint64_t before = 0;
  for (std::uint64_t sent = 0; sent < 20'000;) {
    if (sent == 10'000) {
      end_meeting(both);
      before = allocations;
    }
    if (!both.client.send(bytes)) ++sent;
    both.client_loop.poll();
    both.server_loop.poll();
  }
  EXPECT_EQ(allocations - before, 0U);
  EXPECT_GT(received, 10'000U);
}

// Inline, and through the pools.
INSTANTIATE_TEST_SUITE_P(Sizes, AllocationsTest, testing::Values(8, 900));

}  // namespace
}  // namespace verbena::test
