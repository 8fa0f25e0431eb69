// SPDX-License-Identifier: Apache-2.0
// What arrives: frames, record by record; and what has been sent completes.
#include <fmt/format.h>

#include <algorithm>
#include <cstring>
#include <utility>

#include "core/error.h"
#include "transport/channel.h"
#include "transport/engine.h"

namespace verbena::transport {

void Channel::tell_grant() noexcept {
  if (frame_.is_open()) return;  // says so when it is closed
  queue_eager(Kind::credit, 0, {}, {}, engine_.reply_sends(), nullptr);
  ++engine_.statistics().credit_messages_sent;
}

// A request's credit goes back with the handler's own answer: nothing leaves before the turn's end, and by
// then the buffer is back too.
inline void Channel::take_call(Kind kind, std::span<const std::byte> body) {
  if (body.size() < sizeof(CallHeader)) [[unlikely]]
    return violation("a call shorter than its header");
  const CallHeader call = read_call_header(body.data());
  body = body.subspan(sizeof call);
  engine_.statistics().bytes_received += body.size();
  if (kind == Kind::reply) {
    if (places_ != 0 && is_read_in_place(call)) [[unlikely]]
      return violation("two replies to one call");
    if (loans_ != 0) [[unlikely]]
      end_loan_of(call.slot);
    if (calls.deliver) [[likely]]
      calls.deliver(calls.self, *this, kind, call, body);
    return;
  }
  if (kind == Kind::request) [[likely]] {
    if (!owe_reply()) return;
    ++granted_;
    deliver_request(call, body);
  } else {
    ++granted_;
    if (kind == Kind::more) {
      take_more(call);
    } else if (calls.deliver) {
      calls.deliver(calls.self, *this, kind, call, body);
    }
  }
  tell_grant_if_due();
}

inline void Channel::take_record(Kind kind, const MessageHeader& frame, std::span<const std::byte> body) {
  if (state_ != State::open) return;
  ++engine_.statistics().messages_received;
  if (kind == Kind::reply) return take_call(kind, body);
  if (needs_credit(kind)) {
    if (requests_received_ == granted_) return violation("more messages than it had credit for");
    ++requests_received_;
  }
  switch (kind) {
    case Kind::request:
    case Kind::part:
    case Kind::more:
      return take_call(kind, body);
    case Kind::message:
      return take_bytes(body);
    case Kind::credit:
      return;
    case Kind::release:
      return take_release(frame.token);
    default:
      return take_large(frame, body);
  }
}

void Channel::on_message(const std::byte* frame, std::size_t length) {
  if (length < sizeof(MessageHeader)) [[unlikely]]
    return violation("a message shorter than its header");
  const MessageHeader header = read_message_header(frame);
  if (header.epoch != epoch_) {
    ++engine_.statistics().stale_messages;
    return;
  }
  if (on_first_word) [[unlikely]]
    std::exchange(on_first_word, nullptr)();
  if (!is_known(static_cast<std::uint8_t>(header.kind))) return violation("a message of unknown kind");
  note_grant(header.granted);
  ++engine_.statistics().frames_received;
  ++activity_;
  const std::span<const std::byte> rest(frame + sizeof header, length - sizeof header);
  if (header.flags & released_flag) [[unlikely]] {
    if (is_large(header.kind) || header.kind == Kind::release) return violation("a message with two tokens");
    take_release(header.token);
  }
  if (header.flags & packed_flag) return take_records(header, {frame, length});
  take_record(header.kind, header, rest);
}

// The first record's header is the message's; each further one has its own.
void Channel::take_records(const MessageHeader& header, std::span<const std::byte> frame) {
  const std::uint32_t serial = serial_;
  Kind kind = header.kind;
  std::size_t begin = sizeof header;
  std::size_t body = header.body;
  for (;;) {
    if (!may_be_packed(kind)) return violation("a frame with a record of a kind that stands alone");
    if (body > frame.size() - begin) return violation("a record longer than its frame");
    take_record(kind, header, frame.subspan(begin, body));
    if (serial != serial_ || state_ != State::open) return;
    begin = next_record(static_cast<std::uint32_t>(begin + body)) + sizeof(RecordHeader);
    if (begin > frame.size()) return;
    const RecordHeader next = read_record_header(frame.data() + begin - sizeof next);
    kind = next.kind;
    body = next.body;
  }
}

void Channel::take_more(const CallHeader& call) noexcept {
  const auto found = std::ranges::find_if(windows_, [&](const ReplyWindow* window) {
    return window->slot == call.slot && window->generation == call.generation;
  });
  if (found == windows_.end()) return;  // it has ended meanwhile
  ReplyWindow& window = **found;
  if (call.status < 0) {
    window.is_given_up = true;
  } else {  // the peer may say what it likes: its own credit bounds what it gets
    constexpr std::uint32_t most = 1u << 30;
    window.room = std::min(window.room + static_cast<std::uint32_t>(call.status), most);
  }
  window.changed(window);
}

void Channel::deliver_request(const CallHeader& call, std::span<const std::byte> body) {
  delivered_ = {call.slot, call.generation};
  if (calls.deliver) [[likely]]
    return calls.deliver(calls.self, *this, Kind::request, call, body);
  send_reply({call.slot, call.generation, 0, static_cast<std::int32_t>(errc::rejected)}, {});
}

bool Channel::hold_request(const CallKey& call, Bytes& part, const std::byte*& receive, std::byte*& range,
                           std::size_t& length) noexcept {
  if (call != delivered_) return false;  // its handler has ended
  if (lent_.data()) return hold_lent(part, range, length);
  if (delivering_) {
    if (!delivering_->memory) return false;  // held already
    range = std::exchange(delivering_->memory, nullptr);
    length = delivering_->length;
    return true;
  }
  if (granted_ == grant_told_) return false;  // its credit has been given back
  receive = engine_.hold_receive();
  if (!receive) return false;
  --granted_;
  return true;
}

void Channel::release_request(std::uint32_t serial, const std::byte* receive, std::byte* range,
                              std::size_t length) noexcept {
  if (receive) engine_.release_receive(receive);
  if (range) engine_.large_requests().give(range, length);
  if (serial == serial_ && state_ == State::open) {
    ++granted_;
    tell_grant_if_due();
  }
  if (range) {  // not within this: the next one's handler may run
    engine_.try_again_soon();
    engine_.wake_if_asleep();
  }
}

void Channel::take_bytes(std::span<const std::byte> body) {
  if (!ordered_.empty()) [[unlikely]] {
    ordered_.push_back({nullptr, engine_.hold_receive(), body});
    return;
  }
  ++granted_;
  engine_.statistics().bytes_received += body.size();
  if (message_handler && !is_closing()) message_handler(body);
  tell_grant_if_due();
}

void Channel::note_grant(std::uint32_t granted) noexcept {
  const auto more = static_cast<std::int32_t>(granted - granted_by_peer_);
  if (more <= 0) return;
  if (granted - credit_used() > theirs_.request_depth) return violation("a grant of more than it declared");
  granted_by_peer_ = granted;
}

void Channel::on_sent(const ibv_wc& completion) noexcept {
  const std::uint32_t count = ring_.completed_by(completion.wr_id);
  if (count == 0) return;
  ++activity_;
  if (completion.status == IBV_WC_SUCCESS) [[likely]]
    return complete_up_to(count);
  if (state_ != State::open) return;  // completes when drained
  // What stood before an operation that failed by itself was carried out. A flushed one says nothing of that:
  // SoftRoCE flushes a send while the read before it is still half done. What isn't known to be done
  // completes when the queue pair has drained.
  const errc code = core::to_errc(completion.status);
  if (code != errc::flushed) complete_up_to(count - 1);
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

}  // namespace verbena::transport
