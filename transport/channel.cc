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
      request_limit_(request_limit(engine.options())),
      one_sided_limit_(one_sided_limit(engine.options())),
      eager_limit_(eager_limit(engine.options())),
      ring_(sends_per_peer(engine.options()), index),
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
  granted_by_peer_ = theirs.request_depth;
  granted_ = grant_told_ = ours.request_depth;
  requests_sent_ = requests_received_ = replies_owed_ = 0;
  ring_.clear();
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
  engine_.retire(*this);
}

void Channel::close() noexcept {
  if (state_ != State::open || is_closing()) return;
  if (!ring_.is_empty()) {  // a write of nothing, whose completion announces all before it
    SendSlot& slot = ring_.next();
    slot.request.opcode = IBV_WR_RDMA_WRITE;
    slot.request.num_sge = 0;
    slot.request.send_flags = IBV_SEND_SIGNALED;
    slot.request.wr.rdma = {0, 0};
    slot.entry = {};
    queue();
  }
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

// ---- Completions ----

void Channel::on_message(const std::byte* buffer, std::size_t length, bool& keep_buffer) {
  if (length < sizeof(MessageHeader)) [[unlikely]]
    return violation("a message shorter than its header");
  const MessageHeader header = read_message_header(buffer);
  if (header.epoch != epoch_) {
    ++engine_.statistics().stale_messages;
    return;
  }
  if (on_first_word) [[unlikely]]
    std::exchange(on_first_word, nullptr)();
  if (!is_known(static_cast<std::uint8_t>(header.kind))) return violation("a message of unknown kind");
  note_grant(header.granted);
  if (state_ != State::open) return;
  ++engine_.statistics().messages_received;
  if (needs_credit(header.kind)) {
    if (requests_received_ == granted_) return violation("more messages than it had credit for");
    ++requests_received_;
  }
  std::span<const std::byte> body(buffer + sizeof header, length - sizeof header);
  switch (header.kind) {
    case Kind::credit:
      return;
    case Kind::release:
      return take_release(header.token);
    case Kind::message:
      if (!ordered_.empty()) {
        ordered_.push_back({nullptr, body.data(), body.size()});
        keep_buffer = true;
        return;
      }
      break;
    default:
      break;
  }
  if (is_large(header.kind)) {
    CallHeader call{};
    LargeBody large;
    if (is_call(header.kind)) {
      if (body.size() < sizeof call) return violation("a call shorter than its header");
      std::memcpy(&call, body.data(), sizeof call);
      body = body.subspan(sizeof call);
    }
    if (body.size() != sizeof large) return violation("a large message without its place");
    std::memcpy(&large, body.data(), sizeof large);
    return take_large(header.kind, call, large, header.token);
  }
  // Its credit goes back with the handler's own answer: nothing leaves before the turn's end, and by then the
  // buffer is back too.
  if (needs_credit(header.kind)) ++granted_;
  deliver(header.kind, body);
  if (needs_credit(header.kind)) tell_grant_if_due();
}

void Channel::deliver(Kind kind, std::span<const std::byte> body) {
  if (kind == Kind::message) {
    engine_.statistics().bytes_received += body.size();
    if (message_handler && !is_closing()) message_handler(body);
    return;
  }
  if (body.size() < sizeof(CallHeader)) [[unlikely]]
    return violation("a call shorter than its header");
  engine_.statistics().bytes_received += body.size() - sizeof(CallHeader);
  const CallHeader call = read_call_header(body.data());
  if (kind == Kind::request && !owe_reply()) return;
  if (calls.deliver) [[likely]] {
    calls.deliver(calls.self, *this, kind, call, body.subspan(sizeof call));
  } else if (kind == Kind::request) {
    send_reply({call.slot, call.generation, 0, static_cast<std::int32_t>(errc::rejected)}, {});
  }
}

// Our sends have room for so many replies and no more.
bool Channel::owe_reply() noexcept {
  if (replies_owed_ == ours_.call_depth) [[unlikely]] {
    violation("more calls at once than may wait for their replies");
    return false;
  }
  ++replies_owed_;
  return true;
}

// The grant grows as receives come back; the peer hears of it on our next message, or by a message of its own
// once half the window has been used.
void Channel::tell_grant_if_due() noexcept {
  if (state_ != State::open) return;
  if (granted_ - grant_told_ < ours_.request_depth / 2u) [[likely]]
    return;
  queue_eager(Kind::credit, 0, {}, {}, engine_.reply_sends(), nullptr);
  ++engine_.statistics().credit_messages_sent;
}

void Channel::note_grant(std::uint32_t granted) noexcept {
  const auto more = static_cast<std::int32_t>(granted - granted_by_peer_);
  if (more <= 0) return;
  if (granted - requests_sent_ > theirs_.request_depth) return violation("a grant of more than it declared");
  granted_by_peer_ = granted;
}

void Channel::on_sent(const ibv_wc& completion) noexcept {
  const std::uint32_t count = ring_.completed_by(completion.wr_id);
  if (count == 0) return;
  if (completion.status == IBV_WC_SUCCESS) [[likely]]
    return complete_up_to(count);
  if (state_ != State::open) return;  // completes when drained
  // What stood before it was carried out; it and all behind it complete when the queue pair has drained.
  complete_up_to(count - 1);
  const errc code = core::to_errc(completion.status);
  fail(make_error_code(code == errc::flushed ? errc::connection_lost : code),
       core::describe(completion.status, "an operation", peer_name_));
}

void Channel::complete_up_to(std::uint32_t count) noexcept {
  while (count-- > 0) {
    const SendEntry& entry = ring_.pop();
    if (entry.buffer) entry.pool->give(entry.buffer);
    if (Operation* const operation = entry.operation) operation->complete(operation, {}, entry.bytes);
  }
  ring_.rewind_if_empty();
}

void Channel::fail_to_post(int error) noexcept {
  fail(make_error_code(errc::connection_lost),
       fmt::format("posting to {} failed: {}", peer_name_, std::strerror(error)));
}

// ---- Sending ----

std::error_code Channel::why_no_request() const noexcept {
  if (!accepts_) return make_error_code(errc::connection_lost);
  const bool no_credit = requests_sent_ == granted_by_peer_;
  ++(no_credit ? engine_.statistics().credit_waits : engine_.statistics().overloaded);
  return make_error_code(no_credit ? errc::no_credit : errc::overloaded);
}

std::error_code Channel::why_not_reach() const noexcept {
  if (!accepts_) return make_error_code(errc::connection_lost);
  if (ring_.size() < one_sided_limit_) return make_error_code(errc::invalid_argument);
  ++engine_.statistics().overloaded;
  return make_error_code(errc::overloaded);
}

void Channel::queue() noexcept {
  ring_.push();
  engine_.mark_dirty(*this);
}

errc Channel::queue_eager(Kind kind, std::uint32_t token, CallHeader call, std::span<const std::byte> body,
                          core::BufferPool& pool, Operation* done) noexcept {
  if (ring_.size() >= eager_limit_) [[unlikely]] {
    fail(make_error_code(errc::connection_lost),
         fmt::format("{} goes on sending but acknowledges nothing", peer_name_));
    return errc::connection_lost;
  }
  const std::size_t before_body = sizeof(MessageHeader) + (is_call(kind) ? sizeof call : 0);
  const std::size_t length = before_body + body.size();
  SendSlot& slot = ring_.next();
  std::byte* to = slot.staging.data();
  std::byte* buffer = nullptr;
  const bool is_inline = length <= inline_limit_;
  if (!is_inline) {
    to = buffer = pool.take();
    if (!to) [[unlikely]]
      return errc::no_buffer;
  }
  write_header(to, header(kind, token));
  if (is_call(kind)) write_header(to + sizeof(MessageHeader), call);
  core::copy_bytes(to + before_body, body.data(), body.size());
  slot.pieces[0] = {reinterpret_cast<std::uint64_t>(to), static_cast<std::uint32_t>(length),
                    is_inline ? 0 : pool.lkey()};
  slot.request.opcode = IBV_WR_SEND;
  slot.request.num_sge = 1;
  slot.request.send_flags = is_inline ? IBV_SEND_INLINE : 0;
  slot.entry = {done, buffer, &pool, static_cast<std::uint32_t>(length - sizeof(MessageHeader))};
  grant_told_ = granted_;
  queue();
  ++engine_.statistics().messages_sent;
  engine_.statistics().bytes_sent += body.size();
  return {};
}

std::error_code Channel::send_message(std::span<const std::byte> bytes, Operation* done) noexcept {
  if (!may_request()) [[unlikely]]
    return why_no_request();
  if (bytes.size() > theirs_.eager_size) {
    if (!done) return make_error_code(errc::message_too_long);
    return send_large(Kind::large_message, {}, bytes, done, nullptr, 0);
  }
  if (const errc error = queue_eager(Kind::message, 0, {}, bytes, engine_.request_sends(), done);
      error != errc{}) [[unlikely]]
    return make_error_code(error);
  ++requests_sent_;
  return {};
}

std::error_code Channel::send_pieces(std::span<const Slice> pieces, Operation& done) noexcept {
  if (!may_request()) [[unlikely]]
    return why_no_request();
  std::size_t total = 0;
  for (const Slice& piece : pieces) total += piece.length;
  if (pieces.empty() || pieces.size() > max_pieces) return make_error_code(errc::invalid_argument);
  if (total > theirs_.eager_size) {
    return pieces.size() == 1
               ? send_large(Kind::large_message, {}, {pieces[0].data, pieces[0].length}, &done, nullptr, 0)
               : make_error_code(errc::message_too_long);
  }
  // The header goes through a buffer of ours; the pieces go from where they are.
  std::byte* buffer = engine_.request_sends().take();
  if (!buffer) return make_error_code(errc::no_buffer);
  const MessageHeader first = header(Kind::message, 0);
  write_header(buffer, first);
  SendSlot& slot = ring_.next();
  slot.pieces[0] = {reinterpret_cast<std::uint64_t>(buffer), sizeof first, engine_.request_sends().lkey()};
  for (std::size_t i = 0; i < pieces.size(); ++i) {
    slot.pieces[i + 1] = {reinterpret_cast<std::uint64_t>(pieces[i].data),
                          static_cast<std::uint32_t>(pieces[i].length), pieces[i].key};
  }
  slot.request.opcode = IBV_WR_SEND;
  slot.request.num_sge = static_cast<int>(pieces.size() + 1);
  slot.request.send_flags = 0;
  slot.entry = {&done, buffer, &engine_.request_sends(), static_cast<std::uint32_t>(total)};
  grant_told_ = first.granted;
  queue();
  ++requests_sent_;
  ++engine_.statistics().messages_sent;
  engine_.statistics().bytes_sent += total;
  return {};
}

std::error_code Channel::send_request(CallHeader call, std::span<const std::byte> bytes) noexcept {
  if (!may_request()) [[unlikely]]
    return why_no_request();
  if (bytes.size() > theirs_.eager_size) [[unlikely]] {
    return send_large(Kind::large_request, call, bytes, nullptr, nullptr, 0);
  }
  if (const errc error = queue_eager(Kind::request, 0, call, bytes, engine_.request_sends(), nullptr);
      error != errc{}) [[unlikely]]
    return make_error_code(error);
  ++requests_sent_;
  return {};
}

std::error_code Channel::send_reply(CallHeader call, std::span<const std::byte> bytes) noexcept {
  if (state_ != State::open) [[unlikely]]
    return make_error_code(errc::connection_lost);
  assert(replies_owed_ > 0);
  if (bytes.size() > theirs_.eager_size) [[unlikely]] {
    const std::size_t most = std::min<std::size_t>(theirs_.large_bytes, engine_.options().large_bytes);
    if (bytes.size() > most || bytes.size() >= 1u << 31) return make_error_code(errc::message_too_long);
    if (!waiting_replies_.empty() || !send_large_reply(call, bytes)) {
      waiting_replies_.push_back({call, {bytes.begin(), bytes.end()}});  // at most call_depth of them
    }
    return {};
  }
  const errc error = queue_eager(Kind::reply, 0, call, bytes, engine_.reply_sends(), nullptr);
  if (error != errc{}) [[unlikely]]
    return make_error_code(error);
  --replies_owed_;
  return {};
}

inline SendSlot& Channel::one_sided(ibv_wr_opcode opcode, const Slice& local, Operation& done) noexcept {
  SendSlot& slot = ring_.next();
  const auto length = static_cast<std::uint32_t>(local.length);
  slot.pieces[0] = {reinterpret_cast<std::uint64_t>(local.data), length, local.key};
  slot.entry = {&done, nullptr, nullptr, length};
  slot.request.opcode = opcode;
  slot.request.num_sge = length ? 1 : 0;
  slot.request.send_flags = 0;
  ++engine_.statistics().one_sided_operations;
  engine_.statistics().one_sided_bytes += length;
  return slot;
}

std::error_code Channel::put(const Slice& from, const RemoteRegion& to, std::uint64_t offset,
                             Operation& done) noexcept {
  if (!may_reach(from, to, offset)) [[unlikely]]
    return why_not_reach();
  SendSlot& slot = one_sided(IBV_WR_RDMA_WRITE, from, done);
  if (from.length <= inline_limit_) slot.request.send_flags = IBV_SEND_INLINE;
  slot.request.wr.rdma = {to.address + offset, to.key};
  queue();
  return {};
}

std::error_code Channel::get(const Slice& into, const RemoteRegion& from, std::uint64_t offset,
                             Operation& done) noexcept {
  if (!may_reach(into, from, offset)) [[unlikely]]
    return why_not_reach();
  one_sided(IBV_WR_RDMA_READ, into, done).request.wr.rdma = {from.address + offset, from.key};
  queue();
  return {};
}

std::error_code Channel::atomic(ibv_wr_opcode opcode, const Slice& former, const RemoteRegion& at,
                                std::uint64_t offset, std::uint64_t compare_add, std::uint64_t swap,
                                Operation& done) noexcept {
  if (!may_reach(former, at, offset)) [[unlikely]]
    return why_not_reach();
  one_sided(opcode, former, done).request.wr.atomic = {at.address + offset, compare_add, swap, at.key};
  queue();
  return {};
}

std::string Channel::explain() const {
  return fmt::format(
      "{} to {}, {}; up to {} bytes in one message, longer ones are read; {} requests in flight",
      engine_.device().name(), peer_name_, path_, theirs_.eager_size, theirs_.request_depth);
}

std::string Channel::explain(std::size_t bytes) const {
  if (bytes + headers_size <= inline_limit_) {
    return fmt::format("{} bytes: inline, in the work request (up to {} bytes)", bytes,
                       inline_limit_ - headers_size);
  }
  if (bytes <= theirs_.eager_size) {
    return fmt::format("{} bytes: copied through registered buffers (up to {} bytes)", bytes,
                       theirs_.eager_size);
  }
  if (bytes <= theirs_.large_bytes) {
    return fmt::format("{} bytes: read by the receiver (up to {} bytes)", bytes, theirs_.large_bytes);
  }
  return fmt::format("{} bytes: too long; the peer takes up to {}", bytes, theirs_.large_bytes);
}

}  // namespace verbena::transport
