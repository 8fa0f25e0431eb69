// SPDX-License-Identifier: Apache-2.0
/// All channels and ids of rdma_cm of this process: what the kernel is to programs elsewhere.
///
/// One mutex guards them; nothing waits under it. It is a part of setting up, where a microsecond more or
/// less doesn't count.
#pragma once

#include <sys/types.h>

#include <cstddef>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <span>

#include "core/fork.h"
#include "preload/rdma_cm/channel.h"
#include "preload/rdma_cm/event.h"
#include "preload/rdma_cm/id.h"

namespace verbena::preload::rdma_cm {

class Manager {
 public:
  /// Of this process; a forked child gets a new, empty one.
  static Manager& current();

  /// A new channel; -1 with errno. `flags`: open(2)'s.
  int open(int flags);
  /// Carries out the command in `bytes`, as writing it to the kernel's rdma_cm would. Their number; -1 with
  /// errno.
  ssize_t write(int descriptor, std::span<const std::byte> bytes);
  /// The kernel's own channel that goes with it; -1 where there is none.
  int kernels_descriptor(int descriptor);
  /// The channel's ids end with it. The descriptor itself is the caller's to close.
  void close(int descriptor);

 private:
  using Body = std::span<const std::byte>;
  struct Command {
    std::uint32_t number;
    Body body;
    std::size_t answer_size;  ///< bytes that the program has room for
  };

  std::shared_ptr<Channel> channel_at(int descriptor);
  int carry_out(Channel& channel, const Command& command);
  int get_event(Channel& channel, const Command& command);
  void take_in(Channel& channel);
  void take_in(Handle handle);
  Id& add_id(Channel& channel, std::uint64_t uid, std::uint16_t port_space, std::uint8_t qp_type);
  Id* find(Channel& channel, Handle handle);
  void destroy(Handle handle);
  void destroy_unseen_of(Handle listener);

  // kernels_ids.cc
  std::optional<int> forward(Channel& channel, const Command& command);
  int forward(Channel& channel, const Command& command, Handle kernels);
  std::optional<Handle> create_kernels(const Id& id);
  void give_to_kernel(Id& id, Handle kernels);
  bool bind_by_kernel(Id& id, const Address& address, int& error);
  int bind_beside(Id& id);
  bool leads_to_kernel(Id& id, const Address& from, const Address& to);
  void take_in_kernels(Channel& channel);
  Id* id_of_uid(Channel& channel, const rdma_ucm_event_resp& told);
  Id* member_of_kernels(Channel& channel, Handle membership, Event& event);

  // commands.cc
  int create_id(Channel& channel, const Command& command);
  int destroy_id(Channel& channel, const Command& command);
  int bind(Channel& channel, const Command& command);
  int resolve_address(Channel& channel, const Command& command);
  int resolve_route(Channel& channel, const Command& command);
  int query_route(Channel& channel, const Command& command);
  int connect(Channel& channel, const Command& command);
  int listen(Channel& channel, const Command& command);
  int accept(Channel& channel, const Command& command);
  int reject(Channel& channel, const Command& command);
  int disconnect(Channel& channel, const Command& command);
  int describe_queue_pair(Channel& channel, const Command& command);
  int set_option(Channel& channel, const Command& command);
  int notify(Channel& channel, const Command& command);
  int join(Channel& channel, const Command& command);
  int leave(Channel& channel, const Command& command);
  int migrate(Channel& channel, const Command& command);

  core::OfProcess process_;
  std::mutex mutex_;
  std::map<int, std::shared_ptr<Channel>> channels_;
  std::map<Handle, std::unique_ptr<Id>> ids_;
  std::map<Handle, Handle> memberships_;  // who has joined
};

}  // namespace verbena::preload::rdma_cm
