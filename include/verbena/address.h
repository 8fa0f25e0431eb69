// SPDX-License-Identifier: Apache-2.0
/// Where to listen or connect: `scheme://host:port`.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

namespace verbena {

/// `rdma://node7:7471` – the loop's device, whichever it is; connects by rdma_cm where the device has it.
/// `soft://localhost:7471` – the software device.
/// `rxe1://10.9.0.1:7471` – a device by its name.
/// `rdma://[fe80::1]:7471` – IPv6 in brackets. Port 0 listens on a free one.
struct Address {
  std::string scheme;
  std::string host;
  std::uint16_t port = 0;

  /// Throws Error (address_unusable): what is wrong with `text`, and how an address looks.
  static Address parse(std::string_view text);
  std::string to_string() const;

  bool names_device() const noexcept { return scheme != "rdma" && scheme != "soft"; }

  friend bool operator==(const Address&, const Address&) = default;
};

}  // namespace verbena
