// SPDX-License-Identifier: Apache-2.0
#include "core/buffer_pool.h"

#include <cstring>
#include <set>

#include "device/device_test.h"

namespace verbena::test {
namespace {

class BufferPoolTest : public DeviceTest {
 protected:
  void SetUp() override {
    DeviceTest::SetUp();
    pd_ = {device(), device().alloc_pd()};
    ASSERT_TRUE(pd_);
  }

  core::BufferPool make(std::size_t count, std::size_t size) {
    return {device(), pd_.get(), count, size, IBV_ACCESS_LOCAL_WRITE | IBV_ACCESS_REMOTE_WRITE};
  }

  ibv_pd* pd() { return pd_.get(); }

 private:
  core::Handle<ibv_pd> pd_;
};

TEST_F(BufferPoolTest, GivesEachBufferOnceAndThenNone) {
  core::BufferPool pool = make(10, 100);
  std::set<std::byte*> taken;
  for (int i = 0; i < 10; ++i) {
    std::byte* buffer = pool.take();
    ASSERT_NE(buffer, nullptr);
    EXPECT_EQ(reinterpret_cast<std::uintptr_t>(buffer) % 64, 0U);
    EXPECT_TRUE(taken.insert(buffer).second);
  }
  EXPECT_EQ(pool.available(), 0U);
  EXPECT_EQ(pool.take(), nullptr);
  for (std::byte* buffer : taken) pool.give(buffer);
  EXPECT_EQ(pool.available(), pool.capacity());
}

TEST_F(BufferPoolTest, BuffersDontOverlap) {
  core::BufferPool pool = make(8, 100);
  EXPECT_EQ(pool.buffer_size(), 128U);
  std::byte* const first = pool.take();
  std::byte* const second = pool.take();
  std::memset(first, 1, pool.buffer_size());
  EXPECT_EQ(second[0], std::byte{0});
  EXPECT_GE(static_cast<std::size_t>(second > first ? second - first : first - second), pool.buffer_size());
}

TEST_F(BufferPoolTest, TheLastGivenIsTheNextTaken) {
  core::BufferPool pool = make(4, 64);
  std::byte* const buffer = pool.take();
  pool.give(buffer);
  EXPECT_EQ(pool.take(), buffer);  // it is the one still in the cache
}

TEST_F(BufferPoolTest, SaysWhatItPins) {
  const core::BufferPool pool = make(100, 100);
  EXPECT_GE(pool.pinned_bytes(), 100U * 128U);
  EXPECT_EQ(pool.pinned_bytes() % 4096, 0U);
}

TEST_F(BufferPoolTest, ItsKeysReachEveryBuffer) {
  Pair pair{device(), {}, EndpointOptions{.pd = pd()}};
  core::BufferPool pool = make(64, 256);
  Buffer& near = pair.a.buffer(256);
  for (std::size_t i = 0; i < pool.capacity(); ++i) {
    near.fill(static_cast<unsigned char>(i + 1));
    std::byte* const target = pool.take();
    pair.a.post(write({near.piece()}, Remote{reinterpret_cast<std::uintptr_t>(target), pool.rkey()}));
    expect_success(pair.a.sent(), IBV_WC_RDMA_WRITE, 0, pair.a);
    expect_equal({target, 256}, near.bytes());
  }
}

}  // namespace
}  // namespace verbena::test
