// SPDX-License-Identifier: Apache-2.0
/// call-latency: one call at a time.
#include <fmt/format.h>

#include "tools/perf/call_client.h"
#include "tools/perf/latency.h"

namespace verbena::tools {
namespace {

class CallLatency final : public LatencyTest {
 public:
  CallLatency(Session& session, std::uint64_t size)
      : session_(session),
        request_(session.loop().memory().allocate(std::max<std::uint64_t>(size, 1))),
        size_(size) {
    client_ = connect_for_calls(session, session.prepare(TestKind::call_latency, size, 1));
  }

  void round(std::size_t count, Samples& samples) override {
    for (std::size_t i = 0; i < warm_up; ++i) call();
    Ticks before = now_ticks();
    for (std::size_t i = 0; i < count; ++i) {
      call();
      const Ticks now = now_ticks();
      samples.add(now - before);
      before = now;
    }
  }
  std::string path() const override { return client_.explain(size_); }

 private:
  void call() {
    running_ = true;
    const std::error_code refused =
        client_.call(echo_method, request_.bytes().first(size_), [this](std::error_code error, rpc::Bytes) {
          running_ = false;
          error_ = error;
        });
    if (refused) throw_failed("a call", refused);
    while (running_) session_.loop().poll();
    if (error_) throw_failed("a call", error_);
  }

  Session& session_;
  Region request_;
  std::uint64_t size_;
  rpc::Client client_;
  bool running_ = false;
  std::error_code error_;
};

}  // namespace

std::unique_ptr<LatencyTest> make_call_latency(Session& session, std::uint64_t size) {
  return std::make_unique<CallLatency>(session, size);
}

}  // namespace verbena::tools
