// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <unordered_map>
#include <utility>
#include <vector>

#include "transport/channel.h"
#include "verbena/rpc.h"

namespace verbena::rpc {

class ServerState {
 public:
  ServerState(Loop& loop, std::string_view address)
      : listener_(listen(loop, address, [this](Connection connection) { welcome(std::move(connection)); })) {}
  ~ServerState() {
    for (Connection& connection : connections_) {
      if (transport::Channel* channel = connection.channel()) channel->calls = {};
    }
  }
  ServerState(const ServerState&) = delete;
  ServerState& operator=(const ServerState&) = delete;

  void on(MethodId method, MethodHandler handler) {
    methods_.insert_or_assign(method, std::move(handler));
    last_ = nullptr;
  }
  std::uint16_t port() const noexcept { return listener_.port(); }
  std::size_t connections() const noexcept {
    return static_cast<std::size_t>(std::ranges::count_if(connections_, &Connection::is_open));
  }

 private:
  void welcome(Connection connection) {
    std::erase_if(connections_, [](const Connection& old) { return !old.is_open(); });
    if (transport::Channel* channel = connection.channel()) channel->calls = {this, &deliver, nullptr};
    connections_.push_back(std::move(connection));
  }

  static void deliver(void* self, transport::Channel& channel, transport::Kind kind,
                      const transport::CallHeader& call, Bytes payload) {
    if (kind != transport::Kind::request) return;  // a reply to nothing that we asked
    Reply reply(channel, channel.serial(), call.slot, call.generation);
    if (const MethodHandler* handler = static_cast<ServerState*>(self)->find(call.method)) [[likely]] {
      (*handler)(payload, reply);
    } else {
      reply.fail(errc::rejected);
    }
  }

  // Most requests are of the method of the one before.
  const MethodHandler* find(MethodId method) {
    if (last_ && last_->first == method) [[likely]]
      return &last_->second;
    const auto found = methods_.find(method);
    if (found == methods_.end()) return nullptr;
    last_ = &*found;
    return &found->second;
  }

  std::unordered_map<MethodId, MethodHandler> methods_;
  const std::pair<const MethodId, MethodHandler>* last_ = nullptr;
  std::vector<Connection> connections_;
  Listener listener_;
};

Server::Server(Loop& loop, std::string_view address) : state_(std::make_unique<ServerState>(loop, address)) {}
Server::Server(Server&&) noexcept = default;
Server::~Server() = default;
void Server::on(MethodId method, MethodHandler handler) {
  state_->on(method, std::move(handler));
}
std::uint16_t Server::port() const noexcept {
  return state_->port();
}
std::size_t Server::connections() const noexcept {
  return state_->connections();
}

}  // namespace verbena::rpc
