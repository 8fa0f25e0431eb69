// SPDX-License-Identifier: Apache-2.0
#include "device/device_test.h"

#include <algorithm>
#include <cstdlib>
#include <string_view>

namespace verbena::test {
namespace {

std::string device_name() {
  const char* name = std::getenv("VERBENA_TEST_DEVICE");
  return name != nullptr ? name : "soft0";
}

Quirks quirks_of(std::string_view device) {
  Quirks quirks;
  if (device.starts_with("rxe")) {
    quirks.bad_local_key = IBV_WC_LOC_QP_OP_ERR;
    quirks.message_longer_than_receive = IBV_WC_LOC_QP_OP_ERR;
    quirks.sender_of_too_long_message = IBV_WC_REM_OP_ERR;
    quirks.enforces_window_bounds = false;
    quirks.invalidation_stops_writes_under_way = false;
    quirks.flushes_receives_posted_in_error = false;
    quirks.names_receive_refused_by_state = false;
    quirks.tells_invalidated_key = false;
    quirks.refuses_unaligned_atomic_when_posted = true;
    quirks.refuses_verbs_that_a_service_lacks = false;
    quirks.loses_what_is_too_long = false;
    quirks.knows_own_datagram_key = false;
    quirks.builds_lists = false;
    quirks.ends_extended_polls = false;
    quirks.keeps_what_overruns = false;
    quirks.tells_last_receive = false;
    quirks.tells_window_types_apart = false;
    quirks.rounds = 20;
    quirks.wake_ups = 4'000;
  }
  return quirks;
}

}  // namespace

std::unique_ptr<core::Device> open_test_device() {
  return core::open_device(device_name());
}

const Quirks& quirks() {
  static const Quirks known = quirks_of(device_name());
  return known;
}

std::string name_of(ibv_wc_status status) {
  return ibv_wc_status_str(status);
}

std::string name_of(MemoryKind kind) {
  switch (kind) {
    case MemoryKind::heap:
      return "Heap";
    case MemoryKind::mapped:
      return "Mapped";
    case MemoryKind::shared:
      return "Shared";
  }
  return "?";
}

void expect_success(const ibv_wc& completion, ibv_wc_opcode opcode, std::uint64_t id,
                    const Endpoint& endpoint) {
  expect_status(completion, IBV_WC_SUCCESS, id, endpoint);
  if (completion.status == IBV_WC_SUCCESS) {
    EXPECT_EQ(completion.opcode, opcode);
  }
}

void expect_status(const ibv_wc& completion, ibv_wc_status status, std::uint64_t id,
                   const Endpoint& endpoint) {
  EXPECT_EQ(name_of(completion.status), name_of(status));
  EXPECT_EQ(completion.wr_id, id);
  EXPECT_EQ(completion.qp_num, endpoint.number());
}

void expect_equal(std::span<const std::byte> got, std::span<const std::byte> wanted) {
  ASSERT_EQ(got.size(), wanted.size());
  const auto [at, unused] = std::mismatch(got.begin(), got.end(), wanted.begin());
  EXPECT_TRUE(at == got.end()) << "the first difference is at byte " << at - got.begin() << " of "
                               << got.size();
}

}  // namespace verbena::test
