// SPDX-License-Identifier: Apache-2.0
#include "verbena/options.h"

#include <fmt/format.h>
#include <unistd.h>

#include "core/buddy_allocator.h"
#include "transport/budget.h"
#include "verbena/error.h"

namespace verbena {
namespace {

std::size_t pages(std::size_t bytes) {
  const auto page = static_cast<std::size_t>(::sysconf(_SC_PAGESIZE));
  return (bytes + page - 1) / page * page;
}

template <class T>
void require(const char* name, T value, T least, T most) {
  if (value >= least && value <= most) return;
  throw Error(errc::invalid_argument,
              fmt::format("option {} is {}; it must be from {} to {}", name, value, least, most));
}

}  // namespace

Options Options::many_peers(std::uint32_t peers) {
  Options options;
  options.peers = peers;
  options.eager_size = 512;
  options.request_depth = 8;
  options.call_depth = 8;
  options.large_depth = 1;
  options.send_depth = 8;
  return options;
}

Budget Options::budget() const {
  const std::size_t buffer = transport::buffer_bytes(*this);
  Budget budget;
  budget.request_receives = peers * request_depth * buffer;
  budget.reply_receives = peers * call_depth * buffer;
  budget.release_receives = peers * large_depth * buffer;
  budget.control_receives = peers * transport::control_reserve * buffer;
  budget.receive_slack = transport::repost_batch * buffer;
  budget.request_sends = peers * (request_depth + transport::signal_interval(*this)) * buffer;
  budget.reply_sends = peers * (call_depth + transport::signal_interval(*this)) * buffer;
  budget.large_requests = large_bytes;
  budget.large_replies = large_bytes;
  budget.large_copies = large_bytes;
  budget.pool = pool_bytes;
  const std::size_t receive_pool = budget.request_receives + budget.reply_receives + budget.release_receives +
                                   budget.control_receives + budget.receive_slack;
  budget.page_rounding = pages(receive_pool) - receive_pool + pages(budget.request_sends) -
                         budget.request_sends + pages(budget.reply_sends) - budget.reply_sends +
                         3 * (pages(large_bytes) - large_bytes) + pages(pool_bytes) - pool_bytes;
  return budget;
}

std::size_t Budget::total() const noexcept {
  return request_receives + reply_receives + release_receives + control_receives + receive_slack +
         request_sends + reply_sends + large_requests + large_replies + large_copies + pool + page_rounding;
}

std::string Budget::to_string() const {
  return fmt::format(
      "request receives  {:>12}\nreply receives    {:>12}\nrelease receives  {:>12}\ncontrol receives  "
      "{:>12}\n"
      "receive slack     {:>12}\nrequest sends     {:>12}\nreply sends       {:>12}\nlarge requests    "
      "{:>12}\n"
      "large replies     {:>12}\nlarge copies      {:>12}\npool              {:>12}\npage rounding     "
      "{:>12}\ntotal             "
      "{:>12} bytes\n",
      request_receives, reply_receives, release_receives, control_receives, receive_slack, request_sends,
      reply_sends, large_requests, large_replies, large_copies, pool, page_rounding, total());
}

void Options::validate() const {
  require("peers", peers, 1u, 4095u);
  require("eager_size", eager_size, 64u, 1u << 20);
  if (read_from != 0) require("read_from", read_from, 65u, 1u << 20);
  require("request_depth", request_depth, 2u, 16384u);
  require("call_depth", call_depth, 1u, 16384u);
  require("large_depth", large_depth, 1u, 255u);
  require("send_depth", send_depth, 1u, 16384u);
  require("large_bytes", large_bytes, std::size_t{4096}, std::size_t{1} << 40);
  require("pool_bytes", pool_bytes, std::size_t{0}, core::BuddyAllocator::most_bytes);
  require("ack_timeout_exponent", unsigned{ack_timeout_exponent}, 1u, 31u);
  require("retries", unsigned{retries}, 0u, 6u);
  require("latency_sample", latency_sample, 0u, 1'000'000'000u);
  require("keep_alive (ms)", keep_alive.count(), decltype(keep_alive.count()){0},
          decltype(keep_alive.count()){3'600'000});
  require("connect_timeout (ms)", connect_timeout.count(), decltype(connect_timeout.count()){1},
          decltype(connect_timeout.count()){3'600'000});
}

}  // namespace verbena
