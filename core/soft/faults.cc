// SPDX-License-Identifier: Apache-2.0
#include "core/soft/faults.h"

#include <algorithm>
#include <utility>

namespace verbena::core::soft {
namespace {

// Far apart also where seeds and ordinals are neighbours.
std::uint64_t mixed(std::uint64_t seed, std::uint64_t ordinal, std::uint64_t stream) {
  return Chance(Chance(seed).word() ^ (ordinal * 2 + stream)).word();
}

}  // namespace

std::uint64_t Chance::word() noexcept {
  std::uint64_t word = state_ += 0x9e37'79b9'7f4a'7c15;
  word = (word ^ word >> 30) * 0xbf58'476d'1ce4'e5b9;
  word = (word ^ word >> 27) * 0x94d0'49bb'1331'11eb;
  return word ^ word >> 31;
}

bool Chance::of(double probability) noexcept {
  if (probability <= 0) return false;
  if (probability >= 1) return true;
  constexpr double words = 18'446'744'073'709'551'616.0;  // 2^64
  return static_cast<double>(word()) < probability * words;
}

Faults::Faults(const FaultPlan& plan, std::uint64_t ordinal) noexcept
    : plan_(plan), requests_(mixed(plan.seed, ordinal, 0)), answers_(mixed(plan.seed, ordinal, 1)) {}

Faults::Fate Faults::fate(bool takes_receive, std::int64_t now, const Patience& patience) noexcept {
  if (!begun_) {
    begun_ = true;
    through_ = false;
    until_ = 0;
    losses_ = refusals_ = 0;
    is_late_ = plan_.late.count() > 0 && requests_.of(plan_.late_chance);
    ++operations_;
  }
  if (plan_.link_life != 0 && operations_ > plan_.link_life) return Fate::cut;
  if (through_) return Fate::goes;
  if (now < until_) return Fate::waits;
  const auto wait = [&](std::int64_t ns) {
    until_ = now + std::clamp<std::int64_t>(ns, 0, longest_fault.count());
    return Fate::waits;
  };
  if (requests_.of(plan_.drop)) return losses_++ == patience.retries ? Fate::lost : wait(patience.timeout_ns);
  if (takes_receive && requests_.of(plan_.not_ready)) {
    if (patience.not_ready_retries < Patience::for_ever && refusals_++ == patience.not_ready_retries)
      return Fate::refused;
    return wait(patience.not_ready_ns);
  }
  through_ = true;
  return Fate::goes;
}

std::int64_t Faults::late_request() noexcept {
  return std::exchange(is_late_, false) ? plan_.late.count() : 0;
}

std::int64_t Faults::late_answer() noexcept {
  return plan_.late.count() > 0 && answers_.of(plan_.late_chance) ? plan_.late.count() : 0;
}

}  // namespace verbena::core::soft
