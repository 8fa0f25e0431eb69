// SPDX-License-Identifier: Apache-2.0
#include "rpc/calls.h"

namespace verbena::test {

rpc::Client connected(Loops& loops, std::uint16_t port) {
  rpc::Client client;
  std::optional<std::string> failure;
  rpc::connect(loops.client_loop, address_of(port), [&](const Error* error, rpc::Client made) {
    if (error) failure = error->what();
    client = std::move(made);
  });
  loops.until("a client", [&] { return failure || client.is_open(); });
  if (failure) throw std::runtime_error(*failure);
  return client;
}

Calls::Calls(const Options& server_options, const Options& client_options)
    : Loops(server_options, client_options), server(server_loop, address_of(0)) {
  server.on(echo, [](rpc::Bytes request, rpc::Reply& reply) { reply.send(request); });
  server.on(keep, [this](rpc::Bytes, rpc::Reply& reply) { kept.push_back(std::move(reply)); });
  client = connected(*this, server.port());
}

void Calls::expect_echo(const Message& request) {
  Outcome outcome;
  ASSERT_EQ(client.call(echo, request, outcome.handler()), std::error_code{});
  EXPECT_FALSE(outcome.done()) << "completed inside the call";
  until("an echo of " + std::to_string(request.size()), [&] { return outcome.done(); });
  EXPECT_EQ(outcome.times, 1);
  EXPECT_EQ(outcome.error, std::error_code{});
  expect_equal(outcome.reply, request);
}

}  // namespace verbena::test
