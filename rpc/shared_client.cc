// SPDX-License-Identifier: Apache-2.0
#include "verbena/shared_client.h"

#include <algorithm>
#include <atomic>
#include <deque>

#include "core/monotonic_ns.h"
#include "transport/engine.h"

namespace verbena::rpc {

using detail::SharedCall;
using transport::Ticker;

/// What both ends know of each other: how many calls wait, and whether there is still somebody to take them.
class Lobby {
 public:
  Lobby(Poster poster, std::size_t most, SharingState& inside)
      : poster_(std::move(poster)), most_(most), inside_(&inside) {}

  void enter(const std::shared_ptr<Lobby>& self, SharedCall* call) {
    // Relaxed: a count, which publishes nothing.
    if (waiting_.fetch_add(1, std::memory_order_relaxed) >= most_) {
      leave();
      return call->refuse(make_error_code(errc::overloaded), poster_);
    }
    call->lobby_ = self;
    if (poster_.push(*call)) return;
    leave();
    call->refuse(make_error_code(errc::cancelled), poster_);
  }
  void leave() noexcept { waiting_.fetch_sub(1, std::memory_order_relaxed); }
  /// The loop's thread: null once the sharing has ended.
  SharingState* inside() const noexcept { return inside_; }
  void close() noexcept { inside_ = nullptr; }

 private:
  const Poster poster_;
  const std::size_t most_;
  std::atomic<std::size_t> waiting_{0};
  SharingState* inside_;
};

class SharingState {
 public:
  SharingState(Client client, std::size_t most)
      : client_(std::move(client)),
        engine_(client_.loop().engine()),
        lobby_(std::make_shared<Lobby>(client_.loop().poster(), most, *this)) {
    ticker_.owner = this;
    ticker_.tick = [](Ticker& self, std::int64_t now) { static_cast<Retry&>(self).owner->tick(now); };
    engine_.add(ticker_);
  }
  ~SharingState() {
    *alive_ = false;
    lobby_->close();
    engine_.remove(ticker_);
    for (SharedCall* call : std::exchange(waiting_, {})) end(call, make_error_code(errc::cancelled));
  }
  SharingState(const SharingState&) = delete;
  SharingState& operator=(const SharingState&) = delete;

  const std::shared_ptr<Lobby>& lobby() const noexcept { return lobby_; }
  Client& client() noexcept { return client_; }
  std::size_t waiting() const noexcept { return waiting_.size(); }

  void take(SharedCall* call) noexcept {
    waiting_.push_back(call);
    if (waiting_.size() == 1) send_waiting();
  }

 private:
  struct Retry : Ticker {
    SharingState* owner = nullptr;
  };
  static constexpr std::int64_t retry_interval_ns = 1'000'000;  // credit may come back without a word to us

  void send_waiting() noexcept {
    const auto alive = alive_;  // a handler may destroy this
    while (*alive && !waiting_.empty() && send(waiting_.front())) {
    }
    if (*alive) ticker_.due = waiting_.empty() ? Ticker::never : core::monotonic_ns() + retry_interval_ns;
  }

  // False: not now. Otherwise it's off the queue.
  bool send(SharedCall* call) noexcept {
    std::chrono::nanoseconds left = forever;
    if (call->due_ != Ticker::never) {
      left = std::chrono::nanoseconds(call->due_ - core::monotonic_ns());
      if (left.count() <= 0) return end_front(errc::timed_out);
    }
    const auto done = [this, call, alive = alive_](std::error_code error, Bytes reply) {
      call->complete(error, reply);
      if (*alive) send_waiting();  // its slot is free
    };
    static_assert(sizeof done <= CallHandler::capacity);
    const std::error_code error = client_.call(call->method_, call->request_, done, left);
    if (error == errc::overloaded || error == errc::no_credit) return false;
    if (error) return end_front(static_cast<errc>(error.value()));
    waiting_.pop_front();
    lobby_->leave();
    return true;
  }
  bool end_front(errc error) noexcept {
    SharedCall* call = waiting_.front();
    waiting_.pop_front();
    end(call, make_error_code(error));
    return true;
  }
  void end(SharedCall* call, std::error_code error) noexcept {
    lobby_->leave();
    call->complete(error, {});
  }

  void tick(std::int64_t now) noexcept {
    std::vector<SharedCall*> expired;
    std::erase_if(waiting_, [&](SharedCall* call) {
      const bool over = call->due_ <= now;
      if (over) expired.push_back(call);
      return over;
    });
    const auto alive = alive_;
    for (SharedCall* call : expired) {
      const auto lobby = lobby_;  // completing may destroy this
      lobby->leave();
      call->complete(make_error_code(errc::timed_out), {});
    }
    if (*alive) send_waiting();
  }

  std::shared_ptr<bool> alive_ = std::make_shared<bool>(true);
  Client client_;
  transport::Engine& engine_;
  std::shared_ptr<Lobby> lobby_;
  std::deque<SharedCall*> waiting_;  // in order; bounded by the lobby
  Retry ticker_;
};

namespace detail {

SharedCall::SharedCall(MethodId method, std::vector<std::byte> request, std::chrono::nanoseconds deadline)
    : Posted(&arrive),
      method_(method),
      request_(std::move(request)),
      due_(deadline.count() > 0 ? core::monotonic_ns() + deadline.count() : Ticker::never) {}

void SharedCall::arrive(Posted& posted, bool run) noexcept {
  auto& call = static_cast<SharedCall&>(posted);
  const auto lobby = std::move(call.lobby_);
  if (run && lobby->inside()) return lobby->inside()->take(&call);
  lobby->leave();
  call.complete(make_error_code(errc::cancelled), {});
}

void submit(const std::shared_ptr<Lobby>& lobby, SharedCall* call) {
  if (!lobby) return call->refuse(make_error_code(errc::invalid_state), {});
  lobby->enter(lobby, call);
}

}  // namespace detail

Sharing::Sharing(Client client, std::size_t most)
    : state_(std::make_unique<SharingState>(std::move(client), most)) {}
Sharing::Sharing(Sharing&&) noexcept = default;
Sharing::~Sharing() = default;
SharedClient Sharing::client() const noexcept {
  return SharedClient(state_->lobby());
}
Client& Sharing::own() noexcept {
  return state_->client();
}
std::size_t Sharing::waiting() const noexcept {
  return state_->waiting();
}

}  // namespace verbena::rpc
