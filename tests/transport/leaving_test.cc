// SPDX-License-Identifier: Apache-2.0
// Listeners and loops that go while somebody comes.
#include <boost/asio/io_context.hpp>
#include <optional>

#include "transport/loops.h"

namespace verbena::test {
namespace {

TEST(LeavingTest, AListenerMayGoInsideItsOwnHandler) {
  Loops loops;
  std::optional<Listener> listener;
  std::vector<Connection> servers;
  std::vector<Connection> clients;
  listener = listen(loops.server_loop, address_of(0), [&](Connection connection) {
    servers.push_back(std::move(connection));
    listener.reset();
  });
  int answers = 0;
  for (int i = 0; i < 3; ++i) {
    connect(loops.client_loop, address_of(listener->port()), [&](const Error*, Connection connection) {
      clients.push_back(std::move(connection));
      ++answers;
    });
  }
  loops.until("three answers", [&] { return answers == 3; });
}

TEST(LeavingTest, ALoopMayGoWhileItIsConnecting) {
  Connected both;
  for (int turns = 0; turns < 40; ++turns) {
    Loop loop{small_options()};
    connect(loop, address_of(both.listener.port()), [](const Error*, Connection) {});
    for (int i = 0; i < turns; ++i) {
      Loops::look(loop);
      loop.poll();
      both.turn();
    }
  }
  both.settle();
}

TEST(LeavingTest, ALoopInAGivenContextMayGoWhileItIsConnecting) {
  Connected both;
  for (int turns = 0; turns < 40; ++turns) {
    boost::asio::io_context context;
    {
      Loop loop{context, small_options()};
      connect(loop, address_of(both.listener.port()), [](const Error*, Connection) {});
      for (int i = 0; i < turns; ++i) {
        context.poll();
        both.turn();
      }
    }
    context.restart();
    context.poll();
  }
  both.settle();
}

}  // namespace
}  // namespace verbena::test
