// SPDX-License-Identifier: Apache-2.0
#include "verbena/server_group.h"
#include "core/fork.h"

#include <exception>
#include <future>
#include <string>
#include <thread>
#include <utility>

#include "core/fork.h"
#include "verbena/address.h"
#include "verbena/error.h"
#include "verbena/loop.h"

namespace verbena::rpc {
namespace {

/// What a thread tells of its loop when that is about to run. `server` and `loop` are for functions posted to
/// it.
struct Running {
  Poster poster;
  Loop* loop = nullptr;
  Server* server = nullptr;
  std::uint16_t port = 0;
};

Options sharing(Options options) {
  options.share_port = true;
  return options;
}

void serve(const Options& options, const std::string& address, const Handler<void(Server&)>& set_up,
           std::promise<Running> running) {
  try {
    Loop loop(options);
    Server server(loop, address);
    set_up(server);
    running.set_value({loop.poster(), &loop, &server, server.port()});
    loop.run();
  } catch (...) {
    // run() doesn't throw: it's what was not made.
    running.set_exception(std::current_exception());
  }
}

}  // namespace

class GroupState {
 public:
  GroupState(std::size_t loops, Options options, std::string_view text, Handler<void(Server&)> set_up)
      : options_(sharing(std::move(options))), set_up_(std::move(set_up)) {
    if (loops == 0) throw Error(errc::invalid_argument, "a group of servers needs a loop at least");
    Address address = Address::parse(text);
    try {
      for (std::size_t i = 0; i < loops; ++i) {
        start(address.to_string());
        address.port = running_.front().port;  // the first may have chosen it
      }
    } catch (...) {
      stop();
      throw;
    }
  }
  ~GroupState() { stop(); }
  GroupState(const GroupState&) = delete;
  GroupState& operator=(const GroupState&) = delete;

  const std::vector<Running>& running() const noexcept { return running_; }
  bool is_of_this_process() const noexcept { return process_.is_this(); }

 private:
  // Waits until it runs: the set-ups come one after the other, and a failure is told at once.
  void start(std::string address) {
    std::promise<Running> promise;
    auto running = promise.get_future();
    threads_.emplace_back([this, address = std::move(address), promise = std::move(promise)]() mutable {
      serve(options_, address, set_up_, std::move(promise));
    });
    running_.push_back(running.get());
  }
  void stop() noexcept {
    for (const Running& each : running_) each.poster.post([loop = each.loop] { loop->stop(); });
    for (std::thread& thread : threads_) thread.join();
    threads_.clear();
  }

  core::OfProcess process_;
  const Options options_;
  const Handler<void(Server&)> set_up_;
  std::vector<Running> running_;
  std::vector<std::thread> threads_;
};

ServerGroup::ServerGroup(std::size_t loops, Options options, std::string_view address,
                         Handler<void(Server&)> set_up)
    : state_(std::make_unique<GroupState>(loops, std::move(options), address, std::move(set_up))) {}
// In a forked child there are none of its threads.
ServerGroup::~ServerGroup() {
  if (state_ && !state_->is_of_this_process()) static_cast<void>(state_.release());
}
ServerGroup::ServerGroup(ServerGroup&&) noexcept = default;

std::uint16_t ServerGroup::port() const noexcept {
  return state_->running().front().port;
}
std::size_t ServerGroup::size() const noexcept {
  return state_->running().size();
}
Poster ServerGroup::poster(std::size_t index) const {
  return state_->running().at(index).poster;
}

std::vector<std::size_t> ServerGroup::connections() const {
  std::vector<std::future<std::size_t>> answers;
  for (const Running& each : state_->running()) {
    std::promise<std::size_t> promise;
    answers.push_back(promise.get_future());
    each.poster.post([server = each.server, promise = std::move(promise)]() mutable {
      promise.set_value(server->connections());
    });
  }
  std::vector<std::size_t> counts;
  for (auto& answer : answers) counts.push_back(answer.get());
  return counts;
}

}  // namespace verbena::rpc
