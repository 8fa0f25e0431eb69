// SPDX-License-Identifier: Apache-2.0
/// The message that send-latency sends again and again: short ones by copy, long ones from registered memory.
#pragma once

#include <verbena/connection.h>
#include <verbena/loop.h>
#include <verbena/memory.h>
#include <array>
#include <cstdint>
#include <span>

#include "tools/perf/session.h"

namespace verbena::tools {

class MessageSource {
 public:
  MessageSource(Loop& loop, Connection& connection, std::uint64_t size)
      : loop_(loop),
        connection_(connection),
        region_(loop.memory().allocate(size, Access::remote_read)),
        bytes_(region_.bytes().first(size)),
        is_short_(size <= loop.options().eager_size) {
    done_.complete = &finished;
  }
  MessageSource(const MessageSource&) = delete;
  MessageSource& operator=(const MessageSource&) = delete;
  ~MessageSource() {
    while (done_.busy && connection_.is_open()) loop_.poll();
  }

  /// Queues it; a long one has to be read by the peer before the next, which an answer of its shows.
  void send() {
    while (const std::error_code error = try_send()) {
      if (!passes(error)) throw_failed("a message", error);
      loop_.poll();
    }
  }
  /// For handlers, which may not turn the loop. An error means that nothing was sent.
  std::error_code try_send() noexcept {
    if (is_short_) [[likely]]
      return connection_.send(bytes_);
    if (done_.busy) return make_error_code(errc::overloaded);
    const std::array pieces{region_.slice(0, bytes_.size())};
    const std::error_code error = connection_.send(pieces, done_);
    done_.busy = !error;
    return error;
  }

 private:
  struct Done : Operation {
    bool busy = false;
  };
  static void finished(Operation* self, std::error_code, std::size_t) noexcept {
    static_cast<Done*>(self)->busy = false;  // a failure ends the connection, which is looked at
  }

  Loop& loop_;
  Connection& connection_;
  Region region_;
  std::span<const std::byte> bytes_;
  bool is_short_;
  Done done_;
};

}  // namespace verbena::tools
