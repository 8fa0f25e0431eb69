// SPDX-License-Identifier: Apache-2.0
/// The fixture of the conformance suite for `Device`: the same tests on every device.
///
/// VERBENA_TEST_DEVICE names the device (default soft0). Where devices may differ, `quirks()` says by name
/// what this one does; a test never accepts either of two answers.
#pragma once

#include <gtest/gtest.h>

#include <memory>
#include <optional>
#include <string>

#include "core/device.h"
#include "support/endpoint.h"
#include "support/seed.h"

namespace verbena::test {

/// What devices do differently, within the specification or against it.
struct Quirks {
  /// rxe answers with its one catch-all where HCAs tell local errors apart.
  ibv_wc_status bad_local_key = IBV_WC_LOC_PROT_ERR;
  ibv_wc_status message_longer_than_receive = IBV_WC_LOC_LEN_ERR;
  ibv_wc_status sender_of_too_long_message = IBV_WC_REM_INV_REQ_ERR;
  /// rxe checks a window's parent region only.
  bool enforces_window_bounds = true;
  /// rxe checks the key at a message's first packet: the packets behind it still land after an invalidation.
  bool invalidation_stops_writes_under_way = true;
  /// rxe on Linux 6.1 leaves them until the next modification to ERR.
  bool flushes_receives_posted_in_error = true;
  /// rxe's user-space part returns before it has set bad_wr where the state alone refuses a receive.
  bool names_receive_refused_by_state = true;
  /// rxe on Linux 6.1 invalidates, but the receiver's completion doesn't say which key.
  bool tells_invalidated_key = true;
  /// rxe refuses an unaligned atomic when it is posted; an HCA sends it, and the target refuses.
  bool refuses_unaligned_atomic_when_posted = false;
  /// rxe takes reads on an unreliable connection, and any verb on datagrams, and does something else with
  /// them.
  bool refuses_verbs_that_a_service_lacks = true;
  /// rxe fails the receive that a message of unreliable service is too long for, and its queue pair.
  bool loses_what_is_too_long = true;
  /// rxe sends the key as it stands.
  bool knows_own_datagram_key = true;
  /// rxe's user-space part (rdma-core 44) gets the length of a list of pieces wrong where it is built by
  /// ibv_wr_set_*.
  bool builds_lists = true;
  /// It starts to read once more at the completion that was read last before there was no next one.
  bool ends_extended_polls = true;
  /// rxe loses a completion that finds its queue full.
  bool keeps_what_overruns = true;
  /// rxe raises no events of queue pairs.
  bool tells_last_receive = true;
  /// rxe binds windows of either type by a posted request.
  bool tells_window_types_apart = true;
  /// How many rounds of what is slow under emulation.
  std::size_t rounds = 200;
  std::uint32_t wake_ups = 20'000;
};

/// Opens the device that VERBENA_TEST_DEVICE names.
std::unique_ptr<core::Device> open_test_device();
const Quirks& quirks();

class DeviceTest : public testing::Test {
 protected:
  void SetUp() override { device_ = open_test_device(); }

  core::Device& device() { return *device_; }

 private:
  std::unique_ptr<core::Device> device_;
};

/// Two endpoints, connected to each other.
struct Pair {
  Endpoint a;
  Endpoint b;

  explicit Pair(core::Device& device, const EndpointOptions& options = {}) : Pair(device, options, options) {}
  Pair(core::Device& device, const EndpointOptions& of_a, const EndpointOptions& of_b)
      : a(device, of_a), b(device, of_b) {
    connect(a, b);
  }
};

std::string name_of(ibv_wc_status status);
std::string name_of(MemoryKind kind);

/// A success of that opcode, for that request, of that queue pair.
void expect_success(const ibv_wc& completion, ibv_wc_opcode opcode, std::uint64_t id,
                    const Endpoint& endpoint);
/// What a failed completion may be relied on for: status, id, queue pair.
void expect_status(const ibv_wc& completion, ibv_wc_status status, std::uint64_t id,
                   const Endpoint& endpoint);
void expect_equal(std::span<const std::byte> got, std::span<const std::byte> wanted);

}  // namespace verbena::test
