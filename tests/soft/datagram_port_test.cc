// SPDX-License-Identifier: Apache-2.0
// The sockets behind UD queue pairs: receivers without room, names that are taken, names that stay.
#include <sys/socket.h>
#include <sys/un.h>

#include <chrono>
#include <cstddef>
#include <cstdio>
#include <fstream>
#include <string>

#include "core/soft/layout.h"
#include "core/soft/queue_pair.h"
#include "core/soft/shared_file.h"
#include "device/device_test.h"
#include "support/child.h"

namespace verbena::test {
namespace {

using std::chrono::steady_clock;

constexpr EndpointOptions options{
    .type = IBV_QPT_UD, .send_depth = 512, .receive_depth = 256, .completions = 1024};

std::string name_of_port(std::uint32_t number) {
  char name[64];
  std::snprintf(name, sizeof name, "verbena/soft0/%u/ud/%06x", core::soft::layout_version, number);
  return name;
}

class DatagramPortTest : public DeviceTest {
 protected:
  core::Handle<ibv_ah> address_of(Endpoint& endpoint) {
    ibv_ah_attr attr{};
    attr.port_num = 1;
    attr.is_global = 1;
    attr.grh.dgid = endpoint.facts().gid;
    return {device(), device().create_ah(endpoint.pd(), attr)};
  }
};

const Role deaf{"deaf", [](Line& parent) {
                  const auto device = open_test_device();
                  Endpoint endpoint{*device, options};
                  endpoint.connect(endpoint.facts());
                  parent.put(endpoint.number());
                  parent.sleep_until_woken();
                }};

// Stopped, so that not even its agent takes anything in.
TEST_F(DatagramPortTest, AReceiverWithoutRoomHoldsUpNothingToOthers) {
  Child child{"deaf"};
  const auto full = child.line().get<std::uint32_t>();
  child.signal(SIGSTOP);
  Endpoint a{device(), options};
  Endpoint b{device(), options};
  connect(a, b);
  const auto here = address_of(a);
  b.post_receive(b.buffer(sizeof(ibv_grh)).piece());
  constexpr std::uint32_t burst = 100;
  const auto before = steady_clock::now();
  for (std::uint32_t i = 0; i < burst; ++i)
    a.post(send({}).towards(here.get(), full, datagram_key).with_id(i));
  a.post(send_with_imm({}, 1).towards(here.get(), b.number(), datagram_key).with_id(burst));
  EXPECT_EQ(ntohl(b.received().imm_data), 1U);
  EXPECT_LT(steady_clock::now() - before, std::chrono::milliseconds{250}) << "it came behind the others' end";
  // Lost, all at one time, and in the order of their posting.
  for (std::uint32_t i = 0; i <= burst; ++i) expect_success(a.sent(), IBV_WC_SEND, i, a);
  // Nobody waits for this receiver a second time.
  for (std::uint32_t i = 0; i < burst; ++i) {
    a.post(send({}).towards(here.get(), full, datagram_key).with_id(i));
    ibv_wc completion{};
    ASSERT_EQ(ibv_poll_cq(a.send_cq(), 1, &completion), 1);
  }
  child.signal(SIGCONT);
}

TEST_F(DatagramPortTest, InlineBytesThatWaitStayWhatTheyWereWhileTheQueueGrows) {
  Endpoint a{device(), options};
  Endpoint b{device(), options};
  connect(a, b);
  const auto here = address_of(a);
  constexpr std::uint32_t burst = 200;  // many times what the kernel lets the receiver have
  constexpr std::size_t slot = sizeof(ibv_grh) + 8;
  Buffer& into = b.buffer(slot * burst);
  for (std::uint32_t i = 0; i < burst; ++i) b.post_receive(into.piece(i * slot, slot), i);
  for (std::uint32_t i = 0; i < burst; ++i) {
    std::uint64_t word = i;
    a.post(send({{reinterpret_cast<std::uintptr_t>(&word), sizeof word, 0}})
               .inlined()
               .towards(here.get(), b.number(), datagram_key)
               .with_id(i));
  }
  // One that waits too long, on a busy machine, is lost; the others are whole, and in order.
  std::uint32_t arrived = 0, sent = 0;
  std::uint64_t before = 0;
  const auto take = [&] {
    ibv_wc completion{};
    if (ibv_poll_cq(b.receive_cq(), 1, &completion) != 1) return false;
    EXPECT_EQ(completion.wr_id, arrived);
    const std::uint64_t word = into.word(arrived * slot + sizeof(ibv_grh));
    EXPECT_TRUE(word < burst && (arrived == 0 || word > before)) << word << " after " << before;
    before = word;
    ++arrived;
    return true;
  };
  wait_until("the end of all sends", [&] {
    ibv_wc completion{};
    if (ibv_poll_cq(a.send_cq(), 1, &completion) == 1) ++sent;
    take();
    return sent == burst;
  });
  while (take()) {
  }
  EXPECT_GT(arrived, 0U);
}

TEST_F(DatagramPortTest, ANumberWhoseNameIsTakenIsLeftOut) {
  const Endpoint first{device(), options};
  const core::soft::Descriptor stranger(::socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0));
  const std::string name = name_of_port(first.number() + 1);
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  name.copy(address.sun_path + 1, name.size());
  ASSERT_EQ(::bind(stranger.get(), reinterpret_cast<const sockaddr*>(&address),
                   static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + 1 + name.size())),
            0);
  const Endpoint second{device(), options};
  EXPECT_EQ(second.number(), first.number() + 2);
}

TEST_F(DatagramPortTest, ClosingTheDeviceLeavesNothingOfItsQueuePairs) {
  auto closed = open_test_device();
  ibv_pd* const pd = closed->alloc_pd();
  ibv_cq* const cq = closed->create_cq(8, nullptr, nullptr, 0);
  ibv_qp_init_attr init{};
  init.qp_type = IBV_QPT_UD;
  init.send_cq = init.recv_cq = cq;
  init.cap = {8, 8, 1, 1, 0};
  const ibv_qp* const qp = closed->create_qp(pd, init);
  ASSERT_NE(qp, nullptr);
  const std::string name = name_of_port(qp->qp_num);
  const auto is_there = [&] {
    std::ifstream sockets{"/proc/net/unix"};
    for (std::string line; std::getline(sockets, line);) {
      if (line.find(name) != line.npos) return true;
    }
    return false;
  };
  EXPECT_TRUE(is_there());
  closed.reset();
  EXPECT_FALSE(is_there());
  delete static_cast<core::soft::ProtectionDomain*>(pd);  // what is memory alone is the program's to lose
}

}  // namespace
}  // namespace verbena::test
