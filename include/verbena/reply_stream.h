// SPDX-License-Identifier: Apache-2.0
/// A reply of many parts, written as fast as the caller takes them.
#pragma once

#include <memory>
#include <system_error>

#include "verbena/handler.h"
#include "verbena/reply.h"

namespace verbena::rpc {

/// Made of a Reply whose caller asked for a stream (Client::stream). Destroyed unfinished it says
/// handler_failed. Thread: its Loop's.
class ReplyStream {
 public:
  explicit ReplyStream(Reply&& reply);
  ReplyStream(ReplyStream&&) noexcept;
  ReplyStream& operator=(ReplyStream&&) noexcept;
  ~ReplyStream();

  /// One part, of at most the connection's eager size; it is copied. Parts arrive in order, all before the
  /// end. Errors: no_credit or overloaded: the caller has as many ahead as it wants, or the connection is
  /// busy: go on in on_writable(). cancelled: the caller has given up. connection_lost. message_too_long.
  /// rejected: the caller didn't ask for a stream.
  std::error_code write(Bytes part) noexcept;
  /// Runs `handler` once, not inside this call: when write() may succeed again, or fails for good.
  void on_writable(Handler<void()> handler);
  /// The end; `last` is the reply of the call, of any size.
  void finish(Bytes last = {}) noexcept;
  void fail(errc code) noexcept;

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace verbena::rpc
