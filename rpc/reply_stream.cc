// SPDX-License-Identifier: Apache-2.0
#include "verbena/reply_stream.h"

#include <algorithm>
#include <utility>

#include "transport/channel.h"
#include "transport/engine.h"

namespace verbena::rpc {

using transport::ReplyWindow;

/// Stays where it is: the channel knows it.
struct ReplyStream::State : ReplyWindow {
  State(Reply&& owed, transport::Engine& its) : engine(its), reply(std::move(owed)) {
    changed = [](ReplyWindow& self) noexcept { static_cast<State&>(self).wake(); };
    tick = [](Ticker& self, std::int64_t) { static_cast<State&>(self).wake(); };
  }
  ~State() {
    stop_waiting();
    if (channel) channel->remove_window(*this);
  }
  State(const State&) = delete;
  State& operator=(const State&) = delete;

  bool would_wait() const noexcept {
    return channel && channel->is_open() && !is_given_up && (room == 0 || !channel->has_credit());
  }
  // For the caller's word, which changed() tells; or, where there is room, for the connection's credit, by
  // looking with each tick; or for nothing but the end of on_writable().
  void wait() {
    if (would_wait() && room == 0) return stop_waiting();
    if (std::exchange(is_ticking, true)) return;
    due = INT64_MIN;
    engine.add(*this);
  }
  void stop_waiting() noexcept {
    if (std::exchange(is_ticking, false)) engine.remove(*this);
  }
  // The handler may destroy this.
  void wake() noexcept {
    if (!writable) return stop_waiting();
    if (would_wait()) return wait();
    stop_waiting();
    const auto handler = std::exchange(writable, {});
    handler();
  }

  transport::Engine& engine;
  Reply reply;
  bool is_stream = false;
  Handler<void()> writable;
  bool is_ticking = false;
};

ReplyStream::ReplyStream(Reply&& reply) {
  transport::Channel* channel = reply.channel_;
  if (!channel) return;  // it has been answered
  const bool lives = channel->serial() == reply.serial_ && channel->is_open();
  state_ = std::make_unique<State>(std::move(reply), channel->engine());
  state_->slot = state_->reply.slot_;
  state_->generation = state_->reply.generation_;
  state_->is_stream = state_->reply.window_ > 0;
  state_->room = static_cast<std::uint32_t>(std::max(state_->reply.window_, 0));
  if (!lives) return;
  state_->channel = channel;
  channel->add_window(*state_);
}

ReplyStream::ReplyStream(ReplyStream&&) noexcept = default;

ReplyStream& ReplyStream::operator=(ReplyStream&& other) noexcept {
  if (this != &other) {
    fail(errc::handler_failed);
    state_ = std::move(other.state_);
  }
  return *this;
}

ReplyStream::~ReplyStream() {
  fail(errc::handler_failed);
}

std::error_code ReplyStream::write(Bytes part) noexcept {
  if (!state_ || !state_->channel) return make_error_code(errc::connection_lost);
  if (!state_->is_stream) return make_error_code(errc::rejected);
  if (state_->is_given_up) return make_error_code(errc::cancelled);
  const errc error = state_->channel->send_part(*state_, part);
  if (error != errc{}) return make_error_code(error);
  state_->reply.statistics_->bytes_out += part.size();
  return {};
}

void ReplyStream::on_writable(Handler<void()> handler) {
  if (!state_) return;
  state_->writable = std::move(handler);
  state_->wait();
}

void ReplyStream::finish(Bytes last) noexcept {
  if (const auto state = std::move(state_)) state->reply.send(last);
}

void ReplyStream::fail(errc code) noexcept {
  if (const auto state = std::move(state_)) state->reply.fail(code);
}

}  // namespace verbena::rpc
