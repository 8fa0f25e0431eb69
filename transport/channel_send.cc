// SPDX-License-Identifier: Apache-2.0
// What is queued to be sent: frames of messages and calls, and one-sided operations.
#include <fmt/format.h>

#include <cassert>
#include <cstring>

#include "transport/budget.h"
#include "transport/channel.h"
#include "transport/engine.h"

namespace verbena::transport {
namespace {

std::error_code code_of(errc error) noexcept {
  return error == errc{} ? std::error_code{} : make_error_code(error);
}

}  // namespace

errc Channel::why_no_request() const noexcept {
  if (!accepts_) return errc::connection_lost;
  const bool no_credit = credit_used() == granted_by_peer_;
  ++(no_credit ? engine_.statistics().credit_waits : engine_.statistics().overloaded);
  return no_credit ? errc::no_credit : errc::overloaded;
}

std::error_code Channel::why_not_reach() const noexcept {
  if (!accepts_) return make_error_code(errc::connection_lost);
  if (ring_.size() < one_sided_limit_) return make_error_code(errc::invalid_argument);
  ++engine_.statistics().overloaded;
  return make_error_code(errc::overloaded);
}

void Channel::queue() noexcept {
  close_frame();
  ring_.push();
  engine_.mark_dirty(*this);
}

void Channel::queue_empty_write(Operation* done) noexcept {
  SendSlot& slot = ring_.next();
  slot.request.opcode = IBV_WR_RDMA_WRITE;
  slot.request.num_sge = 0;
  slot.request.send_flags = IBV_SEND_SIGNALED;
  slot.request.wr.rdma = {0, 0};
  slot.entry = {done, nullptr, nullptr, 0};
  queue();
}

void Channel::finish_frame() noexcept {
  engine_.statistics().messages_sent += frame_.joined();
  ring_.last().pieces[0].length = frame_.length();
  frame_.write_header_anew(granted_);
  grant_told_ = granted_;
}

// The frame that is open has no room for `body` more: it leaves the work request for a buffer of `pool`.
bool Channel::grow_frame(core::BufferPool& pool) noexcept {
  SendSlot& slot = ring_.last();
  std::byte* buffer = slot.entry.buffer ? nullptr : pool.take();
  if (!buffer) return false;
  frame_.move_to(buffer, frame_limit_);
  slot.entry.buffer = buffer;
  slot.entry.pool = &pool;
  slot.request.send_flags &= ~static_cast<unsigned>(IBV_SEND_INLINE);
  slot.pieces[0] = {reinterpret_cast<std::uint64_t>(buffer), frame_.length(), pool.lkey()};
  return true;
}

inline bool Channel::join_frame(Kind kind, const CallHeader& call, Bytes body) noexcept {
  std::byte* to = frame_.add(kind, sizeof call + body.size());
  if (!to) return false;
  write_header(to, call);
  core::copy_bytes(to + sizeof call, body.data(), body.size());
  engine_.statistics().bytes_sent += body.size();
  if (frame_.is_full()) [[unlikely]]
    engine_.flush_early(*this);
  return true;
}

// While one is open.
bool Channel::join_frame(Kind kind, const CallHeader& call, const Payload& body,
                         core::BufferPool& pool) noexcept {
  const std::size_t before_body = is_call(kind) ? sizeof call : 0;
  std::byte* to = frame_.add(kind, before_body + body.size());
  if (!to && grow_frame(pool)) to = frame_.add(kind, before_body + body.size());
  if (!to) return false;
  if (is_call(kind)) write_header(to, call);
  body.write_to(to + before_body);
  engine_.statistics().bytes_sent += body.size();
  if (frame_.is_full()) engine_.flush_early(*this);
  return true;
}

errc Channel::queue_eager(Kind kind, std::uint32_t token, const CallHeader& call, const Payload& body,
                          core::BufferPool& pool, Operation* done, const core::Loan* loan) noexcept {
  const bool is_frame = may_be_packed(kind);
  if (is_frame && !done && frame_.is_open() && join_frame(kind, call, body, pool)) return {};
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
  write_header(to, header(kind, token, loan));
  if (is_call(kind)) write_header(to + sizeof(MessageHeader), call);
  body.write_to(to + before_body);
  slot.pieces[0] = {reinterpret_cast<std::uint64_t>(to), static_cast<std::uint32_t>(length),
                    is_inline ? 0 : pool.lkey()};
  slot.request.opcode = IBV_WR_SEND;
  slot.request.num_sge = 1;
  slot.request.send_flags = is_inline ? IBV_SEND_INLINE : 0;
  slot.entry = {done, buffer, &pool, static_cast<std::uint32_t>(length - sizeof(MessageHeader))};
  queue();
  grant_told_ = granted_;
  if (is_frame) frame_.open(to, length, is_inline ? inline_limit_ : frame_limit_);
  ++engine_.statistics().messages_sent;
  engine_.statistics().bytes_sent += body.size();
  return {};
}

// Reading would be cheaper, but a part of a reply has nobody who waits for its end, or the peer reads no
// longer ones, or not in so many pieces, or as many as it allows at once.
bool Channel::must_copy(Kind kind, const Payload& bytes) noexcept {
  return bytes.size() <= theirs_.eager_size && (kind == Kind::part || bytes.size() > theirs_.large_bytes ||
                                                bytes.pieces() > most_large_pieces() || !free_outgoing());
}

// What can't be registered may be short enough to be copied.
bool Channel::may_copy_after(errc error, std::size_t length) const noexcept {
  return error != errc{} && error != errc::connection_lost && accepts_ && length <= theirs_.eager_size;
}

std::error_code Channel::send_message(std::span<const std::byte> bytes, Operation* done) noexcept {
  if (!may_request()) [[unlikely]]
    return make_error_code(why_no_request());
  if (bytes.size() > copy_limit_ && (!done || !must_copy(Kind::message, bytes))) [[unlikely]] {
    const errc error = done ? send_large(Kind::large_message, {}, bytes, done) : errc::message_too_long;
    if (!may_copy_after(error, bytes.size())) return code_of(error);
  }
  if (const errc error = queue_eager(Kind::message, 0, {}, bytes, engine_.request_sends(), done);
      error != errc{}) [[unlikely]]
    return make_error_code(error);
  ++requests_sent_;
  return {};
}

std::error_code Channel::send_pieces(std::span<const Slice> pieces, Operation& done) noexcept {
  if (!may_request()) [[unlikely]]
    return make_error_code(why_no_request());
  std::size_t total = 0;
  for (const Slice& piece : pieces) total += piece.length;
  if (pieces.empty() || pieces.size() > max_pieces) return make_error_code(errc::invalid_argument);
  if (total > theirs_.eager_size) {
    return code_of(pieces.size() == 1
                       ? send_large(Kind::large_message, {},
                                    std::span<const std::byte>(pieces[0].data, pieces[0].length), &done)
                       : errc::message_too_long);
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
  queue();
  grant_told_ = first.granted;
  ++requests_sent_;
  ++engine_.statistics().messages_sent;
  engine_.statistics().bytes_sent += total;
  return {};
}

errc Channel::send_credited(Kind kind, const CallHeader& call, Bytes bytes,
                            std::span<const Bytes> more) noexcept {
  if (!may_request()) [[unlikely]]
    return why_no_request();
  ++requests_sent_;  // first: a frame that is full with it is posted within this
  if (!more.empty() || !join_frame(kind, call, bytes)) {
    const Payload payload(bytes, more);
    errc error{};
    const bool is_copied = payload.size() <= copy_limit_ || must_copy(kind, payload);
    if (!is_copied) [[unlikely]]
      error = kind == Kind::request ? send_large(Kind::large_request, call, payload, nullptr)
                                    : errc::message_too_long;
    if (is_copied || may_copy_after(error, payload.size())) [[likely]]
      error = queue_eager(kind, 0, call, payload, engine_.request_sends(), nullptr);
    if (error != errc{}) [[unlikely]] {
      --requests_sent_;
      return error;
    }
  }
  return {};
}

errc Channel::send_part(ReplyWindow& window, Bytes bytes) noexcept {
  if (window.room == 0) return errc::no_credit;
  const errc error = send_credited(Kind::part, {window.slot, window.generation, 0, 0}, bytes, {});
  if (error == errc{}) --window.room;
  return error;
}

errc Channel::send_more(std::uint32_t slot, std::uint32_t generation, std::int32_t count) noexcept {
  return send_credited(Kind::more, {slot, generation, 0, count}, {}, {});
}

errc Channel::send_reply(const CallHeader& call, Bytes bytes, std::span<const Bytes> more) noexcept {
  if (state_ != State::open) [[unlikely]]
    return errc::connection_lost;
  assert(replies_owed_ > 0);
  if (!more.empty() || !join_frame(Kind::reply, call, bytes)) {
    const Payload payload(bytes, more);
    if (payload.size() > theirs_.eager_size) [[unlikely]]
      return keep_large_reply(call, payload);
    if (const errc error = queue_eager(Kind::reply, 0, call, payload, engine_.reply_sends(), nullptr);
        error != errc{}) [[unlikely]]
      return error;
  }
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
  const bool alone = ring_.is_empty() && posts_alone_;
  SendSlot& slot = one_sided(IBV_WR_RDMA_WRITE, from, done);
  if (from.length <= inline_limit_) slot.request.send_flags = IBV_SEND_INLINE;
  slot.request.wr.rdma = {to.address + offset, to.key};
  if (alone) [[likely]] {
    ring_.push();
    post();
  } else {
    queue();
  }
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

// Queued, never posted at once: what is registered for it is confirmed with that of others.
std::error_code Channel::reach_pinned(ibv_wr_opcode opcode, Bytes bytes, const RemoteRegion& remote,
                                      std::uint64_t offset, Operation& done) noexcept {
  Slice slice{const_cast<std::byte*>(bytes.data()), bytes.size(), 0};  // of a put the device reads it
  if (!may_reach(slice, remote, offset)) [[unlikely]]
    return why_not_reach();
  PinnedOperations& operations = engine_.pinned_operations();
  errc error{};
  const int access = opcode == IBV_WR_RDMA_READ ? IBV_ACCESS_LOCAL_WRITE : 0;
  auto* const pinned = operations.begin(bytes, access, done, error);
  if (!pinned) return make_error_code(error);
  slice.key = pinned->lkey();
  SendSlot& slot = one_sided(opcode, slice, *pinned);
  slot.request.wr.rdma = {remote.address + offset, remote.key};
  operations.queued(slot);
  has_pinned_ = true;
  queue();
  return {};
}

void Channel::confirm_pinned() noexcept {
  has_pinned_ = false;
  engine_.pinned_operations().confirm();
}

std::error_code Channel::put(Bytes from, const RemoteRegion& to, std::uint64_t offset,
                             Operation& done) noexcept {
  const PoolMemory& pool = engine_.pool();
  const bool is_registered = pool.contains(from);
  if (from.size() > inline_limit_ && !is_registered)
    return reach_pinned(IBV_WR_RDMA_WRITE, from, to, offset, done);
  return put(Slice{const_cast<std::byte*>(from.data()), from.size(), is_registered ? pool.lkey() : 0}, to,
             offset, done);
}

std::error_code Channel::get(std::span<std::byte> into, const RemoteRegion& from, std::uint64_t offset,
                             Operation& done) noexcept {
  const PoolMemory& pool = engine_.pool();
  if (!into.empty() && !pool.contains(into)) return reach_pinned(IBV_WR_RDMA_READ, into, from, offset, done);
  return get(Slice{into.data(), into.size(), pool.lkey()}, from, offset, done);
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

}  // namespace verbena::transport
