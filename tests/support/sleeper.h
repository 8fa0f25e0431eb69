// SPDX-License-Identifier: Apache-2.0
/// A ping-pong in which both sides sleep on their completion channel: arm, poll once more, sleep. A wake-up
/// that gets lost ends in Impatience.
#pragma once

#include <cstdint>

#include "support/endpoint.h"

namespace verbena::test {

/// `rounds` questions, each sent after the answer to the one before.
void ask_sleeping(Endpoint& endpoint, std::uint32_t rounds);
/// The other side.
void answer_sleeping(Endpoint& endpoint, std::uint32_t rounds);

}  // namespace verbena::test
