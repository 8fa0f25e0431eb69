// SPDX-License-Identifier: Apache-2.0
#include "tools/demo/client.h"

#include <fmt/format.h>

#include <verbena/connection.h>
#include <verbena/loop.h>
#include <verbena/rpc.h>
#include <algorithm>
#include <cstdio>
#include <cstring>
#include <vector>

#include "tools/common/failure.h"
#include "tools/common/memory_copy.h"
#include "tools/common/progress.h"
#include "tools/common/table.h"
#include "tools/common/units.h"
#include "tools/demo/call_timing.h"
#include "tools/demo/fetch.h"
#include "tools/demo/methods.h"
#include "tools/demo/waiting.h"
#include "tools/local_address.h"

namespace verbena::tools {
namespace {

Options client_options(const ClientPlan& plan) {
  Options options;
  options.device = device_for(plan.address, plan.device);
  options.busy_poll = plan.cores.has_value();
  return options;
}

void print(std::string_view name, const std::string& value) {
  fmt::print("{}", fact(name, value));
  std::fflush(stdout);
}

struct Reading {
  double bandwidth = 0;  ///< median of the passes
  std::size_t passes = 0;
};

/// Small files are read again and again: one pass would time the clock.
Reading read_file(Loop& loop, Connection& peer, Region& into, const FileFacts& facts) {
  constexpr std::size_t most_passes = 50;
  constexpr double most_ns = 3e8;
  Progress progress("reading the file");
  Fetch fetch(loop, peer, into, facts.pages);
  std::vector<double> bandwidths;
  for (double spent_ns = 0; spent_ns < most_ns && bandwidths.size() < most_passes;) {
    const double ns = fetch.run(progress);
    spent_ns += ns;
    bandwidths.push_back(static_cast<double>(facts.size) * 1e9 / ns);
  }
  const std::size_t passes = bandwidths.size();
  return {median(std::move(bandwidths)), passes};
}

/// In pieces of the same size as the reads, out of memory that is as cold or as warm as the file's pages.
double machine_memcpy(std::span<const std::byte> from) {
  constexpr std::size_t most = std::size_t{256} << 20, rounds = 5;
  from = from.first(std::min(from.size(), most));
  std::vector<std::byte> to(from.size());
  std::vector<double> bandwidths;
  for (std::size_t i = 0; i < rounds; ++i) bandwidths.push_back(copy_once(to, from, Fetch::chunk));
  return median(std::move(bandwidths));
}

void print_bandwidth(const Reading& reading, double memcpy_bandwidth) {
  print("reads", fmt::format("{}, {} of 1 MiB in flight, median of {} {}", show_bandwidth(reading.bandwidth),
                             Fetch::in_flight, reading.passes, reading.passes == 1 ? "pass" : "passes"));
  const double percent = 100 * reading.bandwidth / memcpy_bandwidth;
  print("memcpy", fmt::format("{} here, so the reads ran at {:.{}f} % of it",
                              show_bandwidth(memcpy_bandwidth), percent, percent < 10 ? 1 : 0));
}

void print_calls(const CallTiming& timing) {
  const Distribution& latency = timing.latency;
  print("calls", fmt::format("{} of 8 B, round trip: min {}, p50 {}, p99 {}, p99.9 {}, max {}",
                             show_count(timing.calls), show_time(latency.min), show_time(latency.p50),
                             show_time(latency.p99), show_time(latency.p999), show_time(latency.max)));
}

/// Throws Failure where the hashes differ.
void judge(std::span<const std::byte> bytes, const Sha256& expected) {
  const Sha256 found = sha256_of(bytes);
  print("SHA-256", fmt::format("{} there", show(expected)));
  print("", fmt::format("{} here", show(found)));
  if (found != expected)
    throw Failure(
        "what was read is NOT the file that the server hashed: the two SHA-256 differ. If the file was "
        "changed while it was served, start the server again.");
  fmt::print("\nverified: {} came out of the server's memory unchanged, without a copy by its processor.\n",
             show_size(bytes.size()));
}

FileFacts ask_for_file(rpc::Client& client) {
  const FileFacts facts = call_and_wait<DescribeFile>(client, describe_version);
  if (facts.size == 0 || facts.pages.length != facts.size)
    throw Failure(fmt::format("the server at {} describes no file; are both of one version?", client.peer()));
  return facts;
}

}  // namespace

void ask(const ClientPlan& plan) {
  Loop loop(client_options(plan));
  rpc::Client client = rpc::connect(loop, plan.address);
  const FileFacts facts = ask_for_file(client);
  Connection reader = connect(loop, with_port(plan.address, static_cast<std::uint16_t>(facts.pages_port)));

  fmt::print("verbena-demo: a file of {} ({} bytes) in the memory of {}\n", show_size(facts.size),
             show_count(facts.size), plan.address);
  print("device", std::string(loop.device()));
  print("path", client.explain());
  if (plan.cores) print("cores", fmt::format("{} asks, {} serves", plan.cores->first, plan.cores->second));
  print_calls(time_calls(client));

  Region into = loop.memory().allocate(facts.size, Access::local_write);
  std::memset(into.bytes().data(), 0, into.size());  // its pages are here before the clock runs
  const Reading reading = read_file(loop, reader, into, facts);
  const std::span<const std::byte> bytes = into.bytes().first(facts.size);
  print_bandwidth(reading, machine_memcpy(bytes));
  judge(bytes, facts.hash);
}

}  // namespace verbena::tools
