// SPDX-License-Identifier: Apache-2.0
// The buffer rule, between two processes: when a call completes, whatever it says, its buffers are the
// caller's again. The caller uses them at once; from then on the server must see nothing new in the request,
// and nothing may change where the reply was to go, however late the server's device, its process or our own
// device is.
#include <fmt/format.h>
#include <signal.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <ostream>
#include <unordered_set>

#include "rpc/calls.h"
#include "support/child.h"

namespace verbena::test {
namespace {

using namespace std::chrono_literals;
using Clock = std::chrono::steady_clock;

constexpr rpc::MethodId check = 7;      // a pattern comes, its number goes back
constexpr rpc::MethodId produce = 8;    // a Wish comes, that pattern goes back
constexpr rpc::MethodId report = 9;     // the Verdict goes back
constexpr std::size_t smallest = 1104;  // read in place: over the eager size
constexpr std::size_t largest = 300'000;

// ---- Bytes that say whether they are whole ----

std::uint64_t word_of(std::uint64_t number, std::size_t index) {
  return index == 0 ? number : (number ^ index) * 0x9e37'79b9'7f4a'7c15;
}

/// Each word follows from the number in the first one. Sizes are multiples of 8.
void write_pattern(std::span<std::byte> bytes, std::uint64_t number) {
  for (std::size_t i = 0; i < bytes.size() / 8; ++i) {
    const std::uint64_t word = word_of(number, i);
    std::memcpy(bytes.data() + 8 * i, &word, sizeof word);
  }
}

std::uint64_t number_of(std::span<const std::byte> bytes) {
  std::uint64_t number = 0;
  std::memcpy(&number, bytes.data(), sizeof number);
  return number;
}

/// The first byte that isn't what the number says; their size where there is none.
std::size_t first_wrong(std::span<const std::byte> bytes) {
  const std::uint64_t number = number_of(bytes);
  for (std::size_t i = 0; i < bytes.size() / 8; ++i) {
    if (number_of(bytes.subspan(8 * i)) != word_of(number, i)) return 8 * i;
  }
  return bytes.size();
}

bool is_pattern(std::span<const std::byte> bytes) {
  return first_wrong(bytes) == bytes.size();
}

constexpr auto canary = std::byte{0xee};

bool is_untouched(std::span<const std::byte> bytes) {
  return std::ranges::all_of(bytes, [](std::byte byte) { return byte == canary; });
}

// ---- The server ----

/// A fault plan's text; travels between processes.
struct Plan {
  std::array<char, 64> text{};
  Plan() = default;
  explicit Plan(const char* words) { std::snprintf(text.data(), text.size(), "%s", words); }
  bool is_empty() const { return text[0] == 0; }
};

/// In force for what is opened while it lives.
class InForce {
 public:
  explicit InForce(const Plan& plan) { setenv("VERBENA_FAULT", plan.text.data(), 1); }
  ~InForce() { unsetenv("VERBENA_FAULT"); }
  InForce(const InForce&) = delete;
  InForce& operator=(const InForce&) = delete;
};

struct Wish {
  std::uint64_t number;
  std::uint64_t size;
};

struct Verdict {
  std::uint64_t whole = 0;
  std::uint64_t torn = 0;      ///< requests of which some bytes are of another time
  std::uint64_t repeated = 0;  ///< … of which all are
  struct {
    std::uint64_t number, size, from, word;
  } example{};  ///< of a torn one, and what stands from that byte on
};
void PrintTo(const Verdict& verdict, std::ostream* out) {
  const auto& [number, size, from, word] = verdict.example;
  *out << fmt::format("{} whole, {} torn (one: number {}, {} bytes, from byte {} on {:#x}), {} repeated",
                      verdict.whole, verdict.torn, number, size, from, word, verdict.repeated);
}

Options test_options() {
  Options options = small_options();
  if (on_soft0()) options.ack_timeout_exponent = 10;  // 4 ms: what a plan drops comes soon
  options.retries = 6;
  return options;
}

const Role server_role{
    "buffer rule server", [](Line& parent) {
      const InForce plan{parent.get<Plan>()};
      Loop loop{test_options()};
      rpc::Server server{loop, address_of(0)};
      Verdict verdict;
      std::unordered_set<std::uint64_t> seen;
      server.on(check, [&](rpc::Bytes request, rpc::Reply& reply) {
        const std::size_t wrong = first_wrong(request);
        if (wrong != request.size()) {
          ++verdict.torn;
          verdict.example = {number_of(request), request.size(), wrong, number_of(request.subspan(wrong))};
        } else {
          ++(seen.insert(number_of(request)).second ? verdict.whole : verdict.repeated);
        }
        reply.send(request.first(8));
      });
      server.on(produce, [&](rpc::Bytes request, rpc::Reply& reply) {
        Wish wish{};
        std::memcpy(&wish, request.data(), sizeof wish);
        Message bytes(wish.size);
        write_pattern(bytes, wish.number);
        reply.send(bytes);
      });
      server.on(echo, [](rpc::Bytes request, rpc::Reply& reply) { reply.send(request); });
      server.on(report,
                [&](rpc::Bytes, rpc::Reply& reply) { reply.send(std::as_bytes(std::span(&verdict, 1))); });
      parent.put(server.port());
      loop.run();
    }};

// ---- The caller ----

// Which peers reach through the kernel, and through a mapping; and which is lent to them, where it can be.
enum class Where { heap, loops, lent };

struct Setting {
  const char* name;
  Plan server = {};
  Plan client = {};
  bool stops_server = false;
  std::chrono::microseconds longest_deadline = on_soft0() ? 2ms : 60ms;
  std::size_t calls = 2000;
  bool is_soft0s() const { return !server.is_empty() || !client.is_empty(); }
};
void PrintTo(const Setting& setting, std::ostream* out) {
  *out << setting.name;
}

/// Calls without end, with deadlines and cancellations at random moments.
class Caller {
 public:
  /// `obeys`: waits for the completion before it uses a buffer again, as the rule says.
  Caller(Dice& dice, const Setting& setting, Where memory, bool obeys = true)
      : dice_(dice), setting_(setting), obeys_(obeys) {
    child_.line().put(setting.server);
    port_ = child_.line().get<std::uint16_t>();
    {
      const InForce plan{setting.client};
      Options options = test_options();
      options.lend = memory == Where::lent;
      loop_.emplace(options);
    }
    for (Lent& lent : lent_) {
      lent.reply_memory.resize(largest);
      lent.request_memory.resize(largest);
      lent.reply = lent.reply_memory;
      lent.request = lent.request_memory;
      if (memory == Where::heap) continue;
      lent.region = loop_->memory().allocate(2 * largest);
      lent.reply = lent.region.bytes().first(largest);
      lent.request = lent.region.bytes().last(largest);
    }
    client_ = rpc::connect(*loop_, address_of(port_), {.first = 1ms, .most = 4ms});
  }

  void run() {
    wait_until(
        "the calls",
        [&] {
          turn(true);
          // What chance has left out so far gets some more calls.
          return completed_ >= (has_seen_all() ? setting_.calls : 10 * setting_.calls);
        },
        10 * patience);
    child_.signal(SIGCONT);
    setting_.stops_server = false;
    wait_until("the last calls", [&] { return turn(false), client_.in_flight() == 0; });
    stays([&] { return turn(false), true; }, 50ms);  // what is late comes now
    for (Lent& lent : lent_) look_at(lent);
  }

  Verdict verdict() {
    Verdict verdict;
    rpc::Client asking = rpc::connect(*loop_, address_of(port_));
    Outcome outcome;
    EXPECT_FALSE(asking.call(report, {}, outcome.handler()));
    wait_until("the verdict", [&] { return loop_->poll(), outcome.done(); });
    if (outcome.reply.size() == sizeof verdict) std::memcpy(&verdict, outcome.reply.data(), sizeof verdict);
    return verdict;
  }

  /// Calls that ended well, and some that were given up: too late, or by their caller's will.
  bool has_seen_all() const { return completed_well_ && (timed_out_ || cancelled_); }
  std::string seen() const {
    return fmt::format("completed well {}, timed out {}, cancelled {}", completed_well_, timed_out_,
                       cancelled_);
  }
  /// Reply buffers that changed after their call's completion.
  std::size_t touched() const { return touched_; }
  std::size_t wrong_replies() const { return wrong_replies_; }

 private:
  struct Lent {  // the two buffers of one call at a time
    std::span<std::byte> request, reply;
    Message request_memory, reply_memory;
    Region region;
    std::uint64_t number = 0;
    rpc::MethodId method = 0;
    std::size_t size = 0;
    bool in_use = false;
    bool is_watched = false;
    rpc::Ticket ticket;
    Clock::time_point cancel_at, reuse_at;
  };

  /// Of all magnitudes up to `most`.
  Clock::duration random_time(std::chrono::microseconds most) {
    const auto magnitude = static_cast<std::size_t>(most.count()) >> dice_.between(0, 7);
    return std::chrono::microseconds(dice_.between(1, magnitude + 1));
  }

  void turn(bool begins) {
    loop_->poll();
    if (++turns_ % 16 == 0) Loops::look(*loop_);
    const auto now = Clock::now();
    for (Lent& lent : lent_) {
      if (lent.in_use && now >= lent.cancel_at) client_.cancel(lent.ticket);
      if (begins && !lent.in_use && now >= lent.reuse_at) begin(lent);
    }
    if (setting_.stops_server && now >= signal_at_) {
      is_stopped_ = !is_stopped_;
      child_.signal(is_stopped_ ? SIGSTOP : SIGCONT);
      signal_at_ = now + random_time(15ms);
    }
  }

  void begin(Lent& lent) {
    look_at(lent);
    lent.number = ++numbers_;
    lent.method = std::array{check, produce, echo}[dice_.between(0, 2)];
    lent.size = dice_.between(smallest, largest) / 8 * 8;
    write_pattern(lent.request.first(lent.size), lent.number);
    std::ranges::fill(lent.reply.first(lent.size), canary);
    const Wish wish{lent.number, lent.size};
    rpc::Bytes request = lent.request.first(lent.size);
    if (lent.method == produce) request = std::as_bytes(std::span(&wish, 1));
    rpc::CallOptions options{.ticket = &lent.ticket};
    if (lent.method != check) options.reply_into = lent.reply.first(lent.size);
    // An emulated device takes long to connect again: there most calls are left to end well.
    const std::size_t early = on_soft0() ? 2 : 30;
    if (dice_.one_in(early)) options.deadline = random_time(setting_.longest_deadline);
    lent.cancel_at = dice_.one_in(early + 1) ? Clock::now() + random_time(setting_.longest_deadline)
                                             : Clock::time_point::max();
    const auto done = [this, &lent](std::error_code error, rpc::Bytes reply) {
      complete(lent, error, reply);
    };
    if (client_.call(lent.method, request, done, options)) return;  // tried again
    lent.in_use = true;
    if (!obeys_) use_again(lent);
  }

  void complete(Lent& lent, std::error_code error, rpc::Bytes reply) {
    if (!error && obeys_) {
      const bool is_right = lent.method == check ? reply.size() == 8 && number_of(reply) == lent.number
                                                 : reply.size() == lent.size &&
                                                       number_of(reply) == lent.number && is_pattern(reply);
      wrong_replies_ += !is_right;
    }
    if (obeys_) use_again(lent);
    EXPECT_TRUE(lent.in_use) << "completed twice";
    lent.in_use = false;
    ++completed_;
    completed_well_ |= !error;
    timed_out_ |= error == errc::timed_out;
    cancelled_ |= error == errc::cancelled;
    // Sometimes other calls use the buffers at once, sometimes there is time to watch them.
    lent.reuse_at = Clock::now() + (dice_.one_in(2) ? Clock::duration{} : random_time(5ms));
  }

  /// The buffers are the caller's: from here on nobody else changes one, or sees what is in the other.
  void use_again(Lent& lent) {
    std::ranges::fill(lent.request.first(lent.size), canary);
    std::ranges::fill(lent.reply.first(lent.size), canary);
    lent.is_watched = true;
  }
  void look_at(Lent& lent) {
    if (std::exchange(lent.is_watched, false)) touched_ += !is_untouched(lent.reply.first(lent.size));
  }

  Dice& dice_;
  Setting setting_;
  bool obeys_;
  Child child_{"buffer rule server"};
  std::uint16_t port_ = 0;
  std::optional<Loop> loop_;
  std::array<Lent, 6> lent_;
  rpc::Client client_;  // behind the buffers: its end completes the calls
  bool completed_well_ = false, timed_out_ = false, cancelled_ = false;
  std::uint64_t numbers_ = 0;
  std::size_t completed_ = 0, touched_ = 0, wrong_replies_ = 0, turns_ = 0;
  bool is_stopped_ = false;
  Clock::time_point signal_at_{};
};

class BufferRuleTest : public testing::TestWithParam<std::tuple<Setting, Where>> {};

TEST_P(BufferRuleTest, NothingTouchesABufferBehindItsCompletion) {
  auto [setting, memory] = GetParam();
  if (setting.is_soft0s() && !on_soft0()) GTEST_SKIP() << "only soft0 has a fault plan";
  if (memory == Where::lent && !on_soft0()) GTEST_SKIP() << "only soft0 lends";
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
  constexpr std::size_t fewest = 100;
  setting.calls = std::max(setting.calls / 10, fewest);  // each takes as much longer
#endif
  setting.calls = rounds(setting.calls);
  Dice dice;
  Caller caller{dice, setting, memory};
  caller.run();
  const Verdict verdict = caller.verdict();
  EXPECT_EQ(caller.touched(), 0U);
  EXPECT_EQ(caller.wrong_replies(), 0U);
  EXPECT_EQ(verdict.torn, 0U) << testing::PrintToString(verdict);
  EXPECT_EQ(verdict.repeated, 0U) << testing::PrintToString(verdict);
  EXPECT_TRUE(caller.has_seen_all()) << "it was no test: " << caller.seen();
}

const char* name_of(Where memory) {
  switch (memory) {
    case Where::heap:
      return "Heap";
    case Where::loops:
      return "LoopsMemory";
    default:
      return "LentMemory";
  }
}

INSTANTIATE_TEST_SUITE_P(
    Peers, BufferRuleTest,
    testing::Combine(testing::Values(Setting{.name = "Prompt", .longest_deadline = on_soft0() ? 300us : 40ms},
                                     Setting{.name = "LateServer",
                                             .server = Plan{"late=1ms,late-chance=0.5"}},
                                     Setting{.name = "LosingServer", .server = Plan{"drop=0.2"}},
                                     Setting{.name = "LosingClient", .client = Plan{"drop=0.2"}},
                                     Setting{.name = "LateOnBothSides",
                                             .server = Plan{"late=500us"},
                                             .client = Plan{"late=500us,drop=0.1"}},
                                     Setting{.name = "LaterThanAnyoneWaits",
                                             .server = Plan{"late=1100ms,late-chance=0.06"},
                                             .calls = 100},
                                     Setting{.name = "Stopped", .stops_server = true}),
                     testing::Values(Where::heap, Where::loops, Where::lent)),
    [](const auto& run) {
      return std::string(std::get<0>(run.param).name) + name_of(std::get<1>(run.param));
    });

// ---- That the test would see it ----

/// Callers that break the rule, until `seen`: chance decides when.
template <class Seen>
bool is_seen(const Setting& setting, Seen seen) {
  Dice dice;
  constexpr int tries = 10;
  for (int i = 0; i < tries; ++i) {
    Caller caller{dice, setting, Where::heap, false};
    caller.run();
    if (seen(caller)) return true;
  }
  return false;
}

TEST(BufferRuleSelfCheck, ARequestThatIsUsedBeforeItsCompletionIsSeenByTheServer) {
  Setting setting{.name = "", .calls = rounds(500)};
  if (on_soft0()) setting.server = Plan{"late=200us"};
  EXPECT_TRUE(is_seen(setting, [](Caller& caller) { return caller.verdict().torn > 0; }));
}

TEST(BufferRuleSelfCheck, AReplyThatComesLateIsSeenByTheWatch) {
  EXPECT_TRUE(
      is_seen({.name = "", .calls = rounds(500)}, [](Caller& caller) { return caller.touched() > 0; }));
}

TEST(BufferRuleSelfCheck, ARawWriteBehindTheCompletionIsSeenByTheWatch) {
  Connected both;
  Message place(largest, canary);
  const Region open = both.client_loop.memory().share(std::span<std::byte>(place), Access::remote_write);
  Region near = both.server_loop.memory().allocate(8);
  EXPECT_TRUE(is_untouched(place));
  Noted put;
  ASSERT_FALSE(both.server.put(near.slice(), open.remote(), largest / 2, put));
  both.until("the write", [&] { return put.done(); });
  EXPECT_FALSE(is_untouched(place));
}

}  // namespace
}  // namespace verbena::test
