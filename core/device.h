// SPDX-License-Identifier: Apache-2.0
/// The one seam between Verbena and what carries its bytes.
///
/// A `Device` is an opened verbs device: an HCA, the kernel's SoftRoCE, or Verbena's own software device
/// `soft0`. It has the set-up verbs only, one method a verb, with the verb's own convention: a pointer or
/// nullptr with `errno` set; or 0, else an errno value. What each does, and its errors, is the man page of
/// the verb of the same name (`ibv_alloc_pd(3)` …); a verb that a device lacks answers EOPNOTSUPP.
///
/// Beside them stands what a device has that verbs have no word for: lending().
///
/// The data path isn't here: `ibv_post_send`, `ibv_post_recv`, `ibv_post_srq_recv`, `ibv_poll_cq` and
/// `ibv_req_notify_cq` are inline calls through `context()->ops`, the same for hardware and software.
///
/// Thread safety: as verbs: every call may be made from any thread. Lifetime: a Device outlives all that was
/// created from it; objects are destroyed through the Device that made them, children first.
#pragma once

#include <infiniband/verbs.h>

#include <cstddef>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "core/fork.h"

namespace verbena::core {

class Lending;

enum class DeviceKind { hca, software };

/// A device that could be opened, as a listing shows it.
struct DeviceName {
  std::string name;  ///< "mlx5_0", "rxe1", "soft0"
  DeviceKind kind;
};

/// Bytes that other processes may be given a mapping of: `length` bytes of the file `fd` from `offset` on,
/// mapped in this process at `address`. `offset` and `address` are page-aligned. The file is a memfd sealed
/// against shrinking; `reg_shared_mr` takes its own reference of it, so the caller may close `fd` afterwards.
struct SharedRange {
  int fd;
  std::size_t offset;
  void* address;
  std::size_t length;
};

class Device {
 public:
  virtual ~Device() = default;
  Device(const Device&) = delete;
  Device& operator=(const Device&) = delete;

  /// False in a forked child of the process that opened it: there nothing may be done with it, not even to
  /// destroy what it made (Handle sees to that).
  bool is_of_this_process() const noexcept { return process_.is_this(); }

  virtual std::string_view name() const noexcept = 0;
  virtual DeviceKind kind() const noexcept = 0;
  /// The context whose `ops` the data path goes through, and whose `async_fd` is readable while an
  /// asynchronous event waits. Owned by the device.
  virtual ibv_context* context() noexcept = 0;

  /// True where a read may complete with success though the peer took the memory away in the middle of it,
  /// and part of the bytes never came: only success of an operation behind it on its queue pair says that it
  /// is whole. SoftRoCE does that (seen on Linux 6.1: rxe_completer() meets the peer's refusal between two
  /// answers, completes the read without an error, and only then fails the queue pair).
  virtual bool may_misreport_reads() const noexcept { return false; }

  /// True where a fault plan makes it misbehave, or a trace makes it slow: times taken on it say nothing.
  virtual bool is_faulty() const noexcept { return false; }

  virtual int query_device(ibv_device_attr& attr) = 0;
  virtual int query_port(std::uint8_t port, ibv_port_attr& attr) = 0;
  virtual int query_gid(std::uint8_t port, int index, ibv_gid& gid) = 0;
  /// The same with its type, as ibv_query_gid_ex(3).
  virtual int query_gid_entry(std::uint8_t port, int index, ibv_gid_entry& entry) = 0;
  virtual int query_pkey(std::uint8_t port, int index, __be16& pkey) = 0;
  /// The GID index to reach peers by: the IPv4-mapped RoCE v2 entry where there is one (on rxe the fe80 entry
  /// comes first and doesn't route), else 0.
  virtual int preferred_gid_index(std::uint8_t port) = 0;

  virtual ibv_pd* alloc_pd() = 0;
  virtual int dealloc_pd(ibv_pd* pd) = 0;

  virtual ibv_mr* reg_mr(ibv_pd* pd, void* address, std::size_t length, int access) = 0;
  /// The same, where work requests and peers name the addresses from `iova` on instead.
  virtual ibv_mr* reg_mr_iova(ibv_pd* pd, void* address, std::size_t length, std::uint64_t iova, int access);
  /// Like reg_mr, for memory that a peer on this host may map: on soft0 one-sided operations on it are a
  /// plain copy by the initiator. On other devices the same as reg_mr.
  virtual ibv_mr* reg_shared_mr(ibv_pd* pd, const SharedRange& range, int access) = 0;
  /// Memory of another device, by its dma-buf `fd`: `length` bytes from `offset` on, which work requests and
  /// peers reach at the addresses from `iova` on. `offset` and `iova` begin equally far into a page. nullptr
  /// with EOPNOTSUPP where the device, its driver or the kernel can't.
  virtual ibv_mr* reg_dmabuf_mr(ibv_pd* pd, std::uint64_t offset, std::size_t length, std::uint64_t iova,
                                int fd, int access);
  /// 0, and the region has new keys; or an ibv_rereg_mr_err_code with errno.
  virtual int rereg_mr(ibv_mr* mr, int flags, ibv_pd* pd, void* address, std::size_t length, int access);
  /// When this returns 0, no access of a peer touches the memory any more, not even a late one.
  virtual int dereg_mr(ibv_mr* mr) = 0;
  virtual ibv_mw* alloc_mw(ibv_pd* pd, ibv_mw_type type) = 0;
  virtual int dealloc_mw(ibv_mw* mw) = 0;

  virtual ibv_ah* create_ah(ibv_pd* pd, ibv_ah_attr& attr) = 0;
  virtual int destroy_ah(ibv_ah* ah) = 0;

  virtual ibv_comp_channel* create_comp_channel() = 0;
  virtual int destroy_comp_channel(ibv_comp_channel* channel) = 0;
  /// 0; or -1 with errno, EAGAIN where the channel's descriptor is non-blocking and no event waits.
  virtual int get_cq_event(ibv_comp_channel* channel, ibv_cq** cq, void** cq_context) = 0;
  virtual void ack_cq_events(ibv_cq* cq, unsigned int count) = 0;

  virtual ibv_cq* create_cq(int entries, void* cq_context, ibv_comp_channel* channel, int comp_vector) = 0;
  /// 0; EINVAL where more completions wait in it than are to have a place.
  virtual int resize_cq(ibv_cq* cq, int entries);
  virtual int destroy_cq(ibv_cq* cq) = 0;

  virtual ibv_srq* create_srq(ibv_pd* pd, ibv_srq_init_attr& init) = 0;
  virtual int modify_srq(ibv_srq* srq, ibv_srq_attr& attr, int mask) = 0;
  virtual int query_srq(ibv_srq* srq, ibv_srq_attr& attr) = 0;
  virtual int destroy_srq(ibv_srq* srq) = 0;

  virtual ibv_qp* create_qp(ibv_pd* pd, ibv_qp_init_attr& init) = 0;
  virtual int modify_qp(ibv_qp* qp, ibv_qp_attr& attr, int mask) = 0;
  virtual int query_qp(ibv_qp* qp, ibv_qp_attr& attr, int mask, ibv_qp_init_attr& init) = 0;
  virtual int destroy_qp(ibv_qp* qp) = 0;
  virtual int attach_mcast(ibv_qp* qp, const ibv_gid& group, std::uint16_t lid);
  virtual int detach_mcast(ibv_qp* qp, const ibv_gid& group, std::uint16_t lid);
  /// The face for ibv_wr_start(3) of a queue pair that was created with send operations by
  /// ibv_create_qp_ex(3); nullptr of any other. (What else is extended, libibverbs' inline functions take
  /// from the context.)
  virtual ibv_qp_ex* qp_to_qp_ex(ibv_qp* qp) noexcept;

  /// Of devices whose peers may read memory where it lies; nullptr where they can't.
  virtual Lending* lending() noexcept { return nullptr; }

  /// 0; or -1 with errno, EAGAIN where `context()->async_fd` is non-blocking and no event waits.
  virtual int get_async_event(ibv_async_event& event) = 0;
  virtual void ack_async_event(ibv_async_event& event) = 0;

 protected:
  Device() = default;

 private:
  OfProcess process_;
};

/// Every device of this machine: real ones first, as libibverbs lists them, then `soft0`.
std::vector<DeviceName> list_devices();

/// Opens a device by name; an empty name means the best: the first real device with an active port, else
/// soft0. Throws verbena::Error (device_not_found, device_failed) naming the devices that there are.
std::unique_ptr<Device> open_device(std::string_view name = {});

}  // namespace verbena::core
