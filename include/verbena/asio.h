// SPDX-License-Identifier: Apache-2.0
/// The same operations for Asio's completion tokens: callbacks, futures, `co_await … use_awaitable`.
///
/// Handlers run in the loop's thread, through their associated executor where they have another than
/// `loop.context()`, and never inside the call that started them. An error that the plain form returns
/// arrives here through the handler as well.
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
            detail::deliver(running->loop, std::move(h),
                            error ? std::make_exception_ptr(std::system_error(error)) : nullptr, bytes);
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
          verbena::detail::deliver(loop, std::move(*shared),
                                   error ? std::make_exception_ptr(std::system_error(error)) : nullptr,
                                   std::vector<std::byte>(reply.begin(), reply.end()));
        };
        if (const std::error_code error = client.call(method, request, done, deadline)) {
          boost::asio::post(loop.context(), [done, error]() mutable { done(error, {}); });
        }
      },
      token);
}

/// `double sum = co_await async_call<Sum>(client, xs, use_awaitable);`
template <class Method, class Token>
auto async_call(Client& client, typename Method::Request request, Token&& token,
                std::chrono::nanoseconds deadline = forever) {
  using Result = typename Method::Result;
  return boost::asio::async_initiate<Token, void(std::exception_ptr, Result)>(
      [&client, deadline](auto handler, auto value) {
        Loop& loop = client.loop();
        auto shared = std::make_shared<decltype(handler)>(std::move(handler));
        auto kept = std::make_shared<decltype(value)>(std::move(value));  // a large one is read in place
        auto done = [&loop, shared, kept](std::error_code error, std::optional<Result> result) {
          verbena::detail::deliver(loop, std::move(*shared),
                                   error ? std::make_exception_ptr(std::system_error(error)) : nullptr,
                                   result ? std::move(*result) : Result{});
        };
        if (const std::error_code error = client.call<Method>(*kept, done, deadline)) {
          boost::asio::post(loop.context(), [done, error]() mutable { done(error, std::nullopt); });
        }
      },
      token, std::move(request));
}

}  // namespace rpc
}  // namespace verbena
