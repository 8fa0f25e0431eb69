// SPDX-License-Identifier: Apache-2.0
// Sends and writes between two processes that poll. Each process's traffic thread marks where it begins and
// ends by a prctl(2) that a tracer sees: no_system_calls_test.sh looks at what is between.
#include <sys/prctl.h>

#include <atomic>
#include <cstdio>
#include <stdexcept>

#include "core/device.h"
#include "support/child.h"
#include "support/endpoint.h"

namespace verbena::test {
namespace {

constexpr std::uint32_t rounds = 50'000;  // each a send and a write each way
constexpr std::uint32_t depth = 32;

struct Facts {
  EndpointFacts endpoint;
  Remote memory;
};

class Side {
 public:
  explicit Side(Line& line) : device_(core::open_device("soft0")), endpoint_(*device_), line_(line) {
    line.put(Facts{endpoint_.facts(), memory_.remote()});
    const auto peer = line.get<Facts>();
    endpoint_.connect(peer.endpoint);
    for (std::uint32_t i = 0; i < depth; ++i) endpoint_.post_receive(messages_.piece());
    there_ = peer.memory;
    line.put('r');
    line.get<char>();
  }

  void run(bool first, std::uint32_t from, std::uint32_t to) {
    for (std::uint32_t i = from; i < to; ++i) {
      if (first) speak(i);
      await(endpoint_.receive_cq());
      ibv_post_recv(endpoint_.qp(), &receive_, &bad_receive_);
      while (static_cast<std::atomic_ref<std::uint64_t>>(
                 *reinterpret_cast<std::uint64_t*>(memory_.bytes().data()))
                 .load(std::memory_order_acquire) != i + 1) {
        __builtin_ia32_pause();
      }
      if (!first) speak(i);
    }
  }

 private:
  void speak(std::uint32_t i) {
    out_.set_word(i + 1);
    post(IBV_WR_RDMA_WRITE);
    post(IBV_WR_SEND);
    await(endpoint_.send_cq());
    await(endpoint_.send_cq());
  }
  void post(ibv_wr_opcode opcode) {
    ibv_sge piece = out_.piece(0, 8);
    ibv_send_wr request{};
    request.opcode = opcode;
    request.sg_list = &piece;
    request.num_sge = 1;
    request.send_flags = IBV_SEND_SIGNALED;
    request.wr.rdma.remote_addr = there_.address;
    request.wr.rdma.rkey = there_.rkey;
    ibv_send_wr* bad = nullptr;
    if (ibv_post_send(endpoint_.qp(), &request, &bad) != 0) throw std::runtime_error("a post was refused");
  }
  static void await(ibv_cq* cq) {
    ibv_wc completion;
    while (ibv_poll_cq(cq, 1, &completion) == 0) __builtin_ia32_pause();
    if (completion.status != IBV_WC_SUCCESS) throw std::runtime_error("an operation failed");
  }

  std::unique_ptr<core::Device> device_;
  Endpoint endpoint_;
  Line& line_;
  Buffer& memory_ = endpoint_.buffer(4096, MemoryKind::shared);
  Buffer& messages_ = endpoint_.buffer(4096, MemoryKind::shared);
  Buffer& out_ = endpoint_.buffer(4096, MemoryKind::shared);
  Remote there_{};
  ibv_sge into_ = messages_.piece();
  ibv_recv_wr receive_{0, nullptr, &into_, 1};
  ibv_recv_wr* bad_receive_ = nullptr;
};

void play(Line& line, bool first) {
  Side side{line};
  constexpr std::uint32_t warm_up = 1000;  // mappings come, links go over to polling
  side.run(first, 0, warm_up);
  prctl(PR_SET_NAME, "quiet-begin");
  side.run(first, warm_up, warm_up + rounds);
  prctl(PR_SET_NAME, "quiet-end");
  line.put('d');
  line.get<char>();
}

const Role other{"other", [](Line& parent) { play(parent, false); }};

}  // namespace
}  // namespace verbena::test

int main(int argc, char** argv) {
  if (const auto status = verbena::test::play_role(argc, argv)) return *status;
  verbena::test::Child child{"other"};
  verbena::test::play(child.line(), true);
  return child.join();
}
