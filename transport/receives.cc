// SPDX-License-Identifier: Apache-2.0
#include "transport/receives.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cassert>
#include <cerrno>
#include <cstdint>

#include "core/error.h"

namespace verbena::transport {
namespace {

core::Handle<ibv_srq> make_queue(core::Device& device, ibv_pd* pd, std::size_t depth) {
  ibv_srq_init_attr init{};
  init.attr.max_wr = static_cast<std::uint32_t>(depth);
  init.attr.max_sge = 1;
  ibv_srq* srq = device.create_srq(pd, init);
  if (!srq) {
    core::throw_verb_error(device.name(), "ibv_create_srq", errno,
                           fmt::format("{} receives; lower peers, request_depth or call_depth", depth));
  }
  return {device, srq};
}

/// A software device pins nothing: the first message into a page would wait for the kernel to bring it.
void bring_in(std::byte* buffer, std::size_t size) noexcept {
  constexpr std::size_t page = 4096;
  for (std::size_t at = 0; at < size; at += page) *const_cast<volatile std::byte*>(buffer + at) = std::byte{};
  *const_cast<volatile std::byte*>(buffer + size - 1) = std::byte{};
}

}  // namespace

Receives::Receives(core::Device& device, ibv_pd* pd, const Options& options)
    : most_ready_(device.kind() == core::DeviceKind::software ? std::min(ready_receives, receives(options))
                                                              : receives(options)),
      queue_(make_queue(device, pd, most_ready_)),
      pool_(device, pd, receives(options), buffer_bytes(options), IBV_ACCESS_LOCAL_WRITE),
      per_peer_(receives_per_peer(options)) {
  returned_.reserve(pool_.capacity());
  holds_.resize(pool_.capacity());
  fill();
  post();
}

void Receives::add_peer() noexcept {
  entitled_ += per_peer_;
  fill();
  post();
}

void Receives::remove_peer() noexcept {
  entitled_ -= per_peer_;
}

void Receives::fill() noexcept {
  for (; ready() < wanted(); ++taken_) {
    std::byte* buffer = pool_.take();
    assert(buffer && "more peers than the options declare");
    bring_in(buffer, pool_.buffer_size());
    returned_.push_back(buffer);
  }
}

void Receives::post() noexcept {
  for (; ready() > wanted() && !returned_.empty(); --taken_) {
    pool_.give(returned_.back());
    returned_.pop_back();
  }
  constexpr std::size_t batch = 64;
  std::array<ibv_recv_wr, batch> requests;
  std::array<ibv_sge, batch> pieces;
  while (!returned_.empty()) {
    const std::size_t count = std::min(batch, returned_.size());
    for (std::size_t i = 0; i < count; ++i) {
      std::byte* buffer = returned_.back();
      returned_.pop_back();
      pieces[i] = {reinterpret_cast<std::uint64_t>(buffer), static_cast<std::uint32_t>(pool_.buffer_size()),
                   pool_.lkey()};
      requests[i] = {reinterpret_cast<std::uint64_t>(buffer), i + 1 < count ? &requests[i + 1] : nullptr,
                     &pieces[i], 1};
    }
    ibv_recv_wr* bad = nullptr;
    if (ibv_post_srq_recv(queue_.get(), requests.data(), &bad) != 0) {
      for (; bad; bad = bad->next) returned_.push_back(reinterpret_cast<std::byte*>(bad->wr_id));
      return;
    }
  }
}

}  // namespace verbena::transport
