// SPDX-License-Identifier: Apache-2.0
#include "preload/rdma_cm/id.h"

#include <infiniband/verbs.h>

#include <algorithm>
#include <cassert>
#include <cerrno>
#include <cstring>
#include <random>
#include <system_error>

#include "preload/rdma_cm/channel.h"

namespace verbena::preload::rdma_cm {
namespace {

// What a message of IBTA's communication manager has room for: a program sees all of it, zeros behind what
// was sent. rdma_cm's own header takes its part of the requests.
constexpr std::size_t cm_header = 36;
constexpr std::size_t most_in_request = 92 - cm_header;
constexpr std::size_t most_in_reply = 196;
constexpr std::size_t most_in_reject = 148;
constexpr std::size_t most_in_datagram_request = 216 - cm_header;
constexpr std::size_t most_in_datagram_reply = 136;
static_assert(most_in_reply < most_private_data && most_private_data == RDMA_MAX_PRIVATE_DATA);

/// Unless the program says otherwise: RDMA_UDP_QKEY of rdma_cma.h.
constexpr std::uint32_t default_qkey = 0x0123'4567;
constexpr std::uint8_t most_retries = 7;  // three bits of IBTA's messages

constexpr int default_backlog = 1024;

std::uint32_t random_psn() {
  return std::random_device{}() & 0xff'ffff;
}

void copy_private_data(const Message& message, std::size_t length, std::uint8_t* to,
                       std::uint8_t& to_length) {
  std::memcpy(to, message.private_data.data(), length);
  to_length = static_cast<std::uint8_t>(length);
}

}  // namespace

Id::Id(Channel& channel, Handle handle, std::uint64_t uid, std::uint16_t port_space, std::uint8_t qp_type)
    : channel_(&channel),
      handle_(handle),
      uid_(uid),
      space_{port_space, false},
      qp_type_(qp_type),
      first_psn_(random_psn()) {}

Id::~Id() {
  close_socket();
}

bool Id::is_datagram() const noexcept {
  return qp_type_ == IBV_QPT_UD;
}

void Id::enter(State next) noexcept {
  assert(may_follow(state_, next));
  state_ = next;
}

void Id::watch() {
  channel_->watch(socket_.get(), handle_);
}

void Id::close_socket() noexcept {
  if (socket_) channel_->forget(socket_.get());
  socket_ = {};
}

void Id::move_to(Channel& channel) {
  const bool is_watched = socket_ && (state_ == State::listening || state_ >= State::connecting);
  if (is_watched) channel_->forget(socket_.get());
  channel_ = &channel;
  if (is_watched) watch();
}

// ---- Addresses ----

int Id::bind(const Address& address) {
  if (state_ != State::idle) return EINVAL;
  if (!address.is_internet()) return EAFNOSUPPORT;
  if (!address.is_any() && !address.is_of_this_host()) return EADDRNOTAVAIL;
  Address taken = address;
  socket_ = take_port(space_, taken);
  if (!socket_) return errno;
  source_ = taken;
  enter(State::bound);
  return 0;
}

int Id::resolve_address(const Address& source, const Address& destination) {
  if (state_ != State::idle && state_ != State::bound) return EINVAL;
  if (!destination.is_internet()) return EAFNOSUPPORT;
  const Address towards = destination.is_any() ? destination.loopback() : destination;
  if (!towards.is_of_this_host() && !towards.is_multicast()) {
    push(event(EventKind::address_error, static_cast<std::uint32_t>(-EHOSTUNREACH)));
    return 0;
  }
  if (state_ == State::idle) {
    const bool is_given = source.is_internet() && !source.is_any();
    Address from = is_given ? source : towards.without_port();
    if (from.is_multicast()) from = from.loopback();
    if (source.is_internet()) from.set_port(source.port());
    if (from.family() != towards.family()) return EINVAL;
    if (const int error = bind(from)) return error;
  } else if (source_.is_any()) {
    const std::uint16_t port = source_.port();
    source_ = towards.is_multicast() ? towards.loopback() : towards;
    source_.set_port(port);
  }
  if (source_.family() != towards.family()) return EINVAL;
  destination_ = towards;
  enter(State::address_found);
  push(event(EventKind::address_resolved));
  return 0;
}

int Id::resolve_route() {
  if (state_ != State::address_found) return EINVAL;
  enter(State::route_found);
  push(event(EventKind::route_resolved));
  return 0;
}

int Id::set_option(std::uint32_t level, std::uint32_t name, std::span<const std::byte> value) {
  const int error = apply_option(level, name, value);
  if (error == 0) options_.push_back({level, name, {value.begin(), value.end()}});
  return error;
}

int Id::apply_option(std::uint32_t level, std::uint32_t name, std::span<const std::byte> value) {
  if (level != RDMA_OPTION_ID) return ENOSYS;
  const auto one_byte = [&] { return std::to_integer<std::uint8_t>(value[0]); };
  const auto flag = [&] {
    int given = 0;
    std::memcpy(&given, value.data(), sizeof given);
    return given != 0;
  };
  switch (name) {
    case RDMA_OPTION_ID_TOS:  // nothing on the way looks at it
      return value.size() == 1 ? 0 : EINVAL;
    case RDMA_OPTION_ID_REUSEADDR:  // connections don't hold their listener's port here: it is free at once
      return value.size() == sizeof(int) ? 0 : EINVAL;
    case RDMA_OPTION_ID_AFONLY:
      if (value.size() != sizeof(int)) return EINVAL;
      if (state_ != State::idle) return EINVAL;
      space_.one_family = flag();
      return 0;
    case RDMA_OPTION_ID_ACK_TIMEOUT:
      if (value.size() != 1) return EINVAL;
      ack_timeout_ = one_byte() & 0x1f;
      return 0;
    default:
      return ENOSYS;
  }
}

// ---- Connecting ----

Message Id::message(MessageKind kind) const {
  Message message;
  message.kind = kind;
  message.qp_type = qp_type_;
  message.first_psn = first_psn_;
  message.source = source_.raw();
  message.destination = destination_.raw();
  return message;
}

int Id::fill(Message& message, const rdma_ucm_conn_param& parameters, std::size_t most) const {
  if (parameters.private_data_len > most) return EINVAL;
  message.qp_num = parameters.qp_num & 0xff'ffff;
  message.qkey = parameters.qkey != 0 ? parameters.qkey : default_qkey;
  message.responder_resources = parameters.responder_resources;
  message.initiator_depth = parameters.initiator_depth;
  message.flow_control = parameters.flow_control;
  message.retry_count = std::min(parameters.retry_count, most_retries);
  message.rnr_retry_count = std::min(parameters.rnr_retry_count, most_retries);
  message.srq = parameters.srq ? 1 : 0;
  std::memcpy(message.private_data.data(), parameters.private_data, parameters.private_data_len);
  return 0;
}

int Id::listen(int backlog) {
  if (state_ == State::idle) {
    sockaddr_in6 any{};
    any.sin6_family = AF_INET;
    if (const int error = bind(Address(any))) return error;
  }
  if (state_ != State::bound) return EINVAL;
  if (const int error =
          start_listening(socket_.get(), backlog > 0 ? std::min(backlog, default_backlog) : default_backlog))
    return error;
  enter(State::listening);
  watch();
  return 0;
}

int Id::connect(const rdma_ucm_conn_param& parameters) {
  if (state_ != State::route_found) return EINVAL;
  Message request = message(MessageKind::request);
  if (const int error = fill(request, parameters, is_datagram() ? most_in_datagram_request : most_in_request))
    return error;
  active_ = true;
  retry_count_ = request.retry_count;
  enter(State::connecting);
  int error = meet(socket_.get(), space_, destination_);
  if (error == 0) error = send_message(socket_.get(), request);
  if (error == 0) {
    watch();
  } else {
    refuse_connecting(error);
  }
  return 0;
}

// As the kernel's answers to the request would have it.
void Id::refuse_connecting(int error) {
  enter(State::over);
  socket_ = {};
  const bool is_full = error == EAGAIN;
  if (is_datagram())
    return push(
        event(EventKind::unreachable, is_full ? reason::datagrams_rejected : reason::datagrams_unsupported));
  Event rejected = event(EventKind::rejected, is_full ? reason::by_consumer : reason::no_listener);
  rejected.response.param.conn.private_data_len = most_in_reject;
  push(rejected);
}

int Id::accept(std::uint64_t uid, const rdma_ucm_conn_param& parameters) {
  if (state_ == State::answered) {
    if (send_message(socket_.get(), message(MessageKind::ready)) != 0) return EINVAL;
    enter(State::connected);
    return 0;
  }
  if (state_ != State::requested) return EINVAL;
  Message reply = message(MessageKind::reply);
  if (const int error = fill(reply, parameters, is_datagram() ? most_in_datagram_reply : most_in_reply))
    return error;
  if (send_message(socket_.get(), reply) != 0) return EINVAL;  // it has given up, as a rejection would say
  responder_resources_ = parameters.responder_resources;
  initiator_depth_ = parameters.initiator_depth;
  uid_ = uid;
  enter(State::accepted);
  if (is_datagram()) enter(State::connected);
  return 0;
}

int Id::reject(std::uint32_t why, std::span<const std::uint8_t> private_data) {
  if (state_ != State::requested && state_ != State::answered) return EINVAL;
  if (private_data.size() > (is_datagram() ? most_in_datagram_reply : most_in_reject)) return EINVAL;
  Message rejection = message(MessageKind::reject);
  rejection.reason = is_datagram() ? reason::datagrams_rejected : why;
  std::copy(private_data.begin(), private_data.end(), rejection.private_data.begin());
  send_message(socket_.get(), rejection);  // who has gone needn't hear it
  enter(State::over);
  close_socket();
  return 0;
}

// Both ends hear of it, each once: this one at once, as there is nothing to wait for.
int Id::disconnect() {
  if (state_ != State::connected || is_datagram()) return destination_.is_internet() ? 0 : EINVAL;
  send_message(socket_.get(), message(MessageKind::disconnect));
  hang_up(0, nullptr);
  return 0;
}

int Id::notify(std::uint32_t verbs_event) {
  if (verbs_event != IBV_EVENT_COMM_EST) return EINVAL;
  if (state_ != State::accepted) return state_ == State::connected ? EISCONN : EINVAL;
  enter(State::connected);
  push(event(EventKind::established));
  return 0;
}

// ---- What comes ----

void Id::begin_passive(core::soft::Descriptor socket, const Id& listener) {
  enter(State::arriving);
  listener_ = listener.handle();
  uid_ = 0;
  socket_ = std::move(socket);
  watch();
}

void Id::take_messages() {
  Message message;
  while (socket_) {
    switch (receive_message(socket_.get(), message)) {
      case Received::message:
        take(message);
        break;
      case Received::nothing:
        return;
      case Received::end:
        return lose();
    }
  }
}

// What doesn't belong here is treated as an end that has gone.
void Id::take(const Message& message) {
  switch (message.kind) {
    case MessageKind::request:
      return state_ == State::arriving ? take_request(message) : lose();
    case MessageKind::reply:
      return state_ == State::connecting ? take_reply(message) : lose();
    case MessageKind::ready:
      if (state_ == State::connected && !is_datagram()) return;  // by notify(), before it came
      if (state_ != State::accepted) return lose();
      enter(State::connected);
      return push(event(EventKind::established));
    case MessageKind::reject:
      return state_ == State::connecting || state_ == State::accepted ? hang_up(message.reason, &message)
                                                                      : lose();
    case MessageKind::disconnect:
      return lose();
  }
}

void Id::take_request(const Message& message) {
  source_ = Address(message.destination);
  destination_ = Address(message.source);
  if (message.qp_type != qp_type_ || !source_.is_internet() || destination_.family() != source_.family() ||
      message.retry_count > most_retries || message.rnr_retry_count > most_retries)
    return lose();
  peer_ = message;
  // What the one end starts the other answers.
  responder_resources_ = message.initiator_depth;
  initiator_depth_ = message.responder_resources;
  retry_count_ = message.retry_count;
  rnr_retry_count_ = message.rnr_retry_count;
  enter(State::requested);
}

void Id::take_reply(const Message& message) {
  if (message.rnr_retry_count > most_retries) return lose();
  peer_ = message;
  responder_resources_ = message.initiator_depth;
  initiator_depth_ = message.responder_resources;
  rnr_retry_count_ = message.rnr_retry_count;
  if (is_datagram()) {
    enter(State::connected);
    Event established = event(EventKind::established);
    rdma_ucm_ud_param& told = established.response.param.ud;
    told.qp_num = message.qp_num;
    told.qkey = message.qkey;
    describe_peer(told.ah_attr);
    copy_private_data(message, most_in_datagram_reply, told.private_data, told.private_data_len);
    return push(established);
  }
  enter(State::answered);
  Event response = event(EventKind::connect_response);
  tell_of_peer(response.response.param.conn, most_in_reply);
  push(response);
}

Event Id::request_event(const Id& listener) const {
  Event request = listener.event(EventKind::connect_request);
  request.response.id = handle_;
  request.new_id = handle_;
  if (is_datagram()) {
    rdma_ucm_ud_param& told = request.response.param.ud;
    copy_private_data(peer_, most_in_datagram_request, told.private_data, told.private_data_len);
    return request;
  }
  tell_of_peer(request.response.param.conn, most_in_request);
  request.response.param.conn.retry_count = peer_.retry_count;
  return request;
}

void Id::tell_of_peer(rdma_ucm_conn_param& told, std::size_t private_room) const {
  told.qp_num = peer_.qp_num;
  told.responder_resources = responder_resources_;
  told.initiator_depth = initiator_depth_;
  told.flow_control = peer_.flow_control;
  told.rnr_retry_count = peer_.rnr_retry_count;
  told.srq = peer_.srq;
  copy_private_data(peer_, private_room, told.private_data, told.private_data_len);
}

// The other end has gone, or might as well have: how the program hears of that depends on how far the two
// were.
void Id::lose() {
  if (is_datagram() && state_ == State::connected) return close_socket();  // nobody is told
  hang_up(is_datagram() ? reason::datagrams_rejected : reason::by_consumer, nullptr);
}

void Id::hang_up(std::uint32_t why, const Message* message) {
  const State was = state_;
  enter(State::over);
  close_socket();
  if (was == State::connected) return push(event(EventKind::disconnected));
  if (was != State::connecting && was != State::answered && was != State::accepted) return;
  Event ended = event(is_datagram() ? EventKind::unreachable : EventKind::rejected, why);
  if (is_datagram()) {
    if (message)
      copy_private_data(*message, most_in_datagram_reply, ended.response.param.ud.private_data,
                        ended.response.param.ud.private_data_len);
  } else {
    copy_private_data(message ? *message : Message{}, most_in_reject, ended.response.param.conn.private_data,
                      ended.response.param.conn.private_data_len);
  }
  push(ended);
}

Event Id::event(EventKind kind, std::uint32_t status) const {
  Event made;
  made.response.uid = uid_;
  made.response.id = handle_;
  made.response.event = static_cast<std::uint32_t>(kind);
  made.response.status = status;
  made.counted_on = handle_;
  return made;
}

// A new connection that the program hasn't accepted yet has no name for it: what becomes of it shows when it
// is accepted.
void Id::push(const Event& event) {
  if (uid_ != 0) channel_->push(event);
}

// ---- Multicast ----

int Id::join(Handle membership, std::uint64_t uid, const Address& group) {
  if (!group.is_internet() || !group.is_multicast()) return EINVAL;
  if (!source_.is_internet() || source_.is_any() || !is_datagram()) return EINVAL;
  memberships_.emplace(membership, Membership{uid, group});
  Event joined = event(EventKind::multicast_join);
  joined.response.uid = uid;
  joined.response.id = membership;
  joined.multicast = membership;
  rdma_ucm_ud_param& told = joined.response.param.ud;
  constexpr std::uint32_t everybody = 0xff'ffff;  // IBTA: the queue pair number of multicast
  told.qp_num = everybody;
  told.qkey = default_qkey;
  describe_way(group.gid(), told.ah_attr);
  channel_->push(joined);
  return 0;
}

}  // namespace verbena::preload::rdma_cm
