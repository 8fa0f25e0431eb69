// SPDX-License-Identifier: Apache-2.0
/// The thread that acts for an opened soft0 while its user doesn't: meets other processes, notices their
/// death, passes memory, and makes the progress that an HCA would make by itself when a peer waits and nobody
/// polls.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <thread>
#include <unordered_map>

#include "core/soft/control.h"

namespace verbena::core::soft {

class Context;
struct PeerProcess;

class Agent {
 public:
  Agent(Context& context, int listener);
  ~Agent();
  Agent(const Agent&) = delete;
  Agent& operator=(const Agent&) = delete;

  /// Watches our connection to a peer: for what it answers, and for its end. Any thread, with the context's
  /// mutex.
  void watch(PeerProcess& peer);
  /// Looks after all completion queues when something comes at the socket next. Any thread.
  void watch_datagrams(int socket) noexcept;
  /// Makes the thread look around now, and turn regularly from now on if there are links.
  void kick() noexcept;

 private:
  struct Connection {
    Descriptor socket;  // of incoming ones; outgoing ones belong to their peer
    PeerProcess* peer = nullptr;
    bool incoming = false;
  };
  void run();
  void accept_all();
  void serve(int socket);
  void handle(int socket, Connection& connection, ControlParcel& parcel);
  void greet(int socket, Connection& connection, ControlParcel& parcel);
  void take_offer(Connection& connection, ControlParcel& parcel);
  void pass_memory(int socket, std::uint32_t id);
  void close(int socket);
  int turn();
  void watch_socket(int socket);

  Context& context_;
  int listener_;
  Descriptor epoll_;
  Descriptor kick_;
  Descriptor spare_;                                 // given up to turn a process away where no other is left
  std::unordered_map<int, Connection> connections_;  // guarded by the context's mutex
  bool datagrams_came_ = false;                      // of this thread alone
  bool overdue_ = false;                             // a nudge that was left to a poller; as the next
  bool nudged_ = false;                              // and left it to a poller; of this thread alone
  std::atomic<bool> stop_{false};
  std::thread thread_;
};

}  // namespace verbena::core::soft
