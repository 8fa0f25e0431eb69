// SPDX-License-Identifier: Apache-2.0
/// What is queued within one turn to the same peer leaves in one work request, as far as it fits: a frame. It
/// costs the devices one message, and the peer one receive.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>

#include "transport/wire.h"

namespace verbena::transport {

/// The frame that is being filled: a message with a header and its first record, queued and not yet posted.
/// Its header is made true at the end, where it has to be.
class OpenFrame {
 public:
  /// A frame of so many more records leaves at once: the peer deals with it while the next one is filled.
  static constexpr std::uint32_t most_joined = 15;

  /// `length` bytes are written; records may be added up to `limit` bytes.
  void open(std::byte* data, std::size_t length, std::size_t limit) noexcept {
    data_ = data;
    first_end_ = end_ = static_cast<std::uint32_t>(length);
    limit_ = limit;
    joined_ = 0;
    has_release_ = false;
  }
  bool is_open() const noexcept { return data_ != nullptr; }
  bool is_full() const noexcept { return joined_ == most_joined; }
  std::uint32_t joined() const noexcept { return joined_; }
  std::uint32_t length() const noexcept { return end_; }

  /// Where to write the record's `body` bytes; nullptr where it doesn't fit, or no frame is open.
  std::byte* add(Kind kind, std::size_t body) noexcept {
    const std::size_t begin = next_record(end_);
    if (begin + sizeof(RecordHeader) + body > limit_) return nullptr;
    if (begin != end_) std::memset(data_ + end_, 0, begin - end_);
    write_header(data_ + begin, RecordHeader{kind, {}, static_cast<std::uint32_t>(body)});
    end_ = static_cast<std::uint32_t>(begin + sizeof(RecordHeader) + body);
    ++joined_;
    return data_ + begin + sizeof(RecordHeader);
  }
  /// Goes on in a longer buffer.
  void move_to(std::byte* buffer, std::size_t limit) noexcept {
    data_ = static_cast<std::byte*>(std::memcpy(buffer, data_, end_));
    limit_ = limit;
  }
  /// Of a large message that has been read since the frame was opened. False: it tells of one already.
  bool release(std::uint32_t token) noexcept {
    if (has_release_ || !is_open()) return false;
    has_release_ = true;
    released_ = token;
    return true;
  }
  bool has_release() const noexcept { return has_release_; }
  /// Tells the receiver that there are several records, what is granted and what is released by now.
  void write_header_anew(std::uint32_t granted) noexcept {
    MessageHeader header = read_message_header(data_);
    header.granted = granted;
    if (has_release_) {
      header.flags |= released_flag;
      header.token = released_;
    }
    if (joined_ > 0) {
      header.flags |= packed_flag;
      header.body = first_end_ - static_cast<std::uint32_t>(sizeof header);
    }
    write_header(data_, header);
  }
  void close() noexcept {
    data_ = nullptr;
    limit_ = 0;
    has_release_ = false;
  }

 private:
  std::byte* data_ = nullptr;
  std::size_t limit_ = 0;
  std::uint32_t first_end_ = 0;
  std::uint32_t end_ = 0;
  std::uint32_t joined_ = 0;
  std::uint32_t released_ = 0;
  bool has_release_ = false;
};

}  // namespace verbena::transport
