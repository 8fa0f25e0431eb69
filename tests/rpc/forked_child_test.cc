// SPDX-License-Identifier: Apache-2.0
// Clients and servers in a forked child: they are the parent's, and its calls go on.
#include <optional>

#include "rpc/calls.h"
#include "support/forked.h"
#include "verbena/server_group.h"

namespace verbena::test {
namespace {

TEST(ForkedChildsCallsTest, AreRefusedAndTheParentsGoOn) {
  std::optional<Calls> calls{std::in_place};
  Outcome under_way;
  ASSERT_EQ(calls->client.call(echo, message(100), under_way.handler()), std::error_code{});
  Forked child{[&] {
    Outcome refused;
    require(calls->client.call(echo, message(10), refused.handler()) == code(errc::other_process),
            "a call says whose client it is");
    calls.reset();
    require(!under_way.done() && !refused.done(), "no handler runs");
  }};
  EXPECT_EQ(child.join(), 0);
  calls->until("the reply", [&] { return under_way.done(); });
  EXPECT_EQ(under_way.error, std::error_code{});
  EXPECT_EQ(under_way.reply.size(), 100U);
}

TEST(ForkedChildsCallsTest, AServerGroupMayBeDestroyedInAChild) {
  Options options = small_options();
  options.share_port = true;
  std::optional<rpc::ServerGroup> group{
      std::in_place, 2, options, address_of(0), [](rpc::Server& server) {
        server.on(echo, [](rpc::Bytes request, rpc::Reply& reply) { reply.send(request); });
      }};
  Forked child{[&] { group.reset(); }};
  EXPECT_EQ(child.join(), 0);
  Loop loop{small_options()};
  rpc::Client client = rpc::connect(loop, address_of(group->port()));
  Outcome outcome;
  ASSERT_EQ(client.call(echo, message(50), outcome.handler()), std::error_code{});
  wait_until("the reply", [&] {
    loop.poll();
    return outcome.done();
  });
  EXPECT_EQ(outcome.reply.size(), 50U);
}

}  // namespace
}  // namespace verbena::test
