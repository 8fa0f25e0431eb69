// SPDX-License-Identifier: Apache-2.0
#include "tools/perf/stream.h"

#include <algorithm>
#include <cstring>

#include "tools/common/cycles.h"
#include "tools/common/memory_copy.h"
#include "tools/common/progress.h"

namespace verbena::tools {

/// Keeps `depth` operations in flight.
class Stream {
 public:
  Stream(Session& session, StreamTest& test, std::uint32_t depth)
      : session_(session), test_(test), slots_(depth), waiting_(depth), samples_(most_samples) {
    for (Slot& slot : slots_) {
      slot.complete = &finished;
      slot.stream = this;
    }
  }
  Stream(const Stream&) = delete;
  Stream& operator=(const Stream&) = delete;
  ~Stream() {
    goal_ = started_;  // nothing is started anew
    while (completed_ < started_ && session_.connection().is_open()) session_.loop().poll();
  }

  /// `count` operations; returns how many a second.
  double round(std::size_t count) {
    goal_ = count;
    started_ = completed_ = 0;
    const Ticks before = now_ticks();
    for (Slot& slot : slots_) start(slot);
    while (completed_ < goal_) {
      session_.turn();
      for (std::size_t i = 0, again = std::exchange(waiting_count_, 0); i < again; ++i) start(*waiting_[i]);
      if (error_) throw_failed("an operation", error_);
    }
    test_.settle();
    return static_cast<double>(count) * 1e9 / std::max(to_ns(now_ticks() - before), 1.0);
  }

  /// Of one slot's operations: timing each would slow short ones down.
  Samples& samples() noexcept { return samples_; }

 private:
  static constexpr std::size_t most_samples = 1'000'000;

  void start(Slot& slot) noexcept {
    if (started_ == goal_ || error_) return;
    if (&slot == slots_.data()) first_started_ = now_ticks();
    ++started_;
    if (const std::error_code error = test_.start(slot)) [[unlikely]] {
      --started_;
      if (passes(error)) {
        waiting_[waiting_count_++] = &slot;
      } else {
        error_ = error;
      }
    }
  }

  static void finished(Operation* self, std::error_code error, std::size_t) noexcept {
    Slot& slot = *static_cast<Slot*>(self);
    Stream& stream = *slot.stream;
    ++stream.completed_;
    if (error) [[unlikely]]
      stream.error_ = error;
    if (&slot == stream.slots_.data() && stream.samples_.room() > 0)
      stream.samples_.add(now_ticks() - stream.first_started_);
    stream.start(slot);
  }

  Session& session_;
  StreamTest& test_;
  std::vector<Slot> slots_;
  std::vector<Slot*> waiting_;  // to be started after the next turn: a queue was full
  std::size_t waiting_count_ = 0;
  std::size_t goal_ = 0;
  std::size_t started_ = 0;
  std::size_t completed_ = 0;
  Ticks first_started_ = 0;
  Samples samples_;
  std::error_code error_;
};

namespace {

/// This machine's memcpy between pool memory of the same size.
class MemcpyRounds {
 public:
  MemcpyRounds(Session& session, std::uint64_t size)
      : from_(session.loop().memory().allocate(size)), to_(session.loop().memory().allocate(size)) {
    std::memset(from_.bytes().data(), 1, from_.size());
    std::memset(to_.bytes().data(), 2, to_.size());
    constexpr double round_ns = 4e6;
    const double once = static_cast<double>(size) * 1e9 / run(2);
    count_ = static_cast<std::size_t>(std::clamp(round_ns / once, 2.0, 1e6));
  }
  void round() { found_.push_back(run(count_)); }
  double bytes_per_s() const { return median(found_); }

 private:
  double run(std::size_t count) { return copy_again_and_again(to_.bytes(), from_.bytes(), count); }

  Region from_, to_;
  std::size_t count_ = 0;
  std::vector<double> found_;
};

/// As short as the copies in between: where the machine is busy, the median of both leaves the interruptions
/// out.
constexpr double round_s = 0.005;

/// As many as fill a round, and the pipeline several times.
std::size_t round_length(Stream& stream, std::uint32_t depth) {
  std::size_t count = 2 * std::size_t{depth};
  double per_s = stream.round(count);
  for (; static_cast<double>(count) < per_s * round_s / 8; per_s = stream.round(count)) count *= 4;
  return std::max(4 * std::size_t{depth}, static_cast<std::size_t>(per_s * round_s));
}

}  // namespace

StreamResult measure_stream(const Plan& plan, Session& session, StreamTest& test, std::uint64_t size,
                            const std::string& label) {
  const std::uint32_t depth = depth_for(plan, size);
  const bool calls = makes_calls(plan.test);
  Progress progress(label);
  Stream stream(session, test, depth);
  std::optional<MemcpyRounds> memcpy_rounds;
  if (!calls) memcpy_rounds.emplace(session, size);

  const bool counted = plan.iterations != 0;
  if (counted) stream.round(std::min<std::size_t>(depth, plan.iterations));
  std::size_t left = counted ? plan.iterations : 0;
  const std::size_t length = counted && !plan.seconds ? left : round_length(stream, depth);
  stream.samples().rewind(0);

  StreamResult result;
  std::vector<double> rates;
  const std::uint64_t started_ns = now_ns();
  const auto elapsed_s = [&] { return static_cast<double>(now_ns() - started_ns) * 1e-9; };
  do {
    if (memcpy_rounds) memcpy_rounds->round();
    const std::size_t count = counted ? std::min(left, length) : length;
    rates.push_back(stream.round(count));
    result.iterations += count;
    left -= counted ? count : 0;
    progress.update(plan.seconds ? elapsed_s() / *plan.seconds : 1);
  } while ((!counted || left > 0) && (!plan.seconds || elapsed_s() < *plan.seconds));
  if (memcpy_rounds) {
    memcpy_rounds->round();
    result.memcpy_bytes_per_s = memcpy_rounds->bytes_per_s();
  }
  result.operations_per_s = median(rates);
  result.latency = stream.samples().distribution();
  return result;
}

}  // namespace verbena::tools
