// SPDX-License-Identifier: Apache-2.0
#include <gtest/gtest.h>

#include "support/child.h"

int main(int argc, char** argv) {
  // A test's second process is this program again, in a role.
  if (const auto status = verbena::test::play_role(argc, argv)) return *status;
  testing::InitGoogleTest(&argc, argv);
  return RUN_ALL_TESTS();
}
