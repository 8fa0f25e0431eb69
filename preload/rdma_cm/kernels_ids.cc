// SPDX-License-Identifier: Apache-2.0
// Ids that are the kernel's, alone or beside soft0's: kernel.h has the rule. Programs know all ids by our
// handles; what goes to the kernel and comes from it is translated.
#include <cerrno>
#include <cstddef>
#include <cstring>
#include <optional>
#include <vector>

#include "preload/rdma_cm/manager.h"

namespace verbena::preload::rdma_cm {
namespace {

/// Where a command that may go to the kernel as it is says which id it is for.
std::optional<std::size_t> place_of_id(std::uint32_t command) noexcept {
  switch (command) {
    case RDMA_USER_CM_CMD_BIND_IP:
      return offsetof(rdma_ucm_bind_ip, id);
    case RDMA_USER_CM_CMD_RESOLVE_IP:
      return offsetof(rdma_ucm_resolve_ip, id);
    case RDMA_USER_CM_CMD_RESOLVE_ROUTE:
      return offsetof(rdma_ucm_resolve_route, id);
    case RDMA_USER_CM_CMD_QUERY_ROUTE:
      return offsetof(rdma_ucm_query, id);
    case RDMA_USER_CM_CMD_CONNECT:
      return offsetof(rdma_ucm_connect, id);
    case RDMA_USER_CM_CMD_LISTEN:
      return offsetof(rdma_ucm_listen, id);
    case RDMA_USER_CM_CMD_ACCEPT:
      return offsetof(rdma_ucm_accept, id);
    case RDMA_USER_CM_CMD_REJECT:
      return offsetof(rdma_ucm_reject, id);
    case RDMA_USER_CM_CMD_DISCONNECT:
      return offsetof(rdma_ucm_disconnect, id);
    case RDMA_USER_CM_CMD_INIT_QP_ATTR:
      return offsetof(rdma_ucm_init_qp_attr, id);
    case RDMA_USER_CM_CMD_SET_OPTION:
      return offsetof(rdma_ucm_set_option, id);
    case RDMA_USER_CM_CMD_NOTIFY:
      return offsetof(rdma_ucm_notify, id);
    default:
      return {};
  }
}

}  // namespace

// Nothing where it isn't for an id that is the kernel's alone.
std::optional<int> Manager::forward(Channel& channel, const Command& command) {
  const std::optional<std::size_t> place = place_of_id(command.number);
  Handle handle = 0;
  if (!channel.kernel() || !place || command.body.size() < *place + sizeof handle) return {};
  std::memcpy(&handle, command.body.data() + *place, sizeof handle);
  const Id* const id = find(channel, handle);
  if (!id || !id->is_kernels_alone) return {};
  return forward(channel, command, *id->kernels);
}

int Manager::forward(Channel& channel, const Command& command, Handle kernels) {
  std::vector<std::byte> body(command.body.begin(), command.body.end());
  std::memcpy(body.data() + *place_of_id(command.number), &kernels, sizeof kernels);
  return channel.kernel()->command(command.number, body, command.answer_size);
}

// An id of the kernel's to go with `id`, told what that has been told.
std::optional<Handle> Manager::create_kernels(const Id& id) {
  const Kernel& kernel = *id.channel().kernel();
  const std::optional<Handle> kernels = kernel.create(id.uid(), id.port_space(), id.qp_type());
  if (!kernels) return {};
  for (const Id::Option& option : id.options()) {
    rdma_ucm_set_option wanted{};
    wanted.optval = reinterpret_cast<std::uint64_t>(option.value.data());
    wanted.id = *kernels;
    wanted.level = option.level;
    wanted.optname = option.name;
    wanted.optlen = static_cast<std::uint32_t>(option.value.size());
    kernel.send(RDMA_USER_CM_CMD_SET_OPTION, wanted);
  }
  return kernels;
}

void Manager::give_to_kernel(Id& id, Handle kernels) {
  id.kernels = kernels;
  id.is_kernels_alone = true;
}

// True where the address is a real device's: then the id is bound to it.
bool Manager::bind_by_kernel(Id& id, const Address& address, int& error) {
  const auto& kernel = id.channel().kernel();
  error = 0;
  if (!kernel || !address.is_internet() || address.is_loopback()) return false;
  const std::optional<Handle> kernels = create_kernels(id);
  if (!kernels) return false;
  error = kernel->bind(*kernels, address);
  if (error == 0 && kernel->has_device(*kernels)) {
    give_to_kernel(id, *kernels);
    return true;
  }
  kernel->destroy(*kernels);
  // Of an address that is no device's it says ENODEV; that the port is taken it says of a device's alone.
  return error == EADDRINUSE || error == EADDRNOTAVAIL;
}

// For the unspecified address: the same port at both.
int Manager::bind_beside(Id& id) {
  const auto& kernel = id.channel().kernel();
  if (!kernel) return 0;
  const std::optional<Handle> kernels = create_kernels(id);
  if (!kernels) return 0;
  const int error = kernel->bind(*kernels, id.source());
  if (error == 0) {
    id.kernels = kernels;
  } else {
    kernel->destroy(*kernels);
  }
  return error == EADDRINUSE || error == EADDRNOTAVAIL ? error : 0;
}

// True where the way from the one address to the other is the kernel's: then the id is, too.
bool Manager::leads_to_kernel(Id& id, const Address& from, const Address& to) {
  const auto& kernel = id.channel().kernel();
  const bool is_bound_here = id.state() != State::idle && !id.kernels;
  if (!kernel || is_bound_here || !to.is_internet() || to.is_any() || to.is_loopback()) return false;
  if (to.is_of_this_host() || to.is_multicast()) {
    if (from.is_loopback() || from.is_multicast()) return false;
    const std::optional<Handle> probe = create_kernels(id);
    if (!probe) return false;
    const bool is_devices = kernel->bind(*probe, from.without_port()) == 0 && kernel->has_device(*probe);
    kernel->destroy(*probe);
    if (!is_devices) return false;
  }
  const std::optional<Handle> kernels = id.kernels ? id.kernels : create_kernels(id);
  if (!kernels) return false;
  give_to_kernel(id, *kernels);
  return true;
}

// ---- What comes ----

void Manager::take_in_kernels(Channel& channel) {
  rdma_ucm_event_resp told;
  while (channel.kernel()->next_event(told)) {
    Event event;
    event.response = told;
    const bool is_of_group = told.event == static_cast<std::uint32_t>(EventKind::multicast_join) ||
                             told.event == static_cast<std::uint32_t>(EventKind::multicast_error);
    Id* const id = is_of_group ? member_of_kernels(channel, told.id, event) : id_of_uid(channel, told);
    if (!id) continue;
    event.counted_on = id->handle();
    if (told.event == static_cast<std::uint32_t>(EventKind::connect_request)) {
      Id& fresh = add_id(channel, 0, id->port_space(), id->qp_type());
      give_to_kernel(fresh, told.id);
      fresh.set_listener(id->handle());
      event.response.id = fresh.handle();
      event.new_id = fresh.handle();
    } else if (!is_of_group) {
      event.response.id = id->handle();
    }
    channel.push(event);
  }
}

// A connection request carries its listener's name, and the number of the new id.
Id* Manager::id_of_uid(Channel& channel, const rdma_ucm_event_resp& told) {
  const bool is_request = told.event == static_cast<std::uint32_t>(EventKind::connect_request);
  for (const auto& [handle, id] : ids_) {
    if (&id->channel() != &channel || !id->kernels) continue;
    if (is_request ? id->uid() == told.uid : *id->kernels == told.id) return id.get();
  }
  return nullptr;
}

Id* Manager::member_of_kernels(Channel& channel, Handle membership, Event& event) {
  for (const auto& [handle, member] : memberships_) {
    Id* const id = find(channel, member);
    if (!id || id->memberships().at(handle).kernels != membership) continue;
    event.multicast = handle;
    event.response.id = handle;
    return id;
  }
  return nullptr;
}

}  // namespace verbena::preload::rdma_cm
