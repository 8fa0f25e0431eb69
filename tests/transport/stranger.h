// SPDX-License-Identifier: Apache-2.0
/// A TCP peer that isn't Verbena, or not quite: it says what a test tells it to.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "transport/hello.h"

namespace verbena::test {

/// Blocking sends, reads that never block.
class Stranger {
 public:
  /// Calls at this host's `port`.
  explicit Stranger(std::uint16_t port);
  explicit Stranger(int socket, bool) : socket_(socket) {}
  ~Stranger();
  Stranger(Stranger&& other) noexcept;
  Stranger& operator=(Stranger&&) = delete;

  void say(std::span<const std::byte> bytes);
  void say(const transport::Hello& hello);
  /// What has been heard so far.
  std::span<const std::byte> heard();
  bool was_hung_up_on();

 private:
  int socket_;
  bool ended_ = false;
  std::vector<std::byte> heard_;
};

/// A port of this host where a stranger answers.
class StrangeServer {
 public:
  StrangeServer();
  ~StrangeServer();
  StrangeServer(const StrangeServer&) = delete;
  StrangeServer& operator=(const StrangeServer&) = delete;
  std::uint16_t port() const { return port_; }
  /// Whether somebody calls.
  bool is_called();
  Stranger answer();

 private:
  int socket_;
  std::uint16_t port_ = 0;
};

}  // namespace verbena::test
