// SPDX-License-Identifier: Apache-2.0
/// Streams of replies for Asio's completion tokens: `co_await stream.next(use_awaitable)`.
#pragma once

#include <cstddef>
#include <deque>
#include <exception>
#include <memory>
#include <optional>
#include <utility>
#include <vector>

#include "verbena/asio.h"

namespace verbena::rpc {

/// Writes a part as soon as the caller takes it. Signature: void(std::exception_ptr); what
/// ReplyStream::write() returns for good arrives as std::system_error. Lifetime: `stream` and `part` stay
/// until then.
template <class Token>
auto async_write(Loop& loop, ReplyStream& stream, Bytes part, Token&& token) {
  return boost::asio::async_initiate<Token, void(std::exception_ptr)>(
      [&loop, &stream, part](auto handler) {
        struct Writing {
          Loop& loop;
          ReplyStream& stream;
          Bytes part;
          decltype(handler) done;
          static void go(const std::shared_ptr<Writing>& self, bool inside) {
            const std::error_code error = self->stream.write(self->part);
            if (error == make_error_code(errc::no_credit) || error == make_error_code(errc::overloaded))
              return self->stream.on_writable([self] { go(self, false); });
            auto finish = [self, error] {
              verbena::detail::deliver(self->loop, std::move(self->done), exception_of(error));
            };
            if (inside) return boost::asio::post(self->loop.context(), std::move(finish));
            finish();
          }
        };
        Writing::go(std::make_shared<Writing>(Writing{loop, stream, part, std::move(handler)}), true);
      },
      token);
}

/// A stream of replies at its caller, part by part:
///
///     StreamReader parts{client, scan, request};
///     while (auto part = co_await parts.next(use_awaitable)) …
///
/// Parts that have come and weren't asked for wait here, `window` of them at most. Destroying it before the
/// end cancels the call. Thread: its Loop's. Lifetime: the client outlives it; a large request stays until
/// the end.
class StreamReader {
 public:
  /// Throws std::system_error where the call is refused (see Client::stream).
  StreamReader(Client& client, MethodId method, Bytes request, StreamOptions options = {})
      : shared_(std::make_shared<Shared>(client)) {
    options.manual = true;
    options.ticket = &shared_->ticket;
    const std::error_code refused = client.stream(
        method, request, [shared = shared_](Bytes part) { shared->take(part); },
        [shared = shared_](std::error_code error, Bytes reply) { shared->end(error, reply); }, options);
    if (refused) throw std::system_error(refused);
  }
  StreamReader(StreamReader&&) noexcept = default;
  StreamReader& operator=(StreamReader&&) = delete;
  ~StreamReader() {
    if (shared_ && !shared_->ended) shared_->client.cancel(shared_->ticket);
  }

  /// The next part; nothing at the end. One at a time. Its cancellation slot ends the stream.
  /// Throws std::system_error with what ended the call.
  template <class Token>
  auto next(Token&& token) {
    return boost::asio::async_initiate<Token, void(std::exception_ptr, std::optional<Part>)>(
        [shared = shared_](auto handler) {
          auto kept = std::make_shared<decltype(handler)>(std::move(handler));
          shared->waiting = [shared = shared.get(), kept](std::exception_ptr error,
                                                          std::optional<Part> part) {
            detail::leave_slot(*kept);
            verbena::detail::deliver(shared->loop, std::move(*kept), error, std::move(part));
          };
          if (!shared->ended) detail::let_slot_cancel(*kept, shared->client.canceller(shared->ticket));
          if (shared->parts.empty() && !shared->ended) return;
          boost::asio::post(shared->loop.context(), [shared] { shared->hand_out(); });
        },
        token);
  }
  /// The reply that ended the stream; once next() has given nothing.
  Bytes reply() const noexcept { return shared_->reply; }

 private:
  using Part = std::vector<std::byte>;

  struct Shared {
    explicit Shared(Client& its) : client(its), loop(its.loop()) {}
    void take(Bytes part) {
      parts.emplace_back(part.begin(), part.end());
      hand_out();
    }
    void end(std::error_code why, Bytes bytes) {
      ended = true;
      error = why;
      reply.assign(bytes.begin(), bytes.end());
      hand_out();
    }
    void hand_out() {
      if (!waiting || (parts.empty() && !ended)) return;
      const auto receiver = std::exchange(waiting, {});
      if (parts.empty()) return receiver(exception_of(error), std::nullopt);
      Part part = std::move(parts.front());
      parts.pop_front();
      if (!ended) client.consumed(ticket, 1);
      receiver(nullptr, std::move(part));
    }

    Client& client;
    Loop& loop;
    Ticket ticket;
    std::deque<Part> parts;
    Handler<void(std::exception_ptr, std::optional<Part>)> waiting;
    bool ended = false;
    std::error_code error;
    Part reply;
  };
  std::shared_ptr<Shared> shared_;
};

}  // namespace verbena::rpc
