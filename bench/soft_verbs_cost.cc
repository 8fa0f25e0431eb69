// SPDX-License-Identifier: Apache-2.0
// What does an operation on soft0 cost the processor, from ibv_post_send to its completion out of
// ibv_poll_cq?
//
// Two queue pairs of one process, connected to each other, in one thread: no coherence traffic, so this is
// the cost of the instructions alone. Expected, by counting: a write of 8 bytes checks a key, announces and
// withdraws itself (two locked stores, some 20 cycles each), stores, and writes and reads a completion: 30–50
// ns. A send crosses two rings instead: 60–100 ns. An empty poll is a load and a compare: 5–10 ns. A large
// write is the machine's memcpy.
#include <benchmark/benchmark.h>

#include <array>
#include <cstring>
#include <stdexcept>

#include "core/buffer_pool.h"
#include "core/completion_queue.h"
#include "core/queue_pair.h"

namespace {

using namespace verbena::core;

constexpr int access =
    IBV_ACCESS_LOCAL_WRITE | IBV_ACCESS_REMOTE_WRITE | IBV_ACCESS_REMOTE_READ | IBV_ACCESS_REMOTE_ATOMIC;

QueuePairOptions options() {
  QueuePairOptions options;
  options.receive_depth = 128;
  return options;
}

/// Two connected queue pairs, a completion queue each, and two pieces of pool memory.
class Pair {
 public:
  explicit Pair(std::size_t size)
      : device_(open_device("soft0")),
        pd_(*device_, device_->alloc_pd()),
        from_(*device_, pd_.get(), 1, size, access),
        to_(*device_, pd_.get(), 1, size, access),
        sender_queue_(*device_, 256),
        receiver_queue_(*device_, 256),
        sender_(*device_, pd_.get(), sender_queue_.get(), sender_queue_.get(), nullptr, options()),
        receiver_(*device_, pd_.get(), receiver_queue_.get(), receiver_queue_.get(), nullptr, options()),
        source_(from_.take()),
        target_(to_.take()) {
    sender_.bring_up(receiver_.facts());
    receiver_.bring_up(sender_.facts());
    std::memset(source_, 1, size);
    std::memset(target_, 2, size);
    piece_ = {reinterpret_cast<std::uintptr_t>(source_), static_cast<std::uint32_t>(size), from_.lkey()};
  }

  /// A signalled request from the source to the target, to be posted again and again.
  ibv_send_wr request(ibv_wr_opcode opcode, unsigned flags = 0) {
    ibv_send_wr request{};
    request.opcode = opcode;
    request.send_flags = IBV_SEND_SIGNALED | flags;
    request.sg_list = &piece_;
    request.num_sge = 1;
    request.wr.rdma = {reinterpret_cast<std::uintptr_t>(target_), to_.rkey()};
    return request;
  }
  ibv_send_wr fetch_and_add() {
    ibv_send_wr request = this->request(IBV_WR_ATOMIC_FETCH_AND_ADD);
    request.wr.atomic = {reinterpret_cast<std::uintptr_t>(target_), 1, 0, to_.rkey()};
    return request;
  }

  void post(ibv_send_wr& request) {
    ibv_send_wr* bad = nullptr;
    if (ibv_post_send(sender_.get(), &request, &bad) != 0) throw std::runtime_error("ibv_post_send");
  }
  void post_receive() {
    ibv_sge piece{reinterpret_cast<std::uintptr_t>(target_), piece_.length, to_.lkey()};
    ibv_recv_wr request{}, *bad = nullptr;
    request.sg_list = &piece;
    request.num_sge = 1;
    if (ibv_post_recv(receiver_.get(), &request, &bad) != 0) throw std::runtime_error("ibv_post_recv");
  }
  void await_sent(int count = 1) { await(sender_queue_, receiver_queue_, count); }
  void await_received(int count = 1) { await(receiver_queue_, sender_queue_, count); }
  int poll_empty() {
    std::array<ibv_wc, 16> batch;
    return sender_queue_.poll(batch);
  }

 private:
  /// The other queue's poll may be what makes its side move.
  static void await(CompletionQueue& queue, CompletionQueue& other, int count) {
    std::array<ibv_wc, 32> batch;
    while (count > 0) {
      const int found = queue.poll(batch);
      for (int i = 0; i < found; ++i)
        if (batch[static_cast<std::size_t>(i)].status != IBV_WC_SUCCESS)
          throw std::runtime_error("a completion failed");
      count -= found;
      if (found == 0) other.poll(std::span<ibv_wc>(batch).first(0));
    }
  }

  std::unique_ptr<Device> device_;
  Handle<ibv_pd> pd_;
  BufferPool from_;
  BufferPool to_;
  CompletionQueue sender_queue_;
  CompletionQueue receiver_queue_;
  QueuePair sender_;
  QueuePair receiver_;
  std::byte* source_;
  std::byte* target_;
  ibv_sge piece_{};
};

void one_sided(benchmark::State& state, ibv_wr_opcode opcode, unsigned flags) {
  const auto size = static_cast<std::size_t>(state.range(0));
  Pair pair(size);
  ibv_send_wr request = pair.request(opcode, flags);
  for (auto _ : state) {
    pair.post(request);
    pair.await_sent();
  }
  state.SetBytesProcessed(state.iterations() * state.range(0));
}

void BM_write_inline(benchmark::State& state) {
  one_sided(state, IBV_WR_RDMA_WRITE, IBV_SEND_INLINE);
}
void BM_write(benchmark::State& state) {
  one_sided(state, IBV_WR_RDMA_WRITE, 0);
}
void BM_read(benchmark::State& state) {
  one_sided(state, IBV_WR_RDMA_READ, 0);
}
BENCHMARK(BM_write_inline)->Arg(8)->Arg(64);
BENCHMARK(BM_write)->Arg(8)->Arg(4096)->Arg(1 << 20);
BENCHMARK(BM_read)->Arg(8)->Arg(4096)->Arg(1 << 20);

void BM_fetch_and_add(benchmark::State& state) {
  Pair pair(8);
  ibv_send_wr request = pair.fetch_and_add();
  for (auto _ : state) {
    pair.post(request);
    pair.await_sent();
  }
}
BENCHMARK(BM_fetch_and_add);

/// Both sides' work: the receive, the send, and the two completions.
void BM_send_and_receive(benchmark::State& state) {
  Pair pair(static_cast<std::size_t>(state.range(0)));
  ibv_send_wr request = pair.request(IBV_WR_SEND, IBV_SEND_INLINE);
  for (auto _ : state) {
    pair.post_receive();
    pair.post(request);
    pair.await_received();
    pair.await_sent();
  }
}
BENCHMARK(BM_send_and_receive)->Arg(8)->Arg(64);

void BM_empty_poll(benchmark::State& state) {
  Pair pair(8);
  for (auto _ : state) benchmark::DoNotOptimize(pair.poll_empty());
}
BENCHMARK(BM_empty_poll);

/// What BM_write of the same size is held against.
void BM_memcpy(benchmark::State& state) {
  const auto size = static_cast<std::size_t>(state.range(0));
  const SharedMemory from(size), to(size);
  std::memset(from.data(), 1, size);
  std::memset(to.data(), 2, size);
  for (auto _ : state) {
    std::memcpy(to.data(), from.data(), size);
    benchmark::ClobberMemory();
  }
  state.SetBytesProcessed(state.iterations() * state.range(0));
}
BENCHMARK(BM_memcpy)->Arg(8)->Arg(4096)->Arg(1 << 20);

}  // namespace
