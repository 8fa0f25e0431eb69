// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <unordered_map>
#include <utility>
#include <vector>

#include "core/monotonic_ns.h"
#include "rpc/method_table.h"
#include "rpc/sampler.h"
#include "transport/channel.h"
#include "verbena/rpc.h"

namespace verbena::rpc {

class ServerState {
 public:
  ServerState(Loop& loop, std::string_view address)
      : loop_(loop),
        statistics_(MethodTable::of(loop.engine())),
        sampler_(loop.options().latency_sample),
        listener_(listen(loop, address, [this](Connection connection) { welcome(std::move(connection)); })) {}
  ~ServerState() {
    methods_.clear();  // first: those that owe answers may still give them
    for (Connection& connection : connections_) {
      if (transport::Channel* channel = connection.channel()) channel->calls = {};
    }
  }
  ServerState(const ServerState&) = delete;
  ServerState& operator=(const ServerState&) = delete;

  void on(MethodId method, MethodHandler handler) {
    methods_.insert_or_assign(method, Method{std::move(handler), &statistics_.row(Role::server, method)});
    last_ = nullptr;
  }
  void name(MethodId method, std::string_view name) { statistics_.name(Role::server, method, name); }
  Loop& loop() const noexcept { return loop_; }
  std::uint16_t port() const noexcept { return listener_.port(); }
  std::size_t connections() const noexcept {
    return static_cast<std::size_t>(std::ranges::count_if(connections_, &Connection::is_open));
  }

 private:
  struct Method {
    MethodHandler handler;
    MethodStatistics* statistics;
  };

  void welcome(Connection connection) {
    std::erase_if(connections_, [](const Connection& old) { return !old.is_open(); });
    if (transport::Channel* channel = connection.channel())
      channel->calls = {this, &deliver, nullptr, nullptr};
    connections_.push_back(std::move(connection));
  }

  static void deliver(void* self, transport::Channel& channel, transport::Kind kind,
                      const transport::CallHeader& call, Bytes payload) {
    if (kind != transport::Kind::request) return;  // a reply to nothing that we asked
    auto& server = *static_cast<ServerState*>(self);
    const Method* method = server.find(call.method);
    if (!method) [[unlikely]]
      return server.reject(channel, call, payload);
    ++method->statistics->calls;
    method->statistics->bytes_in += payload.size();
    Reply reply(channel, channel.serial(), call.slot, call.generation, call.status, *method->statistics);
    if (server.sampler_.take()) [[unlikely]]
      return handle_timed(*method, payload, reply);
    method->handler(payload, reply);
  }

  [[gnu::cold]] void reject(transport::Channel& channel, const transport::CallHeader& call, Bytes payload) {
    MethodStatistics& statistics = statistics_.other(Role::server);
    ++statistics.calls;
    statistics.bytes_in += payload.size();
    Reply(channel, channel.serial(), call.slot, call.generation, 0, statistics).fail(errc::rejected);
  }

  // The handler may destroy the server.
  [[gnu::cold]] static void handle_timed(const Method& method, Bytes payload, Reply& reply) {
    MethodStatistics& statistics = *method.statistics;
    const std::int64_t begin = core::monotonic_ns();
    method.handler(payload, reply);
    statistics.latency.record(static_cast<std::uint64_t>(core::monotonic_ns() - begin));
  }

  // Most requests are of the method of the one before.
  const Method* find(MethodId method) {
    if (last_ && last_->first == method) [[likely]]
      return &last_->second;
    const auto found = methods_.find(method);
    if (found == methods_.end()) return nullptr;
    last_ = &*found;
    return &found->second;
  }

  Loop& loop_;
  MethodTable& statistics_;
  Sampler sampler_;
  std::unordered_map<MethodId, Method> methods_;
  const std::pair<const MethodId, Method>* last_ = nullptr;
  std::vector<Connection> connections_;
  Listener listener_;
};

Server::Server(Loop& loop, std::string_view address) : state_(std::make_unique<ServerState>(loop, address)) {}
Server::Server(Server&&) noexcept = default;
Server::~Server() = default;
void Server::on(MethodId method, MethodHandler handler) {
  state_->on(method, std::move(handler));
}
void Server::name(MethodId method, std::string_view name) {
  state_->name(method, name);
}
Loop& Server::loop() const noexcept {
  return state_->loop();
}
std::uint16_t Server::port() const noexcept {
  return state_->port();
}
std::size_t Server::connections() const noexcept {
  return state_->connections();
}

}  // namespace verbena::rpc
