// SPDX-License-Identifier: Apache-2.0
#include "core/soft/agent.h"

#include <pthread.h>
#include <signal.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/uio.h>

#include <array>
#include <cerrno>
#include <mutex>
#include <utility>

#include "core/soft/completion_queue.h"
#include "core/soft/context.h"

namespace verbena::core::soft {
namespace {

// How often the thread turns by itself, in ms: while something waits for time to pass, and always under a
// fault plan; while there are links at all.
constexpr int restless_turn = 1;
constexpr int quiet_turn = 100;

/// Marks, beside its descriptor, a socket that isn't ours to read.
constexpr std::uint64_t of_datagrams = std::uint64_t{1} << 32;

bool try_reading(pid_t pid, std::uint64_t address, std::uint64_t expected) {
  std::uint64_t value = 0;
  const iovec local{&value, sizeof value};
  const iovec remote{reinterpret_cast<void*>(address), sizeof value};
  return ::process_vm_readv(pid, &local, 1, &remote, 1, 0) == sizeof value && value == expected;
}

}  // namespace

Agent::Agent(Context& context, int listener)
    : context_(context),
      listener_(listener),
      epoll_(::epoll_create1(EPOLL_CLOEXEC)),
      kick_(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)) {
  watch_socket(listener_);
  watch_socket(kick_.get());
  // The user's signal handlers run on the user's threads.
  sigset_t all;
  sigset_t before;
  sigfillset(&all);
  pthread_sigmask(SIG_SETMASK, &all, &before);
  thread_ = std::thread([this] { run(); });
  pthread_sigmask(SIG_SETMASK, &before, nullptr);
  pthread_setname_np(thread_.native_handle(), "verbena-soft0");
}

Agent::~Agent() {
  stop_.store(true, std::memory_order_relaxed);
  kick();
  thread_.join();
}

void Agent::kick() noexcept {
  wake(kick_.get());
}

void Agent::watch_socket(int socket) {
  epoll_event interest{};
  interest.events = EPOLLIN | EPOLLRDHUP;
  interest.data.u64 = static_cast<std::uint32_t>(socket);
  ::epoll_ctl(epoll_.get(), EPOLL_CTL_ADD, socket, &interest);
}

void Agent::watch_datagrams(int socket) noexcept {
  epoll_event interest{};
  interest.events = EPOLLIN | EPOLLONESHOT;
  interest.data.u64 = of_datagrams | static_cast<std::uint32_t>(socket);
  if (::epoll_ctl(epoll_.get(), EPOLL_CTL_MOD, socket, &interest) != 0)
    ::epoll_ctl(epoll_.get(), EPOLL_CTL_ADD, socket, &interest);
}

void Agent::watch(PeerProcess& peer) {
  connections_[peer.out.get()] = {{}, &peer, false};
  watch_socket(peer.out.get());
}

void Agent::run() {
  int timeout = context_.plan() ? restless_turn : -1;
  while (!stop_.load(std::memory_order_relaxed)) {
    std::array<epoll_event, 64> ready;
    const int count = ::epoll_wait(epoll_.get(), ready.data(), static_cast<int>(ready.size()), timeout);
    for (int i = 0; i < count; ++i) {
      const epoll_data_t& whose = ready[static_cast<std::size_t>(i)].data;
      if (whose.u64 & of_datagrams) {
        datagrams_came_ = true;
        continue;
      }
      const int socket = whose.fd;
      if (socket == listener_) {
        accept_all();
      } else if (socket == kick_.get()) {
        std::uint64_t value;
        [[maybe_unused]] const ssize_t got = ::read(socket, &value, sizeof value);
      } else {
        serve(socket);
      }
    }
    timeout = turn();
  }
}

// Does for every completion queue what a poll would do, unless somebody is polling it.
int Agent::turn() {
  const std::lock_guard guard(context_.mutex_);
  context_.discard_departed();
  context_.seal_all();
  const bool bereaved = context_.fail_bereaved();
  // A nudge that was left to a poller a turn ago: the poller may be waiting for a processor.
  const bool overdue = std::exchange(overdue_, std::exchange(nudged_, false));
  const bool must = std::exchange(datagrams_came_, false);
  // Of a peer that is gone, queue pairs may go on: unreliable ones, and those that wait for no
  // acknowledgement.
  if (context_.peers_.empty() && context_.departed_.empty() && !context_.plan() && !bereaved &&
      context_.datagram_ports_ == 0)
    return -1;
  int timeout = context_.plan() || overdue_ ? restless_turn : quiet_turn;
  for (const auto& cq : context_.queues_) {
    if (!cq) continue;
    if (must && cq->listens()) {
      cq->lock.lock();  // who holds it may have looked too early
    } else {
      const bool leave = cq->was_polled() && !overdue;
      if (leave || !cq->lock.try_lock()) continue;
    }
    cq->progress_armed();
    if (cq->restless()) timeout = restless_turn;
    cq->lock.unlock();
  }
  return timeout;
}

void Agent::accept_all() {
  for (;;) {
    if (!spare_) spare_ = Descriptor(::eventfd(0, EFD_CLOEXEC));
    Descriptor socket(::accept4(listener_, nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK));
    if (!socket) {
      if (errno != EMFILE && errno != ENFILE) return;
      // Left waiting, it would wake this thread for ever.
      spare_ = Descriptor();
      const Descriptor refused(::accept4(listener_, nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK));
      if (!refused) return;
      continue;
    }
    // Another user's process could never share memory with us safely.
    ucred credentials{};
    socklen_t length = sizeof credentials;
    if (::getsockopt(socket.get(), SOL_SOCKET, SO_PEERCRED, &credentials, &length) != 0 ||
        credentials.uid != ::geteuid()) {
      continue;
    }
    const std::lock_guard guard(context_.mutex_);
    const int fd = socket.get();
    connections_[fd] = {std::move(socket), nullptr, true};
    watch_socket(fd);
  }
}

void Agent::serve(int socket) {
  for (;;) {
    ControlParcel parcel;
    const int got = receive_control(socket, parcel);
    if (got < 0 && (errno == EAGAIN || errno == EINTR)) return;
    const std::lock_guard guard(context_.mutex_);
    const auto found = connections_.find(socket);
    if (found == connections_.end()) return;
    if (got <= 0) return close(socket);
    handle(socket, found->second, parcel);
  }
}

void Agent::handle(int socket, Connection& connection, ControlParcel& parcel) {
  const ControlMessage& message = parcel.message;
  if (connection.incoming && !connection.peer) {
    if (message.kind == ControlKind::hello) greet(socket, connection, parcel);
    return;
  }
  switch (message.kind) {
    case ControlKind::offer:
      return take_offer(connection, parcel);
    case ControlKind::memory_request:
      return pass_memory(socket, message.id);
    case ControlKind::nudge: {
      if (block_of(message.to) != context_.block_) return;
      QueuePair* qp = context_.places_[index_of(message.to)].queue_pair.load(std::memory_order_relaxed);
      if (!qp) return;
      // Who polls will see to it, and sooner than this thread, which would only stand in the way with the
      // locks. If it doesn't come to that within a turn, this thread does it.
      if (qp->receive_completions().was_polled()) {
        nudged_ = true;
        return;
      }
      const BothSides locked(*qp);
      qp->receive();
      return;
    }
    case ControlKind::memory:
      connection.peer->add_memory(
          message.id, map_peers(parcel.descriptors[0], mappable_length(parcel.descriptors[0]), true));
      return;
    case ControlKind::memory_gone: {
      const auto mapping = connection.peer->remove_memory(message.id);
      if (mapping) context_.keep_for_borrowers(mapping);
      context_.pause_all();  // nobody else uses it any more: the epoch has changed, and all have been between
                             // operations
      return;
    }
    case ControlKind::hello:
      return;
  }
}

void Agent::greet(int socket, Connection& connection, ControlParcel& parcel) {
  const std::uint32_t block = parcel.message.block;
  ucred credentials{};
  socklen_t length = sizeof credentials;
  ::getsockopt(socket, SOL_SOCKET, SO_PEERCRED, &credentials, &length);
  Mapping table = map_peers(parcel.descriptors[0], sizeof(PublicTable), false);
  Mapping bells = map_peers(parcel.descriptors[1], max_completion_queues * bell_stride, true);
  if (!table || !bells || block >= blocks) return close(socket);
  PeerProcess* peer = context_.find_peer(block);
  if (peer && peer->in >= 0) {  // its number has a new owner, and we haven't heard of the old one's end yet
    close(peer->in);
    peer = nullptr;
  }
  if (!peer) peer = context_.connect_peer(block);
  if (!peer) return close(socket);
  peer->in = socket;
  peer->pid = credentials.pid;
  peer->same_process = credentials.pid == ::getpid();
  peer->table = static_cast<const PublicTable*>(table.get());
  peer->table_mapping = std::move(table);
  peer->bell_mapping = std::move(bells);
  peer->needs_fence = peer->table->header.needs_fence != 0 || !asymmetric_fences();
  peer->reachable.store(
      !peer->same_process && process_vm_allowed() &&
      try_reading(credentials.pid, parcel.message.probe_address, parcel.message.probe_value));
  connection.peer = peer;
}

void Agent::take_offer(Connection& connection, ControlParcel& parcel) {
  constexpr std::size_t most_offers = 2 * queue_pairs_per_block;  // waiting for their queue pairs
  const ControlMessage& message = parcel.message;
  if (block_of(message.to) != context_.block_ || block_of(message.from) != connection.peer->block) return;
  std::size_t next = 1;
  Context::Offer offer{connection.peer, std::move(parcel.descriptors[0]), {}, {}};
  if (message.receive_event)
    offer.receive_event =
        connection.peer->event(message.receive_event, std::move(parcel.descriptors[next++]));
  if (message.send_event == message.receive_event) {
    offer.send_event = offer.receive_event;
  } else if (message.send_event) {
    offer.send_event = connection.peer->event(message.send_event, std::move(parcel.descriptors[next]));
  }
  QueuePair* qp = context_.places_[index_of(message.to)].queue_pair.load(std::memory_order_relaxed);
  if (!qp) return;  // late, for one that is gone
  {
    const BothSides locked(*qp);
    if (qp->link.in && qp->link.peer_number == message.from && !qp->link.out) {
      context_.attach(*qp, std::move(offer));
      return;
    }
  }
  if (context_.offers_.size() < most_offers) {
    context_.offers_.insert_or_assign({message.to, message.from}, std::move(offer));
  }
}

void Agent::pass_memory(int socket, std::uint32_t id) {
  ControlMessage answer;
  answer.kind = ControlKind::memory;
  answer.id = id;
  const auto found = context_.shared_.find(id);
  if (found == context_.shared_.end()) {
    send_control(socket, answer);
    return;
  }
  const int file = found->second.file.get();
  if (send_control(socket, answer, {&file, 1}) == 0) found->second.mapped_by.push_back(socket);
}

// Either direction's end is the process's end.
void Agent::close(int socket) {
  const auto found = connections_.find(socket);
  if (found == connections_.end()) return;
  PeerProcess* peer = found->second.peer;
  if (!peer) {
    ::epoll_ctl(epoll_.get(), EPOLL_CTL_DEL, socket, nullptr);
    connections_.erase(found);
    return;
  }
  context_.lose(*peer);
  for (const int end : {peer->in, peer->out.get()}) {
    if (end < 0) continue;
    for (auto& [id, file] : context_.shared_) std::erase(file.mapped_by, end);
    ::epoll_ctl(epoll_.get(), EPOLL_CTL_DEL, end, nullptr);
    connections_.erase(end);
  }
  peer->in = -1;
}

}  // namespace verbena::core::soft
