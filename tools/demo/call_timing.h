// SPDX-License-Identifier: Apache-2.0
/// How long small calls take, one after the other.
#pragma once

#include <verbena/rpc.h>

#include "tools/common/samples.h"

namespace verbena::tools {

struct CallTiming {
  Distribution latency;  ///< of the whole round trip
  std::size_t calls = 0;
};

/// 10^5 calls of 8 bytes, or as many as 2 s allow. Throws Failure where the server stops answering.
CallTiming time_calls(rpc::Client& client);

}  // namespace verbena::tools
