// SPDX-License-Identifier: Apache-2.0
#include "core/cache/registration_prover.h"

#include <execinfo.h>
#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <string_view>

namespace verbena::core {
namespace {

// Of a word of /proc/self/pagemap (the kernel's Documentation/admin-guide/mm/pagemap.rst).
constexpr std::uint64_t present = std::uint64_t{1} << 63;
constexpr std::uint64_t swapped = std::uint64_t{1} << 62;
constexpr std::uint64_t frame_mask = (std::uint64_t{1} << 55) - 1;

/// Why the page isn't the one that it was, or nullptr.
const char* difference(std::uint64_t then, std::uint64_t now) noexcept {
  if ((then & present) == 0) return nullptr;  // nothing known of it
  if ((now & (present | swapped)) == 0) return "the page was taken away";
  const std::uint64_t old_frame = then & frame_mask;
  const std::uint64_t new_frame = now & frame_mask;
  if ((now & present) == 0 || old_frame == 0 || new_frame == 0) return nullptr;  // frames can't be read
  return old_frame != new_frame ? "the page lies in another frame" : nullptr;
}

[[noreturn]] void stop(const RegistrationProof& proof, std::uintptr_t page, const char* why) {
  std::fprintf(stderr,
               "verbena: a cached registration is of other memory than is mapped at 0x%zx now: %s.\n"
               "It was registered here:\n",
               static_cast<std::size_t>(page), why);
  std::fflush(stderr);
  backtrace_symbols_fd(proof.stack.data(), proof.depth, STDERR_FILENO);
  std::fprintf(stderr, "and found here:\n");
  std::fflush(stderr);
  std::array<void*, 32> stack;
  backtrace_symbols_fd(stack.data(), backtrace(stack.data(), static_cast<int>(stack.size())), STDERR_FILENO);
  std::abort();
}

}  // namespace

std::unique_ptr<RegistrationProver> RegistrationProver::if_wanted(const Registrar& registrar,
                                                                  const MemoryWatcher& watcher) {
  const char* wanted = std::getenv("VERBENA_CHECK_REGISTRATIONS");
  if (wanted == nullptr || std::string_view{wanted} != "1") return nullptr;
  return std::make_unique<RegistrationProver>(registrar.pins(), watcher);
}

RegistrationProver::RegistrationProver(bool pinned, const MemoryWatcher& watcher)
    : pinned_(pinned), watcher_(watcher), pagemap_(open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC)) {}

RegistrationProver::~RegistrationProver() {
  if (pagemap_ >= 0) close(pagemap_);
}

std::vector<std::uint64_t> RegistrationProver::page_words(AddressRange pages) const {
  std::vector<std::uint64_t> words(pages.size() / page_size());
  const std::size_t size = words.size() * sizeof(std::uint64_t);
  const auto at = static_cast<off_t>(pages.begin / page_size() * sizeof(std::uint64_t));
  if (pread(pagemap_, words.data(), size, at) != static_cast<ssize_t>(size)) words.clear();
  return words;
}

RegistrationProof* RegistrationProver::record(AddressRange pages) const {
  auto proof = std::make_unique<RegistrationProof>();
  if (pinned_) proof->pages = page_words(pages);
  proof->depth = backtrace(proof->stack.data(), static_cast<int>(proof->stack.size()));
  return proof.release();
}

void RegistrationProver::check(const Entry& entry, AddressRange range) const {
  const RegistrationProof& proof = *entry.proof;
  const AddressRange pages = range.pages();
  const AddressRange registered = entry.range();
  if (watcher_.check_watched(pages) == ENOENT) {
    stop(proof, pages.begin, "its mapping isn't the one that was registered");
  }
  if (proof.pages.empty()) return;
  const std::vector<std::uint64_t> now = page_words(pages);
  const std::size_t first = (pages.begin - registered.begin) / page_size();
  for (std::size_t i = 0; i < now.size(); ++i) {
    if (const char* why = difference(proof.pages[first + i], now[i])) {
      stop(proof, pages.begin + i * page_size(), why);
    }
  }
}

}  // namespace verbena::core
