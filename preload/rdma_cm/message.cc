// SPDX-License-Identifier: Apache-2.0
#include "preload/rdma_cm/message.h"

#include <sys/socket.h>

#include <cerrno>

namespace verbena::preload::rdma_cm {
namespace {

bool is_ours(const Message& message) noexcept {
  return message.magic == Message::right_magic && message.version == Message::right_version &&
         message.kind >= MessageKind::request && message.kind <= MessageKind::disconnect &&
         message.qp_num < 1u << 24;
}

}  // namespace

int send_message(int socket, const Message& message) noexcept {
  return ::send(socket, &message, sizeof message, MSG_DONTWAIT | MSG_NOSIGNAL) < 0 ? errno : 0;
}

Received receive_message(int socket, Message& message) noexcept {
  iovec bytes{&message, sizeof message};
  msghdr header{};
  header.msg_iov = &bytes;
  header.msg_iovlen = 1;
  ssize_t got = ::recvmsg(socket, &header, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
  // An end that went without reading all resets the connection; what it has sent is still to be read.
  if (got < 0 && errno == ECONNRESET) got = ::recvmsg(socket, &header, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
  if (got < 0) return errno == EAGAIN || errno == EINTR ? Received::nothing : Received::end;
  if (got != sizeof message || (header.msg_flags & MSG_TRUNC) || !is_ours(message)) return Received::end;
  return Received::message;
}

}  // namespace verbena::preload::rdma_cm
