// SPDX-License-Identifier: Apache-2.0
/// Brings a client whose connection was lost a new one, by its policy.
#pragma once

#include <boost/asio/steady_timer.hpp>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <system_error>

#include "rpc/backoff.h"
#include "verbena/connection.h"

namespace verbena::rpc {

class ClientState;

/// States: idle → waiting → connecting → waiting … → idle. Belongs to its client; its handlers in the
/// io_context and in the exchange may outlive it, and find it stopped.
class Reconnector {
 public:
  Reconnector(ClientState& client, std::string address, const ReconnectPolicy& policy, std::uint32_t seed);
  ~Reconnector();
  Reconnector(const Reconnector&) = delete;
  Reconnector& operator=(const Reconnector&) = delete;

  /// The connection was lost. False: for good, another one would be lost as well, or stop() was called.
  bool begin(std::error_code error, std::string_view why);
  /// No further try; what comes of the one under way is dropped.
  void stop() noexcept;
  std::uint64_t successes() const noexcept { return successes_; }

 private:
  void wait();
  void connect();
  void answered(const Error* error, Connection connection);

  ClientState& client_;
  const std::string address_;
  const ReconnectPolicy policy_;
  Backoff backoff_;
  boost::asio::steady_timer timer_;
  std::string why_;  // the connection was lost
  unsigned failures_ = 0;
  std::uint64_t successes_ = 0;
  std::shared_ptr<bool> wanted_ = std::make_shared<bool>(true);
};

}  // namespace verbena::rpc
