// SPDX-License-Identifier: Apache-2.0
// Extended reliable connections. A message to an XRC receive queue pair is for whichever shared receive queue
// was named last in front of it, and completes to that one's completion queue.
//
// The queue pair itself has neither a protection domain nor a completion queue. All of an XRC domain borrow
// both of one receive queue, the oldest when the first of them is made: whoever polls that makes their
// progress, with some help of those who poll the others' (CompletionQueue::help), and one-sided operations
// reach what is registered in that domain.
#include <fcntl.h>
#include <sys/stat.h>

#include <algorithm>
#include <cerrno>
#include <mutex>

#include "core/soft/completion_queue.h"
#include "core/soft/context.h"
#include "core/soft/device.h"

namespace verbena::core::soft {

// ---- Verbs ----

ibv_xrcd* SoftDevice::open_xrcd(const ibv_xrcd_init_attr& init) {
  constexpr std::uint32_t needed = IBV_XRCD_INIT_ATTR_FD | IBV_XRCD_INIT_ATTR_OFLAGS;
  if (init.comp_mask != needed || (init.oflags & ~(O_CREAT | O_EXCL))) return refuse<ibv_xrcd>(EINVAL);
  struct stat status {};
  const bool has_file = init.fd >= 0;
  if (has_file ? ::fstat(init.fd, &status) != 0 : !(init.oflags & O_CREAT))
    return refuse<ibv_xrcd>(has_file ? EBADF : EINVAL);
  if (node_.fails_call()) return refuse<ibv_xrcd>(ENOMEM);
  const std::lock_guard guard(node_.mutex());
  std::erase_if(xrc_spaces_, [](const auto& space) { return space.expired(); });
  std::shared_ptr<XrcSpace> found;
  for (const auto& weak : xrc_spaces_) {
    const auto space = weak.lock();
    if (has_file && space && space->device == status.st_dev && space->file == status.st_ino) found = space;
  }
  if (found && (init.oflags & O_EXCL)) return refuse<ibv_xrcd>(EEXIST);
  if (!found && !(init.oflags & O_CREAT)) return refuse<ibv_xrcd>(EAGAIN);
  if (!found) {
    found = std::make_shared<XrcSpace>();
    if (has_file) {
      found->device = status.st_dev;
      found->file = status.st_ino;
      xrc_spaces_.push_back(found);
    }
  }
  auto* xrcd = new XrcDomain;
  xrcd->context = context();
  xrcd->space = std::move(found);
  return xrcd;
}

// Queues keep what they need of it; so the last of several handles is told that it's in use, not the others.
int SoftDevice::close_xrcd(ibv_xrcd* verbs) {
  auto* xrcd = static_cast<XrcDomain*>(verbs);
  const std::lock_guard guard(node_.mutex());
  const auto& space = xrcd->space;
  const long users = static_cast<long>(space->receive_queues.size() + space->queue_pairs);
  if (users != 0 && space.use_count() == users + 1) return EBUSY;
  delete xrcd;
  return 0;
}

ibv_srq* SoftDevice::create_srq_ex(ibv_srq_init_attr_ex& init) {
  constexpr std::uint32_t needed =
      IBV_SRQ_INIT_ATTR_TYPE | IBV_SRQ_INIT_ATTR_PD | IBV_SRQ_INIT_ATTR_XRCD | IBV_SRQ_INIT_ATTR_CQ;
  if (init.comp_mask & IBV_SRQ_INIT_ATTR_TYPE && init.srq_type != IBV_SRQT_XRC &&
      init.srq_type != IBV_SRQT_BASIC)
    return refuse<ibv_srq>(EOPNOTSUPP);
  if (init.comp_mask != needed || init.srq_type != IBV_SRQT_XRC || !init.pd || !init.xrcd || !init.cq)
    return refuse<ibv_srq>(EINVAL);
  ibv_srq_init_attr plain{init.srq_context, init.attr};
  ibv_srq* const verbs = create_srq(init.pd, plain);
  if (!verbs) return nullptr;
  init.attr = plain.attr;
  auto& srq = *static_cast<SharedReceiveQueue*>(verbs);
  srq.domain = domain_number(init.pd);
  srq.completions = static_cast<CompletionQueue*>(init.cq);
  srq.open_to_all();
  {
    const std::lock_guard guard(node_.mutex());
    srq.xrc_space = static_cast<XrcDomain*>(init.xrcd)->space;  // first: then anybody may find it
    if (node_.publish_receive_queue(srq)) {
      srq.xrc_space->receive_queues.push_back(&srq);
      ++srq.completions->users;
      CompletionQueue* const home = srq.xrc_space->home;
      if (home && home != srq.completions) srq.completions->help(*home);
      return verbs;
    }
    srq.xrc_space.reset();
  }
  destroy_srq(verbs);
  return refuse<ibv_srq>(ENOMEM);
}

int SoftDevice::get_srq_num(ibv_srq* verbs, std::uint32_t& number) {
  const auto& srq = *static_cast<SharedReceiveQueue*>(verbs);
  if (!srq.xrc_space) return EINVAL;
  number = srq.number;
  return 0;
}

ibv_qp* SoftDevice::create_xrc_receiver(ibv_qp_init_attr_ex& init) {
  constexpr std::uint32_t known = IBV_QP_INIT_ATTR_XRCD | IBV_QP_INIT_ATTR_CREATE_FLAGS;
  if ((init.comp_mask & ~known) ||
      ((init.comp_mask & IBV_QP_INIT_ATTR_CREATE_FLAGS) && init.create_flags != 0))
    return refuse<ibv_qp>(EOPNOTSUPP);
  if (!(init.comp_mask & IBV_QP_INIT_ATTR_XRCD) || !init.xrcd) return refuse<ibv_qp>(EINVAL);
  if (node_.fails_call()) return refuse<ibv_qp>(ENOMEM);
  const std::lock_guard guard(node_.mutex());
  const auto& space = static_cast<XrcDomain*>(init.xrcd)->space;
  if (space->queue_pairs == 0) {
    if (space->receive_queues.empty()) return refuse<ibv_qp>(EINVAL);  // it would be nobody's to poll
    space->home = space->receive_queues.front()->completions;
    space->home_domain = space->receive_queues.front()->pd;
  }
  ibv_qp_init_attr plain{};
  plain.qp_context = init.qp_context;
  plain.send_cq = plain.recv_cq = space->home;
  plain.qp_type = IBV_QPT_XRC_RECV;
  node_.expect_xrc();
  QueuePair* const qp = make_queue_pair(space->home_domain, plain);
  if (!qp) return nullptr;
  if (space->queue_pairs++ == 0) space->be_helped();
  qp->xrc_space = space;
  init.cap = {};
  return qp;
}

void XrcSpace::be_helped() {
  for (SharedReceiveQueue* queue : receive_queues) {
    if (queue->completions != home) queue->completions->help(*home);
  }
}

void XrcSpace::leave() noexcept {
  if (--queue_pairs != 0) return;
  for (SharedReceiveQueue* queue : receive_queues) queue->completions->stop_helping(*home);
  home = nullptr;
}

void XrcSpace::remove(SharedReceiveQueue& queue) noexcept {
  std::erase(receive_queues, &queue);
  if (home) queue.completions->stop_helping(*home);
}

// ---- Messages ----

bool QueuePair::take_named(const Slot& slot) noexcept {
  if (qp_type != IBV_QPT_XRC_RECV || receiving_) {  // not in the middle of a message
    fail_receive(IBV_WC_SUCCESS, IBV_WC_REM_INV_REQ_ERR);
    return false;
  }
  for_named_ = slot.immediate;
  link.consume(1);
  return true;
}

// False, and nothing done, where that queue's lock is somebody's: who holds it may wait for ours.
template <class Work>
bool QueuePair::with_named(Work work) noexcept {
  SharedReceiveQueue* const named = owner_context.receive_queue(for_named_);
  const bool is_ours = named && named->xrc_space == xrc_space;
  CompletionQueue* const cq = is_ours ? named->completions : nullptr;
  const bool locks = cq && cq != &receive_completions() && cq != receive_completions().helper();
  if (locks && !cq->lock.try_lock()) return false;
  if (is_ours) {
    receives_from_ = named;
    delivery_ = cq;
    receive_domain_ = named->domain;
  }
  work(is_ours);
  receives_from_ = nullptr;
  delivery_ = &receive_completions();
  receive_domain_ = domain.number;
  if (locks) cq->lock.unlock();
  return true;
}

bool QueuePair::take_for_named(Slot& slot, SlotKind kind, std::uint8_t flags, std::uint32_t length) noexcept {
  bool taken = false;
  const bool done = with_named([&](bool is_there) {
    if (is_there) {
      taken = take_incoming(slot, kind, flags, length);
    } else {
      receiving_ = false;  // its queue is gone, and its receives with it
      fail_receive(IBV_WC_SUCCESS, IBV_WC_REM_INV_REQ_ERR);
    }
  });
  return done ? taken : stay_unfinished();
}

// There is at most the receive of a message that has come in part.
void QueuePair::flush_for_named() noexcept {
  if (!receiving_) return;
  with_named([&](bool is_there) {
    if (is_there && !delivery_->has_room()) return;
    receiving_ = false;
    if (is_there) complete_receive(current_receive_.wr_id, IBV_WC_WR_FLUSH_ERR);
  });
}

}  // namespace verbena::core::soft
