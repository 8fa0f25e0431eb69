// SPDX-License-Identifier: Apache-2.0
#include "transport/channel.h"

#include <fmt/format.h>

#include <algorithm>
#include <cassert>
#include <cstring>

#include "core/copy_bytes.h"
#include "core/error.h"
#include "core/monotonic_ns.h"
#include "transport/budget.h"
#include "transport/engine.h"

namespace verbena::transport {

Channel::Channel(Engine& engine, std::uint32_t index)
    : engine_(engine),
      index_(index),
      posts_alone_(engine.device().kind() == core::DeviceKind::software),
      request_limit_(request_limit(engine.options())),
      one_sided_limit_(one_sided_limit(engine.options())),
      eager_limit_(eager_limit(engine.options())),
      ring_(engine.slots(), sends_per_peer(engine.options()), signal_interval(engine.options()), index),
      outgoing_(engine.options().large_depth) {
  for (std::uint32_t i = 0; i < engine.options().large_depth; ++i) {
    incoming_.push_back(std::make_unique<Incoming>());
    incoming_.back()->complete = &read_done;
    incoming_.back()->channel = this;
  }
}

// ---- Life ----

void Channel::open(core::QueuePair& queue_pair, const Hello& ours, const Hello& theirs, std::string peer_name,
                   std::string path) {
  assert(state_ == State::free);
  queue_pair.bring_up(theirs.facts);
  queue_pair_ = &queue_pair;
  ours_ = ours;
  theirs_ = theirs;
  // Neither side may count on more than the other has: our buffers are as long as our own options say.
  theirs_.eager_size = std::min(ours.eager_size, theirs.eager_size);
  theirs_.call_depth = std::min(ours.call_depth, theirs.call_depth);
  theirs_.large_depth = std::min(ours.large_depth, theirs.large_depth);
  epoch_ = static_cast<std::uint16_t>(ours.epoch);
  inline_limit_ = std::min(queue_pair.inline_size(), staging_size);
  copy_limit_ = std::min<std::size_t>(theirs_.eager_size, engine_.read_from() - 1);
  constexpr std::size_t longest_frame = 1024;  // longer ones cost a word as much, and come later
  frame_limit_ = std::min(headers_size + theirs_.eager_size, longest_frame);
  granted_by_peer_ = theirs.request_depth;
  granted_ = grant_told_ = ours.request_depth;
  requests_sent_ = requests_posted_ = 0;
  requests_received_ = replies_owed_ = 0;
  ++activity_;  // the first interval isn't a whole one
  loans_ = places_ = 0;
  ring_.clear();
  frame_ = {};
  has_pinned_ = false;
  error_ = {};
  why_.clear();
  peer_name_ = std::move(peer_name);
  path_ = std::move(path);
  linger_until_ = 0;
  state_ = State::open;
  accepts_ = true;
}

void Channel::fail(std::error_code error, std::string why) noexcept {
  if (state_ != State::open) return;
  state_ = State::draining;
  accepts_ = false;
  error_ = error;
  why_ = std::move(why);
  if (close_lifeline) std::exchange(close_lifeline, nullptr)();
  end_all_loans();  // while there is a queue pair
  engine_.retire(*this);
}

void Channel::close() noexcept {
  if (state_ != State::open || is_closing()) return;
  if (!ring_.is_empty()) queue_empty_write(nullptr);  // its completion announces all before it
  flush();
  if (state_ != State::open) return;
  constexpr std::int64_t linger_ns = 1'000'000'000;
  linger_until_ = core::monotonic_ns() + linger_ns;
  accepts_ = false;
  engine_.linger(*this);
}

void Channel::check_linger(std::int64_t now_ns) noexcept {
  if (!is_closing() || state_ != State::open) return;
  flush();
  if (ring_.is_empty() || now_ns > linger_until_)
    fail(make_error_code(errc::cancelled), "closed by this side");
}

void Channel::on_drained() noexcept {
  if (state_ == State::draining) finish();
}

void Channel::finish() noexcept {
  const std::error_code error = error_;
  while (!ring_.is_empty()) {
    const SendEntry& entry = ring_.pop();
    if (entry.buffer) entry.pool->give(entry.buffer);
    if (entry.operation) entry.operation->complete(entry.operation, error, 0);
  }
  abandon_large(error);
  engine_.ended();
  queue_pair_ = nullptr;
  lifeline.reset();
  on_first_word = nullptr;
  const std::string why = std::move(why_);
  const bool by_us = is_closing();
  if (!by_us) ++engine_.statistics().connections_lost;
  for (ReplyWindow* window : std::exchange(windows_, {})) {
    window->channel = nullptr;
    window->changed(*window);
  }
  const CallLayer layer = std::exchange(calls, {});
  if (layer.closed) layer.closed(layer.self, *this, error, why);
  const auto handler = std::move(closed_handler);
  closed_handler = {};
  message_handler = {};
  ++serial_;
  state_ = State::free;
  if (handler && !by_us) handler(error, why);
}

void Channel::violation(const char* what) noexcept {
  ++engine_.statistics().violations;
  fail(make_error_code(errc::protocol_violation),
       fmt::format("{} broke the protocol: {}; the connection was ended", peer_name_, what));
}

std::string Channel::explain() const {
  return fmt::format(
      "{} to {}, {}; up to {} bytes in one message, longer ones are read; {} requests in flight",
      engine_.device().name(), peer_name_, path_, copy_limit_, theirs_.request_depth);
}

std::string Channel::explain(std::size_t bytes) const {
  if (bytes > theirs_.large_bytes && bytes > theirs_.eager_size)
    return fmt::format("{} bytes: too long; the peer takes up to {}", bytes, theirs_.large_bytes);
  if (bytes + headers_size <= inline_limit_) {
    return fmt::format("{} bytes: inline, in the work request (up to {} bytes)", bytes,
                       inline_limit_ - headers_size);
  }
  if (bytes <= copy_limit_) {
    return fmt::format("{} bytes: copied through registered buffers (up to {} bytes); {}", bytes, copy_limit_,
                       engine_.explain_cost(bytes));
  }
  const bool may_lend = engine_.options().lend && (theirs_.features & borrows_feature);
  return fmt::format("{} bytes: {}read by the receiver (up to {} bytes); {}", bytes,
                     may_lend ? "lent where it lies to its handler, if it is a request in a Region that was "
                                "allocated; else "
                              : "",
                     theirs_.large_bytes, engine_.explain_cost(bytes));
}

}  // namespace verbena::transport
