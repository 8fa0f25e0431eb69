// SPDX-License-Identifier: Apache-2.0
#include "tools/top/frame.h"

#include <fmt/format.h>

#include <algorithm>

#include "tools/common/table.h"
#include "tools/common/units.h"

namespace verbena::tools {
namespace {

using rpc::MethodStatistics;
using rpc::Role;

constexpr double ns = 1e9;  // a second

std::uint64_t less(std::uint64_t now, std::uint64_t then) {
  return now > then ? now - then : 0;
}

/// What was counted in a span of time; of a whole life, where `seconds` is 0.
struct Span {
  Snapshot counted;
  double seconds = 0;

  std::string count(std::uint64_t value) const {
    if (value == 0) return "0";
    return seconds > 0 ? show_rate(static_cast<double>(value) / seconds) : show_count(value);
  }
  std::string bytes(std::uint64_t value) const {
    if (value == 0) return "0 B";
    return seconds > 0 ? show_bandwidth(static_cast<double>(value) / seconds) : show_size(value);
  }
};

MethodStatistics since(const MethodStatistics& now, const Snapshot& earlier) {
  const auto then = std::ranges::find_if(earlier.methods, [&](const MethodStatistics& each) {
    return each.role == now.role && each.method == now.method && each.is_other == now.is_other;
  });
  if (then == earlier.methods.end()) return now;
  MethodStatistics difference = now;
  for (const auto value : {&MethodStatistics::calls, &MethodStatistics::completed,
                           &MethodStatistics::bytes_out, &MethodStatistics::bytes_in})
    difference.*value = less(now.*value, (*then).*value);
  for (std::size_t kind = 0; kind < now.errors.size(); ++kind) {
    difference.errors[kind] = less(now.errors[kind], then->errors[kind]);
  }
  difference.latency = now.latency.since(then->latency);
  return difference;
}

/// A loop's number may be another loop's after an exec: then its age says so.
const Snapshot* find_earlier(const Snapshot& now, const std::vector<LiveProcess>& processes) {
  for (const LiveProcess& process : processes) {
    for (const Snapshot& loop : process.loops) {
      if (loop.process == now.process && loop.loop == now.loop && loop.age_ns < now.age_ns) return &loop;
    }
  }
  return nullptr;
}

Span span_of(const Snapshot& now, const std::vector<LiveProcess>& earlier) {
  const Snapshot* then = find_earlier(now, earlier);
  if (!then) return {now, static_cast<double>(now.age_ns) / ns};
  Span span{now, static_cast<double>(now.age_ns - then->age_ns) / ns};
  for (const CounterName& counter : counter_names()) {
    span.counted.counters.*counter.value = less(now.counters.*counter.value, then->counters.*counter.value);
  }
  for (MethodStatistics& method : span.counted.methods) method = since(method, *then);
  return span;
}

std::string time_of(const Histogram& latency, double quantile) {
  return latency.count() == 0 ? "-" : show_time(static_cast<double>(latency.quantile(quantile)));
}

/// "timed_out 3, rejected 1"
std::string kinds_of_errors(const MethodStatistics& method) {
  std::string text;
  for (std::size_t kind = 0; kind < method.errors.size(); ++kind) {
    if (method.errors[kind] == 0) continue;
    text += fmt::format("{}{} {}", text.empty() ? "" : ", ", rpc::failure_names[kind],
                        show_count(method.errors[kind]));
  }
  return text;
}

void draw_methods(std::string& text, const Span& span) {
  if (span.counted.methods.empty()) return;
  std::size_t longest = 6;
  for (const MethodStatistics& method : span.counted.methods)
    longest = std::max(longest, width_of(method.title()));
  const Table table({{"role", 8},
                     {"method", longest},
                     {"calls", 11},
                     {"errors", 9},
                     {"out", 10},
                     {"in", 10},
                     {"p50", 8},
                     {"p99", 8},
                     {"p99.9", 8},
                     {"max", 8}});
  text += table.header();
  for (const MethodStatistics& method : span.counted.methods) {
    const Histogram& latency = method.latency;
    text += table.row({method.role == Role::client ? "client" : "server", method.title(),
                       span.count(method.calls), show_count(method.failed()), span.bytes(method.bytes_out),
                       span.bytes(method.bytes_in), time_of(latency, 0.5), time_of(latency, 0.99),
                       time_of(latency, 0.999), time_of(latency, 1)});
    if (method.failed() > 0) text += fmt::format("{:14}{}\n", "", kinds_of_errors(method));
  }
}

void draw_loop(std::string& text, const Span& span) {
  const Snapshot& loop = span.counted;
  const Statistics& counters = loop.counters;
  text += fmt::format("  loop {} on {}: {} of {} connections, {} registered, {} of the program's\n",
                      loop.loop, loop.device, loop.connections, loop.peers, show_size(loop.pinned_bytes),
                      show_size(loop.kept_bytes));
  text += fmt::format("    messages {} out, {} in; payload {} out, {} in; sleeps {}\n",
                      span.count(counters.messages_sent), span.count(counters.messages_received),
                      span.bytes(counters.bytes_sent), span.bytes(counters.bytes_received),
                      span.count(counters.sleeps));
  if (counters.one_sided_operations > 0)
    text += fmt::format("    one-sided {}, {}\n", span.count(counters.one_sided_operations),
                        span.bytes(counters.one_sided_bytes));
  std::string troubles;
  const auto trouble = [&](std::string_view name, std::uint64_t count) {
    if (count > 0) troubles += fmt::format("{}{} {}", troubles.empty() ? "" : ", ", name, show_count(count));
  };
  trouble("credit waits", counters.credit_waits);
  trouble("overloaded", counters.overloaded);
  trouble("late replies", counters.late_replies);
  trouble("stale messages", counters.stale_messages);
  trouble("violations", counters.violations);
  trouble("connections ended by the peer", counters.connections_lost);
  if (!troubles.empty()) text += "    " + troubles + '\n';
  draw_methods(text, span);
}

template <class SpanOf>
std::string draw(const std::vector<LiveProcess>& processes, SpanOf span_of_loop) {
  std::string text;
  for (const LiveProcess& process : processes) {
    text += fmt::format("process {}  {}\n", process.process, process.command);
    for (const Snapshot& loop : process.loops) draw_loop(text, span_of_loop(loop));
    if (process.silent > 0)
      text += fmt::format("  {} of its loops {} not answer: nothing runs {}, or a handler takes long\n",
                          process.silent, process.silent == 1 ? "does" : "do",
                          process.silent == 1 ? "it" : "them");
    text += '\n';
  }
  return text;
}

}  // namespace

std::string draw_totals(const std::vector<LiveProcess>& processes) {
  return draw(processes, [](const Snapshot& loop) { return Span{loop, 0}; });
}

std::string draw_rates(const std::vector<LiveProcess>& processes, const std::vector<LiveProcess>& earlier) {
  return draw(processes, [&](const Snapshot& loop) { return span_of(loop, earlier); });
}

}  // namespace verbena::tools
