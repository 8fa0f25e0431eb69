// SPDX-License-Identifier: Apache-2.0
#include "core/soft/limits.h"

#include <arpa/inet.h>
#include <sys/stat.h>

#include <atomic>
#include <cstdint>
#include <cstring>
#include <fstream>
#include <functional>
#include <string>

#include "core/soft/gid_table.h"
#include "core/soft/layout.h"
#include "core/soft/multicast_group.h"
#include "core/soft/queue_pair.h"
#include "core/soft/receive_queue.h"

namespace verbena::core::soft {

void describe_device(ibv_device_attr& attr) noexcept {
  attr = {};
  std::strcpy(attr.fw_ver, "1.0");
  const ibv_gid gid = host_gid();
  std::memcpy(&attr.node_guid, gid.raw + 8, sizeof attr.node_guid);
  attr.sys_image_guid = attr.node_guid;
  attr.max_mr_size = ~0ull;
  attr.page_size_cap = 0xffff'f000;
  attr.vendor_id = 0xffffff;  // no vendor
  attr.max_qp = queue_pairs_per_block;
  attr.max_qp_wr = max_work_requests;
  attr.device_cap_flags = IBV_DEVICE_RC_RNR_NAK_GEN | IBV_DEVICE_MEM_WINDOW | IBV_DEVICE_MEM_WINDOW_TYPE_2B |
                          IBV_DEVICE_MEM_MGT_EXTENSIONS | IBV_DEVICE_XRC;
  attr.max_sge = static_cast<int>(max_gather);
  attr.max_sge_rd = static_cast<int>(max_gather);
  attr.max_cq = static_cast<int>(max_completion_queues);
  attr.max_cqe = max_completions;
  attr.max_mr = static_cast<int>(max_keys) - 1;
  attr.max_pd = 65535;
  attr.max_qp_rd_atom = max_reads;
  attr.max_qp_init_rd_atom = max_reads;
  attr.max_res_rd_atom = max_reads * static_cast<int>(queue_pairs_per_block);
  attr.atomic_cap =
      IBV_ATOMIC_GLOB;  // CPU atomics on the target's memory: atomic to every processor of the host
  attr.max_mw = static_cast<int>(max_keys) - 1;
  attr.max_srq = 65535;
  attr.max_srq_wr = max_work_requests;
  attr.max_srq_sge = static_cast<int>(max_gather);
  attr.max_ah = 65535;
  attr.max_mcast_grp = 65535;
  attr.max_mcast_qp_attach = static_cast<int>(most_group_members);
  attr.max_total_mcast_qp_attach = attr.max_mcast_grp * attr.max_mcast_qp_attach;
  attr.max_pkeys = 1;
  attr.local_ca_ack_delay = 0;
  attr.phys_port_cnt = 1;
}

void describe_port(ibv_port_attr& attr) noexcept {
  attr = {};
  attr.state = IBV_PORT_ACTIVE;
  attr.max_mtu = IBV_MTU_4096;
  attr.active_mtu = IBV_MTU_4096;
  attr.gid_tbl_len = gid_table_length;
  attr.max_msg_sz = 1u << 31;
  attr.pkey_tbl_len = 1;
  attr.lid = 0;
  attr.max_vl_num = 1;
  attr.active_width = 8;   // 12x
  attr.active_speed = 64;  // HDR: memory is about as fast
  attr.phys_state = 5;     // link up
  attr.link_layer = IBV_LINK_LAYER_ETHERNET;
}

ibv_gid host_gid() noexcept {
  std::string boot;
  std::ifstream("/proc/sys/kernel/random/boot_id") >> boot;
  struct stat space {};
  static std::atomic<std::uint64_t> last_known{0};
  std::uint64_t host = last_known.load(std::memory_order_relaxed);  // where no file can be opened any more
  if (::stat("/proc/self/ns/net", &space) == 0 && (!boot.empty() || host == 0)) {
    host = std::hash<std::string>{}(boot + std::to_string(space.st_ino));
    last_known.store(host, std::memory_order_relaxed);
  }
  ibv_gid gid{};
  gid.raw[0] = 0xfe;
  gid.raw[1] = 0x80;
  std::memcpy(gid.raw + 8, &host, sizeof host);
  return gid;
}

const ibv_gid& host_gid_once() noexcept {
  static const ibv_gid gid = host_gid();
  return gid;
}

}  // namespace verbena::core::soft
