// SPDX-License-Identifier: Apache-2.0
#include "core/cache/memory_watcher.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <linux/userfaultfd.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>
#include <memory>
#include <system_error>

#include "core/monotonic_ns.h"

namespace verbena::core {
namespace {

/// The last one is asked for memfds, and because the kernels that have it (5.19) count the changes under way
/// exactly, which older ones don't.
constexpr std::uint64_t features = UFFD_FEATURE_EVENT_UNMAP | UFFD_FEATURE_EVENT_REMOVE |
                                   UFFD_FEATURE_EVENT_REMAP | UFFD_FEATURE_PAGEFAULT_FLAG_WP |
                                   UFFD_FEATURE_WP_HUGETLBFS_SHMEM;

/// Far longer than the monitor and a thread that it lets go need, on a busy machine too.
constexpr std::int64_t settle_limit_ns = 20'000'000;

std::string refusal(const char* call, int error) {
  const char* cause = error == EPERM    ? " (a seccomp filter, or the system's policy, forbids it)"
                      : error == ENOSYS ? " (a seccomp filter forbids it, or the kernel was built without)"
                      : error == EINVAL ? " (the kernel is older than 5.19)"
                                        : "";
  return fmt::format("{} failed: {}{}", call, std::generic_category().message(error), cause);
}

/// The monitor takes no signal: a handler may unmap.
class SignalsBlocked {
 public:
  SignalsBlocked() {
    sigset_t all;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before_);
  }
  ~SignalsBlocked() { pthread_sigmask(SIG_SETMASK, &before_, nullptr); }
  SignalsBlocked(const SignalsBlocked&) = delete;
  SignalsBlocked& operator=(const SignalsBlocked&) = delete;

 private:
  sigset_t before_;
};

}  // namespace

MemoryWatcher::MemoryWatcher() : MemoryWatcher(Experiment{}) {}

MemoryWatcher::MemoryWatcher(Experiment experiment) : experiment_(experiment) {
  if (!open()) return;
  try {
    const SignalsBlocked blocked;
    monitor_ = std::thread{[this] { run(); }};
  } catch (const std::system_error& error) {
    why_not_ = refusal("starting a thread", error.code().value());
    mark_ = {};
    close(userfault_);
    userfault_ = -1;
  }
}

MemoryWatcher::~MemoryWatcher() {
  if (monitor_.joinable()) {
    const std::uint64_t one = 1;
    [[maybe_unused]] const ssize_t written = ::write(stop_, &one, sizeof one);
    monitor_.join();
  }
  // Whoever is still held by the kernel is let go by this.
  mark_ = {};
  if (userfault_ >= 0) close(userfault_);
  if (stop_ >= 0) close(stop_);
}

bool MemoryWatcher::open() noexcept {
  stop_ = eventfd(0, EFD_CLOEXEC);
  if (stop_ < 0) {
    why_not_ = refusal("eventfd", errno);
    return false;
  }
  const auto descriptor =
      static_cast<int>(::syscall(SYS_userfaultfd, O_CLOEXEC | O_NONBLOCK | UFFD_USER_MODE_ONLY));
  if (descriptor < 0) {
    why_not_ = refusal("userfaultfd", errno);
    return false;
  }
  uffdio_api api{UFFD_API, features, 0};
  if (ioctl(descriptor, UFFDIO_API, &api) != 0) {
    why_not_ = refusal("UFFDIO_API", errno);
    close(descriptor);
    return false;
  }
  userfault_ = descriptor;
  mark_ = ClosedInChildren{descriptor};
  return true;
}

void MemoryWatcher::subscribe(Listener& listener) noexcept {
  const std::lock_guard lock{listeners_lock_};
  listener.next_ = listeners_;
  listeners_ = &listener;
}

void MemoryWatcher::unsubscribe(Listener& listener) noexcept {
  const std::lock_guard lock{listeners_lock_};
  for (Listener** at = &listeners_; *at != nullptr; at = &(*at)->next_) {
    if (*at == &listener) {
      *at = listener.next_;
      return;
    }
  }
}

int MemoryWatcher::watch(AddressRange range) noexcept {
  const std::lock_guard lock{watching_};
  uffdio_register request{{range.begin, range.size()}, UFFDIO_REGISTER_MODE_WP, 0};
  return ioctl(userfault_, UFFDIO_REGISTER, &request) == 0 ? 0 : errno;
}

void MemoryWatcher::unwatch(AddressRange range) noexcept {
  // A listener that begins to use the range after it was asked watches it after us, by this mutex.
  const std::lock_guard lock{watching_};
  {
    const std::lock_guard listening{listeners_lock_};
    for (Listener* listener = listeners_; listener != nullptr; listener = listener->next_) {
      if (listener->uses(range)) return;
    }
  }
  uffdio_range request{range.begin, range.size()};
  ioctl(userfault_, UFFDIO_UNREGISTER, &request);  // fails where nothing is mapped any more
}

int MemoryWatcher::check_watched(AddressRange range) const noexcept {
  // Takes write protection away, of which there is none.
  uffdio_writeprotect request{{range.begin, range.size()}, 0};
  return ioctl(userfault_, UFFDIO_WRITEPROTECT, &request) == 0 ? 0 : errno;
}

bool MemoryWatcher::change_under_way() const noexcept {
  // Asks for nothing, and would be answered EINVAL; but the kernel looks at its count of changes first.
  uffdio_writeprotect nothing{{0, 0}, 0};
  return ioctl(userfault_, UFFDIO_WRITEPROTECT, &nothing) != 0 && errno == EAGAIN;
}

bool MemoryWatcher::settle() const noexcept {
  if (!change_under_way() && !busy()) [[likely]]
    return true;
  return settle_slowly();
}

bool MemoryWatcher::settle_slowly() const noexcept {
  const std::int64_t end = monotonic_ns() + settle_limit_ns;
  while (change_under_way()) {
    if (monotonic_ns() > end) return false;
    sched_yield();
  }
  // What was under way has been read, in this turn or an earlier one: the end of this one is enough.
  const std::uint32_t turn = turn_.load(std::memory_order_acquire);  // as in busy()
  if ((turn & 1) == 0) return true;
  while (turn_.load(std::memory_order_acquire) == turn) {  // as in busy()
    if (monotonic_ns() > end) return false;
    sched_yield();
  }
  return true;
}

void MemoryWatcher::run() noexcept {
  pthread_setname_np(pthread_self(), "verbena-watch");
  std::array<pollfd, 2> wanted{pollfd{userfault_, POLLIN, 0}, pollfd{stop_, POLLIN, 0}};
  for (;;) {
    if (::poll(wanted.data(), wanted.size(), -1) < 0) continue;  // M1
    if (wanted[1].revents != 0) return;
    if (experiment_.before_announcing != nullptr) experiment_.before_announcing(experiment_.context);
    // M2. Sequentially consistent, so that it stands before the read, which lets threads go; these see it by
    // the kernel's own locks.
    if (experiment_.announces) turn_.fetch_add(1, std::memory_order_seq_cst);
    read_changes();  // M3
    if (experiment_.before_telling != nullptr) experiment_.before_telling(experiment_.context);
    if (experiment_.tells) tell_listeners();  // M4
    change_count_ = 0;
    // M5. Release: who sees the even turn sees the retired entries.
    if (experiment_.announces) turn_.fetch_add(1, std::memory_order_release);
  }
}

void MemoryWatcher::read_changes() noexcept {
  std::array<uffd_msg, 16> messages;
  for (;;) {
    const ssize_t size = ::read(userfault_, messages.data(), sizeof messages);
    if (size <= 0) return;
    for (std::size_t i = 0; i < static_cast<std::size_t>(size) / sizeof(uffd_msg); ++i) {
      const auto& arg = messages[i].arg;
      switch (messages[i].event) {
        case UFFD_EVENT_UNMAP:
          note({{arg.remove.start, arg.remove.end}, false});
          break;
        case UFFD_EVENT_REMOVE:
          note({{arg.remove.start, arg.remove.end}, true});
          break;
        case UFFD_EVENT_REMAP:
          note({{arg.remap.from, arg.remap.from + arg.remap.len}, false});
          note({{arg.remap.to, arg.remap.to + arg.remap.len}, false});
          break;
        default:
          break;
      }
    }
  }
}

void MemoryWatcher::note(MemoryChange change) noexcept {
  ++changes_noted_;
  if (change_count_ < changes_.size()) {
    changes_[change_count_++] = change;
    return;
  }
  // More than there is room for: the last one grows, which forgets too much and never too little.
  MemoryChange& last = changes_.back();
  last.range = last.range.joined(change.range);
  last.still_coming |= change.still_coming;
}

void MemoryWatcher::tell_listeners() noexcept {
  const auto read_until = [this](auto condition) {
    while (!condition()) {
      sched_yield();
      read_changes();
    }
  };
  read_until([this] { return listeners_lock_.try_lock(); });
  std::uint64_t told = 0;
  do {
    told = changes_noted_;
    for (Listener* listener = listeners_; listener != nullptr; listener = listener->next_) {
      read_until([&] { return listener->try_forget({changes_.data(), change_count_}); });
    }
  } while (told != changes_noted_);  // what was read meanwhile concerns those before, too
  listeners_lock_.unlock();
}

MemoryWatcher& process_watcher() {
  // Never destroyed: until the process ends, somebody has to read events. No lock: a fork might leave it
  // taken in the child.
  static std::atomic<MemoryWatcher*> shared{nullptr};
  // Acquire, against the exchange's release: the watcher was constructed.
  MemoryWatcher* known = shared.load(std::memory_order_acquire);
  while (known == nullptr || !known->is_of_this_process()) {
    auto made = std::make_unique<MemoryWatcher>();
    if (shared.compare_exchange_strong(known, made.get(), std::memory_order_acq_rel,
                                       std::memory_order_acquire)) {
      return *made.release();
    }
  }
  return *known;
}

}  // namespace verbena::core
