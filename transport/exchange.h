// SPDX-License-Identifier: Apache-2.0
/// How two sides meet before their queue pairs are up: by rdma_cm, or over TCP. Each way is one file.
#pragma once

#include <chrono>
#include <cstdint>
#include <memory>
#include <string>

#include "core/fork.h"
#include "verbena/address.h"
#include "verbena/connection.h"

namespace verbena::transport {

class Engine;

/// Listens as long as it lives.
class ListenerState {
 public:
  virtual ~ListenerState() = default;
  virtual std::uint16_t port() const noexcept = 0;
  bool is_of_this_process() const noexcept { return process_.is_this(); }

 private:
  core::OfProcess process_;
};

using Accept = Handler<void(Connection)>;
using Connected = Handler<void(const Error*, Connection)>;

/// Both ways where the address is `rdma://` and the device a real one, else over TCP alone. Throws Error.
std::unique_ptr<ListenerState> listen_for_peers(Engine& engine, const Address& address, Accept accept);
/// By rdma_cm where that reaches the address through the engine's device, else over TCP.
void connect_to_peer(Engine& engine, const Address& address, Connected done);

/// Over a TCP socket, which stays open as long as the connection: its end is the peer's end. `remark` says
/// why it isn't rdma_cm, for explain(); the listener's may still change.
std::unique_ptr<ListenerState> listen_over_tcp(Engine& engine, const Address& address,
                                               std::shared_ptr<Accept> accept,
                                               std::shared_ptr<const std::string> remark);
void connect_over_tcp(Engine& engine, const Address& address, Connected done,
                      std::chrono::milliseconds within, std::string remark);

/// By rdma_cm, which carries the hellos as private data and tells of the peer's end. The queue pair is ours;
/// rdma_cm is told its number only. Null with `why` where rdma_cm can't be had there. Throws Error
/// (address_in_use).
std::unique_ptr<ListenerState> listen_by_cm(Engine& engine, const Address& address, std::uint16_t port,
                                            std::shared_ptr<Accept> accept, std::string& why);
/// Goes over to TCP by itself where rdma_cm doesn't get there.
void connect_by_cm(Engine& engine, const Address& address, Connected done);

}  // namespace verbena::transport
