// SPDX-License-Identifier: Apache-2.0
/// send-latency: a message there, a message back.
#include <fmt/format.h>

#include "tools/perf/latency.h"
#include "tools/perf/message_source.h"

namespace verbena::tools {
namespace {

class SendLatency final : public LatencyTest {
 public:
  SendLatency(Session& session, std::uint64_t size)
      : session_(session), source_(session.loop(), session.connection(), size), size_(size) {
    session_.prepare(TestKind::send_latency, size, 1);
  }

  void round(std::size_t count, Samples& samples) override {
    session_.announce_round(count + warm_up);
    session_.on_message([this](std::span<const std::byte>) { ++came_; });
    for (std::size_t i = 0; i < warm_up; ++i) ping();
    Ticks before = now_ticks();
    for (std::size_t i = 0; i < count; ++i) {
      ping();
      const Ticks now = now_ticks();
      samples.add(now - before);
      before = now;
    }
    session_.take_messages_back();
  }

  std::string path() const override { return session_.connection().explain(size_); }

 private:
  void ping() {
    source_.send();
    session_.loop().flush();
    for (const std::uint64_t expected = ++awaited_; came_ < expected;) session_.turn();
  }

  Session& session_;
  MessageSource source_;
  std::uint64_t size_;
  std::uint64_t came_ = 0;
  std::uint64_t awaited_ = 0;
};

}  // namespace

std::unique_ptr<LatencyTest> make_send_latency(Session& session, std::uint64_t size) {
  return std::make_unique<SendLatency>(session, size);
}

}  // namespace verbena::tools
