// SPDX-License-Identifier: Apache-2.0
/// write-latency, read-latency, atomic-latency, and the floor as a test of its own.
#include <fmt/format.h>

#include "tools/perf/latency.h"
#include "tools/perf/write_ping_pong.h"

namespace verbena::tools {
namespace {

class WriteLatency final : public LatencyTest {
 public:
  WriteLatency(Session& session, std::uint64_t size)
      : session_(session), sides_(session.loop(), session.connection(), size) {
    sides_.set_peer(session.prepare(TestKind::write_latency, size, 1, sides_.mine()).region);
  }

  void round(std::size_t count, Samples& samples) override {
    session_.announce_round(count + warm_up);
    for (std::size_t i = 0; i < warm_up; ++i) ping();
    Ticks before = now_ticks();
    for (std::size_t i = 0; i < count; ++i) {
      ping();
      const Ticks now = now_ticks();
      samples.add(now - before);
      before = now;
    }
  }
  std::string path() const override { return session_.connection().explain(); }

 private:
  void ping() {
    sides_.send();
    sides_.await();
  }

  Session& session_;
  WritePingPong sides_;
};

/// Operations of which each is waited for: `Start` starts one.
class WholeOperation : public LatencyTest {
 public:
  WholeOperation(Session& session, TestKind kind, std::uint64_t size)
      : session_(session), local_(session.loop().memory().allocate(size, Access::local_write)), size_(size) {
    done_.complete = &finished;
    theirs_ = session.prepare(kind, size, 1).region;
  }
  ~WholeOperation() override {
    while (done_.running && session_.connection().is_open()) session_.loop().poll();
  }

  void round(std::size_t count, Samples& samples) override {
    for (std::size_t i = 0; i < warm_up; ++i) operate();
    Ticks before = now_ticks();
    for (std::size_t i = 0; i < count; ++i) {
      operate();
      const Ticks now = now_ticks();
      samples.add(now - before);
      before = now;
    }
  }
  std::string path() const override { return session_.connection().explain(); }

 protected:
  struct Done : Operation {
    bool running = false;
    std::error_code error;
  };
  virtual std::error_code start(Operation& done) noexcept = 0;

  Session& session_;
  Region local_;
  std::uint64_t size_;
  RemoteRegion theirs_;

 private:
  static void finished(Operation* self, std::error_code error, std::size_t) noexcept {
    Done& done = *static_cast<Done*>(self);
    done.running = false;
    done.error = error;
  }
  void operate() {
    done_.running = true;
    if (const std::error_code error = start(done_)) [[unlikely]] {
      done_.running = false;
      throw_failed("an operation", error);
    }
    while (done_.running) session_.loop().poll();
    if (done_.error) [[unlikely]]
      throw_failed("an operation", done_.error);
  }

  Done done_;
};

class ReadLatency final : public WholeOperation {
 public:
  ReadLatency(Session& session, std::uint64_t size) : WholeOperation(session, TestKind::read_latency, size) {}
  std::error_code start(Operation& done) noexcept override {
    return session_.connection().get(local_.slice(0, size_), theirs_, 0, done);
  }
};

class AtomicLatency final : public WholeOperation {
 public:
  AtomicLatency(Session& session, std::uint64_t size)
      : WholeOperation(session, TestKind::atomic_latency, size) {}
  std::error_code start(Operation& done) noexcept override {
    return session_.connection().fetch_add(local_.slice(0, size_), theirs_, 0, 1, done);
  }
};

class FloorTest final : public LatencyTest {
 public:
  explicit FloorTest(Session& session) : session_(session) {}
  void round(std::size_t count, Samples& samples) override {
    session_.ping_floor(count + Floor::warm_up, samples);
  }
  std::string path() const override { return "one cache line of shared memory each way"; }

 private:
  Session& session_;
};

}  // namespace

std::unique_ptr<LatencyTest> make_write_latency(Session& session, std::uint64_t size) {
  return std::make_unique<WriteLatency>(session, size);
}
std::unique_ptr<LatencyTest> make_read_latency(Session& session, std::uint64_t size) {
  return std::make_unique<ReadLatency>(session, size);
}
std::unique_ptr<LatencyTest> make_atomic_latency(Session& session, std::uint64_t size) {
  return std::make_unique<AtomicLatency>(session, size);
}
std::unique_ptr<LatencyTest> make_floor_test(Session& session) {
  return std::make_unique<FloorTest>(session);
}

}  // namespace verbena::tools
