// SPDX-License-Identifier: Apache-2.0
// Two processes: a server that is killed and started anew at its port, under a stream of calls.
#include <algorithm>
#include <chrono>
#include <optional>

#include "rpc/calls.h"
#include "support/child.h"

namespace verbena::test {
namespace {

using namespace std::chrono_literals;

/// Serves `echo` at the port that it is told, until it is killed.
const Role server_role{"restarted server", [](Line& parent) {
                         const auto port = parent.get<std::uint16_t>();
                         Loop loop{small_options()};
                         rpc::Server server{loop, address_of(port)};
                         server.on(echo, [](rpc::Bytes request, rpc::Reply& reply) { reply.send(request); });
                         parent.put(server.port());
                         loop.run();
                       }};

class RestartTest : public testing::TestWithParam<std::size_t> {
 protected:
  void start() {
    child.emplace("restarted server");
    child->line().put(port);
    port = child->line().get<std::uint16_t>();
  }
  /// As many calls as there is room for, then a turn.
  void stream() {
    while (!client.call(echo, request, outcomes.emplace_back().handler())) {
    }
    outcomes.pop_back();
    loop.poll();
    Loops::look(loop);
    while (checked < outcomes.size() && outcomes[checked].done()) ++checked;
  }
  std::size_t answered() const {
    return static_cast<std::size_t>(
        std::ranges::count_if(outcomes, [](const Outcome& one) { return one.done() && !one.error; }));
  }
  void stream_until_answered(std::size_t more) {
    const std::size_t target = checked + more;
    const std::size_t before = answered();
    wait_until("answers", [&] {
      stream();
      return checked >= target && answered() >= before + more;
    });
  }

  const Message request = message(GetParam());
  std::uint16_t port = 0;
  std::optional<Child> child;
  std::deque<Outcome> outcomes;  // outlive the client
  std::size_t checked = 0;       // all before it are done
  Loop loop{small_options()};
  rpc::Client client;
};

TEST_P(RestartTest, EveryCallOfARunningStreamCompletesOnce) {
  start();
  client = rpc::connect(loop, address_of(port), {.first = 5ms, .most = 50ms});
  int gave_up = 0;
  client.on_closed([&](std::error_code, std::string_view) { ++gave_up; });
  for (std::uint64_t round = 1; round <= 3; ++round) {
    stream_until_answered(200);
    child->kill();
    wait_until("the loss", [&] {
      stream();
      return !client.is_open() && client.in_flight() == 0;
    });
    start();
    wait_until("the client", [&] {
      stream();
      return client.is_open();
    });
    EXPECT_EQ(client.reconnections(), round);
  }
  stream_until_answered(200);
  wait_until("the last ones", [&] {
    loop.poll();
    return client.in_flight() == 0;
  });
  std::size_t lost = 0;
  for (const Outcome& outcome : outcomes) {
    ASSERT_EQ(outcome.times, 1);
    if (outcome.error) {
      ++lost;
      EXPECT_TRUE(outcome.error == code(errc::connection_lost) || outcome.error == code(errc::not_sent))
          << outcome.error.message();
    } else {
      expect_equal(outcome.reply, request);
    }
  }
  EXPECT_LE(lost, 3 * small_options().call_depth);
  EXPECT_EQ(gave_up, 0);
  EXPECT_EQ(loop.pinned_bytes(), small_options().budget().total());
}

// Inline, copied, read in place.
INSTANTIATE_TEST_SUITE_P(Sizes, RestartTest, testing::Values(8, 900, 50'000));

}  // namespace
}  // namespace verbena::test
