// SPDX-License-Identifier: Apache-2.0
/// The same operations for Asio's completion tokens: callbacks, futures, `co_await … use_awaitable`.
///
/// Handlers run in the loop's thread, through their associated executor where they have another than
/// `loop.context()`, and never inside the call that started them. An error that the plain form returns
/// arrives here through the handler as well. A call's cancellation slot is honoured: cancellation.h.
#pragma once

#include <utility>  // before Boost 1.74's awaitable.hpp, which forgets it

#include <boost/asio/associated_executor.hpp>
#include <boost/asio/async_result.hpp>
#include <boost/asio/dispatch.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <exception>
#include <memory>
#include <vector>

#include "verbena/cancellation.h"
#include "verbena/connection.h"
#include "verbena/rpc.h"

namespace verbena {

namespace detail {

/// Runs `handler(arguments...)` on its own executor: directly where that is the loop's.
template <class H, class... Arguments>
void deliver(Loop& loop, H&& handler, Arguments... arguments) {
  const auto executor = boost::asio::get_associated_executor(handler, loop.context().get_executor());
  boost::asio::dispatch(executor,
                        [handler = std::forward<H>(handler), ... arguments = std::move(arguments)]() mutable {
                          handler(std::move(arguments)...);
                        });
}

template <class C, class Start>
auto async_connect(Loop& loop, Start start, auto&& token) {
  return boost::asio::async_initiate<decltype(token), void(std::exception_ptr, C)>(
      [&loop, start](auto handler) {
        auto shared = std::make_shared<decltype(handler)>(std::move(handler));
        auto done = [&loop, shared](const Error* error, C result) {
          deliver(loop, std::move(*shared), error ? std::make_exception_ptr(*error) : nullptr,
                  std::move(result));
        };
        try {
          start(done);
        } catch (const Error& error) {  // the address itself is wrong: arrives as the others do
          boost::asio::post(loop.context(), [done, error] { done(&error, C{}); });
        }
      },
      token);
}

}  // namespace detail

/// `Connection peer = co_await async_connect(loop, "rdma://node7:7471", use_awaitable);` Throws Error.
template <class Token>
auto async_connect(Loop& loop, std::string address, Token&& token) {
  return detail::async_connect<Connection>(
      loop, [&loop, address](auto done) { verbena::connect(loop, address, std::move(done)); },
      std::forward<Token>(token));
}

/// Any operation of a Connection: `co_await async_start(loop, [&](Operation& done) { return peer.get(…,
/// done); }, t)` gives the bytes. Signature: void(std::error_code → boost's, std::size_t).
template <class Start, class Token>
auto async_start(Loop& loop, Start start, Token&& token) {
  return boost::asio::async_initiate<Token, void(std::exception_ptr, std::size_t)>(
      [&loop](auto handler, auto begin) {
        using H = decltype(handler);
        struct Running : Operation {
          Running(Loop& l, H h) : Operation(&finish), loop(l), handler(std::move(h)) {}
          static void finish(Operation* self, std::error_code error, std::size_t bytes) noexcept {
            const std::unique_ptr<Running> running(static_cast<Running*>(self));
            H h(std::move(running->handler));
            detail::deliver(running->loop, std::move(h), exception_of(error), bytes);
          }
          Loop& loop;
          H handler;
        };
        auto running = std::make_unique<Running>(loop, std::move(handler));
        if (const std::error_code error = begin(*running)) {
          boost::asio::post(loop.context(), [r = running.release(), error] { r->complete(r, error, 0); });
        } else {
          running.release();  // finish() owns it
        }
      },
      token, std::move(start));
}

namespace rpc {

/// `rpc::Client client = co_await rpc::async_connect(loop, "rdma://node7:7471", use_awaitable);` Throws
/// Error.
template <class Token>
auto async_connect(Loop& loop, std::string address, Token&& token) {
  return verbena::detail::async_connect<Client>(
      loop, [&loop, address](auto done) { verbena::rpc::connect(loop, address, std::move(done)); },
      std::forward<Token>(token));
}

/// The same for a client that comes back by itself.
template <class Token>
auto async_connect(Loop& loop, std::string address, const ReconnectPolicy& policy, Token&& token) {
  return verbena::detail::async_connect<Client>(
      loop,
      [&loop, address, policy](auto done) { verbena::rpc::connect(loop, address, policy, std::move(done)); },
      std::forward<Token>(token));
}

/// `std::vector<std::byte> reply = co_await async_call(client, method, request, use_awaitable);` The reply is
/// copied out, since a coroutine outlives the handler. Throws std::system_error with the call's error.
template <class Token>
auto async_call(Client& client, MethodId method, Bytes request, Token&& token,
                std::chrono::nanoseconds deadline = forever) {
  return boost::asio::async_initiate<Token, void(std::exception_ptr, std::vector<std::byte>)>(
      [&client, method, request, deadline](auto handler) {
        Loop& loop = client.loop();
        auto shared = std::make_shared<decltype(handler)>(std::move(handler));
        auto done = [&loop, shared](std::error_code error, Bytes reply) {
          detail::leave_slot(*shared);
          verbena::detail::deliver(loop, std::move(*shared), exception_of(error),
                                   std::vector<std::byte>(reply.begin(), reply.end()));
        };
        Ticket ticket;
        const CallOptions options{.deadline = deadline, .ticket = &ticket};
        if (const std::error_code error = client.call(method, request, done, options)) {
          boost::asio::post(loop.context(), [done, error]() mutable { done(error, {}); });
        } else {
          detail::let_slot_cancel(*shared, client.canceller(ticket));
        }
      },
      token);
}

namespace detail {

template <class Result>
struct Signature {
  static_assert(
      !verbena::detail::is_view<Result>(),
      "the result points into a message that is gone when a coroutine goes on: let Result own its data "
      "(std::string, std::vector), or take it with the plain call");
  using type = void(std::exception_ptr, Result);
};
template <>
struct Signature<void> {
  using type = void(std::exception_ptr);
};

template <class Method, class Token, class Start>
auto async_call(Client& client, Start start, Token&& token) {
  using Result = typename Method::Result;
  return boost::asio::async_initiate<Token, typename Signature<Result>::type>(
      [&client, &loop = client.loop()](auto handler, auto begin) {
        auto shared = std::make_shared<decltype(handler)>(std::move(handler));
        auto kept = std::make_shared<decltype(begin)>(std::move(begin));  // a large request is read in place
        rpc::Ticket ticket;
        const auto submit = [&](auto done, auto refuse) {
          if (const std::error_code error = (*kept)(done, &ticket)) {
            boost::asio::post(loop.context(), [refuse, error] { refuse(error); });
          } else {
            let_slot_cancel(*shared, client.canceller(ticket));
          }
        };
        if constexpr (std::is_void_v<Result>) {
          auto done = [&loop, shared, kept](std::error_code error) {
            leave_slot(*shared);
            verbena::detail::deliver(loop, std::move(*shared), exception_of(error));
          };
          submit(done, done);
        } else {
          auto done = [&loop, shared, kept](std::error_code error, std::optional<Result> result) {
            leave_slot(*shared);
            verbena::detail::deliver(loop, std::move(*shared), exception_of(error),
                                     result ? std::move(*result) : Result{});
          };
          submit(done, [done](std::error_code error) { done(error, std::nullopt); });
        }
      },
      token, std::move(start));
}

}  // namespace detail

/// `double sum = co_await async_call<Sum>(client, xs, use_awaitable);` The request is kept until the call is
/// done, but not what its views point to. The result owns its data; where Result is void, nothing is awaited
/// but the end. Throws std::system_error with the call's error.
template <class Method, class Token>
auto async_call(Client& client, typename Method::Request request, Token&& token,
                std::chrono::nanoseconds deadline = forever) {
  return detail::async_call<Method>(
      client,
      [&client, value = std::move(request), deadline](auto done, rpc::Ticket* ticket) {
        return client.call<Method>(value, std::move(done),
                                   CallOptions{.deadline = deadline, .ticket = ticket});
      },
      std::forward<Token>(token));
}
/// The same where Request is void.
template <class Method, class Token>
requires std::is_void_v<typename Method::Request>
auto async_call(Client& client, Token&& token, std::chrono::nanoseconds deadline = forever) {
  return detail::async_call<Method>(
      client,
      [&client, deadline](auto done, rpc::Ticket* ticket) {
        return client.call<Method>(std::move(done), CallOptions{.deadline = deadline, .ticket = ticket});
      },
      std::forward<Token>(token));
}

}  // namespace rpc
}  // namespace verbena
