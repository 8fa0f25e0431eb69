// SPDX-License-Identifier: Apache-2.0
#include "core/per_process.h"

#include <gtest/gtest.h>

#include <atomic>
#include <stdexcept>
#include <thread>
#include <vector>

#include "support/forked.h"
#include "support/patience.h"

namespace verbena::test {
namespace {

core::PerProcess<int> number;

int next() {
  return number.with([](int& value) { return ++value; });
}

TEST(PerProcessTest, ThreadsShareOne) {
  const int before = next();
  {
    std::vector<std::jthread> threads;
    for (int i = 0; i < 4; ++i) {
      threads.emplace_back([] {
        for (int n = 0; n < 1000; ++n) next();
      });
    }
  }
  EXPECT_EQ(next(), before + 4001);
}

TEST(PerProcessTest, AForkedChildHasItsOwnThoughAnotherThreadHeldTheParents) {
  next();
  std::atomic<bool> is_held{false};
  std::atomic<bool> is_over{false};
  std::jthread holder([&] {
    number.with([&](int&) {
      is_held = true;
      while (!is_over) std::this_thread::yield();
    });
  });
  wait_until("the holder", [&] { return is_held.load(); });
  Forked child([] { require(next() == 1 && next() == 2, "a fresh one"); });
  const int status = child.join();
  is_over = true;
  EXPECT_EQ(status, 0);
}

TEST(PerProcessTest, WhatIsThrownLeavesItUsable) {
  const int before = next();
  EXPECT_THROW(number.with([](int&) { throw std::runtime_error("on purpose"); }), std::runtime_error);
  EXPECT_EQ(next(), before + 1);
}

}  // namespace
}  // namespace verbena::test
