// SPDX-License-Identifier: Apache-2.0
/// call-latency, lend-latency: one call at a time.
#include <algorithm>
#include <cstring>

#include "tools/perf/call_client.h"
#include "tools/perf/latency.h"

namespace verbena::tools {
namespace {

/// Its request lies in memory of the loop's.
class OneCallAtATime : public LatencyTest {
 public:
  OneCallAtATime(Session& session, TestKind kind, std::uint64_t size)
      : session_(session),
        request_(session.loop().memory().allocate(std::max<std::uint64_t>(size, 1))),
        size_(size) {
    std::ranges::fill(request_.bytes(), std::byte{0});  // its pages are here before the clock runs
    client_ = connect_for_calls(session, session.prepare(kind, size, 1));
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

 protected:
  std::span<std::byte> request() noexcept { return request_.bytes().first(size_); }
  void await(std::error_code refused) {
    if (refused) throw_failed("a call", refused);
    while (running_) session_.loop().poll();
    if (error_) throw_failed("a call", error_);
  }
  void done(std::error_code error) noexcept {
    running_ = false;
    error_ = error;
  }
  rpc::Client& client() noexcept {
    running_ = true;
    return client_;
  }

 private:
  virtual void call() = 0;

  Session& session_;
  Region request_;
  std::uint64_t size_;
  rpc::Client client_;
  bool running_ = false;
  std::error_code error_;
};

class CallLatency final : public OneCallAtATime {
 public:
  CallLatency(Session& session, std::uint64_t size) : OneCallAtATime(session, TestKind::call_latency, size) {}

 private:
  void call() override {
    await(client().call(echo_method, request(), [this](std::error_code error, rpc::Bytes) { done(error); }));
  }
};

/// Each call's argument begins anew, and the answer shows that its handler has seen that.
class LendLatency final : public OneCallAtATime {
 public:
  LendLatency(Session& session, std::uint64_t size) : OneCallAtATime(session, TestKind::lend_latency, size) {}

 private:
  void call() override {
    request().front() = static_cast<std::byte>(++stamp_);
    await(client().call(stamp_method, request(), [this](std::error_code error, rpc::Bytes reply) {
      const std::uint64_t expected = stamp_of(request());
      const bool is_right =
          reply.size() == sizeof expected && std::memcmp(reply.data(), &expected, sizeof expected) == 0;
      done(error || is_right ? error : make_error_code(errc::handler_failed));
    }));
  }
  std::uint8_t stamp_ = 0;
};

}  // namespace

std::unique_ptr<LatencyTest> make_call_latency(Session& session, std::uint64_t size) {
  return std::make_unique<CallLatency>(session, size);
}
std::unique_ptr<LatencyTest> make_lend_latency(Session& session, std::uint64_t size) {
  return std::make_unique<LendLatency>(session, size);
}

}  // namespace verbena::tools
