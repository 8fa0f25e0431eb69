// SPDX-License-Identifier: Apache-2.0
#include "verbena/devices.h"

#include <algorithm>

#include "core/error.h"
#include "device/device_test.h"

namespace verbena::test {
namespace {

class DevicesTest : public DeviceTest {};

TEST_F(DevicesTest, TheListEndsWithSoft0AndHasTheOpenOne) {
  const auto names = core::list_devices();
  ASSERT_FALSE(names.empty());
  EXPECT_EQ(names.back().name, "soft0");
  EXPECT_EQ(names.back().kind, core::DeviceKind::software);
  EXPECT_TRUE(std::any_of(names.begin(), names.end(), [&](const auto& each) {
    return each.name == device().name() && each.kind == device().kind();
  }));
}

TEST_F(DevicesTest, AnUnknownNameIsAnsweredWithThoseThatThereAre) {
  try {
    core::open_device("mlx5_99");
    FAIL() << "it was opened";
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), errc::device_not_found);
    const std::string sentence = error.what();
    EXPECT_NE(sentence.find("mlx5_99"), sentence.npos);
    EXPECT_NE(sentence.find("soft0"), sentence.npos);
  }
}

TEST_F(DevicesTest, TheBestDeviceIsARealOneWhereThereIsOne) {
  const auto best = core::open_device();
  EXPECT_EQ(best->kind(), core::list_devices().front().kind);
}

TEST_F(DevicesTest, ItsDescriptionHasAnActivePortAGidAndLimits) {
  const std::vector<DeviceInfo> devices = describe_devices();
  const auto found = std::find_if(devices.begin(), devices.end(),
                                  [&](const DeviceInfo& each) { return each.name == device().name(); });
  ASSERT_NE(found, devices.end());
  EXPECT_EQ(found->problem, "");
  ASSERT_FALSE(found->ports.empty());
  EXPECT_EQ(found->ports.front().state, "active");
  EXPECT_GE(found->ports.front().active_mtu, 1024);
  EXPECT_EQ(
      std::count_if(found->gids.begin(), found->gids.end(), [](const GidInfo& gid) { return gid.preferred; }),
      1);
  EXPECT_GT(found->limits.max_qp, 0);
  EXPECT_GT(found->limits.max_qp_wr, 0);
  EXPECT_GT(found->limits.max_cqe, 0);
  EXPECT_GT(found->limits.max_srq_wr, 0);
  EXPECT_GE(found->limits.max_inline.value_or(0), 64);
  EXPECT_NE(found->limits.atomics, "none");
}

}  // namespace
}  // namespace verbena::test
