// SPDX-License-Identifier: Apache-2.0
#include "support/sleeper.h"

#include <poll.h>

#include <chrono>
#include <stdexcept>
#include <string>

namespace verbena::test {
namespace {

constexpr std::uint32_t receives = 8;

void sleep_on(Endpoint& endpoint, std::uint32_t round) {
  pollfd descriptor{endpoint.channel()->fd, POLLIN, 0};
  const auto limit = std::chrono::milliseconds{patience};
  if (poll(&descriptor, 1, static_cast<int>(limit.count())) == 0) {
    const char* found =
        endpoint.nothing_received() ? "and no completion waits" : "although a completion waits";
    throw Impatience("message " + std::to_string(round) + ": no wake-up, " + found);
  }
  ibv_cq* cq = nullptr;
  void* cq_context = nullptr;
  if (endpoint.device().get_cq_event(endpoint.channel(), &cq, &cq_context) == 0) {
    endpoint.device().ack_cq_events(cq, 1);
  }
}

ibv_wc receive_sleeping(Endpoint& endpoint, std::uint32_t round) {
  ibv_wc completion{};
  while (true) {
    if (ibv_poll_cq(endpoint.receive_cq(), 1, &completion) == 1) return completion;
    if (ibv_req_notify_cq(endpoint.receive_cq(), 0) != 0) throw std::runtime_error("arming failed");
    if (ibv_poll_cq(endpoint.receive_cq(), 1, &completion) == 1) return completion;
    sleep_on(endpoint, round);
  }
}

void send_round(Endpoint& endpoint, std::uint32_t round) {
  endpoint.post(send_with_imm({}, round));
  if (endpoint.sent().status != IBV_WC_SUCCESS) throw std::runtime_error("a send failed");
}

void expect_round(Endpoint& endpoint, std::uint32_t round) {
  const ibv_wc completion = receive_sleeping(endpoint, round);
  if (completion.status != IBV_WC_SUCCESS) throw std::runtime_error("a receive failed");
  if (ntohl(completion.imm_data) != round) throw std::runtime_error("messages came out of order");
  endpoint.post_receive(Pieces{});
}

void post_receives(Endpoint& endpoint) {
  for (std::uint32_t i = 0; i < receives; ++i) endpoint.post_receive(Pieces{});
}

}  // namespace

void ask_sleeping(Endpoint& endpoint, std::uint32_t rounds) {
  post_receives(endpoint);
  for (std::uint32_t round = 0; round < rounds; ++round) {
    send_round(endpoint, round);
    expect_round(endpoint, round);
  }
}

void answer_sleeping(Endpoint& endpoint, std::uint32_t rounds) {
  post_receives(endpoint);
  for (std::uint32_t round = 0; round < rounds; ++round) {
    expect_round(endpoint, round);
    send_round(endpoint, round);
  }
}

}  // namespace verbena::test
