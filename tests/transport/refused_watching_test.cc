// SPDX-License-Identifier: Apache-2.0
// A process that may not use userfaultfd sends from, and reads into, memory that it exchanges all the time.
#include <sys/mman.h>
#include <sys/syscall.h>

#include <algorithm>

#include "support/forked.h"
#include "support/refused_call.h"
#include "transport/loops.h"

namespace verbena::test {
namespace {

constexpr std::size_t length = 40'960;

TEST(RefusedWatchingTest, MessagesAndOperationsMeetTheMemoryThatIsThere) {
#if defined(__SANITIZE_THREAD__)
  GTEST_SKIP() << "ThreadSanitizer allows no threads in the child of a process with several";
#endif
  Forked child{[] {
    refuse_system_call(SYS_userfaultfd);
    CaughtStderr caught;
    std::size_t right = 0;
    std::uint64_t not_kept = 0;
    constexpr std::uint32_t uses = 10;
    {
      Connected both;
      Inbox inbox{both.server};
      const Region far = both.server_loop.memory().allocate(length);
      void* memory = nullptr;
      for (std::uint32_t i = 0; i < uses; ++i) {
        memory = mmap(memory, length, PROT_READ | PROT_WRITE,
                      MAP_PRIVATE | MAP_ANONYMOUS | (memory != nullptr ? MAP_FIXED : 0), -1, 0);
        const std::span<std::byte> bytes(static_cast<std::byte*>(memory), length);
        std::ranges::copy(message(length, i), bytes.begin());
        Noted sent;
        Noted put;
        require(!both.client.send(bytes, sent), "a message is sent");
        require(!both.client.put(bytes, far.remote(), 0, put), "a put is started");
        both.until("both", [&] { return sent.done() && put.done() && inbox.messages.size() == i + 1; });
        right += std::ranges::equal(inbox.messages.back(), bytes) && std::ranges::equal(far.bytes(), bytes);
      }
      not_kept = both.client_loop.snapshot().counters.registrations_not_kept;
    }
    const std::string said = caught.text();
    require(right == uses, "what arrives is what was there");
    require(not_kept == 2 * uses, "each operation registered for itself");
    const auto first = said.find("registered for each use");
    require(first != std::string::npos, "it is said");
    require(said.find("registered for each use", first + 1) == std::string::npos, "it is said once");
  }};
  EXPECT_EQ(child.join(), 0);
}

}  // namespace
}  // namespace verbena::test
