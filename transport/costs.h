// SPDX-License-Identifier: Apache-2.0
/// What a message costs by each way that it can take, as measured on this machine.
///
/// A message that is copied costs a copy into a registered buffer, and the device's transfer of it. One that
/// is read costs a word that says where it lies, the reading, and a word that it has been read; the bytes are
/// touched once less. So the first is cheaper for short messages, the second for long ones, and where they
/// meet depends on the device: some tens of KiB on soft0, hundreds on SoftRoCE.
#pragma once

#include <cstddef>
#include <optional>
#include <string_view>

#include "core/device.h"

namespace verbena::transport {

/// A straight line: so much for any message, and so much a byte more.
struct Cost {
  double fixed_ns = 0;
  double ns_per_byte = 0;

  double of(std::size_t bytes) const noexcept { return fixed_ns + ns_per_byte * static_cast<double>(bytes); }
};

struct Costs {
  Cost copied;
  Cost read;

  /// Messages of so many bytes and more are read: a power of two, since two measurements are never quite the
  /// same, at which reading is clearly cheaper: what it saves is twice what it costs more. (Between two cores
  /// both cost more than here; and to register the program's memory isn't in it.) SIZE_MAX where it never is.
  std::size_t read_from() const noexcept;
};

/// By two queue pairs that are connected to each other, in this thread: 1 to 2 ms on soft0, some 10 on
/// SoftRoCE; 128 KiB are registered meanwhile. Nothing where the device doesn't let itself be measured: there
/// is no memory for it, or no way from it to itself, or a fault plan or a trace slows it.
std::optional<Costs> measure_costs(core::Device& device) noexcept;

/// Those of the device of this name, opened for that; measured by the first who asks in this process. Thread
/// safety: any thread; a second one waits for the first.
std::optional<Costs> costs_of(std::string_view device) noexcept;

}  // namespace verbena::transport
