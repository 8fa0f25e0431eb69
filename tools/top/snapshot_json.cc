// SPDX-License-Identifier: Apache-2.0
#include "tools/top/snapshot_json.h"

#include <nlohmann/json.hpp>

namespace verbena::tools {
namespace {

using Json = nlohmann::ordered_json;

Histogram histogram_of(const Json& json) {
  Histogram histogram;
  for (const Json& bucket : json.at("buckets")) {
    histogram.record(bucket.at(0).get<std::uint64_t>(), bucket.at(1).get<std::uint64_t>());
  }
  histogram.set_exact(json.at("sum_ns").get<std::uint64_t>(), json.at("min_ns").get<std::uint64_t>(),
                      json.at("max_ns").get<std::uint64_t>(), json.at("beyond").get<std::uint64_t>());
  return histogram;
}

rpc::MethodStatistics method_of(const Json& json) {
  rpc::MethodStatistics method;
  method.role = json.at("role") == "client" ? rpc::Role::client : rpc::Role::server;
  method.is_other = json.at("method").is_null();
  if (!method.is_other) method.method = json.at("method").get<std::uint32_t>();
  method.name = json.at("title").get<std::string>();
  json.at("calls").get_to(method.calls);
  json.at("completed").get_to(method.completed);
  json.at("bytes_out").get_to(method.bytes_out);
  json.at("bytes_in").get_to(method.bytes_in);
  for (std::size_t kind = 0; kind < method.errors.size(); ++kind) {
    method.errors[kind] = json.at("errors").value(std::string(rpc::failure_names[kind]), std::uint64_t{0});
  }
  method.latency = histogram_of(json.at("latency"));
  return method;
}

}  // namespace

Snapshot snapshot_of(const Json& json) {
  Snapshot snapshot;
  json.at("pid").get_to(snapshot.process);
  json.at("loop").get_to(snapshot.loop);
  json.at("device").get_to(snapshot.device);
  json.at("age_ns").get_to(snapshot.age_ns);
  json.at("connections").get_to(snapshot.connections);
  json.at("peers").get_to(snapshot.peers);
  json.at("pinned_bytes").get_to(snapshot.pinned_bytes);
  snapshot.kept_bytes = json.value("kept_bytes", std::size_t{0});
  json.at("latency_sample").get_to(snapshot.latency_sample);
  for (const CounterName& counter : counter_names()) {
    snapshot.counters.*counter.value = json.at("counters").value(counter.name, std::uint64_t{0});
  }
  for (const Json& method : json.at("methods")) snapshot.methods.push_back(method_of(method));
  return snapshot;
}

}  // namespace verbena::tools
