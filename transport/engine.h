// SPDX-License-Identifier: Apache-2.0
/// What a Loop is made of: the device, its queues and pools, the channels, and the turn that drives them all.
#pragma once

#include <algorithm>
#include <cassert>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "core/buffer_pool.h"
#include "core/completion_queue.h"
#include "core/device.h"
#include "core/fork.h"
#include "core/handle.h"
#include "core/queue_pair_manager.h"
#include "transport/channel.h"
#include "transport/costs.h"
#include "transport/hello.h"
#include "transport/inbox.h"
#include "transport/keep_alive.h"
#include "transport/large_area.h"
#include "transport/pinned_operations.h"
#include "transport/pool_memory.h"
#include "transport/read_window.h"
#include "transport/receives.h"
#include "transport/registrations.h"
#include "transport/send_ring.h"
#include "transport/shared_regions.h"
#include "transport/ticker.h"
#include "verbena/loop.h"
#include "verbena/options.h"
#include "verbena/snapshot.h"

namespace boost::asio {
class io_context;
}

namespace verbena::transport {

class Observer;

/// What the layer above counts of a Loop. The engine keeps it as long as it lives.
class CallCounters {
 public:
  virtual ~CallCounters() = default;
  virtual void add_to(Snapshot& snapshot) const = 0;
};

/// Thread safety: none; it belongs to one thread. Members stand in creation order: channels are gone before
/// pools.
class Engine {
 public:
  Engine(boost::asio::io_context* context, Options options);
  ~Engine();
  Engine(const Engine&) = delete;
  Engine& operator=(const Engine&) = delete;

  // ---- Turning ----
  /// Flushes, polls once, runs what completed and what was posted, flushes. Returns how many of both.
  std::size_t turn();
  void flush() noexcept {
    if (dirty_count_ != 0) flush_dirty();
  }
  /// Posts what `channel` has queued before the turn's end. What its credits count on is posted first.
  void flush_early(Channel& channel) noexcept {
    receives_.post_if_due();
    channel.flush();
  }
  /// turn(), and now and then a look at Asio's descriptors and at the clock.
  std::size_t poll();
  /// A turn; after `spin` without any, a sleep.
  void step();
  void run();
  void stop() noexcept { stopped_ = true; }

  // ---- Channels ----
  /// A free channel and an initialised queue pair for it; throws Error (overloaded) where `peers` are
  /// connected already.
  struct Berth {
    Channel* channel;
    core::QueuePair* queue_pair;
  };
  Berth reserve();
  /// Gives back a berth whose connection didn't come about.
  void abandon(const Berth& berth) noexcept;
  Hello make_hello(HelloKind kind, const core::QueuePair& queue_pair);
  /// Brings the channel up. Throws Error.
  void open(const Berth& berth, const Hello& ours, const Hello& theirs, std::string peer, std::string path);
  void retire(Channel& channel) noexcept;
  void mark_dirty(Channel& channel) noexcept {
    if (channel.dirty_) return;
    channel.dirty_ = true;
    assert(dirty_count_ < options_.peers && "flushing marks nothing");
    dirty_[dirty_count_++] = &channel;
    if (asleep_) [[unlikely]]
      wake();
  }
  /// In a given context: something is due earlier than it went to sleep for.
  void wake_if_asleep() noexcept {
    if (asleep_) wake();
  }
  void linger(Channel& channel) noexcept;
  /// Nothing of the channel's peer arrives any more.
  void ended() noexcept { receives_.remove_peer(); }
  std::size_t open_channels() const noexcept;

  // ---- Costs ----
  /// The least bytes that are read rather than copied, whatever eager_size allows.
  std::size_t read_from() const noexcept;
  /// What both ways of a message of `bytes` cost, and so which is the better one.
  std::string explain_cost(std::size_t bytes) const;

  // ---- Memory ----
  SlotStore& slots() noexcept { return slots_; }
  core::BufferPool& request_sends() noexcept { return request_sends_; }
  core::BufferPool& reply_sends() noexcept { return reply_sends_; }
  LargeArea& large_requests() noexcept { return large_requests_; }
  LargeArea& large_replies() noexcept { return large_replies_; }
  LargeArea& large_copies() noexcept { return large_copies_; }
  ReadWindow& reads() noexcept { return reads_; }
  SharedRegions& shared_regions() noexcept { return shared_regions_; }
  Registrations& registrations() noexcept { return registrations_; }
  PinnedOperations& pinned_operations() noexcept { return pinned_operations_; }
  PoolMemory& pool() noexcept { return pool_; }
  /// Keeps the receive of the message that is being delivered; nullptr where that doesn't lie in one.
  const std::byte* hold_receive() noexcept;
  void release_receive(const std::byte* receive) noexcept {
    receives_.release(const_cast<std::byte*>(receive));
  }
  /// `channel` wants to be told when a range comes back.
  void await_range(Channel& channel) noexcept {
    if (std::ranges::find(short_of_room_, &channel) == short_of_room_.end())
      short_of_room_.push_back(&channel);
  }
  void range_came_back() noexcept;
  /// What waits is tried again with the next turn: a loan is being mapped.
  void try_again_soon() noexcept { try_again_ = true; }
  std::size_t pinned_bytes() const noexcept;

  // ---- Forked children ----
  bool is_of_this_process() const noexcept { return device_->is_of_this_process(); }
  /// Throws Error (other_process) in a forked child.
  void require_this_process() const {
    if (!is_of_this_process()) [[unlikely]]
      throw_of_other_process();
  }

  // ---- The rest ----
  core::Device& device() noexcept { return *device_; }
  /// A read is done when an operation behind it is: Device::may_misreport_reads().
  bool confirms_reads() const noexcept { return confirms_reads_; }
  ibv_pd* pd() noexcept { return pd_.get(); }
  const Options& options() const noexcept { return options_; }
  Statistics& statistics() noexcept { return statistics_; }
  /// The same with what the registrations have counted.
  const Statistics& counted() const noexcept;
  /// The layer above sets it when it first counts something; there is one such layer.
  std::unique_ptr<CallCounters> call_counters;
  Snapshot snapshot() const;
  boost::asio::io_context& context() noexcept;
  const std::shared_ptr<Inbox>& inbox() const noexcept { return inbox_; }
  /// False once the engine is gone: for handlers in a given io_context, which may outlive it.
  std::shared_ptr<const bool> alive() const noexcept;
  void add(Ticker& ticker) { tickers_.push_back(&ticker); }
  void remove(Ticker& ticker) noexcept { std::erase(tickers_, &ticker); }

 private:
  struct Asio;
  void leave_to_parent() noexcept;
  [[noreturn]] static void throw_of_other_process();
  void flush_dirty() noexcept;
  void take(const ibv_wc& completion);
  void take_message(const ibv_wc& completion);
  Channel* find(std::uint32_t queue_pair_number) noexcept;
  void remember(Channel& channel) noexcept;
  void forget(Channel& channel) noexcept;
  void end_channels() noexcept;
  void tick() noexcept;
  void sleep();
  bool arm_and_look();
  void pump();
  void wake() noexcept;
  void look_at_descriptors();
  std::size_t run_posted() noexcept;
  void watch_inbox();

  Options options_;
  std::unique_ptr<core::Device> device_;
  const bool confirms_reads_;
  const std::optional<Costs> costs_;  // not where read_from is given
  core::Handle<ibv_pd> pd_;
  core::CompletionQueue completions_;
  Receives receives_;
  core::BufferPool request_sends_;
  core::BufferPool reply_sends_;
  LargeArea large_requests_;
  LargeArea large_replies_;
  LargeArea large_copies_;
  ReadWindow reads_;
  SharedRegions shared_regions_;
  PoolMemory pool_;
  Registrations registrations_;
  PinnedOperations pinned_operations_{registrations_};
  core::QueuePairManager queue_pairs_;
  SlotStore slots_;
  std::vector<std::unique_ptr<Channel>> channels_;
  struct Numbered {
    std::uint32_t number = 0;
    Channel* channel = nullptr;
  };
  std::vector<Numbered> by_number_;    // open addressing by queue pair number; a power of two long
  std::unique_ptr<Channel*[]> dirty_;  // with work requests to be posted; room for all
  std::uint32_t dirty_count_ = 0;
  std::vector<Channel*> ended_;  // no drain marker could be posted: they end at the next turn
  std::vector<Channel*> lingering_;
  std::vector<Channel*> short_of_room_;
  std::vector<Ticker*> tickers_;
  KeepAlive keep_alive_;
  mutable Statistics statistics_;  // what others count for it is fetched when it is asked for
  const std::uint32_t number_;     // of the process's loops
  const std::int64_t made_;        // ns
  std::uint32_t turns_to_tick_ = 0;
  std::uint32_t idle_turns_ = 0;
  std::uint32_t polls_ = 0;
  std::int64_t idle_since_ = 0;
  std::int64_t looked_ = 0;
  std::byte* delivered_ = nullptr;  // the receive of the message that is being delivered …
  bool delivered_is_held_ = false;  // … which somebody keeps
  bool try_again_ = false;
  bool helping_ = false;  // those that are short of room
  bool turning_ = false;
  bool stopped_ = false;
  bool asleep_ = false;  // in a given context: nothing turns it before its descriptor or its timer
  std::shared_ptr<Inbox> inbox_ = std::make_shared<Inbox>();
  std::unique_ptr<Asio> asio_;
  std::unique_ptr<Observer> observer_;  // null: not observable
  core::ForkNotice fork_notice_{[](void* self) noexcept { static_cast<Engine*>(self)->leave_to_parent(); },
                                this};
};

}  // namespace verbena::transport
