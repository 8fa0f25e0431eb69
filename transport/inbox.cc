// SPDX-License-Identifier: Apache-2.0
#include "transport/inbox.h"

#include <sys/eventfd.h>
#include <unistd.h>

#include <cerrno>
#include <cstdint>
#include <cstring>
#include <string>

#include "verbena/error.h"

namespace verbena {

bool Poster::push(Posted& node) const noexcept {
  return inbox_ && inbox_->push(node);
}

namespace transport {
namespace {

int make_event() {
  const int descriptor = ::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
  if (descriptor >= 0) return descriptor;
  throw Error(std::error_code(errno, std::system_category()),
              std::string("a loop's inbox can't be opened: eventfd: ") + std::strerror(errno) +
                  "; raise the limit of open files (ulimit -n)");
}

}  // namespace

Posted Inbox::asleep_{nullptr};
Posted Inbox::closed_{nullptr};

Inbox::Inbox() : descriptor_(make_event()) {}
Inbox::~Inbox() {
  close();
  ::close(descriptor_);
}

bool Inbox::push(Posted& node) noexcept {
  Posted* head = head_.load(std::memory_order_relaxed);  // a guess that the exchange checks
  do {
    if (head == &closed_) return false;
    node.next = head == &asleep_ ? nullptr : head;
    // Release: the node's content before the node. Each push is a read-modify-write, so that the loop's
    // acquire of the newest node is one of all below it. Relaxed on failure: again a guess.
  } while (!head_.compare_exchange_weak(head, &node, std::memory_order_release, std::memory_order_relaxed));
  if (head == &asleep_) {
    constexpr std::uint64_t one = 1;
    static_cast<void>(!::write(descriptor_, &one, sizeof one));  // full: readable anyway
  }
  return true;
}

std::size_t Inbox::run() noexcept {
  Posted* head = head_.load(std::memory_order_relaxed);
  if (head == nullptr || head == &closed_) return 0;          // closed by this thread: it stays so
  head = head_.exchange(nullptr, std::memory_order_acquire);  // pairs with push()'s release
  return head == &asleep_ ? 0 : act_in_order(head, true);
}

bool Inbox::sleep() noexcept {
  Posted* head = nullptr;
  // Relaxed: it publishes nothing, and its place in the word's modification order is all that is asked for.
  return head_.compare_exchange_strong(head, &asleep_, std::memory_order_relaxed) || head == &asleep_;
}

void Inbox::close() noexcept {
  Posted* head = head_.exchange(&closed_, std::memory_order_acquire);  // pairs with push()'s release
  if (head != &asleep_ && head != &closed_) act_in_order(head, false);
}

std::size_t Inbox::act_in_order(Posted* newest, bool run) noexcept {
  Posted* oldest = nullptr;
  while (newest) {
    Posted* next = newest->next;
    newest->next = oldest;
    oldest = newest;
    newest = next;
  }
  std::size_t count = 0;
  for (; oldest; ++count) {
    Posted* next = oldest->next;  // first: acting frees it
    oldest->act(*oldest, run);
    oldest = next;
  }
  return count;
}

void Inbox::consume_event() noexcept {
  std::uint64_t count;
  static_cast<void>(!::read(descriptor_, &count, sizeof count));
}

}  // namespace transport
}  // namespace verbena
