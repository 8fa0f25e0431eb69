// SPDX-License-Identifier: Apache-2.0
// Registrations that somebody must not use any more are taken back at once, whoever else holds them.
#include <gtest/gtest.h>

#include <cstddef>
#include <string>
#include <vector>

#include "core/cache/registration_cache.h"
#include "core/fake_registrar.h"

namespace verbena::test {
namespace {

using core::Pin;
using core::RegistrationCache;

constexpr int local = 1;

// Where changes can't be watched nothing is kept, and the same has to hold.
class RegistrationRevokeTest : public testing::Test {
 protected:
  FakeRegistrar registrar_;
  RegistrationCache cache_{registrar_, core::process_watcher()};
  std::vector<std::byte> memory_{1 << 20};

  Pin pin() { return cache_.acquire(memory_.data(), memory_.size(), local); }
};

TEST_F(RegistrationRevokeTest, TheOnlyHolderHasItGone) {
  Pin only = pin();
  EXPECT_TRUE(only.revoke());
  EXPECT_FALSE(only);
  EXPECT_EQ(registrar_.live(), 0U);
  EXPECT_EQ(cache_.counters().pinned_bytes, 0U);
  EXPECT_EQ(cache_.counters().entries, 0U);
  const Pin next = pin();
  EXPECT_TRUE(next.current());
  EXPECT_EQ(registrar_.added(), 2U) << "nobody gets what was revoked";
}

TEST_F(RegistrationRevokeTest, WhatTheDeviceWontLetGoOfIsNotRevoked) {
  Pin only = pin();
  registrar_.refuse_removals = 1;
  testing::internal::CaptureStderr();
  EXPECT_FALSE(only.revoke());
  const std::string said = testing::internal::GetCapturedStderr();
  EXPECT_NE(said.find("fake0 could not be taken back"), said.npos) << said;
  EXPECT_TRUE(only);
  EXPECT_EQ(registrar_.live(), 1U);
  EXPECT_GE(cache_.counters().pinned_bytes, memory_.size());
  only.release();  // tries again
  EXPECT_EQ(registrar_.live(), 0U);
  EXPECT_EQ(cache_.counters().pinned_bytes, 0U);
}

TEST_F(RegistrationRevokeTest, OthersKeepItUntilTheyLetGo) {
  if (!core::process_watcher().works()) GTEST_SKIP() << "nothing is held in common";
  Pin one = pin();
  Pin other = pin();
  EXPECT_FALSE(one.revoke());
  EXPECT_TRUE(one) << "what isn't revoked is still to be";
  EXPECT_EQ(registrar_.live(), 1U);
  EXPECT_FALSE(other.current());
  const Pin next = pin();
  EXPECT_NE(next.lkey(), other.lkey());
  other.release();
  EXPECT_EQ(registrar_.live(), 2U);
  EXPECT_TRUE(one.revoke());
  EXPECT_EQ(registrar_.live(), 1U);
  EXPECT_EQ(cache_.counters().revocations, 1U);
}

TEST_F(RegistrationRevokeTest, TheLastOfThoseWhoRevokeHasItGone) {
  Pin one = pin();
  Pin other = pin();
  const bool is_shared = core::process_watcher().works();
  EXPECT_EQ(one.revoke(), !is_shared);
  one.release();
  EXPECT_TRUE(other.revoke());
  EXPECT_EQ(registrar_.live(), 0U);
}

TEST_F(RegistrationRevokeTest, ForAllMeansAtOnceAndNotTwice) {
  Pin one = pin();
  Pin other = pin();
  const bool is_shared = core::process_watcher().works();
  one.revoke_for_all();
  EXPECT_EQ(registrar_.live(), is_shared ? 0U : 1U);
  EXPECT_EQ(other.current(), !is_shared);
  other.release();
  EXPECT_EQ(registrar_.live(), 0U);
  EXPECT_EQ(cache_.counters().pinned_bytes, 0U);
}

}  // namespace
}  // namespace verbena::test
