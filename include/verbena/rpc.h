// SPDX-License-Identifier: Apache-2.0
/// Calls: a client asks, the server's handler for that method answers, at most once, and every call completes
/// once.
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <new>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <system_error>
#include <type_traits>
#include <utility>

#include "verbena/codec.h"
#include "verbena/connection.h"
#include "verbena/pieces.h"

namespace verbena::rpc {

using MethodId = std::uint32_t;
using Bytes = std::span<const std::byte>;

class ClientState;
class ServerState;

/// The pieces of one request or of one reply, one behind the other; the other side meets them as one. A view.
/// A short one is copied together into the message. A long one (over the connection's eager size) isn't
/// flattened: the peer reads piece by piece; it has 8 pieces at most, and fewer where the peer's eager_size
/// is below 192.
struct Gather {
  explicit Gather(std::span<const Bytes> list) noexcept : pieces(list) {}
  std::span<const Bytes> pieces;
};

/// Keeps a request, or a part of it, beyond its handler. As long as it lives the peer has one credit less:
/// that is how held requests are bounded by the declared budget. Thread: its Loop's; it is gone before the
/// Loop is.
class Held {
 public:
  Held() noexcept = default;
  Held(Held&& other) noexcept;
  Held& operator=(Held&& other) noexcept;
  ~Held();
  Bytes bytes() const noexcept { return bytes_; }

 private:
  friend class Reply;
  void release() noexcept;
  transport::Channel* channel_ = nullptr;
  std::uint32_t serial_ = 0;
  const std::byte* receive_ = nullptr;  // the receive buffer that it lies in, or
  std::byte* range_ = nullptr;          // where a large one was read to, or
  std::size_t length_ = 0;
  std::unique_ptr<std::byte[]> copy_;  // a copy
  Bytes bytes_;
};

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
  void send(Gather pieces) noexcept;
  /// Keeps `part`, the request or what lies in it. To be called by the handler itself, before it answers:
  /// what is held later is copied (and allocates).
  Held hold(Bytes part);
  /// The caller's call completes with `code`: handler_failed, rejected, overloaded, cancelled.
  void fail(errc code) noexcept;
  bool answered() const noexcept { return channel_ == nullptr; }

  Reply(transport::Channel& channel, std::uint32_t serial, std::uint32_t slot, std::uint32_t generation,
        MethodStatistics& statistics) noexcept
      : channel_(&channel), serial_(serial), slot_(slot), generation_(generation), statistics_(&statistics) {}

 private:
  void send(Bytes first, std::span<const Bytes> more) noexcept;
  transport::Channel* channel_;
  std::uint32_t serial_;
  std::uint32_t slot_;
  std::uint32_t generation_;
  MethodStatistics* statistics_;  // the method's, which are the Loop's
};

/// Handlers run on the loop and should be short; verbena/handlers.h has others. `request` is valid during the
/// handler.
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
  /// Result = double; };` Both are Encodable types, or void: `Result function(Request)`. What is a view in
  /// the request is valid during the handler; the result may have views of what outlives the handler. A
  /// request that doesn't decode completes with `rejected`; a handler that throws, with handler_failed.
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
  Loop& loop() const noexcept;

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
    return submit(pending, method, request, {}, deadline);
  }
  /// The same for a request of many pieces. Errors: invalid_argument too: too many pieces for a long one.
  template <class Function>
  std::error_code call(MethodId method, Gather request, Function&& done,
                       std::chrono::nanoseconds deadline = forever) {
    const Pending pending = begin();
    if (pending.handler == nullptr) [[unlikely]]
      return pending.error;
    pending.handler->set(std::forward<Function>(done));
    const auto& pieces = request.pieces;
    if (pieces.empty()) return submit(pending, method, {}, {}, deadline);
    return submit(pending, method, pieces.front(), pieces.subspan(1), deadline);
  }
  /// Typed: `done(std::error_code, std::optional<Method::Result>)`, or `done(std::error_code)` where Result
  /// is void; see Server::on. What is a view in the result is valid during `done`. Lifetime: `request`, and
  /// what its views point to, stay until `done` runs, unless its message is of eager_size() at most.
  /// Completes with protocol_violation as well, where the result doesn't decode. Allocates where a request
  /// that goes beyond eager_size() isn't one piece of memory.
  template <class Method, class Function>
  std::error_code call(const typename Method::Request& request, Function done,
                       std::chrono::nanoseconds deadline = forever);
  /// The same where Request is void.
  template <class Method, class Function>
  requires std::is_void_v<typename Method::Request> std::error_code call(
      Function done, std::chrono::nanoseconds deadline = forever);

  /// As Server::name(); nothing happens where there was never a connection.
  void name(MethodId method, std::string_view name);
  template <class Method>
  void name() {
    name(Method::id, Method::name);
  }

  /// "slot", "generation" and such stay inside: see rpc/.
  std::size_t in_flight() const noexcept;
  /// Bytes. A request up to this is copied when it is called, a larger one read by the server in place. 0
  /// when the connection is lost.
  std::size_t eager_size() const noexcept;
  /// Pieces that a longer request may have.
  std::size_t most_pieces() const noexcept;
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
  template <class Method, class Request, class Function>
  std::error_code call_with(const Request& request, Function done, std::chrono::nanoseconds deadline);
  Pending begin() noexcept;
  std::error_code submit(const Pending& pending, MethodId method, Bytes request, std::span<const Bytes> more,
                         std::chrono::nanoseconds deadline) noexcept;

  std::unique_ptr<ClientState> state_;
};

/// As verbena::connect: `done(const Error*, Client)`.
void connect(Loop& loop, std::string_view address, Handler<void(const Error*, Client)> done);
/// Runs the loop until it is connected; throws Error.
Client connect(Loop& loop, std::string_view address);

namespace detail {

/// What stands for void: no bytes.
struct Nothing {};
template <class T>
using Value = std::conditional_t<std::is_void_v<T>, Nothing, T>;

/// Runs `done` with what came: the result, or what went wrong.
template <class Result, class Function>
void finish(Function& done, std::error_code error, Bytes bytes) {
  std::optional<Value<Result>> result;
  if (!error) {
    try {
      result = verbena::decode<Value<Result>>(bytes);
      if (!result) error = make_error_code(errc::protocol_violation);
    } catch (const std::bad_alloc&) {
      error = std::make_error_code(std::errc::not_enough_memory);
    }
  }
  if constexpr (std::is_void_v<Result>) {
    done(error);
  } else {
    done(error, std::move(result));
  }
}

template <class Method, class Function>
Value<typename Method::Result> run(Function& function, Value<typename Method::Request>&& request) {
  const auto invoke = [&]() -> decltype(auto) {
    if constexpr (std::is_void_v<typename Method::Request>) {
      return function();
    } else {
      return function(std::move(request));
    }
  };
  if constexpr (std::is_void_v<typename Method::Result>) {
    invoke();
    return {};
  } else {
    return invoke();
  }
}

}  // namespace detail
}  // namespace verbena::rpc

template <>
struct verbena::Codec<verbena::rpc::detail::Nothing> {
  using Nothing = rpc::detail::Nothing;
  static std::span<const std::byte> bytes(Nothing) noexcept { return {}; }
  static std::optional<Nothing> decode(std::span<const std::byte> bytes) noexcept {
    return bytes.empty() ? std::optional<Nothing>(std::in_place) : std::nullopt;
  }
};

namespace verbena::rpc {

template <class Method, class Function>
void Server::on(Function function) {
  if constexpr (requires { Method::name; }) name<Method>();
  on(Method::id, [function = std::move(function)](Bytes bytes, Reply& reply) mutable {
    try {
      auto request = decode<detail::Value<typename Method::Request>>(bytes);
      if (!request) [[unlikely]]
        return reply.fail(errc::rejected);
      const detail::Value<typename Method::Result> result =
          detail::run<Method>(function, std::move(*request));
      Pieces pieces;
      encode(result, pieces);
      reply.send(Gather{pieces.list()});
    } catch (...) {
      reply.fail(errc::handler_failed);
    }
  });
}

template <class Method, class Function>
std::error_code Client::call(const typename Method::Request& request, Function done,
                             std::chrono::nanoseconds deadline) {
  return call_with<Method>(request, std::move(done), deadline);
}

template <class Method, class Function>
requires std::is_void_v<typename Method::Request> std::error_code Client::call(
    Function done, std::chrono::nanoseconds deadline) {
  return call_with<Method>(detail::Nothing{}, std::move(done), deadline);
}

template <class Method, class Request, class Function>
std::error_code Client::call_with(const Request& request, Function done, std::chrono::nanoseconds deadline) {
  using Result = typename Method::Result;
  Pieces pieces;
  encode(request, pieces);
  const bool stays = pieces.borrowed() && pieces.list().size() <= 1;  // where the caller keeps it
  if (stays || pieces.size() <= eager_size()) [[likely]] {
    return call(
        Method::id, Gather{pieces.list()},
        [done = std::move(done)](std::error_code error, Bytes bytes) mutable {
          detail::finish<Result>(done, error, bytes);
        },
        deadline);
  }
  auto kept = std::make_unique<Pieces>();  // the server reads them in place
  encode(request, *kept);
  if (kept->list().size() > most_pieces()) kept->flat();
  const Gather bytes{kept->list()};
  return call(
      Method::id, bytes,
      [done = std::move(done), kept = std::move(kept)](std::error_code error, Bytes reply) mutable {
        detail::finish<Result>(done, error, reply);
      },
      deadline);
}

}  // namespace verbena::rpc
