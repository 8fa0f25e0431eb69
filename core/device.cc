// SPDX-License-Identifier: Apache-2.0
#include "core/device.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <cerrno>
#include <cstdio>
#include <cstring>

#include "core/error.h"
#include "core/hca_device.h"
#include "core/soft/soft_device.h"

namespace verbena::core {
namespace {

constexpr std::string_view soft_name = "soft0";

/// libibverbs' list; empty where the kernel has no RDMA, which is no error here. Under `verbena run` there is
/// a soft0 in it for programs that know nothing of Verbena: left out, as ours is nearer.
class HardwareList {
 public:
  HardwareList() : list_(ibv_get_device_list(nullptr)) {
    for (ibv_device** device = list_; device && *device; ++device) {
      if (ibv_get_device_name(*device) != soft_name) devices_.push_back(*device);
    }
  }
  ~HardwareList() {
    if (list_ != nullptr) ibv_free_device_list(list_);
  }
  HardwareList(const HardwareList&) = delete;
  HardwareList& operator=(const HardwareList&) = delete;

  auto begin() const { return devices_.begin(); }
  auto end() const { return devices_.end(); }

 private:
  ibv_device** list_;
  std::vector<ibv_device*> devices_;
};

/// So that a child's stores don't take the pages from under what is pinned. Kernels that copy pinned pages
/// for the child need nothing, and aren't told: ibv_fork_init would take the registered pages from children
/// all the same. It must come before the first registration.
void prepare_for_forks() noexcept {
  static const int error = ibv_is_fork_initialized() == IBV_FORK_DISABLED ? ibv_fork_init() : 0;
  if (error == 0) return;
  static const int said = std::fprintf(
      stderr,
      "verbena: ibv_fork_init failed (%s), as memory has been registered before: on this kernel a forked "
      "child may take registered pages from its parent; open a Loop first, or don't fork\n",
      std::strerror(error));
  static_cast<void>(said);
}

std::unique_ptr<Device> open_hardware(ibv_device* device) {
  prepare_for_forks();
  errno = 0;
  ibv_context* context = ibv_open_device(device);
  if (context == nullptr) {
    throw_verb_error(ibv_get_device_name(device), "ibv_open_device", errno != 0 ? errno : EIO);
  }
  return std::make_unique<HcaDevice>(context);
}

bool has_active_port(Device& device) {
  ibv_device_attr attr{};
  if (device.query_device(attr) != 0) return false;
  for (std::uint8_t port = 1; port <= attr.phys_port_cnt; ++port) {
    ibv_port_attr port_attr{};
    if (device.query_port(port, port_attr) == 0 && port_attr.state == IBV_PORT_ACTIVE) return true;
  }
  return false;
}

std::unique_ptr<Device> open_best() {
  for (ibv_device* candidate : HardwareList{}) {
    prepare_for_forks();
    if (ibv_context* context = ibv_open_device(candidate)) {
      auto device = std::make_unique<HcaDevice>(context);
      if (has_active_port(*device)) return device;
    }
  }
  return open_soft_device();
}

std::string names_in_words() {
  std::vector<std::string> names;
  for (const DeviceName& device : list_devices()) names.push_back(device.name);
  return fmt::format("{}", fmt::join(names, ", "));
}

}  // namespace

int Device::attach_mcast(ibv_qp*, const ibv_gid&, std::uint16_t) {
  return EOPNOTSUPP;
}

int Device::detach_mcast(ibv_qp*, const ibv_gid&, std::uint16_t) {
  return EOPNOTSUPP;
}

ibv_mr* Device::reg_dmabuf_mr(ibv_pd*, std::uint64_t, std::size_t, std::uint64_t, int, int) {
  errno = EOPNOTSUPP;
  return nullptr;
}

ibv_mr* Device::reg_mr_iova(ibv_pd*, void*, std::size_t, std::uint64_t, int) {
  errno = EOPNOTSUPP;
  return nullptr;
}

int Device::resize_cq(ibv_cq*, int) {
  return EOPNOTSUPP;
}

int Device::rereg_mr(ibv_mr*, int, ibv_pd*, void*, std::size_t, int) {
  errno = EOPNOTSUPP;
  return IBV_REREG_MR_ERR_INPUT;
}

ibv_qp_ex* Device::qp_to_qp_ex(ibv_qp*) noexcept {
  return nullptr;
}

std::vector<DeviceName> list_devices() {
  std::vector<DeviceName> names;
  for (ibv_device* device : HardwareList{}) names.push_back({ibv_get_device_name(device), DeviceKind::hca});
  names.push_back({std::string{soft_name}, DeviceKind::software});
  return names;
}

std::unique_ptr<Device> open_device(std::string_view name) {
  if (name.empty()) return open_best();
  if (name == soft_name) return open_soft_device();
  for (ibv_device* device : HardwareList{}) {
    if (name == ibv_get_device_name(device)) return open_hardware(device);
  }
  throw Error(errc::device_not_found, fmt::format("there is no RDMA device named \"{}\" here; there are: {}",
                                                  name, names_in_words()));
}

}  // namespace verbena::core
