// SPDX-License-Identifier: Apache-2.0
/// A server and a client, each on its own loop, turned by one thread.
#pragma once

#include <optional>

#include "transport/loops.h"
#include "verbena/rpc.h"

namespace verbena::test {

/// What became of one call. `handler()` may be given to one call at a time.
struct Outcome {
  int times = 0;
  std::error_code error;
  Message reply;
  bool done() const { return times > 0; }
  auto handler() {
    return [this](std::error_code code, rpc::Bytes bytes) {
      ++times;
      error = code;
      reply.assign(bytes.begin(), bytes.end());
    };
  }
};

inline constexpr rpc::MethodId echo = 1;
inline constexpr rpc::MethodId keep = 2;

/// Method `echo` answers with the request; `keep` puts the reply into `kept`, to be answered by the test.
class Calls : public Loops {
 public:
  explicit Calls(const Options& server = small_options(), const Options& client = small_options());

  /// Calls `echo` and expects the request back.
  void expect_echo(const Message& request);

  std::deque<rpc::Reply> kept;
  rpc::Server server;
  rpc::Client client;
};

/// A client of `loops.client_loop`, connected to `port`.
rpc::Client connected(Loops& loops, std::uint16_t port);

}  // namespace verbena::test
