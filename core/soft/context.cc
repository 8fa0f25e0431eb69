// SPDX-License-Identifier: Apache-2.0
#include "core/soft/context.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/random.h>
#include <sys/stat.h>

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <string_view>

#include "core/soft/agent.h"
#include "core/soft/completion_queue.h"
#include "verbena/error.h"

namespace verbena::core::soft {
namespace {

[[noreturn]] void fail(std::string_view what, int error) {
  throw Error(
      errc::device_failed,
      fmt::format("soft0 can't be opened: {} failed: {}; check the limits of open files (ulimit -n) and of "
                  "memory, and that memfd_create and Unix sockets are permitted here",
                  what, std::strerror(error)));
}

}  // namespace

bool process_vm_allowed() noexcept {
  const char* setting = std::getenv("VERBENA_SOFT0_PROCESS_VM");
  return !setting || std::string_view(setting) != "off";
}

BothSides::BothSides(QueuePair& qp) noexcept
    : qp_(qp),
      first_(std::min(&qp.send_completions(), &qp.receive_completions())),
      second_(std::max(&qp.send_completions(), &qp.receive_completions())) {
  first_->lock.lock();
  if (second_ != first_) second_->lock.lock();
  qp_.holds_both = true;
}

BothSides::~BothSides() {
  qp_.holds_both = false;
  if (second_ != first_) second_->lock.unlock();
  first_->lock.unlock();
}

Context::Context(Device& device, std::optional<FaultPlan> plan, PeerDeath death)
    : plan_(plan), death_(death), places_(new Place[queue_pairs_per_block]) {
  asymmetric_fences();
  claim_block();
  create_memory();
  keys_ = std::make_unique<KeyTable>(*table_);
  verbs_.sz = sizeof(verbs_context);
  verbs_.device = &device;
  verbs_.context.abi_compat = __VERBS_ABI_IS_EXTENDED;
  verbs_.context.device = &soft_device_entry();
  verbs_.context.async_fd = events_.descriptor();
  verbs_.context.cmd_fd = -1;
  verbs_.context.num_comp_vectors = 1;
  pthread_mutex_init(&verbs_.context.mutex, nullptr);
  install_operations();
  install_slots();
  agent_ = std::make_unique<Agent>(*this, listener_.get());
}

Context::~Context() {
  delete agent_.get();  // ends its thread, which looks at the pointer until then
  static_cast<void>(agent_.release());
}

// A fault plan and a trace have functions of their own here, so that without them nothing asks for them.
void Context::install_operations() noexcept {
  ibv_context_ops& ops = verbs_.context.ops;
  ops.post_send = [](ibv_qp* qp, ibv_send_wr* request, ibv_send_wr** bad) {
    return static_cast<QueuePair*>(qp)->post_send(request, bad);
  };
  ops.post_recv = [](ibv_qp* qp, ibv_recv_wr* request, ibv_recv_wr** bad) {
    return static_cast<QueuePair*>(qp)->post_receive(request, bad);
  };
  ops.post_srq_recv = [](ibv_srq* srq, ibv_recv_wr* request, ibv_recv_wr** bad) {
    return static_cast<SharedReceiveQueue*>(srq)->post(request, bad);
  };
  ops.poll_cq = [](ibv_cq* cq, int count, ibv_wc* completions) {
    return static_cast<CompletionQueue*>(cq)->poll(count, completions);
  };
  ops.req_notify_cq = [](ibv_cq* cq, int solicited_only) {
    return static_cast<CompletionQueue*>(cq)->arm(solicited_only != 0);
  };
  if (trace_ || (plan_ && plan_->touches_operations())) {
    ops.post_send = [](ibv_qp* qp, ibv_send_wr* request, ibv_send_wr** bad) {
      return static_cast<QueuePair*>(qp)->post_send_by_plan(request, bad);
    };
  }
  if (plan_ && plan_->completion_delay.count() > 0) {
    ops.poll_cq = [](ibv_cq* cq, int count, ibv_wc* completions) {
      return static_cast<CompletionQueue*>(cq)->poll_late(count, completions);
    };
  }
}

// As with a fault plan: without such queue pairs nothing asks for them.
void Context::expect_xrc() noexcept {
  const bool by_plan = plan_ && plan_->touches_operations();
  constexpr auto post = [](ibv_qp* qp, ibv_send_wr* request, ibv_send_wr** bad) {
    auto& posted = *static_cast<QueuePair*>(qp);
    return posted.qp_type == IBV_QPT_XRC_SEND ? posted.post_send_by_plan(request, bad)
                                              : posted.post_send(request, bad);
  };
  constexpr auto post_receive = [](ibv_qp* qp, ibv_recv_wr* request, ibv_recv_wr** bad) {
    if (qp->qp_type != IBV_QPT_XRC_SEND && qp->qp_type != IBV_QPT_XRC_RECV)
      return static_cast<QueuePair*>(qp)->post_receive(request, bad);
    *bad = request;
    return EINVAL;
  };
  // Relaxed: for a queue pair that others know already either function will do.
  if (!by_plan) __atomic_store_n(&verbs_.context.ops.post_send, +post, __ATOMIC_RELAXED);
  __atomic_store_n(&verbs_.context.ops.post_recv, +post_receive, __ATOMIC_RELAXED);
}

bool Context::publish_receive_queue(SharedReceiveQueue& srq) noexcept {
  for (std::uint32_t number = 1; number < max_xrc_receive_queues; ++number) {
    if (xrc_receive_queues_[number].load(std::memory_order_relaxed)) continue;
    srq.number = number;
    xrc_receive_queues_[number].store(&srq, std::memory_order_release);  // pairs with receive_queue
    return true;
  }
  return false;
}

void Context::withdraw_receive_queue(SharedReceiveQueue& srq) noexcept {
  xrc_receive_queues_[srq.number].store(nullptr, std::memory_order_relaxed);
  pause_all();  // whoever has found it has done with it
}

bool Context::fails_call() noexcept {
  if (!plan_ || plan_->failing_call == 0) return false;
  return set_up_calls_.fetch_add(1, std::memory_order_relaxed) + 1 ==
         plan_->failing_call;  // a count, no more
}

std::unique_ptr<Faults> Context::next_faults() {
  if (!plan_ || !plan_->touches_operations()) return nullptr;
  return std::make_unique<Faults>(*plan_, faulty_queue_pairs_++);
}

// The kernel keeps the register of blocks: an abstract socket name has one owner, and none once its process
// is dead.
void Context::claim_block() {
  std::uint32_t start = 0;
  if (::getrandom(&start, sizeof start, 0) != sizeof start) fail("getrandom", errno);
  for (std::uint32_t i = 0; i < blocks - first_block; ++i) {
    block_ = first_block + (start + i) % (blocks - first_block);
    listener_ = listen_as_block(block_);
    if (listener_) return;
    if (errno != EADDRINUSE) fail("binding a Unix socket", errno);
  }
  throw Error(
      errc::device_failed,
      fmt::format("soft0 can't be opened: all {} blocks of queue pair numbers are in use on this host; end "
                  "some of the processes that use soft0",
                  blocks - first_block));
}

void Context::create_memory() {
  table_file_ = create_shared_file("verbena-soft0-keys", sizeof(PublicTable));
  if (!table_file_) fail("creating shared memory", errno);
  table_mapping_ = map_own(table_file_, sizeof(PublicTable));
  if (!table_mapping_) fail("mapping shared memory", errno);
  forbid_new_writers(table_file_);
  table_ = static_cast<PublicTable*>(table_mapping_.get());
  table_->header = {layout_magic, layout_version, asymmetric_fences() ? 0u : 1u};
  constexpr std::size_t bell_bytes = max_completion_queues * bell_stride;
  bell_file_ = create_shared_file("verbena-soft0-bells", bell_bytes);
  if (!bell_file_) fail("creating shared memory", errno);
  bell_mapping_ = map_own(bell_file_, bell_bytes);
  if (!bell_mapping_) fail("mapping shared memory", errno);
}

Bell& Context::bell(std::uint32_t completion_queue) noexcept {
  return *reinterpret_cast<Bell*>(static_cast<std::byte*>(bell_mapping_.get()) +
                                  completion_queue * bell_stride);
}

QueuePair* Context::queue_pair_at(std::uint32_t index, const CompletionQueue& receive_queue) noexcept {
  // While its receive queue's lock is held, a queue pair stays: see remove().
  const Place& place = places_[index];
  if (place.receive_queue.load(std::memory_order_relaxed) != &receive_queue) return nullptr;
  return place.queue_pair.load(std::memory_order_relaxed);
}

std::uint32_t Context::claim_queue_pair() {
  for (std::uint32_t i = 0; i < queue_pairs_per_block; ++i) {
    const std::uint32_t index = next_index_++ & (queue_pairs_per_block - 1);
    if (!places_[index].queue_pair.load(std::memory_order_relaxed)) return block_ << index_bits | index;
  }
  errno = ENOMEM;
  return 0;
}

// A port's name is anybody's to take: where a stranger has it, the next number will do.
std::uint32_t Context::claim_datagram_port(std::unique_ptr<DatagramPort>& port) {
  constexpr int most_taken = 64;
  for (int i = 0; i < most_taken; ++i) {
    const std::uint32_t number = claim_queue_pair();
    if (number == 0) return 0;
    port = std::make_unique<DatagramPort>(number);
    if (port->is_open()) return number;
    if (errno != EADDRINUSE) return 0;
  }
  errno = ENOMEM;
  return 0;
}

void Context::add(QueuePair& qp) {
  queue_pairs_.push_back(&qp);
  if (qp.datagrams && datagram_ports_++ == 0) agent_->kick();
  const BothSides locked(qp);
  Place& place = places_[index_of(qp.qp_num)];
  place.queue_pair.store(&qp, std::memory_order_relaxed);
  place.receive_queue.store(&qp.receive_completions(), std::memory_order_relaxed);
}

void Context::remove(QueuePair& qp) {
  std::erase(queue_pairs_, &qp);
  if (qp.datagrams) --datagram_ports_;
  {
    const BothSides locked(qp);
    qp.enter_reset();
    Place& place = places_[index_of(qp.qp_num)];
    place.receive_queue.store(nullptr, std::memory_order_relaxed);
    place.queue_pair.store(nullptr, std::memory_order_relaxed);
  }
  events_.forget(static_cast<ibv_qp*>(&qp));
  std::erase_if(offers_, [&](const auto& entry) { return entry.first.first == qp.qp_num; });
}

CompletionQueue* Context::add_queue(int entries, void* cq_context, CompletionChannel* channel) {
  const auto place = std::ranges::find_if(queues_, [](const auto& queue) { return !queue; });
  if (place == queues_.end()) {
    errno = ENOMEM;
    return nullptr;
  }
  const auto index = static_cast<std::uint32_t>(place - queues_.begin());
  *place = std::make_unique<CompletionQueue>(*this, index, entries, cq_context, channel);
  if (channel) channel->attach(**place);
  return place->get();
}

void Context::remove_queue(CompletionQueue& cq) {
  if (cq.completion_channel) cq.completion_channel->detach(cq);
  events_.forget(static_cast<ibv_cq*>(&cq));
  armed_line(cq.index).store(Armed::no, std::memory_order_relaxed);
  queues_[cq.index].reset();
}

std::uint32_t Context::share(const SharedRange& range) {
  struct stat status {};
  if (::fstat(range.fd, &status) != 0) return 0;
  for (auto& [id, file] : shared_) {
    if (file.inode == status.st_ino) {
      ++file.users;
      return id;
    }
  }
  Descriptor file(::fcntl(range.fd, F_DUPFD_CLOEXEC, 0));
  if (!file) return 0;
  const std::uint32_t id = next_shared_++;
  shared_.emplace(id, SharedFile{status.st_ino, std::move(file), 1, {}});
  return id;
}

void Context::unshare(std::uint32_t id) {
  const auto found = shared_.find(id);
  if (found == shared_.end() || --found->second.users > 0) return;
  ControlMessage message;
  message.kind = ControlKind::memory_gone;
  message.id = id;
  for (const int socket : found->second.mapped_by) send_control(socket, message);
  shared_.erase(found);
}

void Context::watch_datagrams(const DatagramPort& port) noexcept {
  agent_->watch_datagrams(port.descriptor());
  port.for_each_group([&](int socket) { agent_->watch_datagrams(socket); });
}

void Context::hint(QueuePair& qp) noexcept {
  CompletionQueue& receive = qp.receive_completions();
  Bell& bells = bell(receive.index);
  Bell::byte(bells.groups, index_of(qp.qp_num)).store(1, std::memory_order_release);
  Bell::byte(bells.summary, index_of(qp.qp_num) / 64).store(1, std::memory_order_release);
  receive.hint();
  if (qp.send_cq != qp.recv_cq) qp.send_completions().hint();
}

}  // namespace verbena::core::soft
