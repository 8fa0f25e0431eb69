// SPDX-License-Identifier: Apache-2.0
/// What a program holds as an rdma_cm_id, where soft0 is its device.
///
/// Each verb returns 0 or an errno value, the kernel's for the same mistake. Guarded by the manager's mutex.
#pragma once

#include <rdma/ib_user_verbs.h>
#include <rdma/rdma_user_cm.h>

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <span>
#include <vector>

#include "core/soft/shared_file.h"
#include "preload/rdma_cm/address.h"
#include "preload/rdma_cm/event.h"
#include "preload/rdma_cm/meeting.h"
#include "preload/rdma_cm/message.h"
#include "preload/rdma_cm/states.h"

namespace verbena::preload::rdma_cm {

class Channel;

/// IBTA's reasons of a rejection, and a datagram service's status.
namespace reason {
inline constexpr std::uint32_t no_listener = 8;  // invalid service id
inline constexpr std::uint32_t by_consumer = 28;
inline constexpr std::uint32_t datagrams_unsupported = 1;
inline constexpr std::uint32_t datagrams_rejected = 2;
}  // namespace reason

/// One multicast group that an id has joined.
struct Membership {
  std::uint64_t uid;
  Address group;
  std::uint32_t events_reported = 0;
  std::optional<Handle> kernels{};  ///< of an id that is the kernel's: its number there
};

class Id {
 public:
  Id(Channel& channel, Handle handle, std::uint64_t uid, std::uint16_t port_space, std::uint8_t qp_type);
  ~Id();
  Id(const Id&) = delete;
  Id& operator=(const Id&) = delete;

  int bind(const Address& address);
  /// An answer comes as an event.
  int resolve_address(const Address& source, const Address& destination);
  int resolve_route();
  int listen(int backlog);
  int connect(const rdma_ucm_conn_param& parameters);
  /// Without parameters: the active end's confirmation.
  int accept(std::uint64_t uid, const rdma_ucm_conn_param& parameters);
  int reject(std::uint32_t why, std::span<const std::uint8_t> private_data);
  int disconnect();
  int notify(std::uint32_t verbs_event);
  int set_option(std::uint32_t level, std::uint32_t name, std::span<const std::byte> value);
  struct Option {
    std::uint32_t level;
    std::uint32_t name;
    std::vector<std::byte> value;
  };
  /// As they have been set, in order.
  const std::vector<Option>& options() const noexcept { return options_; }
  int describe_queue_pair(std::uint32_t state, ib_uverbs_qp_attr& attributes) const;
  rdma_ucm_query_route_resp describe_route() const;
  int join(Handle membership, std::uint64_t uid, const Address& group);
  std::map<Handle, Membership>& memberships() noexcept { return memberships_; }

  /// Takes in what has come for it. A listener's new connections become ids by `add`.
  template <class Add>
  void take_in(Add add) {
    if (state_ != State::listening) return take_messages();
    while (core::soft::Descriptor socket = accept_next(socket_.get()))
      add().begin_passive(std::move(socket), *this);
  }

  /// How the program hears of this one, whose request has come.
  Event request_event(const Id& listener) const;
  void tell_of_peer(rdma_ucm_conn_param& told, std::size_t private_room) const;

  /// Its pending events go with it; by the caller.
  void move_to(Channel& channel);

  Handle handle() const noexcept { return handle_; }
  std::uint64_t uid() const noexcept { return uid_; }
  const Address& source() const noexcept { return source_; }
  std::uint16_t port_space() const noexcept { return space_.number; }
  std::uint8_t qp_type() const noexcept { return qp_type_; }
  Channel& channel() const noexcept { return *channel_; }
  State state() const noexcept { return state_; }
  /// Of one whose request the program hasn't seen: it ends with its listener.
  std::optional<Handle> unseen_at() const noexcept { return listener_; }
  void set_listener(Handle listener) noexcept { listener_ = listener; }
  void be_seen() noexcept { listener_.reset(); }

  std::uint32_t events_reported = 0;
  /// The kernel's id that goes with this one, or in place of it: see kernel.h.
  std::optional<Handle> kernels;
  bool is_kernels_alone = false;

 private:
  bool is_datagram() const noexcept;
  bool is_active() const noexcept { return active_; }
  void enter(State next) noexcept;
  int apply_option(std::uint32_t level, std::uint32_t name, std::span<const std::byte> value);
  void begin_passive(core::soft::Descriptor socket, const Id& listener);
  void take_messages();
  void take(const Message& message);
  void take_request(const Message& message);
  void take_reply(const Message& message);
  void hang_up(std::uint32_t why, const Message* message);
  void lose();
  void close_socket() noexcept;
  void watch();
  Event event(EventKind kind, std::uint32_t status = 0) const;
  void push(const Event& event);
  void refuse_connecting(int error);
  Message message(MessageKind kind) const;
  int fill(Message& message, const rdma_ucm_conn_param& parameters, std::size_t most) const;
  void describe_peer(ib_uverbs_ah_attr& attributes) const {
    describe_way(destination_.gid_on_device(), attributes);
  }
  void describe_way(const ibv_gid& to, ib_uverbs_ah_attr& attributes) const;
  int describe_initial(ib_uverbs_qp_attr& attributes) const;
  std::uint8_t ack_timeout() const noexcept;

  Channel* channel_;
  const Handle handle_;
  std::uint64_t uid_;
  PortSpace space_;
  const std::uint8_t qp_type_;
  State state_ = State::idle;
  bool active_ = false;
  std::optional<Handle> listener_;
  core::soft::Descriptor socket_;
  Address source_;
  Address destination_;
  std::map<Handle, Membership> memberships_;
  std::optional<std::uint8_t> ack_timeout_;
  std::vector<Option> options_;
  std::uint32_t first_psn_;
  Message peer_;  // what it has said of itself: request or reply
  std::uint8_t responder_resources_ = 0;
  std::uint8_t initiator_depth_ = 0;
  std::uint8_t retry_count_ = 0;
  std::uint8_t rnr_retry_count_ = 0;
};

}  // namespace verbena::preload::rdma_cm
