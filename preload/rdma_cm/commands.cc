// SPDX-License-Identifier: Apache-2.0
// The commands of rdma_user_cm.h, one function each. The addresses in them are the program's: what it says of
// its own memory is believed, as of any argument of a function.
#include <rdma/rdma_user_cm.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <span>

#include "preload/rdma_cm/manager.h"

namespace verbena::preload::rdma_cm {
namespace {

constexpr std::size_t ece_size =
    sizeof(rdma_ucm_ece);  // newer than the rest of the commands that end with it

/// False where there are fewer bytes than `least`; what is missing behind them is zero.
template <class T>
bool read(std::span<const std::byte> body, T& command, std::size_t least = sizeof(T)) noexcept {
  command = {};
  if (body.size() < least) return false;
  std::memcpy(&command, body.data(), std::min(body.size(), sizeof command));
  return true;
}

/// As much of the answer as the program knows of.
template <class T>
int answer(std::uint64_t to, std::size_t room, const T& what) noexcept {
  std::memcpy(reinterpret_cast<void*>(to), &what, std::min(room, sizeof what));
  return 0;
}

}  // namespace

int Manager::carry_out(Channel& channel, const Command& command) {
  const std::lock_guard guard(mutex_);
  if (const std::optional<int> error = forward(channel, command)) return *error;
  switch (command.number) {
    case RDMA_USER_CM_CMD_CREATE_ID:
      return create_id(channel, command);
    case RDMA_USER_CM_CMD_DESTROY_ID:
      return destroy_id(channel, command);
    case RDMA_USER_CM_CMD_BIND_IP:
      return bind(channel, command);
    case RDMA_USER_CM_CMD_RESOLVE_IP:
      return resolve_address(channel, command);
    case RDMA_USER_CM_CMD_RESOLVE_ROUTE:
      return resolve_route(channel, command);
    case RDMA_USER_CM_CMD_QUERY_ROUTE:
      return query_route(channel, command);
    case RDMA_USER_CM_CMD_CONNECT:
      return connect(channel, command);
    case RDMA_USER_CM_CMD_LISTEN:
      return listen(channel, command);
    case RDMA_USER_CM_CMD_ACCEPT:
      return accept(channel, command);
    case RDMA_USER_CM_CMD_REJECT:
      return reject(channel, command);
    case RDMA_USER_CM_CMD_DISCONNECT:
      return disconnect(channel, command);
    case RDMA_USER_CM_CMD_INIT_QP_ATTR:
      return describe_queue_pair(channel, command);
    case RDMA_USER_CM_CMD_SET_OPTION:
      return set_option(channel, command);
    case RDMA_USER_CM_CMD_NOTIFY:
      return notify(channel, command);
    case RDMA_USER_CM_CMD_JOIN_IP_MCAST:
      return join(channel, command);
    case RDMA_USER_CM_CMD_LEAVE_MCAST:
      return leave(channel, command);
    case RDMA_USER_CM_CMD_MIGRATE_ID:
      return migrate(channel, command);
    // What InfiniBand's own addresses need. librdmacm asks for one first, and does without all of these where
    // it is refused.
    case RDMA_USER_CM_CMD_BIND:
    case RDMA_USER_CM_CMD_RESOLVE_ADDR:
    case RDMA_USER_CM_CMD_QUERY:
    case RDMA_USER_CM_CMD_JOIN_MCAST:
      return EAFNOSUPPORT;
    default:
      return ENOSYS;
  }
}

int Manager::create_id(Channel& channel, const Command& command) {
  rdma_ucm_create_id wanted;
  if (!read(command.body, wanted) || command.answer_size < sizeof(rdma_ucm_create_id_resp)) return EINVAL;
  switch (wanted.ps) {
    case RDMA_PS_TCP:
    case RDMA_PS_UDP:
    case RDMA_PS_IPOIB:
    case RDMA_PS_IB:
      break;
    default:
      return EPROTONOSUPPORT;
  }
  // Where a program leaves it open, the port space says it.
  std::uint8_t qp_type = wanted.qp_type;
  if (wanted.ps == RDMA_PS_TCP) qp_type = qp_type == 0 ? std::uint8_t{IBV_QPT_RC} : qp_type;
  if (wanted.ps == RDMA_PS_UDP || wanted.ps == RDMA_PS_IPOIB) qp_type = IBV_QPT_UD;
  const Id& id = add_id(channel, wanted.uid, wanted.ps, qp_type);
  return answer(wanted.response, command.answer_size, rdma_ucm_create_id_resp{id.handle()});
}

int Manager::destroy_id(Channel& channel, const Command& command) {
  rdma_ucm_destroy_id wanted;
  if (!read(command.body, wanted) || command.answer_size < sizeof(rdma_ucm_destroy_id_resp)) return EINVAL;
  const Id* const id = find(channel, wanted.id);
  if (!id) return ENOENT;
  const rdma_ucm_destroy_id_resp told{id->events_reported};
  destroy(wanted.id);
  return answer(wanted.response, command.answer_size, told);
}

int Manager::bind(Channel& channel, const Command& command) {
  rdma_ucm_bind_ip wanted;
  if (!read(command.body, wanted)) return EINVAL;
  Id* const id = find(channel, wanted.id);
  if (!id) return ENOENT;
  const Address address(wanted.addr);
  const bool is_any = address.is_internet() && address.is_any();
  if (int error = 0; !is_any && bind_by_kernel(*id, address, error)) return error;
  if (const int error = id->bind(address)) return error;
  return is_any ? bind_beside(*id) : 0;
}

int Manager::resolve_address(Channel& channel, const Command& command) {
  rdma_ucm_resolve_ip wanted;
  if (!read(command.body, wanted)) return EINVAL;
  Id* const id = find(channel, wanted.id);
  if (!id) return ENOENT;
  const Address source(wanted.src_addr);
  const Address destination(wanted.dst_addr);
  const bool has_source = source.is_internet() && !source.is_any();
  if (leads_to_kernel(*id, has_source ? source : destination, destination))
    return forward(channel, command, *id->kernels);
  return id->resolve_address(source, destination);
}

int Manager::resolve_route(Channel& channel, const Command& command) {
  rdma_ucm_resolve_route wanted;
  if (!read(command.body, wanted)) return EINVAL;
  Id* const id = find(channel, wanted.id);
  return id ? id->resolve_route() : ENOENT;
}

int Manager::query_route(Channel& channel, const Command& command) {
  rdma_ucm_query wanted;  // begins as rdma_ucm_query_route of older headers, which has no option
  if (!read(command.body, wanted, offsetof(rdma_ucm_query, option))) return EINVAL;
  const Id* const id = find(channel, wanted.id);
  return id ? answer(wanted.response, command.answer_size, id->describe_route()) : ENOENT;
}

int Manager::connect(Channel& channel, const Command& command) {
  rdma_ucm_connect wanted;
  if (!read(command.body, wanted, sizeof wanted - ece_size) || !wanted.conn_param.valid) return EINVAL;
  Id* const id = find(channel, wanted.id);
  return id ? id->connect(wanted.conn_param) : ENOENT;
}

int Manager::listen(Channel& channel, const Command& command) {
  rdma_ucm_listen wanted;
  if (!read(command.body, wanted)) return EINVAL;
  Id* const id = find(channel, wanted.id);
  if (!id) return ENOENT;
  const bool was_idle = id->state() == State::idle;
  if (const int error = id->listen(static_cast<int>(wanted.backlog))) return error;
  if (was_idle) bind_beside(*id);
  return id->kernels ? forward(channel, command, *id->kernels) : 0;
}

int Manager::accept(Channel& channel, const Command& command) {
  rdma_ucm_accept wanted;
  if (!read(command.body, wanted, sizeof wanted - ece_size)) return EINVAL;
  Id* const id = find(channel, wanted.id);
  if (!id) return ENOENT;
  take_in(wanted.id);  // it may have been given up meanwhile
  return id->accept(wanted.uid, wanted.conn_param);
}

int Manager::reject(Channel& channel, const Command& command) {
  rdma_ucm_reject wanted;
  if (!read(command.body, wanted)) return EINVAL;
  Id* const id = find(channel, wanted.id);
  if (!id) return ENOENT;
  const std::uint32_t why = wanted.reason ? wanted.reason : reason::by_consumer;
  return id->reject(why, {wanted.private_data, wanted.private_data_len});
}

int Manager::disconnect(Channel& channel, const Command& command) {
  rdma_ucm_disconnect wanted;
  if (!read(command.body, wanted)) return EINVAL;
  Id* const id = find(channel, wanted.id);
  if (!id) return ENOENT;
  take_in(wanted.id);  // the other end may have been first, and then there is one event
  return id->disconnect();
}

int Manager::describe_queue_pair(Channel& channel, const Command& command) {
  rdma_ucm_init_qp_attr wanted;
  if (!read(command.body, wanted) || command.answer_size < sizeof(ib_uverbs_qp_attr)) return EINVAL;
  const Id* const id = find(channel, wanted.id);
  if (!id) return ENOENT;
  ib_uverbs_qp_attr attributes;
  const int error = id->describe_queue_pair(wanted.qp_state, attributes);
  return error ? error : answer(wanted.response, command.answer_size, attributes);
}

int Manager::set_option(Channel& channel, const Command& command) {
  rdma_ucm_set_option wanted;
  constexpr std::uint32_t longest = 4096;
  if (!read(command.body, wanted) || wanted.optlen > longest) return EINVAL;
  Id* const id = find(channel, wanted.id);
  if (!id) return ENOENT;
  if (const int error = id->set_option(wanted.level, wanted.optname,
                                       {reinterpret_cast<const std::byte*>(wanted.optval), wanted.optlen}))
    return error;
  return id->kernels ? forward(channel, command, *id->kernels) : 0;
}

int Manager::notify(Channel& channel, const Command& command) {
  rdma_ucm_notify wanted;
  if (!read(command.body, wanted)) return EINVAL;
  Id* const id = find(channel, wanted.id);
  return id ? id->notify(wanted.event) : ENOENT;
}

int Manager::join(Channel& channel, const Command& command) {
  rdma_ucm_join_ip_mcast wanted;
  if (!read(command.body, wanted) || command.answer_size < sizeof(rdma_ucm_create_id_resp)) return EINVAL;
  Id* const id = find(channel, wanted.id);
  if (!id) return ENOENT;
  Handle membership = 0;
  while (memberships_.contains(membership)) ++membership;
  if (id->is_kernels_alone) {
    rdma_ucm_create_id_resp made{};
    rdma_ucm_join_ip_mcast at_kernels = wanted;
    at_kernels.response = reinterpret_cast<std::uint64_t>(&made);
    at_kernels.id = *id->kernels;
    if (const int error = channel.kernel()->send(RDMA_USER_CM_CMD_JOIN_IP_MCAST, at_kernels, sizeof made))
      return error;
    id->memberships().emplace(membership, Membership{wanted.uid, Address(wanted.addr), 0, made.id});
  } else if (const int error = id->join(membership, wanted.uid, Address(wanted.addr))) {
    return error;
  }
  memberships_[membership] = wanted.id;
  return answer(wanted.response, command.answer_size, rdma_ucm_create_id_resp{membership});
}

int Manager::leave(Channel& channel, const Command& command) {
  rdma_ucm_destroy_id wanted;
  if (!read(command.body, wanted) || command.answer_size < sizeof(rdma_ucm_destroy_id_resp)) return EINVAL;
  const auto joined = memberships_.find(wanted.id);
  Id* const id = joined == memberships_.end() ? nullptr : find(channel, joined->second);
  if (!id) return ENOENT;
  channel.extract([&](const Event& event) { return event.multicast == wanted.id; });
  const Membership& membership = id->memberships().at(wanted.id);
  if (membership.kernels) {
    rdma_ucm_destroy_id_resp ignored{};
    const rdma_ucm_destroy_id at_kernels{reinterpret_cast<std::uint64_t>(&ignored), *membership.kernels, 0};
    channel.kernel()->send(RDMA_USER_CM_CMD_LEAVE_MCAST, at_kernels, sizeof ignored);
  }
  const rdma_ucm_destroy_id_resp told{membership.events_reported};
  id->memberships().erase(wanted.id);
  memberships_.erase(joined);
  return answer(wanted.response, command.answer_size, told);
}

int Manager::migrate(Channel& channel, const Command& command) {
  rdma_ucm_migrate_id wanted;
  if (!read(command.body, wanted) || command.answer_size < sizeof(rdma_ucm_migrate_resp)) return EINVAL;
  const auto from = channels_.find(static_cast<int>(wanted.fd));
  Id* const id = from == channels_.end() ? nullptr : find(*from->second, wanted.id);
  if (!id) return ENOENT;
  if (from->second.get() != &channel) {
    if (id->kernels) {
      rdma_ucm_migrate_resp ignored{};
      rdma_ucm_migrate_id at_kernels{};
      at_kernels.response = reinterpret_cast<std::uint64_t>(&ignored);
      at_kernels.id = *id->kernels;
      at_kernels.fd = static_cast<std::uint32_t>(from->second->kernel()->descriptor());
      if (!channel.kernel()) return ENODEV;
      if (const int error = channel.kernel()->send(RDMA_USER_CM_CMD_MIGRATE_ID, at_kernels, sizeof ignored))
        return error;
    }
    id->move_to(channel);
    for (auto& [handle, arriving] : ids_) {
      if (arriving->unseen_at() == wanted.id) arriving->move_to(channel);
    }
    for (const Event& event :
         from->second->extract([&](const Event& pending) { return pending.counted_on == wanted.id; }))
      channel.push(event);
  }
  return answer(wanted.response, command.answer_size, rdma_ucm_migrate_resp{id->events_reported});
}

}  // namespace verbena::preload::rdma_cm
