// SPDX-License-Identifier: Apache-2.0
#include "transport/cm_link.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <cstring>
#include <utility>

namespace verbena::transport {
namespace {

rdma_event_channel* open_channel() {
  rdma_event_channel* channel = rdma_create_event_channel();
  if (channel) ::fcntl(channel->fd, F_SETFL, ::fcntl(channel->fd, F_GETFL) | O_NONBLOCK);
  return channel;
}

CmEvent copy(const rdma_cm_event& event) {
  CmEvent copy;
  copy.kind = event.event;
  copy.status = event.status;
  copy.id = event.id;
  copy.qp_number = event.param.conn.qp_num;
  if (event.param.conn.private_data) {
    copy.length = std::min<std::size_t>(event.param.conn.private_data_len, copy.bytes.size());
    std::memcpy(copy.bytes.data(), event.param.conn.private_data, copy.length);
  }
  return copy;
}

}  // namespace

// The descriptor is a duplicate: Asio closes that one, rdma_cm its own.
CmLink::CmLink(boost::asio::io_context& context, rdma_event_channel* channel)
    : channel_(channel),
      descriptor_(context, ::dup(channel->fd)),
      marks_{core::ClosedInChildren{channel->fd}, core::ClosedInChildren{descriptor_.native_handle()}},
      timer_(context) {}

CmLink::~CmLink() {
  for (core::ClosedInChildren& mark : marks_) mark = {};  // before they are closed
  boost::system::error_code ignored;
  descriptor_.close(ignored);
  if (id_) rdma_destroy_id(id_);
  rdma_destroy_event_channel(channel_);
}

std::shared_ptr<CmLink> CmLink::open(boost::asio::io_context& context) {
  rdma_event_channel* channel = open_channel();
  if (!channel) return nullptr;
  auto link = std::make_shared<CmLink>(context, channel);
  if (rdma_create_id(channel, &link->id_, nullptr, RDMA_PS_TCP) != 0) {
    link->id_ = nullptr;
    return nullptr;
  }
  link->wait();
  return link;
}

std::shared_ptr<CmLink> CmLink::adopt(boost::asio::io_context& context, rdma_cm_id* id) {
  rdma_event_channel* channel = open_channel();
  if (!channel || rdma_migrate_id(id, channel) != 0) {
    const int error = errno;
    reject(id, {});
    if (channel) rdma_destroy_event_channel(channel);
    errno = error;
    return nullptr;
  }
  auto link = std::make_shared<CmLink>(context, channel);
  link->id_ = id;
  link->wait();
  return link;
}

void CmLink::wait() {
  descriptor_.async_wait(boost::asio::posix::stream_descriptor::wait_read,
                         [weak = weak_from_this()](boost::system::error_code error) {
                           const auto self = weak.lock();
                           if (error || !self) return;
                           self->take_events();
                           self->wait();
                         });
}

void CmLink::take_events() {
  rdma_cm_event* event = nullptr;
  while (rdma_get_cm_event(channel_, &event) == 0) {
    const CmEvent taken = copy(*event);
    rdma_ack_cm_event(event);
    const Handler handler = handler_;  // it may be replaced while it runs
    if (handler) {
      handler(taken);
    } else if (taken.kind == RDMA_CM_EVENT_CONNECT_REQUEST) {
      reject(taken.id, {});
    }
  }
}

void CmLink::hang_up() {
  if (rdma_disconnect(id_) != 0) return;
  timer_.expires_after(std::chrono::seconds(1));
  timer_.async_wait([self = shared_from_this()](boost::system::error_code) {});
  on_event([this](const CmEvent& event) {
    if (event.kind == RDMA_CM_EVENT_DISCONNECTED) timer_.cancel();
  });
}

std::string device_of(const rdma_cm_id* id) {
  return id->verbs ? ibv_get_device_name(id->verbs->device) : std::string{};
}

void reject(rdma_cm_id* id, std::span<const std::byte> reason) {
  rdma_reject(id, reason.data(), static_cast<std::uint8_t>(reason.size()));
  rdma_destroy_id(id);
}

}  // namespace verbena::transport
