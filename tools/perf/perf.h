// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "tools/perf/plan.h"

namespace verbena::tools {

/// Measures what the plan asks for, size by size, and prints it.
void perf(const Plan& plan);

}  // namespace verbena::tools
