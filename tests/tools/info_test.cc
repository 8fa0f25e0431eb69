// SPDX-License-Identifier: Apache-2.0
// What `verbena info` shows.
#include <nlohmann/json.hpp>

#include "expect.h"

namespace verbena::test {
namespace {

TEST(Info, ForPeopleNamesTheDeviceAndItsLimits) {
  const Outcome outcome = run({verbena_program(), "info"});
  EXPECT_EQ(outcome.status, 0) << outcome.err;
  EXPECT_THAT(outcome.out, testing::HasSubstr(test_device()));
  EXPECT_THAT(outcome.out, testing::HasSubstr("inline"));
}

TEST(Info, AsJsonHasEveryDeviceWithItsPortsAddressesAndLimits) {
  const Outcome outcome = run({verbena_program(), "info", "--json"});
  ASSERT_EQ(outcome.status, 0) << outcome.err;
  const auto json = nlohmann::json::parse(outcome.out);
  EXPECT_TRUE(json.at("version").is_string());
  bool found = false;
  for (const auto& device : json.at("devices")) {
    if (device.at("name") != test_device()) continue;
    found = true;
    EXPECT_EQ(device.at("kind"), test_device() == "soft0" ? "software" : "hardware");
    EXPECT_TRUE(device.at("problem").is_null());
    EXPECT_EQ(device.at("ports").at(0).at("active"), true);
    EXPECT_FALSE(device.at("gids").empty());
    EXPECT_GT(device.at("limits").at("max_qp").get<int>(), 0);
  }
  EXPECT_TRUE(found) << outcome.out;
}

}  // namespace
}  // namespace verbena::test
