// SPDX-License-Identifier: Apache-2.0
#include "tools/perf/write_ping_pong.h"

#include <sched.h>

#include <atomic>

#include "tools/common/failure.h"

namespace verbena::tools {
namespace {

constexpr std::uint64_t word = sizeof(std::uint64_t);

std::uint64_t whole_words(std::uint64_t size) {
  return (size + word - 1) / word * word;
}

}  // namespace

WritePingPong::WritePingPong(Loop& loop, Connection& connection, std::uint64_t size)
    : loop_(loop),
      connection_(connection),
      size_(size),
      offset_(whole_words(size) - size),
      incoming_(loop.memory().allocate(whole_words(size))),
      outgoing_(loop.memory().allocate(whole_words(size))),
      source_(outgoing_.slice(offset_, size_)) {
  for (Write& write : writes_) {
    write.complete = &finished;
    write.owner = this;
  }
}

WritePingPong::~WritePingPong() {
  while (finished_ < sent_ && connection_.is_open()) loop_.poll();
}

void WritePingPong::finished(Operation* self, std::error_code error, std::size_t) noexcept {
  WritePingPong& owner = *static_cast<Write*>(self)->owner;
  ++owner.finished_;
  if (error) owner.error_ = error;
}

void WritePingPong::send() {
  ++sent_;
  write_number();
  Write& write = writes_[sent_ % window];
  while (const std::error_code error = connection_.put(source_, theirs_, offset_, write)) {
    if (!passes(error)) throw_failed("a write", error_ ? error_ : error);
    loop_.poll();
  }
  loop_.flush();
  look_after_writes();  // costs nothing: the answer is on its way meanwhile
}

/// Larger writes carry the number in their last word, smaller ones a part of it in their last byte.
void WritePingPong::write_number() noexcept {
  std::byte* const end = outgoing_.bytes().data() + offset_ + size_;
  if (size_ >= word) {
    std::atomic_ref(*reinterpret_cast<std::uint64_t*>(end - word)).store(sent_, std::memory_order_relaxed);
  } else {
    end[-1] = static_cast<std::byte>(sent_);
  }
}

inline bool WritePingPong::has_come() const noexcept {
  std::byte* const end = incoming_.bytes().data() + offset_ + size_;
  if (size_ >= word) [[likely]]
    return std::atomic_ref(*reinterpret_cast<std::uint64_t*>(end - word)).load(std::memory_order_acquire) ==
           awaited_;
  return std::atomic_ref(*reinterpret_cast<unsigned char*>(end - 1)).load(std::memory_order_acquire) ==
         static_cast<unsigned char>(awaited_);
}

void WritePingPong::await() {
  ++awaited_;
  constexpr unsigned patience = 20'000;  // looks: longer than any answer takes that is on its way
  for (unsigned looks = 0; !has_come(); ++looks)
    if (looks >= patience) [[unlikely]]
      wait_patiently();
}

/// A peer that doesn't answer may be gone, or may want this core.
void WritePingPong::wait_patiently() {
  loop_.poll();
  if (error_) throw_failed("a write", error_);
  if (!connection_.is_open()) throw Failure("the other side of the measurement is gone; run it again.");
  ::sched_yield();
}

/// An operation is started anew only after it has completed.
void WritePingPong::look_after_writes() {
  do {
    loop_.poll();
  } while (sent_ - finished_ > window / 2 && !error_);
  if (error_) throw_failed("a write", error_);
}

}  // namespace verbena::tools
