// SPDX-License-Identifier: Apache-2.0
/// What the programs promise of every failure.
#pragma once

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "program.h"

namespace verbena::test {

/// One sentence "NAME: …" with `part` in it, and nothing on standard output.
inline void expect_sentence(const Outcome& outcome, int status, const std::string& name,
                            const std::string& part) {
  EXPECT_EQ(outcome.status, status) << outcome.err;
  EXPECT_THAT(outcome.err, testing::StartsWith(name + ": "));
  EXPECT_THAT(outcome.err, testing::HasSubstr(part));
  EXPECT_EQ(outcome.err.find('\n'), outcome.err.size() - 1) << "one line: " << outcome.err;
}

constexpr int failure = 1, usage = 2;

}  // namespace verbena::test
