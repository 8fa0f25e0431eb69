// SPDX-License-Identifier: Apache-2.0
#include "tools/perf/latency.h"

#include <algorithm>
#include <cmath>

#include "tools/common/cycles.h"
#include "tools/common/progress.h"

namespace verbena::tools {
namespace {

constexpr std::size_t most_samples = 4'000'000;  // 16 MB; where only seconds bound the run
constexpr std::size_t longest_round = 20'000, fewest_a_round = 16;
constexpr double round_ns = 3e6;
constexpr double most_floor_change = 0.15;

/// Rounds that belong together.
struct Rounds {
  explicit Rounds(std::size_t capacity) : samples(capacity) {}

  Samples samples;
  std::vector<double> floors;  // one way, a round
  std::size_t operations = 0;
  Ticks spent = 0;
};

class Measurement {
 public:
  Measurement(const Plan& plan, Session& session, LatencyTest& test)
      : plan_(plan),
        session_(session),
        test_(test),
        goal_(plan.iterations != 0 ? plan.iterations : most_samples),
        kept_(goal_),
        discarded_(longest_round) {}

  LatencyResult run(const std::string& label) {
    Progress progress(label);
    started_ns_ = now_ns();
    const std::size_t length = choose_length();
    auto floor = session_.floor_one_way_ns();
    while (!is_done()) {
      floor = one_round(std::min(length, kept_.samples.room()), floor);
      progress.update(std::max(elapsed_s() / plan_.seconds.value_or(3600),
                               static_cast<double>(kept_.samples.count()) / static_cast<double>(goal_)));
    }
    return result();
  }

 private:
  double elapsed_s() const { return static_cast<double>(now_ns() - started_ns_) * 1e-9; }

  /// Enough for a few milliseconds, once things are warm.
  std::size_t choose_length() {
    double fitting = fewest_a_round;
    for (std::size_t tries = 0, count = fewest_a_round; tries < 3; ++tries) {
      Samples samples(count);
      test_.round(count, samples);
      fitting = round_ns / std::max(samples.median_ns(), 1.0);
      count = static_cast<std::size_t>(std::clamp(fitting / 4, 4.0, 1000.0));
    }
    return static_cast<std::size_t>(std::clamp(fitting, 4.0, double{longest_round}));
  }

  /// Where every round is discarded, the run still ends.
  bool is_done() const {
    constexpr std::size_t most_tries = 4;
    if (kept_.samples.room() == 0) return true;
    if (rounds_ == 0) return false;
    if (plan_.seconds && elapsed_s() >= *plan_.seconds) return true;
    return plan_.iterations != 0 && tried_ >= most_tries * goal_ + longest_round;
  }

  /// Returns the floor after it.
  std::optional<double> one_round(std::size_t count, std::optional<double> floor_before) {
    Samples& samples = kept_.samples;
    const std::size_t first = samples.count();
    const Ticks started = now_ticks();
    test_.round(count, samples);
    const Ticks spent = now_ticks() - started;
    const auto floor_after = session_.floor_one_way_ns();
    ++rounds_;
    tried_ += count;
    const bool discard = moved(floor_before, floor_after);
    if (discard) {
      discarded_rounds_++;
      discarded_.samples.take_from(samples, first);
    }
    Rounds& rounds = discard ? discarded_ : kept_;
    rounds.spent += spent;
    rounds.operations += count + LatencyTest::warm_up;
    if (floor_before) rounds.floors.push_back((*floor_before + *floor_after) / 2);
    return floor_after;
  }

  bool moved(std::optional<double> before, std::optional<double> after) const {
    if (!before || !session_.is_software()) return false;  // of other devices the floor is but a small part
    return std::abs(*after - *before) > most_floor_change * std::min(*before, *after);
  }

  LatencyResult result() {
    const bool unsettled = kept_.samples.count() == 0;
    Rounds& rounds = unsettled ? discarded_ : kept_;
    const unsigned parts = traits_of(plan_.test).parts;
    LatencyResult found;
    found.rounds = rounds_;
    found.discarded = discarded_rounds_;
    found.unsettled = unsettled;
    found.iterations = rounds.samples.count();
    found.latency = rounds.samples.distribution(parts);
    found.operations_per_s =
        static_cast<double>(rounds.operations) * 1e9 / std::max(to_ns(rounds.spent), 1.0);
    if (!rounds.floors.empty()) found.floor_ns = median(rounds.floors) * (parts == 2 ? 1 : 2);
    return found;
  }

  const Plan& plan_;
  Session& session_;
  LatencyTest& test_;
  std::size_t goal_;
  Rounds kept_;
  Rounds discarded_;  // the last of them: what is reported where none could be kept
  std::uint64_t started_ns_ = 0;
  std::size_t rounds_ = 0;
  std::size_t discarded_rounds_ = 0;
  std::size_t tried_ = 0;
};

}  // namespace

LatencyResult measure_latency(const Plan& plan, Session& session, LatencyTest& test,
                              const std::string& label) {
  return Measurement(plan, session, test).run(label);
}

}  // namespace verbena::tools
