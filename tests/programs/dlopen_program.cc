// SPDX-License-Identifier: Apache-2.0
// A program that isn't linked with libibverbs and loads it when it runs, as MPI libraries and language
// bindings do. Prints the devices that it finds there; opens soft0 and registers memory on it.
#include <dlfcn.h>
#include <infiniband/verbs.h>

#include <array>
#include <cstdint>
#include <cstdio>
#include <string_view>

// The header's macros of these names aren't what is looked up.
#undef ibv_get_device_list
#undef ibv_reg_mr

namespace {

int fail(const char* what) {
  std::printf("%s failed: %s\n", what, dlerror());
  return 1;
}

template <class Function>
Function* find(void* library, const char* name) {
  return reinterpret_cast<Function*>(dlsym(library, name));
}

}  // namespace

int main() {
  void* const library = dlopen("libibverbs.so.1", RTLD_NOW | RTLD_LOCAL);
  if (!library) return fail("dlopen");
  auto* const list_devices = find<decltype(ibv_get_device_list)>(library, "ibv_get_device_list");
  auto* const name_of = find<decltype(ibv_get_device_name)>(library, "ibv_get_device_name");
  auto* const open = find<decltype(ibv_open_device)>(library, "ibv_open_device");
  auto* const close = find<decltype(ibv_close_device)>(library, "ibv_close_device");
  auto* const alloc_pd = find<decltype(ibv_alloc_pd)>(library, "ibv_alloc_pd");
  auto* const dealloc_pd = find<decltype(ibv_dealloc_pd)>(library, "ibv_dealloc_pd");
  auto* const reg_mr = find<decltype(ibv_reg_mr)>(library, "ibv_reg_mr");
  auto* const dereg_mr = find<decltype(ibv_dereg_mr)>(library, "ibv_dereg_mr");
  // Not of a device: libibverbs' own, whatever stands in front of the others.
  auto* const rate = find<decltype(ibv_rate_to_mbps)>(library, "ibv_rate_to_mbps");
  auto* const resolve = find<decltype(ibv_resolve_eth_l2_from_gid)>(library, "ibv_resolve_eth_l2_from_gid");
  if (!resolve || !list_devices || !name_of || !open || !close || !alloc_pd || !dealloc_pd || !reg_mr ||
      !dereg_mr || !rate)
    return fail("dlsym");
  if (rate(IBV_RATE_10_GBPS) != 10'000) return fail("ibv_rate_to_mbps");

  int count = 0;
  ibv_device** const devices = list_devices(&count);
  if (!devices) return fail("ibv_get_device_list");
  ibv_context* context = nullptr;
  for (int i = 0; i < count; ++i) {
    std::printf("device %s\n", name_of(devices[i]));
    if (name_of(devices[i]) == std::string_view("soft0")) context = open(devices[i]);
  }
  if (!context) return fail("opening soft0");
  ibv_ah_attr attr{};
  attr.port_num = 1;
  std::array<std::uint8_t, ETHERNET_LL_SIZE> mac{};
  if (resolve(context, &attr, mac.data(), nullptr) != 0) return fail("ibv_resolve_eth_l2_from_gid");
  std::array<char, 64> memory{};
  ibv_pd* const pd = alloc_pd(context);
  ibv_mr* const mr = pd ? reg_mr(pd, memory.data(), memory.size(), IBV_ACCESS_LOCAL_WRITE) : nullptr;
  if (!mr || dereg_mr(mr) != 0 || dealloc_pd(pd) != 0 || close(context) != 0) return fail("registering");
  std::printf("registered on soft0\n");
  return 0;
}
