// SPDX-License-Identifier: Apache-2.0
#include "preload/rdma_cm/states.h"

#include <initializer_list>

namespace verbena::preload::rdma_cm {
namespace {

constexpr std::uint32_t set_of(std::initializer_list<State> states) {
  std::uint32_t set = 0;
  for (const State state : states) set |= 1u << static_cast<unsigned>(state);
  return set;
}

constexpr std::uint32_t followers(State from) {
  using enum State;
  switch (from) {
    case idle:
      return set_of({bound, arriving, over});
    case bound:
      return set_of({listening, address_found, over});
    case listening:
      return set_of({over});
    case address_found:
      return set_of({route_found, over});
    case route_found:
      return set_of({connecting, over});
    case connecting:
      return set_of({answered, connected, over});
    case answered:
      return set_of({connected, over});
    case arriving:
      return set_of({requested, over});
    case requested:
      return set_of({accepted, over});
    case accepted:
      return set_of({connected, over});
    case connected:
      return set_of({over});
    case over:
      return 0;
  }
  return 0;
}

}  // namespace

bool may_follow(State from, State to) noexcept {
  return followers(from) & set_of({to});
}

}  // namespace verbena::preload::rdma_cm
