// SPDX-License-Identifier: Apache-2.0
// A peer gone mad: it scribbles over all memory that it shares with this process. Its connection may fail in
// any way; this process goes on, and its other connections don't notice.
#include <algorithm>
#include <cstdio>
#include <cstring>

#include "core/soft/context.h"
#include "core/soft/queue_pair.h"
#include "device/device_test.h"
#include "device/remote_process.h"

namespace verbena::test {
namespace {

namespace soft = core::soft;

constexpr std::size_t size = 64 * 1024;

class Scribbler {
 public:
  Scribbler(Endpoint& endpoint, Buffer& memory, Remote theirs, std::uint64_t seed)
      : link_(static_cast<soft::QueuePair*>(endpoint.qp())->link),
        endpoint_(endpoint),
        memory_(memory),
        theirs_(theirs),
        dice_(seed),
        own_entry_(const_cast<soft::KeyEntry&>(static_cast<soft::QueuePair*>(endpoint.qp())
                                                   ->owner_context.keys()
                                                   .entry(memory.region()->rkey))) {}

  void scribble() {
    switch (dice_.between(0, 5)) {
      case 0: {  // the header, but mostly not the hazards: a wait for them is long
        std::size_t at = dice_.between(0, 511) * 8;
        const std::size_t hazard = offsetof(soft::Inbound, hazard);
        if (at >= hazard && at < hazard + 16 && !dice_.one_in(200)) at = 0;
        store(at);
        break;
      }
      case 1:
        store(soft::page_size + dice_.between(0, soft::ring_bytes(link_.out_slots) / 8 - 1) * 8);
        break;
      case 2:
        forge_entry();
        break;
      case 3:
        scribble_own_key();
        break;
      case 4:
        endpoint_.try_post(send({memory_.piece(0, dice_.between(0, size))}));
        break;
      default:
        if (link_.out && link_.bell) link_.ring_bell(true);
    }
    ibv_wc completion{};
    ibv_poll_cq(endpoint_.send_cq(), 1, &completion);
    ibv_poll_cq(endpoint_.receive_cq(), 1, &completion);
  }

 private:
  std::uint64_t value() {
    switch (dice_.between(0, 3)) {
      case 0:
        return dice_.word();
      case 1:
        return dice_.between(0, 5000);
      case 2:
        return ~std::uint64_t{0} - dice_.between(0, 70'000);
      default:
        return theirs_.address + dice_.between(0, 2 * size) - size / 2;
    }
  }
  void store(std::size_t at) {
    if (!link_.out) return;
    const std::uint64_t word = value();
    std::memcpy(reinterpret_cast<std::byte*>(link_.out) + at, &word, sizeof word);
  }
  /// An entry where the owner looks next, with everything else left to chance.
  void forge_entry() {
    if (!link_.out) return;
    soft::Slot& slot = link_.next_slot();
    for (std::size_t i = 0; i < sizeof slot.payload; i += 8) {
      const std::uint64_t word = value();
      std::memcpy(slot.payload + i, &word, sizeof word);
    }
    if (dice_.one_in(2)) {
      const soft::TargetRequest request{value(),
                                        theirs_.rkey,
                                        static_cast<std::uint32_t>(value()),
                                        {value(), value()},
                                        static_cast<std::uint32_t>(dice_.between(0, 1)),
                                        0};
      std::memcpy(slot.payload, &request, sizeof request);
    }
    const auto length = static_cast<std::uint32_t>(value());
    link_.publish(static_cast<soft::SlotKind>(dice_.between(0, 9)),
                  static_cast<std::uint8_t>(dice_.between(0, 31)), length,
                  static_cast<std::uint32_t>(dice_.between(0, 200)), static_cast<std::uint32_t>(value()));
    link_.ring_bell(false);
  }
  void scribble_own_key() {
    switch (dice_.between(0, 3)) {
      case 0:
        own_entry_.address = value();
        break;
      case 1:
        own_entry_.length = value();
        break;
      case 2:
        own_entry_.memory_offset = value();
        break;
      default:
        own_entry_.address = memory_.remote().address;  // and well again
        own_entry_.length = size;
        own_entry_.memory_offset = 0;
    }
  }

  soft::Link& link_;
  Endpoint& endpoint_;
  Buffer& memory_;
  Remote theirs_;
  Dice dice_;
  soft::KeyEntry& own_entry_;
};

const Role scribbler{"scribbler", [](Line& parent) {
                       const auto device = open_test_device();
                       Endpoint endpoint{*device};
                       Buffer& memory = meet_parent(endpoint, parent);
                       const auto seed = parent.get<std::uint64_t>();
                       Scribbler mad{endpoint, memory, parent.get<Remote>(), seed};
                       // The parent kills it; if the parent is gone, a dead line's exception ends it.
                       for (std::uint64_t i = 0;; ++i) {
                         mad.scribble();
                         if (i % 4096 == 0) parent.put('.');
                       }
                     }};

/// A well-behaved peer, and a model of its memory.
class Steady {
 public:
  explicit Steady(core::Device& device)
      : peer_{device, "storekeeper", {MemoryKind::shared, size}},
        near_{peer_.endpoint().buffer(size, MemoryKind::shared)},
        back_{peer_.endpoint().buffer(size)} {}

  void check(Dice& dice) {
    Endpoint& endpoint = peer_.endpoint();
    dice.fill(near_.bytes(0, 512));
    endpoint.post(write({near_.piece()}, peer_.remote()));
    expect_success(endpoint.sent(), IBV_WC_RDMA_WRITE, 0, endpoint);
    endpoint.post(read({back_.piece()}, peer_.remote()));
    expect_success(endpoint.sent(), IBV_WC_RDMA_READ, 0, endpoint);
    expect_equal(back_.bytes(), near_.bytes());
    peer_.expect_message({0, 512});
    endpoint.post(send({near_.piece(0, 512)}));
    expect_success(endpoint.sent(), IBV_WC_SEND, 0, endpoint);
    EXPECT_EQ(peer_.message().length, 512U);
    EXPECT_EQ(peer_.checksum(), checksum(near_.bytes()));
  }

 private:
  RemoteProcess peer_;
  Buffer& near_;
  Buffer& back_;
};

class ScribbleTest : public DeviceTest {};

TEST_F(ScribbleTest, AMadPeerHarmsOnlyItsOwnConnection) {
  Dice dice;
  std::printf("to repeat: VERBENA_TEST_SEED=%llu\n", static_cast<unsigned long long>(dice.seed()));
  const auto end = std::chrono::steady_clock::now() + std::chrono::seconds{5};
  Steady steady{device()};
  int rounds = 0;
  for (; std::chrono::steady_clock::now() < end; ++rounds) {
    const auto kind = dice.one_in(3) ? MemoryKind::heap : MemoryKind::shared;
    RemoteProcess mad{device(), "scribbler", {kind, size}};
    Endpoint& endpoint = mad.endpoint();
    Buffer& far = endpoint.buffer(size, kind);
    mad.child().line().put(dice.word());
    mad.child().line().put(far.remote());
    const auto round_end = std::min(end, std::chrono::steady_clock::now() + std::chrono::milliseconds{100});
    ibv_wc completions[8];
    while (std::chrono::steady_clock::now() < round_end) {
      for (int i = 0; i < 4; ++i) {
        endpoint.try_post_receive({far.piece(dice.between(0, size / 2), dice.between(0, size / 2))});
        const Remote there = mad.remote(dice.between(0, size));
        const Pieces piece{far.piece(0, dice.between(0, 9000))};
        switch (dice.between(0, 3)) {
          case 0:
            endpoint.try_post(write(piece, there));
            break;
          case 1:
            endpoint.try_post(read(piece, there));
            break;
          case 2:
            endpoint.try_post(fetch_add(far.piece(0, 8), mad.remote(dice.between(0, size / 8 - 1) * 8), 1));
            break;
          default:
            endpoint.try_post(send(piece));
        }
      }
      for (int i = 0; i < 200; ++i) {
        ibv_poll_cq(endpoint.send_cq(), 8, completions);
        ibv_poll_cq(endpoint.receive_cq(), 8, completions);
      }
      if (endpoint.state() == IBV_QPS_ERR) break;
    }
    steady.check(dice);
    mad.kill();
  }
  EXPECT_GT(rounds, 0);
  std::printf("%d mad peers\n", rounds);
}

}  // namespace
}  // namespace verbena::test
