// SPDX-License-Identifier: Apache-2.0
/// What it costs to make memory known to the device, by size: each time anew, and kept by the cache.
#pragma once

#include "tools/perf/plan.h"

namespace verbena::tools {

/// Measures the plan's sizes on its device, in this process alone, and prints them with the cache's counters.
/// Throws Error.
void measure_registrations(const Plan& plan);

}  // namespace verbena::tools
