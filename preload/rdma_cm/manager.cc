// SPDX-License-Identifier: Apache-2.0
#include "preload/rdma_cm/manager.h"

#include <fcntl.h>
#include <sys/epoll.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <exception>
#include <new>
#include <system_error>
#include <vector>

#include "preload/rdma_cm/descriptors.h"

namespace verbena::preload::rdma_cm {
namespace {

/// The lowest that is free: librdmacm keeps its ids in a table by their handles.
template <class Map>
Handle free_handle(const Map& map) {
  Handle handle = 0;
  for (const auto& [taken, what] : map) {
    if (taken != handle) break;
    ++handle;
  }
  return handle;
}

int error_of(const std::exception& error) noexcept {
  const auto* const refused = dynamic_cast<const std::system_error*>(&error);
  return refused ? refused->code().value() : ENOMEM;
}

}  // namespace

// Never destroyed: a thread of the program may use it while its statics end. Nor is a parent's in its child,
// whose mutex may be held by a thread that isn't there.
Manager& Manager::current() {
  static std::atomic<Manager*> current{nullptr};
  Manager* known = current.load(std::memory_order_acquire);  // pairs with the exchange
  while (!known || !known->process_.is_this()) {
    auto fresh = std::make_unique<Manager>();
    if (current.compare_exchange_strong(known, fresh.get(), std::memory_order_acq_rel))
      return *fresh.release();
  }
  return *known;
}

int Manager::open(int flags) {
  const int descriptor = ::epoll_create1(flags & O_CLOEXEC ? EPOLL_CLOEXEC : 0);
  if (descriptor < 0) return -1;
  try {
    auto channel = std::make_shared<Channel>(descriptor);
    const std::lock_guard guard(mutex_);
    if (!mark(descriptor)) throw std::system_error(EMFILE, std::generic_category());
    if (flags & O_NONBLOCK) ::fcntl(descriptor, F_SETFL, O_NONBLOCK);
    channels_[descriptor] = std::move(channel);
    return descriptor;
  } catch (const std::exception& error) {
    ::close(descriptor);
    errno = error_of(error);
    return -1;
  }
}

void Manager::close(int descriptor) {
  const std::lock_guard guard(mutex_);
  const auto found = channels_.find(descriptor);
  if (found == channels_.end()) return;
  std::vector<Handle> its;
  for (const auto& [handle, id] : ids_) {
    if (&id->channel() == found->second.get()) its.push_back(handle);
  }
  for (const Handle handle : its) destroy(handle);
  channels_.erase(found);
}

std::shared_ptr<Channel> Manager::channel_at(int descriptor) {
  const std::lock_guard guard(mutex_);
  const auto found = channels_.find(descriptor);
  return found == channels_.end() ? nullptr : found->second;
}

int Manager::kernels_descriptor(int descriptor) {
  const std::shared_ptr<Channel> channel = channel_at(descriptor);
  return channel && channel->kernel() ? channel->kernel()->descriptor() : -1;
}

ssize_t Manager::write(int descriptor, std::span<const std::byte> bytes) {
  rdma_ucm_cmd_hdr header;
  int error = EINVAL;
  try {
    const std::shared_ptr<Channel> channel = channel_at(descriptor);
    if (!channel) {
      error = EACCES;  // a forked child's: the kernel, too, serves only who has opened it
    } else if (bytes.size() >= sizeof header) {
      std::memcpy(&header, bytes.data(), sizeof header);
      const Body body = bytes.subspan(sizeof header);
      const Command command{header.cmd, body.first(std::min<std::size_t>(header.in, body.size())),
                            header.out};
      if (header.in <= body.size()) {
        error = header.cmd == RDMA_USER_CM_CMD_GET_EVENT ? get_event(*channel, command)
                                                         : carry_out(*channel, command);
      }
    }
  } catch (const std::exception& failure) {
    error = error_of(failure);
  }
  if (error == 0) return static_cast<ssize_t>(bytes.size());
  errno = error;
  return -1;
}

// ---- Events ----

int Manager::get_event(Channel& channel, const Command& command) {
  rdma_ucm_get_event wanted{};
  if (command.body.size() < sizeof wanted) return EINVAL;
  std::memcpy(&wanted, command.body.data(), sizeof wanted);
  for (;;) {
    {
      const std::lock_guard guard(mutex_);
      take_in(channel);
      if (const std::optional<Event> event = channel.pop()) {
        if (const auto id = ids_.find(event->counted_on); id != ids_.end()) {
          ++id->second->events_reported;
          if (event->multicast) {
            const auto membership = id->second->memberships().find(*event->multicast);
            if (membership != id->second->memberships().end()) ++membership->second.events_reported;
          }
        }
        if (event->new_id) {
          if (const auto id = ids_.find(*event->new_id); id != ids_.end()) id->second->be_seen();
        }
        // NOLINTNEXTLINE(performance-no-int-to-ptr): so the interface passes it
        std::memcpy(reinterpret_cast<void*>(wanted.response), &event->response,
                    std::min(command.answer_size, sizeof event->response));
        return 0;
      }
    }
    if (const int error = channel.wait()) return error;
  }
}

void Manager::take_in(Channel& channel) {
  if (channel.for_each_ready([this](Handle handle) { take_in(handle); })) take_in_kernels(channel);
}

void Manager::take_in(Handle handle) {
  const auto found = ids_.find(handle);
  if (found == ids_.end()) return;
  Id& id = *found->second;
  const State before = id.state();
  id.take_in([&]() -> Id& { return add_id(id.channel(), 0, id.port_space(), id.qp_type()); });
  if (before != State::arriving || id.state() == State::arriving) return;
  const auto listener = ids_.find(id.unseen_at().value_or(handle));
  if (id.state() != State::requested || listener == ids_.end()) return destroy(handle);
  id.channel().push(id.request_event(*listener->second));
}

// ---- Ids ----

Id& Manager::add_id(Channel& channel, std::uint64_t uid, std::uint16_t port_space, std::uint8_t qp_type) {
  const Handle handle = free_handle(ids_);
  return *ids_.emplace(handle, std::make_unique<Id>(channel, handle, uid, port_space, qp_type)).first->second;
}

Id* Manager::find(Channel& channel, Handle handle) {
  const auto found = ids_.find(handle);
  return found == ids_.end() || &found->second->channel() != &channel ? nullptr : found->second.get();
}

void Manager::destroy(Handle handle) {
  const auto found = ids_.find(handle);
  if (found == ids_.end()) return;
  const std::unique_ptr<Id> id = std::move(found->second);
  ids_.erase(found);
  if (id->kernels) id->channel().kernel()->destroy(*id->kernels);
  for (const auto& [membership, what] : id->memberships()) memberships_.erase(membership);
  destroy_unseen_of(handle);
  id->channel().extract(
      [&](const Event& event) { return event.counted_on == handle || event.new_id == handle; });
}

// Whose requests the program hasn't seen: it can neither accept nor destroy them.
void Manager::destroy_unseen_of(Handle listener) {
  std::vector<Handle> unseen;
  for (const auto& [handle, id] : ids_) {
    if (id->unseen_at() == listener) unseen.push_back(handle);
  }
  for (const Handle handle : unseen) destroy(handle);
}

}  // namespace verbena::preload::rdma_cm
