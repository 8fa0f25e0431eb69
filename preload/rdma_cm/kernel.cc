// SPDX-License-Identifier: Apache-2.0
#include "preload/rdma_cm/kernel.h"

#include <fcntl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <array>
#include <utility>

namespace verbena::preload::rdma_cm {

// By the system call itself: the C library's function of that name is ours.
std::optional<Kernel> Kernel::open() noexcept {
  core::soft::Descriptor file(static_cast<int>(
      ::syscall(SYS_openat, AT_FDCWD, "/dev/infiniband/rdma_cm", O_RDWR | O_CLOEXEC | O_NONBLOCK)));
  if (!file) return {};
  return Kernel(std::move(file));
}

int Kernel::command(std::uint32_t number, std::span<const std::byte> body,
                    std::size_t answer_size) const noexcept {
  struct {
    rdma_ucm_cmd_hdr header;
    std::array<std::byte, 1024> body;
  } all;
  if (body.size() > all.body.size()) return EINVAL;
  all.header = {number, static_cast<std::uint16_t>(body.size()), static_cast<std::uint16_t>(answer_size)};
  std::memcpy(all.body.data(), body.data(), body.size());
  return ::syscall(SYS_write, file_.get(), &all, sizeof all.header + body.size()) < 0 ? errno : 0;
}

std::optional<Handle> Kernel::create(std::uint64_t uid, std::uint16_t port_space,
                                     std::uint8_t qp_type) const noexcept {
  rdma_ucm_create_id_resp made{};
  rdma_ucm_create_id wanted{};
  wanted.uid = uid;
  wanted.response = reinterpret_cast<std::uint64_t>(&made);
  wanted.ps = port_space;
  wanted.qp_type = qp_type;
  if (const int error = send(RDMA_USER_CM_CMD_CREATE_ID, wanted, sizeof made)) {
    errno = error;
    return {};
  }
  return made.id;
}

void Kernel::destroy(Handle id) const noexcept {
  rdma_ucm_destroy_id_resp told{};
  rdma_ucm_destroy_id wanted{};
  wanted.response = reinterpret_cast<std::uint64_t>(&told);
  wanted.id = id;
  send(RDMA_USER_CM_CMD_DESTROY_ID, wanted, sizeof told);
}

int Kernel::bind(Handle id, const Address& address) const noexcept {
  rdma_ucm_bind_ip wanted{};
  wanted.addr = address.raw();
  wanted.id = id;
  return send(RDMA_USER_CM_CMD_BIND_IP, wanted);
}

bool Kernel::has_device(Handle id) const noexcept {
  rdma_ucm_query_route_resp route{};
  rdma_ucm_query wanted{};
  wanted.response = reinterpret_cast<std::uint64_t>(&route);
  wanted.id = id;
  return send(RDMA_USER_CM_CMD_QUERY_ROUTE, wanted, sizeof route) == 0 && route.node_guid != 0;
}

bool Kernel::next_event(rdma_ucm_event_resp& event) const noexcept {
  event = {};
  rdma_ucm_get_event wanted{};
  wanted.response = reinterpret_cast<std::uint64_t>(&event);
  return send(RDMA_USER_CM_CMD_GET_EVENT, wanted, sizeof event) == 0;
}

}  // namespace verbena::preload::rdma_cm
