// SPDX-License-Identifier: Apache-2.0
#include "transport/costs.h"

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <exception>
#include <limits>
#include <map>
#include <stdexcept>
#include <string>
#include <vector>

#include "core/buffer_pool.h"
#include "core/completion_queue.h"
#include "core/copy_bytes.h"
#include "core/monotonic_ns.h"
#include "core/per_process.h"
#include "core/queue_pair.h"

namespace verbena::transport {
namespace {

constexpr std::size_t short_size = 256;  // too long for most devices' inline
constexpr std::size_t long_size = std::size_t{64} << 10;

/// One queue pair, with one buffer.
struct Side {
  Side(core::Device& device, ibv_pd* pd)
      : memory(device, pd, 1, long_size, IBV_ACCESS_LOCAL_WRITE | IBV_ACCESS_REMOTE_READ),
        buffer(memory.take()),
        completions(device, 16),
        queue_pair(device, pd, completions.get(), completions.get(), nullptr, options()) {
    std::memset(buffer, 0, long_size);
  }
  static core::QueuePairOptions options() {
    core::QueuePairOptions options;
    options.send_depth = 4;
    options.receive_depth = 4;
    options.gather = 1;
    options.inline_size = 0;
    return options;
  }
  ibv_sge piece(std::size_t length) const noexcept {
    return {reinterpret_cast<std::uint64_t>(buffer), static_cast<std::uint32_t>(length), memory.lkey()};
  }

  core::BufferPool memory;
  std::byte* buffer;
  core::CompletionQueue completions;
  core::QueuePair queue_pair;
};

/// Two sides, connected to each other. Every operation tells how long it took, in ns, and throws where it
/// fails, or takes too long.
class Pair {
 public:
  explicit Pair(core::Device& device)
      : pd_(device, protection_domain(device)), a_(device, pd_.get()), b_(device, pd_.get()) {
    a_.queue_pair.bring_up(b_.queue_pair.facts());
    b_.queue_pair.bring_up(a_.queue_pair.facts());
  }

  /// Until it has arrived: who has sent it may hear of it later.
  std::int64_t send(std::size_t length) {
    ibv_sge to = b_.piece(long_size);
    ibv_recv_wr receive{}, *bad = nullptr;
    receive.sg_list = &to;
    receive.num_sge = 1;
    if (ibv_post_recv(b_.queue_pair.get(), &receive, &bad) != 0) throw std::runtime_error("ibv_post_recv");
    const std::int64_t start = core::monotonic_ns();
    post(IBV_WR_SEND, length);
    await(b_);
    const std::int64_t taken = core::monotonic_ns() - start;
    await(a_);
    return taken;
  }
  std::int64_t read(std::size_t length) {
    const std::int64_t start = core::monotonic_ns();
    post(IBV_WR_RDMA_READ, length);
    await(a_);
    return core::monotonic_ns() - start;
  }
  /// Of long_size bytes, out of the program's memory.
  std::int64_t copy() {
    const std::int64_t start = core::monotonic_ns();
    core::copy_bytes(a_.buffer, program_.data(), long_size);
    return core::monotonic_ns() - start;
  }

 private:
  static ibv_pd* protection_domain(core::Device& device) {
    ibv_pd* const pd = device.alloc_pd();
    if (pd == nullptr) throw std::runtime_error("ibv_alloc_pd");
    return pd;
  }
  void post(ibv_wr_opcode opcode, std::size_t length) {
    ibv_sge piece = a_.piece(length);
    ibv_send_wr request{}, *bad = nullptr;
    request.opcode = opcode;
    request.send_flags = IBV_SEND_SIGNALED;
    request.sg_list = &piece;
    request.num_sge = 1;
    request.wr.rdma = {reinterpret_cast<std::uint64_t>(b_.buffer), b_.memory.rkey()};
    if (ibv_post_send(a_.queue_pair.get(), &request, &bad) != 0) throw std::runtime_error("ibv_post_send");
  }
  /// For one completion. The other side is polled as well: its progress may be what this one waits for.
  void await(Side& side) {
    constexpr std::int64_t patience_ns = 200'000'000;
    const std::int64_t limit = core::monotonic_ns() + patience_ns;
    Side& other = &side == &a_ ? b_ : a_;
    ibv_wc completion;
    while (side.completions.poll({&completion, 1}) != 1) {
      other.completions.poll({});
      if (core::monotonic_ns() > limit) throw std::runtime_error("no completion");
    }
    if (completion.status != IBV_WC_SUCCESS) throw std::runtime_error("a completion failed");
  }

  core::Handle<ibv_pd> pd_;
  Side a_, b_;
  std::vector<std::byte> program_ = std::vector<std::byte>(long_size);
};

/// The least of many times: whatever disturbs only adds.
template <class Function>
double least(Function&& operation) {
  constexpr int fewest = 5;
  constexpr int most = 100;
  constexpr std::int64_t long_enough_ns = 100'000;
  std::int64_t best = std::numeric_limits<std::int64_t>::max();
  std::int64_t sum = 0;
  for (int i = 0; i < most && (i < fewest || sum < long_enough_ns); ++i) {
    const std::int64_t taken = operation();
    sum += taken;
    best = std::min(best, taken);
  }
  return static_cast<double>(best);
}

/// The line through the times of a short one and a long one.
Cost line(double at_short, double at_long) noexcept {
  const double slope = std::max(0.0, at_long - at_short) / static_cast<double>(long_size - short_size);
  return {std::max(0.0, at_short - slope * static_cast<double>(short_size)), slope};
}

}  // namespace

std::size_t Costs::read_from() const noexcept {
  constexpr double clearly = 2;
  constexpr double longest = 1u << 31;
  const double saved = copied.ns_per_byte - read.ns_per_byte;
  const double more = clearly * (read.fixed_ns - copied.fixed_ns);
  if (saved <= 0 || more / saved >= longest) return std::numeric_limits<std::size_t>::max();
  std::size_t bytes = 1;
  while (static_cast<double>(bytes) * saved < more) bytes *= 2;
  return bytes;
}

std::optional<Costs> measure_costs(core::Device& device) noexcept {
  if (device.is_faulty()) return std::nullopt;
  try {
    Pair pair(device);
    const double copy = least([&] { return pair.copy(); }) / static_cast<double>(long_size);
    const Cost read =
        line(least([&] { return pair.read(short_size); }), least([&] { return pair.read(long_size); }));
    const Cost send =
        line(least([&] { return pair.send(short_size); }), least([&] { return pair.send(long_size); }));
    const double word = send.of(short_size);
    return Costs{{send.fixed_ns, send.ns_per_byte + copy}, {2 * word + read.fixed_ns, read.ns_per_byte}};
  } catch (const std::exception&) {
    return std::nullopt;
  }
}

std::optional<Costs> costs_of(std::string_view device) noexcept {
  using Known = std::map<std::string, std::optional<Costs>, std::less<>>;
  static core::PerProcess<Known> known;
  try {
    return known.with([&](Known& costs) {
      const auto found = costs.find(device);
      if (found != costs.end()) return found->second;
      return costs.emplace(device, measure_costs(*core::open_device(device))).first->second;
    });
  } catch (const std::exception&) {
    return std::nullopt;
  }
}

}  // namespace verbena::transport
