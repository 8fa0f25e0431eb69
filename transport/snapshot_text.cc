// SPDX-License-Identifier: Apache-2.0
// A snapshot as JSON and as Prometheus reads it.
#include <fmt/format.h>

#include <algorithm>
#include <iterator>
#include <string_view>

#include "verbena/snapshot.h"

namespace verbena {
namespace {

using rpc::MethodStatistics;
using rpc::Role;

constexpr CounterName counters[] = {
    {"turns", "Turns of the loop.", &Statistics::turns},
    {"messages_sent", "Messages sent, Verbena's own included.", &Statistics::messages_sent},
    {"messages_received", "Messages received, Verbena's own included.", &Statistics::messages_received},
    {"frames_received", "Work requests that brought them.", &Statistics::frames_received},
    {"bytes_sent", "Payload bytes of messages and calls sent.", &Statistics::bytes_sent},
    {"bytes_received", "Payload bytes of messages and calls received.", &Statistics::bytes_received},
    {"one_sided_operations", "Puts, gets and atomics started.", &Statistics::one_sided_operations},
    {"one_sided_bytes", "Bytes of puts, gets and atomics.", &Statistics::one_sided_bytes},
    {"credit_messages_sent", "Messages that only granted credit.", &Statistics::credit_messages_sent},
    {"keep_alives_sent", "Probes of quiet connections.", &Statistics::keep_alives_sent},
    {"large_messages_read", "Payloads read from the peer's memory.", &Statistics::large_messages_read},
    {"large_messages_lent", "Requests whose handler read them in the peer's memory.",
     &Statistics::large_messages_lent},
    {"credit_waits", "Messages and calls refused for lack of credit.", &Statistics::credit_waits},
    {"overloaded", "Operations refused because a declared depth was used up.", &Statistics::overloaded},
    {"late_replies", "Replies to calls that had timed out; dropped.", &Statistics::late_replies},
    {"stale_messages", "Messages of an earlier connection; dropped.", &Statistics::stale_messages},
    {"violations", "Connections ended because the peer broke the protocol.", &Statistics::violations},
    {"connections_opened", "Connections that came about.", &Statistics::connections_opened},
    {"connections_lost", "Connections that ended, but not by this side's close.",
     &Statistics::connections_lost},
    {"sleeps", "Times that the loop slept until an event.", &Statistics::sleeps},
    {"registrations", "Registrations of the program's memory made.", &Statistics::registrations},
    {"registration_hits", "Operations that found their memory registered.", &Statistics::registration_hits},
    {"registration_evictions", "Registrations dropped for their bounds.",
     &Statistics::registration_evictions},
    {"registration_invalidations", "Registrations dropped because their memory changed.",
     &Statistics::registration_invalidations},
    {"registrations_retired", "Of those dropped, what an operation still used.",
     &Statistics::registrations_retired},
    {"registrations_not_kept", "Registrations for one use.", &Statistics::registrations_not_kept},
    {"registration_ns", "Nanoseconds spent in registering and deregistering.", &Statistics::registration_ns},
};
static_assert(sizeof counters / sizeof *counters == sizeof(Statistics) / sizeof(std::uint64_t),
              "every counter is shown");

constexpr std::string_view role_name(Role role) {
  return role == Role::client ? "client" : "server";
}

/// In quotes, as JSON and Prometheus' labels both have them. Control characters, which they don't share,
/// become question marks.
std::string quoted(std::string_view text) {
  std::string result = "\"";
  for (const char c : text) {
    if (c == '"' || c == '\\') result += '\\';
    result += static_cast<unsigned char>(c) < 0x20 ? '?' : c;
  }
  return result += '"';
}

using Out = std::back_insert_iterator<std::string>;

// ---- JSON ----

void add_latency(Out out, const Histogram& latency) {
  fmt::format_to(out,
                 R"({{"count":{},"sum_ns":{},"min_ns":{},"p50_ns":{},"p99_ns":{},"p999_ns":{},"max_ns":{},)"
                 R"("beyond":{},"buckets":[)",
                 latency.count(), latency.sum(), latency.min(), latency.quantile(0.5), latency.quantile(0.99),
                 latency.quantile(0.999), latency.max(), latency.beyond());
  const char* separator = "";
  latency.for_each([&](std::uint64_t lowest, std::uint64_t, std::uint64_t count) {
    fmt::format_to(out, "{}[{},{}]", std::exchange(separator, ","), lowest, count);
  });
  fmt::format_to(out, "]}}");
}

void add_method(Out out, const MethodStatistics& method) {
  fmt::format_to(out, R"({{"role":"{}","method":{},"title":{},"calls":{},"completed":{},)",
                 role_name(method.role), method.is_other ? "null" : std::to_string(method.method),
                 quoted(method.title()), method.calls, method.completed);
  fmt::format_to(out, R"("bytes_out":{},"bytes_in":{},"errors":{{)", method.bytes_out, method.bytes_in);
  for (std::size_t kind = 0; kind < method.errors.size(); ++kind) {
    fmt::format_to(out, R"({}"{}":{})", kind == 0 ? "" : ",", rpc::failure_names[kind], method.errors[kind]);
  }
  fmt::format_to(out, R"(}},"latency":)");
  add_latency(out, method.latency);
  fmt::format_to(out, "}}");
}

// ---- Prometheus ----

/// The label values that tell one snapshot's samples from another's.
std::string labels_of(const Snapshot& snapshot, bool with_process) {
  std::string labels = fmt::format(R"(loop="{}",device={})", snapshot.loop, quoted(snapshot.device));
  if (with_process) labels += fmt::format(R"(,pid="{}")", snapshot.process);
  return labels;
}

class Exposition {
 public:
  explicit Exposition(std::span<const Snapshot> snapshots) : snapshots_(snapshots) {
    const bool several = std::ranges::any_of(
        snapshots, [&](const Snapshot& each) { return each.process != snapshots.front().process; });
    for (const Snapshot& snapshot : snapshots) labels_.push_back(labels_of(snapshot, several));
  }

  /// One metric with one value a loop.
  template <class Value>
  void loops(std::string_view name, std::string_view type, std::string_view help, Value value) {
    head(name, type, help);
    for (std::size_t i = 0; i < snapshots_.size(); ++i) {
      fmt::format_to(out(), "verbena_{}{{{}}} {}\n", name, labels_[i], value(snapshots_[i]));
    }
  }

  /// One metric; `add(method, labels)` writes its samples.
  template <class Add>
  void methods(std::string_view name, std::string_view type, std::string_view help, Add add) {
    head(name, type, help);
    for (std::size_t i = 0; i < snapshots_.size(); ++i) {
      for (const MethodStatistics& method : snapshots_[i].methods) {
        add(method, fmt::format(R"({},role="{}",method={})", labels_[i], role_name(method.role),
                                quoted(method.title())));
      }
    }
  }
  /// The same with one value a method.
  void method_counter(std::string_view name, std::string_view help, std::uint64_t MethodStatistics::*value) {
    methods(name, "counter", help, [&](const MethodStatistics& method, const std::string& labels) {
      fmt::format_to(out(), "verbena_{}{{{}}} {}\n", name, labels, method.*value);
    });
  }

  Out out() { return std::back_inserter(text_); }
  std::string take() { return std::move(text_); }

 private:
  void head(std::string_view name, std::string_view type, std::string_view help) {
    fmt::format_to(out(), "# HELP verbena_{0} {1}\n# TYPE verbena_{0} {2}\n", name, help, type);
  }

  std::span<const Snapshot> snapshots_;
  std::vector<std::string> labels_;
  std::string text_;
};

/// Cumulative, at powers of two from 256 ns to 8.6 s. A time below 2^k ns is counted below 2^k: the histogram
/// has a boundary there.
void add_buckets(Out out, const Histogram& latency, const std::string& labels) {
  constexpr unsigned first = 8, last = 33;
  std::array<std::uint64_t, last + 1> below{};  // what is from 2^(k-1) on and below 2^k
  latency.for_each([&](std::uint64_t, std::uint64_t highest, std::uint64_t count) {
    const auto power = static_cast<unsigned>(std::bit_width(highest));
    if (power <= last) below[std::max(power, first)] += count;
  });
  std::uint64_t sum = 0;
  constexpr double ns = 1e9;  // a second
  for (unsigned power = first; power <= last; ++power) {
    sum += below[power];
    fmt::format_to(out, "verbena_call_latency_seconds_bucket{{{},le=\"{}\"}} {}\n", labels,
                   static_cast<double>(std::uint64_t{1} << power) / ns, sum);
  }
  fmt::format_to(out, "verbena_call_latency_seconds_bucket{{{},le=\"+Inf\"}} {}\n", labels, latency.count());
  fmt::format_to(out, "verbena_call_latency_seconds_sum{{{}}} {}\n", labels,
                 static_cast<double>(latency.sum()) / ns);
  fmt::format_to(out, "verbena_call_latency_seconds_count{{{}}} {}\n", labels, latency.count());
}

}  // namespace

std::span<const CounterName> counter_names() noexcept {
  return counters;
}

std::string json(const Snapshot& snapshot) {
  std::string text;
  const Out out = std::back_inserter(text);
  fmt::format_to(out,
                 R"({{"pid":{},"loop":{},"device":{},"age_ns":{},"connections":{},"peers":{},)"
                 R"("pinned_bytes":{},"kept_bytes":{},"latency_sample":{},"counters":{{)",
                 snapshot.process, snapshot.loop, quoted(snapshot.device), snapshot.age_ns,
                 snapshot.connections, snapshot.peers, snapshot.pinned_bytes, snapshot.kept_bytes,
                 snapshot.latency_sample);
  const char* separator = "";
  for (const CounterName& counter : counters) {
    fmt::format_to(out, R"({}"{}":{})", std::exchange(separator, ","), counter.name,
                   snapshot.counters.*counter.value);
  }
  fmt::format_to(out, R"(}},"methods":[)");
  separator = "";
  for (const MethodStatistics& method : snapshot.methods) {
    text += std::exchange(separator, ",");
    add_method(out, method);
  }
  return text += "]}";
}

std::string prometheus(std::span<const Snapshot> snapshots) {
  Exposition text(snapshots);
  text.loops("connections", "gauge", "Open connections.", [](const Snapshot& s) { return s.connections; });
  text.loops("connections_limit", "gauge", "Connections that the loop has room for.",
             [](const Snapshot& s) { return s.peers; });
  text.loops("pinned_bytes", "gauge", "Bytes that the loop's pools have registered.",
             [](const Snapshot& s) { return s.pinned_bytes; });
  text.loops("kept_bytes", "gauge", "Bytes of the program's memory whose registration is kept.",
             [](const Snapshot& s) { return s.kept_bytes; });
  for (const CounterName& counter : counters) {
    text.loops(fmt::format("{}_total", counter.name), "counter", counter.help,
               [&](const Snapshot& s) { return s.counters.*counter.value; });
  }
  text.method_counter("calls_total", "Calls sent by clients, and requests that reached servers.",
                      &MethodStatistics::calls);
  text.method_counter("calls_completed_total", "Calls answered with a result.", &MethodStatistics::completed);
  text.method_counter("call_bytes_out_total", "Bytes of clients' requests, and of servers' replies.",
                      &MethodStatistics::bytes_out);
  text.method_counter("call_bytes_in_total", "Bytes of clients' replies, and of servers' requests.",
                      &MethodStatistics::bytes_in);
  text.methods("call_errors_total", "counter", "Calls that failed, by kind.",
               [&](const MethodStatistics& method, const std::string& labels) {
                 for (std::size_t kind = 0; kind < method.errors.size(); ++kind) {
                   fmt::format_to(text.out(), "verbena_call_errors_total{{{},error=\"{}\"}} {}\n", labels,
                                  rpc::failure_names[kind], method.errors[kind]);
                 }
               });
  text.methods("call_latency_seconds", "histogram",
               "Clients: from call to completion; servers: in the handler. Of a sample of the calls.",
               [&](const MethodStatistics& method, const std::string& labels) {
                 add_buckets(text.out(), method.latency, labels);
               });
  return text.take();
}

}  // namespace verbena
