// SPDX-License-Identifier: Apache-2.0
/// A Client that many threads call: their calls reach its Loop through the loop's inbox.
///
///     rpc::Sharing sharing{rpc::connect(loop, address)};        // in the loop's thread
///     std::thread worker([shared = sharing.client()] {          // anywhere
///       double sum = shared.call<Sum>(xs, use_future).get();
///     });
#pragma once

#include <utility>  // before Boost 1.74's awaitable.hpp, which forgets it

#include <boost/asio/associated_executor.hpp>
#include <boost/asio/async_result.hpp>
#include <boost/asio/dispatch.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/system_executor.hpp>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <exception>
#include <memory>
#include <optional>
#include <system_error>
#include <type_traits>
#include <vector>

#include "verbena/asio.h"
#include "verbena/handlers.h"
#include "verbena/poster.h"
#include "verbena/rpc.h"

namespace verbena::rpc {

class SharingState;
class Lobby;

namespace detail {

/// A call of another thread, until it completes; it frees itself then.
class SharedCall : public Posted {
 public:
  SharedCall(MethodId method, std::vector<std::byte> request, std::chrono::nanoseconds deadline);
  SharedCall(const SharedCall&) = delete;
  SharedCall& operator=(const SharedCall&) = delete;
  /// In the loop's thread: the handler runs there, or on its own executor.
  virtual void complete(std::error_code error, Bytes reply) noexcept = 0;
  /// In the caller's thread: the handler runs later.
  virtual void refuse(std::error_code error, const Poster& poster) = 0;

 protected:
  virtual ~SharedCall() = default;

 private:
  friend class rpc::Lobby;
  friend class rpc::SharingState;
  static void arrive(Posted& self, bool run) noexcept;
  MethodId method_;
  std::vector<std::byte> request_;
  std::int64_t due_;  // ns of the steady clock; the deadline counts from the call
  std::shared_ptr<Lobby> lobby_;
};

void submit(const std::shared_ptr<Lobby>& lobby, SharedCall* call);

template <class Method, class H>
class SharedCallOf final : public SharedCall {
  using Result = typename Method::Result;

 public:
  SharedCallOf(MethodId method, std::vector<std::byte> request, std::chrono::nanoseconds deadline, H handler)
      : SharedCall(method, std::move(request), deadline), handler_(std::move(handler)) {}

  void complete(std::error_code error, Bytes reply) noexcept override {
    const std::unique_ptr<SharedCallOf> self(this);
    auto finished = [this](std::error_code code, auto... result) {
      boost::asio::dispatch(executor(), bound(code, std::move(result)...));
    };
    detail::finish<Result>(finished, error, reply);
  }
  void refuse(std::error_code error, const Poster& poster) override {
    const std::unique_ptr<SharedCallOf> self(this);
    auto later = [&] {
      if constexpr (std::is_void_v<Result>) {
        return bound(error);
      } else {
        return bound(error, std::optional<Result>());
      }
    }();
    constexpr bool is_loops = std::is_same_v<decltype(executor()), boost::asio::system_executor>;
    auto shared = std::make_shared<decltype(later)>(std::move(later));
    if (is_loops && poster.post([shared] { (*shared)(); })) return;
    boost::asio::post(executor(), [shared] { (*shared)(); });
  }

 private:
  /// The handler's own; else the system's, which runs in place: in the loop's thread.
  auto executor() const {
    return boost::asio::get_associated_executor(handler_, boost::asio::system_executor());
  }
  template <class... R>
  auto bound(std::error_code error, std::optional<R>... result) {
    return [handler = std::move(handler_), error, ... result = std::move(result)]() mutable {
      auto failure = exception_of(error);
      handler(std::move(failure), (result ? std::move(*result) : R{})...);
    };
  }
  H handler_;
};

}  // namespace detail

/// Copyable; every copy calls the same Client. It may outlive the Sharing and the Loop: then calls complete
/// with cancelled. Thread: any, each its own copy, or one for all.
///
/// The token's handler gets (std::exception_ptr, std::vector<std::byte>), typed (std::exception_ptr, Result)
/// with a Result that owns its data; what failed is a std::system_error: as Client::call, and overloaded:
/// `most` calls wait already. It runs once, on its associated executor, or where it has none, in the loop's
/// thread, and must not throw there; never inside the call. A call whose Client has no slot or no credit at
/// the moment waits, in order; its deadline counts from the call. The request is copied, or moved in.
class SharedClient {
 public:
  /// Calls nobody: invalid.
  SharedClient() noexcept = default;

  template <class Token>
  auto call(MethodId method, std::vector<std::byte> request, Token&& token,
            std::chrono::nanoseconds deadline = forever) const {
    return start<detail::Raw>(method, std::move(request), std::forward<Token>(token), deadline);
  }
  template <class Token>
  auto call(MethodId method, Bytes request, Token&& token,
            std::chrono::nanoseconds deadline = forever) const {
    return start<detail::Raw>(method, {request.begin(), request.end()}, std::forward<Token>(token), deadline);
  }
  template <class Method, class Token>
  auto call(const typename Method::Request& request, Token&& token,
            std::chrono::nanoseconds deadline = forever) const {
    return start<Method>(Method::id, flat(request), std::forward<Token>(token), deadline);
  }
  template <class Method, class Token>
  requires std::is_void_v<typename Method::Request>
  auto call(Token&& token, std::chrono::nanoseconds deadline = forever) const {
    return start<Method>(Method::id, {}, std::forward<Token>(token), deadline);
  }

  explicit SharedClient(std::shared_ptr<Lobby> lobby) noexcept : lobby_(std::move(lobby)) {}

 private:
  template <class T>
  static std::vector<std::byte> flat(const T& value) {
    Pieces pieces;
    encode(value, pieces);
    std::vector<std::byte> bytes;
    bytes.reserve(pieces.size());
    for (const Bytes piece : pieces.list()) bytes.insert(bytes.end(), piece.begin(), piece.end());
    return bytes;
  }
  template <class Method, class Token>
  auto start(MethodId method, std::vector<std::byte> request, Token&& token,
             std::chrono::nanoseconds deadline) const {
    using Signature = typename detail::Signature<typename Method::Result>::type;
    return boost::asio::async_initiate<Token, Signature>(
        [lobby = lobby_, method, deadline](auto handler, std::vector<std::byte> bytes) {
          using Call = detail::SharedCallOf<Method, decltype(handler)>;
          detail::submit(lobby, new Call(method, std::move(bytes), deadline, std::move(handler)));
        },
        token, std::move(request));
  }
  std::shared_ptr<Lobby> lobby_;
};

/// Owns the Client that is shared. Lifetime: the Loop outlives it. Destroying it completes what waits and
/// what is in flight with cancelled. Thread: its Loop's.
class Sharing {
 public:
  /// `most`: calls that wait to be sent, in the inbox or for a slot; those in flight are bounded by
  /// call_depth.
  explicit Sharing(Client client, std::size_t most = 1024);
  ~Sharing();
  Sharing(Sharing&&) noexcept;
  Sharing& operator=(Sharing&&) = delete;

  /// For other threads.
  SharedClient client() const noexcept;
  /// For the loop's own thread.
  Client& own() noexcept;
  /// Calls that wait for a slot or for credit.
  std::size_t waiting() const noexcept;

 private:
  std::unique_ptr<SharingState> state_;
};

}  // namespace verbena::rpc
