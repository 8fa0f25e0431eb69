// SPDX-License-Identifier: Apache-2.0
/// send-bandwidth, write-bandwidth, read-bandwidth, call-rate, call-bandwidth. All operations of a test share
/// their memory.
#include <algorithm>
#include <array>
#include <cstring>

#include "tools/perf/call_client.h"
#include "tools/perf/stream.h"

namespace verbena::tools {
namespace {

Region touched(Session& session, std::uint64_t size) {
  Region region = session.loop().memory().allocate(std::max<std::uint64_t>(size, 1));
  std::memset(region.bytes().data(), 0, region.size());
  return region;
}

/// Puts or gets.
class OneSidedStream final : public StreamTest {
 public:
  OneSidedStream(const Plan& plan, Session& session, std::uint64_t size, std::uint32_t depth)
      : session_(session), writes_(plan.test == TestKind::write_bandwidth), size_(size) {
    if (plan.memory == LocalMemory::pool) {
      local_ = touched(session, size);
    } else {
      own_.resize(size);
      if (plan.memory == LocalMemory::shared)
        local_ = session.loop().memory().share(std::span(own_), Access::local_write);
    }
    theirs_ = session.prepare(plan.test, size, depth).region;
  }
  std::error_code start(Slot& slot) noexcept override {
    Connection& connection = session_.connection();
    if (!local_) {
      return writes_ ? connection.put(own_, theirs_, 0, slot) : connection.get(own_, theirs_, 0, slot);
    }
    return writes_ ? connection.put(local_.slice(0, size_), theirs_, 0, slot)
                   : connection.get(local_.slice(0, size_), theirs_, 0, slot);
  }
  std::string path() const override { return session_.connection().explain(); }

 private:
  Session& session_;
  bool writes_;
  std::vector<std::byte> own_;
  Region local_;  // none: the memory is left to the registration cache
  std::uint64_t size_;
  RemoteRegion theirs_;
};

class SendStream final : public StreamTest {
 public:
  SendStream(Session& session, std::uint64_t size, std::uint32_t depth)
      : session_(session), local_(touched(session, size)), size_(size) {
    session.prepare(TestKind::send_bandwidth, size, depth);
  }
  std::error_code start(Slot& slot) noexcept override {
    const std::array pieces{local_.slice(0, size_)};
    return session_.connection().send(pieces, slot);
  }
  void settle() override { session_.count_there(); }
  std::string path() const override { return session_.connection().explain(size_); }

 private:
  Session& session_;
  Region local_;
  std::uint64_t size_;
};

class CallStream final : public StreamTest {
 public:
  CallStream(Session& session, TestKind kind, std::uint64_t size, std::uint32_t depth)
      : method_(kind == TestKind::call_rate ? echo_method : stamp_method),
        request_(touched(session, size)),
        size_(size) {
    client_ = connect_for_calls(session, session.prepare(kind, size, depth));
  }
  std::error_code start(Slot& slot) noexcept override {
    return client_.call(
        method_, request_.bytes().first(size_),
        [&slot](std::error_code error, rpc::Bytes reply) { slot.complete(&slot, error, reply.size()); });
  }
  std::string path() const override { return client_.explain(size_); }

 private:
  rpc::MethodId method_;
  Region request_;
  std::uint64_t size_;
  rpc::Client client_;
};

}  // namespace

std::unique_ptr<StreamTest> make_stream_test(const Plan& plan, Session& session, std::uint64_t size,
                                             std::uint32_t depth) {
  const TestKind kind = plan.test;
  switch (kind) {
    case TestKind::write_bandwidth:
    case TestKind::read_bandwidth:
      return std::make_unique<OneSidedStream>(plan, session, size, depth);
    case TestKind::call_rate:
    case TestKind::call_bandwidth:
      return std::make_unique<CallStream>(session, kind, size, depth);
    default:
      return std::make_unique<SendStream>(session, size, depth);
  }
}

}  // namespace verbena::tools
