// SPDX-License-Identifier: Apache-2.0
/// How a client that has lost its connection comes back.
#pragma once

#include <chrono>

namespace verbena::rpc {

/// Before the nth try, a client waits `first` × `factor`^(n-1), `most` at most, shortened by chance by up to
/// the share `jitter`, so that the clients of one server don't come back at the same moment. Each try takes
/// Options::connect_timeout at most.
struct ReconnectPolicy {
  std::chrono::milliseconds first{10};   ///< from 1 ms to an hour
  std::chrono::milliseconds most{2000};  ///< from `first` to an hour
  double factor = 2;                     ///< from 1 to 100
  unsigned tries = 0;                    ///< in a row without success, until the client gives up; 0: for ever
  double jitter = 0.2;                   ///< from 0 to 1

  /// Throws Error (invalid_argument) naming the first value that is out of range, and its range.
  void validate() const;
};

}  // namespace verbena::rpc
