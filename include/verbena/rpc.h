// SPDX-License-Identifier: Apache-2.0
/// Calls: a client asks, the server's handler for that method answers, at most once, and every call completes
/// once.
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <new>
#include <span>
#include <string>
#include <string_view>
#include <system_error>
#include <utility>

#include "verbena/codec.h"
#include "verbena/connection.h"

namespace verbena::rpc {

using MethodId = std::uint32_t;
using Bytes = std::span<const std::byte>;

class ClientState;
class ServerState;

/// The answer to one request, owed exactly once. A handler answers at once, or moves it away and answers
/// later, from the same thread. One that is destroyed unanswered says handler_failed to the caller. After the
/// connection was lost an answer goes nowhere, without harm.
class Reply {
 public:
  Reply(Reply&& other) noexcept;
  Reply& operator=(Reply&&) = delete;
  ~Reply();

  /// The result, of any size. It is copied: `bytes` is the caller's again on return. A result that is too
  /// long for the peer turns into handler_failed.
  void send(Bytes bytes) noexcept;
  /// The caller's call completes with `code`: handler_failed, rejected, overloaded, cancelled.
  void fail(errc code) noexcept;
  bool answered() const noexcept { return channel_ == nullptr; }

  Reply(transport::Channel& channel, std::uint32_t serial, std::uint32_t slot, std::uint32_t generation,
        MethodStatistics& statistics) noexcept
      : channel_(&channel), serial_(serial), slot_(slot), generation_(generation), statistics_(&statistics) {}

 private:
  transport::Channel* channel_;
  std::uint32_t serial_;
  std::uint32_t slot_;
  std::uint32_t generation_;
  MethodStatistics* statistics_;  // the method's, which are the Loop's
};

/// Handlers run on the loop and should be short. `request` is valid during the handler.
using MethodHandler = Handler<void(Bytes request, Reply& reply)>;

class Server {
 public:
  /// Throws Error: address_unusable, address_in_use.
  Server(Loop& loop, std::string_view address);
  Server(Server&&) noexcept;
  ~Server();

  /// Sets the handler of a method; a call of a method without one completes with `rejected`. Set them before
  /// the loop runs.
  void on(MethodId method, MethodHandler handler);
  /// Typed: `struct Sum { static constexpr MethodId id = 1; using Request = std::span<const double>; using
  /// Result = double; };` A request that doesn't decode completes with `rejected`; a handler that throws,
  /// with handler_failed.
  template <class Method, class Function>
  void on(Function function);

  /// What the method is called in Loop::snapshot() and by `verbena top`. Throws Error (invalid_argument)
  /// where it isn't 1 to 64 printable ASCII characters.
  void name(MethodId method, std::string_view name);
  /// Typed: `struct Sum { …; static constexpr std::string_view name = "sum"; };`
  template <class Method>
  void name() {
    name(Method::id, Method::name);
  }

  std::uint16_t port() const noexcept;
  std::size_t connections() const noexcept;

 private:
  std::unique_ptr<ServerState> state_;
};

/// What completes a call, in place in the call's slot: nothing is allocated for up to 48 bytes of captures.
class CallHandler {
 public:
  static constexpr std::size_t capacity = 48;

  template <class Function>
  void set(Function&& function) {
    using F = std::decay_t<Function>;
    if constexpr (sizeof(F) <= capacity && alignof(F) <= alignof(std::max_align_t)) {
      new (storage_) F(std::forward<Function>(function));
      act_ = [](void* storage, bool run, std::error_code error, Bytes reply) noexcept {
        F* stored = std::launder(static_cast<F*>(storage));
        F f(std::move(*stored));  // the slot is free for the handler's next call
        stored->~F();
        if (run) f(error, reply);
      };
    } else {
      new (storage_) F*(new F(std::forward<Function>(function)));
      act_ = [](void* storage, bool run, std::error_code error, Bytes reply) noexcept {
        const std::unique_ptr<F> f(*std::launder(static_cast<F**>(storage)));
        if (run) (*f)(error, reply);
      };
    }
  }
  /// Runs it, and empties this first.
  void operator()(std::error_code error, Bytes reply) noexcept {
    std::exchange(act_, nullptr)(storage_, true, error, reply);
  }
  /// Empties this without running it.
  void drop() noexcept { std::exchange(act_, nullptr)(storage_, false, {}, {}); }

 private:
  alignas(std::max_align_t) std::byte storage_[capacity];
  void (*act_)(void* storage, bool run, std::error_code, Bytes) noexcept = nullptr;
};

/// No deadline. A call of a large request (over the connection's eager size) that reaches its deadline before
/// the server has read the request ends the connection: the server's read meets a key that has been revoked.
inline constexpr std::chrono::nanoseconds forever{0};

/// A connection to a server. Closing it, or its loss, completes every call. Thread: its Loop's.
class Client {
 public:
  Client() noexcept;
  Client(Client&&) noexcept;
  Client& operator=(Client&&) noexcept;
  ~Client();

  /// Calls `method`; `done(std::error_code, Bytes reply)` runs once, not inside this call; `reply` is valid
  /// during it. A returned error means that nothing was sent and `done` never runs: overloaded (call_depth
  /// calls wait already), no_credit, no_buffer, message_too_long, connection_lost. Lifetime: a request over
  /// the connection's eager size is read by the server in place: it stays until `done` runs. Completes with:
  /// success; what the handler said (handler_failed, rejected, overloaded); timed_out when `deadline` has
  /// passed, after which no one touches the request; connection_lost.
  template <class Function>
  std::error_code call(MethodId method, Bytes request, Function&& done,
                       std::chrono::nanoseconds deadline = forever) {
    const Pending pending = begin();
    if (pending.handler == nullptr) [[unlikely]]
      return pending.error;
    pending.handler->set(std::forward<Function>(done));
    return submit(pending, method, request, deadline);
  }
  /// Typed: `done(std::error_code, std::optional<Method::Result>)`; see Server::on.
  template <class Method, class Function>
  std::error_code call(const typename Method::Request& request, Function done,
                       std::chrono::nanoseconds deadline = forever);

  /// As Server::name(); nothing happens where there was never a connection.
  void name(MethodId method, std::string_view name);
  template <class Method>
  void name() {
    name(Method::id, Method::name);
  }

  /// "slot", "generation" and such stay inside: see rpc/.
  std::size_t in_flight() const noexcept;
  bool is_open() const noexcept;
  void on_closed(Handler<void(std::error_code, std::string_view)> handler);
  void close() noexcept;
  std::string peer() const;
  std::string explain() const;
  std::string explain(std::size_t request_bytes) const;
  Loop& loop() const noexcept;

  explicit Client(std::unique_ptr<ClientState> state) noexcept;

 private:
  struct Pending {
    CallHandler* handler;
    std::uint32_t slot;
    std::error_code error;
  };
  Pending begin() noexcept;
  std::error_code submit(const Pending& pending, MethodId method, Bytes request,
                         std::chrono::nanoseconds deadline) noexcept;

  std::unique_ptr<ClientState> state_;
};

/// As verbena::connect: `done(const Error*, Client)`.
void connect(Loop& loop, std::string_view address, Handler<void(const Error*, Client)> done);
/// Runs the loop until it is connected; throws Error.
Client connect(Loop& loop, std::string_view address);

template <class Method, class Function>
void Server::on(Function function) {
  using Request = typename Method::Request;
  using Result = typename Method::Result;
  on(Method::id, [function = std::move(function)](Bytes bytes, Reply& reply) mutable {
    const auto request = Codec<Request>::decode(bytes);
    if (!request) [[unlikely]]
      return reply.fail(errc::rejected);
    try {
      const Result result = function(*request);
      reply.send(Codec<Result>::bytes(result));
    } catch (...) {
      reply.fail(errc::handler_failed);
    }
  });
}

template <class Method, class Function>
std::error_code Client::call(const typename Method::Request& request, Function done,
                             std::chrono::nanoseconds deadline) {
  using Result = typename Method::Result;
  return call(
      Method::id, Codec<typename Method::Request>::bytes(request),
      [done = std::move(done)](std::error_code error, Bytes bytes) mutable {
        if (error) return done(error, std::optional<Result>{});
        auto result = Codec<Result>::decode(bytes);
        done(result ? std::error_code{} : make_error_code(errc::protocol_violation), std::move(result));
      },
      deadline);
}

}  // namespace verbena::rpc
