// SPDX-License-Identifier: Apache-2.0
#include "transport/channel.h"
#include "verbena/rpc.h"

namespace verbena::rpc {

void Held::release() noexcept {
  const Kept kept = std::exchange(kept_, {});
  if (kept.channel) kept.channel->release_request(kept.serial, kept.receive, kept.range, kept.length);
}

}  // namespace verbena::rpc
