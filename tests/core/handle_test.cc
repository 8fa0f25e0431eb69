// SPDX-License-Identifier: Apache-2.0
#include "core/handle.h"

#include <gtest/gtest.h>

#include <array>
#include <cerrno>
#include <string>

#include "support/recording_device.h"

namespace verbena::core {
namespace {

using test::RecordingDevice;

TEST(HandleTest, DestroysOnceThroughItsDevice) {
  RecordingDevice device;
  ibv_pd pd{};
  { const Handle<ibv_pd> handle{device, &pd}; }
  EXPECT_EQ(device.destroyed(), "pd ");
}

TEST(HandleTest, MembersAreDestroyedInReverseOrder) {
  RecordingDevice device;
  ibv_pd pd{};
  ibv_cq cq{};
  ibv_qp qp{};
  struct Owner {
    Handle<ibv_pd> pd;
    Handle<ibv_cq> cq;
    Handle<ibv_qp> qp;
  };
  { const Owner owner{{device, &pd}, {device, &cq}, {device, &qp}}; }
  EXPECT_EQ(device.destroyed(), "qp cq pd ");
}

TEST(HandleTest, MovingHandsTheObjectOver) {
  RecordingDevice device;
  ibv_pd pd{};
  ibv_pd other{};
  Handle<ibv_pd> from{device, &pd};
  Handle<ibv_pd> into{device, &other};
  into = std::move(from);
  EXPECT_EQ(device.destroyed(), "pd ");  // `other`
  EXPECT_EQ(into.get(), &pd);
  EXPECT_FALSE(from);  // NOLINT(bugprone-use-after-move): what is left of it is the question
  into.reset();
  into.reset();
  EXPECT_EQ(device.destroyed(), "pd pd ");
}

TEST(HandleTest, ReleaseGivesTheObjectUp) {
  RecordingDevice device;
  ibv_pd pd{};
  {
    Handle<ibv_pd> handle{device, &pd};
    EXPECT_EQ(handle.release(), &pd);
  }
  EXPECT_EQ(device.destroyed(), "");
}

TEST(HandleTest, AFailedDestroyIsReportedNotThrown) {
  RecordingDevice device;
  device.fail_with(EBUSY);
  ibv_cq cq{};
  testing::internal::CaptureStderr();
  { const Handle<ibv_cq> handle{device, &cq}; }
  const std::string line = testing::internal::GetCapturedStderr();
  EXPECT_EQ(
      line,
      "verbena: a completion queue of device recording could not be destroyed: Device or resource busy\n");
}

TEST(HandleTest, AnEmptyHandleDestroysNothing) {
  const Handle<ibv_srq> empty;
  EXPECT_FALSE(empty);
}

}  // namespace
}  // namespace verbena::core
