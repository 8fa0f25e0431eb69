// SPDX-License-Identifier: Apache-2.0
/// Handlers that don't run on the loop: functions on any Asio executor, and coroutines, which may await
/// calls.
///
///     on<Thumbnail>(server, pool.get_executor(), [](std::string_view picture) { return shrink(picture); });
///     on<Route>(server, [&](Query q) -> awaitable<Answer> { co_return co_await async_call<Find>(next, q, …);
///     });
///
/// The request is held until its handler has finished: it costs the peer a credit, so that the peers'
/// request_depth bounds how many wait and run, and `most` bounds it further: one more is answered with
/// `overloaded`. The result goes back through the loop's inbox and is sent by the loop. A request that
/// doesn't decode is answered with `rejected`. A handler that throws: with the error of a call that it made
/// where that is rejected, overloaded or cancelled, else with handler_failed. One that is destroyed
/// unfinished, with its executor or its context: with cancelled.
///
/// Lifetime, functions: what is a view in the request points into the message itself. Destroying the server
/// drops the functions that have not begun and waits for those that run; so none of them may destroy it, or
/// wait for the loop's thread. Lifetime, coroutines: views point to a copy, since nobody can wait for a
/// coroutine; where the server ends first it goes on, and its result goes nowhere. What it uses of the Loop
/// (a Client, say) is its author's to keep until it has finished. Function and result are destroyed in either
/// thread.
///
/// Nested calls can't deadlock: at full depth a call is refused at once (overloaded, no_credit), never kept
/// waiting for a slot that only its own end would free. Where such calls have to succeed, give each level of
/// nesting a Client of its own: a connection has its own slots and credits, and the levels above can't use
/// them up.
///
/// Thread: on() as Server::on. `function` may run in several threads at once if the executor has them.
#pragma once

#include <utility>  // before Boost 1.74's awaitable.hpp, which forgets it

#include <boost/asio/awaitable.hpp>
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/detached.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/post.hpp>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <type_traits>
#include <vector>

#include "verbena/jobs.h"
#include "verbena/rpc.h"

namespace verbena::rpc {

inline constexpr std::size_t unlimited = SIZE_MAX;

namespace detail {

template <class T>
inline constexpr bool is_awaitable = false;
template <class T, class Executor>
inline constexpr bool is_awaitable<boost::asio::awaitable<T, Executor>> = true;

template <class Request, class Function>
struct Returned : std::invoke_result<Function&, Request> {};
template <class Function>
struct Returned<void, Function> : std::invoke_result<Function&> {};
/// A function of the method's request.
template <class Function, class Method>
concept HandlerOf = requires {
  typename Returned<typename Method::Request, Function>::type;
};
template <class Function, class Method>
concept CoroutineOf =
    HandlerOf<Function, Method> && is_awaitable<typename Returned<typename Method::Request, Function>::type>;

/// Bytes to bytes, for methods known by their id alone.
struct Raw {
  using Request = Bytes;
  using Result = std::vector<std::byte>;
};

template <class Method, class Function>
class JobOf final : public Job {
 public:
  JobOf(const std::shared_ptr<Desk>& desk, Reply& reply, Bytes kept, std::shared_ptr<Function> function)
      : Job(desk, reply, kept), function_(std::move(function)) {}

  void run(Bytes bytes) {
    auto request = decode<Value<typename Method::Request>>(bytes);
    if (!request) throw std::system_error(make_error_code(errc::rejected));
    keep(detail::run<Method>(*function_, std::move(*request)));
  }
  void keep(Value<typename Method::Result>&& result) {
    result_.emplace(std::move(result));
    encode(*result_, pieces_);
  }
  void forget() noexcept override { function_.reset(); }
  Gather result() const noexcept override { return Gather{pieces_.list()}; }

 private:
  std::shared_ptr<Function> function_;
  std::optional<Value<typename Method::Result>> result_;
  Pieces pieces_;  // of the result
};

template <class Method, class Executor, class Function>
MethodHandler make_posted(Server& server, Executor executor, Function function, std::size_t most) {
  return [desk = make_desk(server.loop()), executor = std::move(executor), most,
          shared = std::make_shared<Function>(std::move(function))](Bytes bytes, Reply& reply) {
    if (desk->size() >= most) return reply.fail(errc::overloaded);
    auto job = std::make_shared<JobOf<Method, Function>>(desk, reply, bytes, shared);
    boost::asio::post(executor, [ticket = Ticket(*desk, job), work = job.get()]() mutable {
      ticket.run([work](Bytes held) { work->run(held); });
    });
  };
}

template <class Method, class Function>
boost::asio::awaitable<void> await(Ticket ticket, std::shared_ptr<JobOf<Method, Function>> job,
                                   std::shared_ptr<Function> function,
                                   [[maybe_unused]] std::vector<std::byte> viewed,
                                   Value<typename Method::Request> request) {
  const auto start = [&] {
    if constexpr (std::is_void_v<typename Method::Request>) {
      return (*function)();
    } else {
      return (*function)(std::move(request));
    }
  };
  std::exception_ptr failure;
  try {
    auto running = start();
    if constexpr (std::is_void_v<typename Method::Result>) {
      co_await std::move(running);
      job->keep({});
    } else {
      job->keep(co_await std::move(running));
    }
  } catch (...) {
    failure = std::current_exception();
  }
  ticket.finish(failure);
}

template <class Method, class Executor, class Function>
MethodHandler make_awaited(Server& server, Executor executor, Function function, std::size_t most) {
  return [desk = make_desk(server.loop()), executor = std::move(executor), most,
          shared = std::make_shared<Function>(std::move(function))](Bytes bytes, Reply& reply) {
    if (desk->size() >= most) return reply.fail(errc::overloaded);
    using Request = Value<typename Method::Request>;
    std::vector<std::byte> viewed;
    if constexpr (verbena::detail::is_view<Request>()) {
      viewed.assign(bytes.begin(), bytes.end());
      bytes = viewed;
    }
    auto request = decode<Request>(bytes);
    if (!request) return reply.fail(errc::rejected);
    // Nothing of it is kept in place, but it costs its credit.
    auto job = std::make_shared<JobOf<Method, Function>>(desk, reply, Bytes{}, nullptr);
    boost::asio::co_spawn(
        executor,
        await<Method, Function>(Ticket(*desk, job), job, shared, std::move(viewed), std::move(*request)),
        boost::asio::detached);
  };
}

/// What goes wrong here, before the handler has begun, is no reason for the loop to end.
inline MethodHandler guarded(MethodHandler handler) {
  return [handler = std::move(handler)](Bytes bytes, Reply& reply) {
    try {
      handler(bytes, reply);
    } catch (...) {
      reply.fail(errc::handler_failed);
    }
  };
}

template <class Method, class Executor, class Function>
MethodHandler make_handler(Server& server, Executor executor, Function function, std::size_t most) {
  if constexpr (CoroutineOf<Function, Method>) {
    return guarded(make_awaited<Method>(server, std::move(executor), std::move(function), most));
  } else {
    return guarded(make_posted<Method>(server, std::move(executor), std::move(function), most));
  }
}

}  // namespace detail

/// `Result function(Request)` on `executor`, or a coroutine there: `awaitable<Result> function(Request)`.
template <class Method, class Executor, detail::HandlerOf<Method> Function>
void on(Server& server, Executor executor, Function function, std::size_t most = unlimited) {
  if constexpr (requires { Method::name; }) server.name<Method>();
  server.on(Method::id, detail::make_handler<Method>(server, std::move(executor), std::move(function), most));
}

/// A coroutine on Loop::context(), in the loop's thread.
template <class Method, detail::CoroutineOf<Method> Function>
void on(Server& server, Function function, std::size_t most = unlimited) {
  on<Method>(server, server.loop().context().get_executor(), std::move(function), most);
}

/// By id: `std::vector<std::byte> function(Bytes)`, or a coroutine.
template <class Executor, detail::HandlerOf<detail::Raw> Function>
void on(Server& server, MethodId method, Executor executor, Function function, std::size_t most = unlimited) {
  server.on(method,
            detail::make_handler<detail::Raw>(server, std::move(executor), std::move(function), most));
}
template <detail::CoroutineOf<detail::Raw> Function>
void on(Server& server, MethodId method, Function function, std::size_t most = unlimited) {
  on(server, method, server.loop().context().get_executor(), std::move(function), most);
}

}  // namespace verbena::rpc
