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
#include "verbena/reconnect.h"
#include "verbena/reply.h"
#include "verbena/reply_stream.h"

namespace verbena::rpc {

class ClientState;
class ServerState;

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
/// One that is lent (docs/lending.md) is taken back without that, unless its handler is reading: then the
/// call completes when the handler ends, or a second later with the connection.
inline constexpr std::chrono::nanoseconds forever{0};

/// Names a call under way: for Client::cancel().
struct Ticket {
  std::uint32_t slot = 0;
  std::uint32_t generation = 0;
};

struct CallOptions {
  std::chrono::nanoseconds deadline = forever;
  /// Where the reply goes, of any size: a large one is read straight to there. It stays until `done` runs;
  /// after that nothing touches it, also where the call has timed out. A reply that is longer completes the
  /// call with message_too_long. Empty: `reply` is valid during `done`.
  std::span<std::byte> reply_into = {};
  /// Is set to the call's ticket, unless the call is refused.
  Ticket* ticket = nullptr;
};

struct StreamOptions {
  std::chrono::nanoseconds deadline = forever;
  /// Parts that the server may be ahead; 1 to 65,536. More hide the way to the server and back, fewer bound
  /// what is under way.
  std::uint32_t window = 16;
  /// A part counts as taken when its handler returns; or, here, when consumed() is told so.
  bool manual = false;
  Ticket* ticket = nullptr;
};

/// Cancels one call; may outlive the call and its Client. Thread: its Loop's.
class Canceller {
 public:
  Canceller() noexcept = default;
  void operator()() const noexcept;

 private:
  friend class Client;
  Canceller(ClientState& state, Ticket ticket) noexcept;

  std::shared_ptr<const bool> alive_;
  ClientState* state_ = nullptr;
  Ticket ticket_;
};

/// A connection to a server. Closing it, or its loss, completes every call, once. Thread: its Loop's.
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
  /// passed, after which no one touches the request; connection_lost, where it may have run or not; not_sent,
  /// where the connection was lost before the request had left, so that it has not run; cancelled by close().
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
    return call(method, request, std::forward<Function>(done), CallOptions{.deadline = deadline});
  }
  template <class Function>
  std::error_code call(MethodId method, Gather request, Function&& done, const CallOptions& options) {
    const Pending pending = begin();
    if (pending.handler == nullptr) [[unlikely]]
      return pending.error;
    pending.handler->set(std::forward<Function>(done));
    if (options.ticket || options.reply_into.data()) prepare(pending, options);
    const auto& pieces = request.pieces;
    if (pieces.empty()) return submit(pending, method, {}, {}, options.deadline);
    return submit(pending, method, pieces.front(), pieces.subspan(1), options.deadline);
  }
  /// The same with a place for the reply, and a ticket to cancel it by.
  template <class Function>
  std::error_code call(MethodId method, Bytes request, Function&& done, const CallOptions& options) {
    const Pending pending = begin();
    if (pending.handler == nullptr) [[unlikely]]
      return pending.error;
    pending.handler->set(std::forward<Function>(done));
    prepare(pending, options);
    return submit(pending, method, request, {}, options.deadline);
  }
  /// A call whose reply comes in parts (rpc::ReplyStream): `on_part(Bytes)` runs for each, in order, then
  /// `done(std::error_code, Bytes reply)` once, as for a call; after an error that isn't the server's own no
  /// part comes any more. A slow caller stalls its stream and nothing else. Allocates. Errors:
  /// invalid_argument too (the window).
  template <class Function>
  std::error_code stream(MethodId method, Bytes request, Handler<void(Bytes part)> on_part, Function&& done,
                         const StreamOptions& options = {}) {
    const Pending pending = begin();
    if (pending.handler == nullptr) [[unlikely]]
      return pending.error;
    if (!prepare_stream(pending, std::move(on_part), options)) return make_error_code(errc::invalid_argument);
    pending.handler->set(std::forward<Function>(done));
    return submit(pending, method, request, {}, options.deadline);
  }
  /// StreamOptions::manual: `parts` more have been taken.
  void consumed(Ticket stream, std::uint32_t parts) noexcept;
  /// The call completes with `cancelled` in a later turn, and as with a deadline nothing touches its buffers
  /// from then on; its handler at the server may run nevertheless. Of a call that has completed: nothing.
  void cancel(Ticket ticket) noexcept;
  /// cancel(ticket), for whoever may outlive the client.
  Canceller canceller(Ticket ticket) const noexcept;

  /// Typed: `done(std::error_code, std::optional<Method::Result>)`, or `done(std::error_code)` where Result
  /// is void; see Server::on. What is a view in the result is valid during `done`. Lifetime: `request`, and
  /// what its views point to, stay until `done` runs, unless its message is of eager_size() at most.
  /// Completes with protocol_violation as well, where the result doesn't decode. Allocates where a request
  /// that goes beyond eager_size() isn't one piece of memory.
  template <class Method, class Function>
  std::error_code call(const typename Method::Request& request, Function done,
                       std::chrono::nanoseconds deadline = forever) {
    return call<Method>(request, std::move(done), CallOptions{.deadline = deadline});
  }
  template <class Method, class Function>
  std::error_code call(const typename Method::Request& request, Function done, const CallOptions& options);
  /// The same where Request is void.
  template <class Method, class Function>
  requires std::is_void_v<typename Method::Request> std::error_code call(
      Function done, std::chrono::nanoseconds deadline = forever) {
    return call<Method>(std::move(done), CallOptions{.deadline = deadline});
  }
  template <class Method, class Function>
  requires std::is_void_v<typename Method::Request> std::error_code call(Function done,
                                                                         const CallOptions& options);

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
  /// False too while it is connecting again.
  bool is_open() const noexcept;
  /// `void(std::error_code, std::string_view why)`: once, after its calls have completed: when the connection
  /// is lost, or, with a ReconnectPolicy, when it gives up. Not after close().
  void on_closed(Handler<void(std::error_code, std::string_view)> handler);
  /// Runs each time that a client with a ReconnectPolicy is connected again; calls may be made from then on.
  /// It may close or destroy the client.
  void on_reconnected(Handler<void()> handler);
  /// How many times it was.
  std::uint64_t reconnections() const noexcept;
  /// Its calls complete with `cancelled`. It doesn't connect again.
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
  std::error_code call_with(const Request& request, Function done, const CallOptions& options);
  Pending begin() noexcept;
  void prepare(const Pending& pending, const CallOptions& options) noexcept;
  bool prepare_stream(const Pending& pending, Handler<void(Bytes)> on_part, const StreamOptions& options);
  std::error_code submit(const Pending& pending, MethodId method, Bytes request, std::span<const Bytes> more,
                         std::chrono::nanoseconds deadline) noexcept;

  std::unique_ptr<ClientState> state_;
};

/// As verbena::connect: `done(const Error*, Client)`.
void connect(Loop& loop, std::string_view address, Handler<void(const Error*, Client)> done);
/// Runs the loop until it is connected; throws Error.
Client connect(Loop& loop, std::string_view address);
/// A client that comes back by itself when its connection is lost. The calls in flight complete once, with
/// connection_lost or not_sent; calls made until it is connected again return connection_lost at once:
/// nothing is queued in secret, and nothing is sent twice. The new connection is a new epoch: what the server
/// still sends in answer to the old one reaches nobody.
///
/// It gives up, and says so by on_closed, after policy.tries in a row, and at once where another try would
/// meet the same: protocol_mismatch, protocol_violation, or a device that is gone. The first connection is
/// tried once; its failure is `done`'s. A host's name is looked up anew for each try, which blocks the loop
/// as long as that takes; an IP address never does. Throws Error (invalid_argument) where the policy is out
/// of range, and as connect() does. Thread: the Loop's, as all of it.
void connect(Loop& loop, std::string_view address, const ReconnectPolicy& policy,
             Handler<void(const Error*, Client)> done);
/// Runs the loop until it is connected; throws Error.
Client connect(Loop& loop, std::string_view address, const ReconnectPolicy& policy);

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
                             const CallOptions& options) {
  return call_with<Method>(request, std::move(done), options);
}

template <class Method, class Function>
requires std::is_void_v<typename Method::Request> std::error_code Client::call(Function done,
                                                                               const CallOptions& options) {
  return call_with<Method>(detail::Nothing{}, std::move(done), options);
}

template <class Method, class Request, class Function>
std::error_code Client::call_with(const Request& request, Function done, const CallOptions& options) {
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
        options);
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
      options);
}

}  // namespace verbena::rpc
