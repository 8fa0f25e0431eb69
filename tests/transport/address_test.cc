// SPDX-License-Identifier: Apache-2.0
#include "verbena/address.h"

#include <gtest/gtest.h>

#include "verbena/error.h"

namespace verbena {
namespace {

TEST(AddressTest, ItsPartsAreFound) {
  EXPECT_EQ(Address::parse("rdma://node7:7471"), (Address{"rdma", "node7", 7471}));
  EXPECT_EQ(Address::parse("rxe1://10.9.0.1:1"), (Address{"rxe1", "10.9.0.1", 1}));
  EXPECT_EQ(Address::parse("soft://localhost:0"), (Address{"soft", "localhost", 0}));
  EXPECT_EQ(Address::parse("rdma://[fe80::1]:65535"), (Address{"rdma", "fe80::1", 65535}));
}

TEST(AddressTest, ItReadsAsItWasWritten) {
  for (const char* text :
       {"rdma://node7:7471", "soft://localhost:0", "rdma://[fe80::1]:65535", "mlx5_0://h:9"}) {
    EXPECT_EQ(Address::parse(text).to_string(), text);
  }
}

TEST(AddressTest, OnlyOtherSchemesNameADevice) {
  EXPECT_FALSE(Address::parse("rdma://h:1").names_device());
  EXPECT_FALSE(Address::parse("soft://h:1").names_device());
  EXPECT_TRUE(Address::parse("rxe1://h:1").names_device());
}

class BadAddress : public testing::TestWithParam<const char*> {};

TEST_P(BadAddress, IsRefusedWithItselfAndAnExample) {
  try {
    Address::parse(GetParam());
    FAIL() << "it was taken";
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), make_error_code(errc::address_unusable));
    const std::string sentence = error.what();
    EXPECT_NE(sentence.find('"' + std::string(GetParam()) + '"'), std::string::npos) << sentence;
    EXPECT_NE(sentence.find("rdma://node7:7471"), std::string::npos) << sentence;
  }
}

INSTANTIATE_TEST_SUITE_P(Texts, BadAddress,
                         testing::Values("", "node7", "node7:7471", "://node7:7471", "rdma:/node7:7471",
                                         "rdma://", "rdma://node7", "rdma://node7:", "rdma://:7471",
                                         "rdma://node7:x", "rdma://node7:65536", "rdma://node7:-1",
                                         "rdma://node7:+1", "rdma://node7: 1", "rdma://node7:1 ",
                                         "rdma://node7:99999999999999999999", "rdma://fe80::1:7471",
                                         "rdma://[fe80::1", "rdma://[fe80::1]", "rdma://[fe80::1]7471",
                                         "rdma://[]:7471"));

}  // namespace
}  // namespace verbena
