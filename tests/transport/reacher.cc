// SPDX-License-Identifier: Apache-2.0
#include "transport/reacher.h"

#include <algorithm>
#include <array>

namespace verbena::test {

/// The other half.
struct ReacherRole {
  using Order = Reacher::Order;
  using Outcome = Reacher::Outcome;
  using What = Reacher::What;

  static void play(Line& test) {
    Loop loop{small_options()};
    const auto port = test.get<std::uint16_t>();
    std::vector<Connection> connections(test.get<std::size_t>());
    for (Connection& connection : connections) connection = connect(loop, address_of(port));
    for (;;) {
      const auto order = test.get<Order>();
      if (order.what == What::leave) return;
      test.put(carry_out(loop, connections[order.connection], order, test));
    }
  }

  static Outcome carry_out(Loop& loop, Connection& connection, const Order& order, Line& test) {
    const Region near = loop.memory().allocate(order.region.length);
    const Message wanted = message(order.region.length, order.number);
    if (order.what == What::read) {
      const int error = complete(
          loop, [&](Operation& done) { return connection.get(near.slice(), order.region, 0, done); });
      return {error, std::ranges::equal(near.bytes(), wanted)};
    }
    std::ranges::copy(wanted, near.bytes().begin());
    const auto write = [&] {
      return complete(loop,
                      [&](Operation& done) { return connection.put(near.slice(), order.region, 0, done); });
    };
    int error = write();
    if (order.what == What::go_on_writing) {
      test.put('w');
      while (error == 0) error = write();
    }
    return {error, true};
  }

  static int complete(Loop& loop, auto start) {
    Noted done;
    if (const std::error_code refused = start(done)) return refused.value();
    wait_until("an operation on the test's memory", [&] {
      loop.poll();
      return done.done();
    });
    // By meaning: what completes with an error carries the device's own code.
    return done.error ? static_cast<int>(done.error.default_error_condition().value()) : 0;
  }
};

namespace {
const Role reacher{"reacher", [](Line& test) { ReacherRole::play(test); }};
}  // namespace

Reacher::Reacher(Loop& loop, std::size_t connections)
    : loop_(loop), listener_(listen(loop, address_of(0), [this](Connection connection) {
        connections_.push_back(std::move(connection));
      })) {
  child_.line().put(listener_.port());
  child_.line().put(connections);
  wait_until("the reacher", [&] {
    loop_.poll();
    Loops::look(loop_);
    return connections_.size() == connections;
  });
}

Reacher::Read Reacher::read(const RemoteRegion& from, std::uint32_t number, std::size_t connection) {
  const Outcome outcome = carry_out({What::read, number, connection, from});
  return {outcome.error == 0 ? std::error_code{} : code(static_cast<errc>(outcome.error)), outcome.equal};
}

std::error_code Reacher::write(const RemoteRegion& to, std::uint32_t number, std::size_t connection) {
  const Outcome outcome = carry_out({What::write, number, connection, to});
  return outcome.error == 0 ? std::error_code{} : code(static_cast<errc>(outcome.error));
}

void Reacher::start_writing(const RemoteRegion& to) {
  child_.line().put(Order{What::go_on_writing, 1, 0, to});
  child_.line().get<char>();
}

std::error_code Reacher::writing_ended_with() {
  return code(static_cast<errc>(child_.line().get<Outcome>().error));
}

Reacher::Outcome Reacher::carry_out(const Order& order) {
  child_.line().put(order);
  return child_.line().get<Outcome>();
}

void Reacher::finish() {
  child_.line().put(Order{What::leave, 0, 0, {}});
  EXPECT_EQ(child_.join(), 0);
}

}  // namespace verbena::test
