// SPDX-License-Identifier: Apache-2.0
#include "tools/perf/responder.h"

#include <fmt/format.h>

#include <verbena/connection.h>
#include <verbena/loop.h>
#include <algorithm>
#include <charconv>
#include <cstdio>

#include "tools/common/failure.h"
#include "tools/common/floor.h"
#include "tools/common/second_process.h"
#include "tools/local_address.h"
#include "tools/perf/plan.h"
#include "tools/perf/response.h"

namespace verbena::tools {
namespace {

/// Waits for measuring sides, and serves each until it is done.
class Responder {
 public:
  Responder(const ResponderPlan& plan, Floor* floor)
      : alone_(plan.channel < 0),
        floor_(floor),
        loop_(loop_options(device_for(plan.listen, plan.device), plan.size, plan.depth,
                           !alone_ && plan.core.has_value())),
        listener_(listen(loop_, plan.listen, [this](Connection peer) { admit(std::move(peer)); })),
        address_(with_port(plan.listen, listener_.port())) {}

  const std::string& address() const noexcept { return address_; }

  void serve_one() {
    loop_.run_until([this] { return response_ != nullptr; });
    if (alone_) fmt::print("measuring for {}\n", response_->peer());
    std::fflush(stdout);
    response_->run();
    response_.reset();
  }

 private:
  /// One at a time: a second one would spoil the first one's figures. Its connection closes at once.
  void admit(Connection peer) {
    if (!response_) response_ = std::make_unique<Response>(loop_, std::move(peer), address_, floor_);
  }

  bool alone_;
  Floor* floor_;
  Loop loop_;
  std::unique_ptr<Response> response_;
  Listener listener_;
  std::string address_;
};

/// The floor needs no device: the counts come through the channel.
void respond_to_floor(Channel& channel, Floor& floor) {
  channel.send_line("ready");
  for (;;) {
    const std::string line = channel.receive_line();
    std::size_t count = 0;
    std::from_chars(line.data(), line.data() + line.size(), count);
    if (count == 0) return;
    floor.pong(count);
  }
}

void respond_to_first_process(const ResponderPlan& plan) {
  behave_as_second_process();
  Channel channel(plan.channel);
  Floor floor = Floor::open(plan.floor);
  if (plan.listen.empty()) return respond_to_floor(channel, floor);
  Responder responder(plan, &floor);
  channel.send_line(responder.address());
  responder.serve_one();
}

}  // namespace

void respond(const ResponderPlan& plan) {
  if (plan.core) pin_to(*plan.core);
  if (plan.channel >= 0) return respond_to_first_process(plan);
  Responder responder(plan, nullptr);
  fmt::print("verbena perf: listening at {}; measure with 'verbena perf TEST --connect {}'\n",
             responder.address(), responder.address());
  std::fflush(stdout);
  for (;;) responder.serve_one();
}

}  // namespace verbena::tools
