// SPDX-License-Identifier: Apache-2.0
#include "tools/perf/command.h"

#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <cmath>
#include <string>

#include "tools/common/failure.h"
#include "tools/common/units.h"
#include "tools/local_address.h"
#include "tools/perf/perf.h"
#include "tools/perf/registration.h"
#include "tools/perf/responder.h"

namespace verbena::tools {
namespace {

constexpr std::uint32_t deepest = 8192;

std::string names_of_tests() {
  std::string names;
  for (const TestTraits& test : all_tests())
    names += fmt::format("{}{}", names.empty() ? "" : ", ", test.name);
  return names;
}

void check_numbers(const PerfArguments& arguments) {
  if (arguments.iterations && (*arguments.iterations == 0 || *arguments.iterations > 1'000'000'000))
    throw UsageError(
        fmt::format("--iterations {} is out of range; it is 1 to 1,000,000,000.", *arguments.iterations));
  if (arguments.seconds && !(*arguments.seconds > 0 && *arguments.seconds <= 86400))
    throw UsageError(fmt::format("--seconds {} is out of range; it is more than 0, and 86400 at most.",
                                 *arguments.seconds));
  if (arguments.depth && (*arguments.depth == 0 || *arguments.depth > deepest))
    throw UsageError(fmt::format("--depth {} is out of range; it is 1 to {}.", *arguments.depth, deepest));
  if (!arguments.listen.empty() && !arguments.connect.empty())
    throw UsageError("--listen and --connect are for the two hosts; give each one of them.");
  for (const std::string& address : {arguments.listen, arguments.connect})
    if (!address.empty()) check_address(address);
}

LocalMemory memory_of(const PerfArguments& arguments, const TestTraits& test) {
  if (arguments.memory.empty()) return LocalMemory::pool;
  if (test.kind != TestKind::write_bandwidth && test.kind != TestKind::read_bandwidth)
    throw UsageError(
        fmt::format("--memory is for write-bandwidth and read-bandwidth, not for {}.", test.name));
  if (arguments.memory == "pool") return LocalMemory::pool;
  if (arguments.memory == "shared") return LocalMemory::shared;
  if (arguments.memory == "malloc") return LocalMemory::unregistered;
  throw UsageError(fmt::format("--memory {}? It is pool, shared or malloc.", arguments.memory));
}

Plan plan_of(const PerfArguments& arguments) {
  if (arguments.test.empty())
    throw UsageError(fmt::format("which test? Choose one of {}.", names_of_tests()));
  const TestTraits& test = test_named(arguments.test);
  Plan plan;
  plan.test = test.kind;
  plan.device = arguments.device;
  plan.sizes = arguments.sizes.empty() ? std::vector{test.size} : parse_sizes(arguments.sizes);
  check_sizes(test, plan.sizes);
  plan.iterations = arguments.iterations.value_or(0);
  plan.seconds = arguments.seconds;
  if (!arguments.iterations && !arguments.seconds) plan.seconds = 1;
  if (arguments.depth && !test.streams)
    throw UsageError(
        fmt::format("{} has one operation under way; leave --depth {} away.", test.name, *arguments.depth));
  plan.depth = arguments.depth.value_or(0);
  plan.json = arguments.json;
  plan.memory = memory_of(arguments, test);
  plan.connect = arguments.connect;
  if (plan.test == TestKind::registration) {
    if (!plan.connect.empty()) throw UsageError("register needs no peer; leave --connect away.");
    return plan;
  }
  if (plan.test == TestKind::floor && !plan.connect.empty())
    throw UsageError("the floor is between two processes of one host; leave --connect away.");
  if (plan.connect.empty())
    plan.cores = arguments.cores.empty() ? choose_cores() : parse_cores(arguments.cores);
  return plan;
}

ResponderPlan responder_plan_of(const PerfArguments& arguments) {
  ResponderPlan plan;
  plan.listen = arguments.listen;
  plan.device = arguments.device;
  const std::vector<std::uint64_t> sizes = parse_sizes(arguments.sizes);
  if (!sizes.empty()) plan.size = *std::max_element(sizes.begin(), sizes.end());
  plan.depth = arguments.depth.value_or(plan.depth);
  if (arguments.core >= 0) plan.core = arguments.core;
  plan.floor = arguments.floor;
  plan.channel = arguments.channel;
  return plan;
}

}  // namespace

void add_perf_options(CLI::App& app, PerfArguments& arguments) {
  app.add_option("TEST", arguments.test, names_of_tests());
  app.add_option("--device", arguments.device, "device by name; default: the best one ('verbena info')");
  app.add_option("--size", arguments.sizes, "bytes, or as in 4K, 1MiB; may be repeated, or a list: 8,64,4K")
      ->type_name("SIZE,…")
      ->allow_extra_args(false);  // one argument each: what follows is the test's name
  app.add_option("--iterations", arguments.iterations, "operations a size");
  app.add_option("--seconds", arguments.seconds, "time a size; default: 1, where --iterations isn't given");
  app.add_option("--depth", arguments.depth,
                 "operations in flight; default: 128 (calls: 32), and 64 MiB at most");
  app.add_option(
      "--memory", arguments.memory,
      "write- and read-bandwidth, the memory here: pool (Verbena's own; default), shared (malloc'ed, "
      "registered once), malloc (left to the registration cache)");
  app.add_flag("--json", arguments.json, "one JSON object a size, one a line");
  app.add_option("--listen", arguments.listen,
                 "be the responding host: wait at ADDRESS, as in rdma://0.0.0.0:7471")
      ->type_name("ADDRESS");
  app.add_option("--connect", arguments.connect, "be the measuring host: the other one listens at ADDRESS")
      ->type_name("ADDRESS");
  app.add_option("--cores", arguments.cores, "the two cores of both sides, as in 0,1");
  app.add_flag("--respond", arguments.respond)->group("");
  app.add_option("--floor", arguments.floor)->group("");
  app.add_option("--channel", arguments.channel)->group("");
  app.add_option("--core", arguments.core)->group("");
  app.footer("Without --listen and --connect, both sides run here, as two processes on two cores.");
}

void run_perf(const PerfArguments& arguments) {
  check_numbers(arguments);
  if (arguments.respond || !arguments.listen.empty()) return respond(responder_plan_of(arguments));
  const Plan plan = plan_of(arguments);
  plan.test == TestKind::registration ? measure_registrations(plan) : perf(plan);
}

}  // namespace verbena::tools
