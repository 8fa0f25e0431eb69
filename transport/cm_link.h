// SPDX-License-Identifier: Apache-2.0
/// An identifier of rdma_cm with an event channel of its own, whose events arrive in the loop's thread.
#pragma once

#include <rdma/rdma_cma.h>

#include <array>
#include <boost/asio/io_context.hpp>
#include <boost/asio/posix/stream_descriptor.hpp>
#include <boost/asio/steady_timer.hpp>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>

#include "core/fork.h"

namespace verbena::transport {

/// A copy of rdma_cm's event, which has been acknowledged.
struct CmEvent {
  rdma_cm_event_type kind{};
  int status = 0;            ///< -errno, or the reason of a rejection
  rdma_cm_id* id = nullptr;  ///< a request's: to be adopted or rejected
  std::uint32_t qp_number = 0;
  std::array<std::byte, 256> bytes{};
  std::size_t length = 0;

  std::span<const std::byte> private_data() const noexcept { return {bytes.data(), length}; }
};

/// Thread safety: its loop's thread. Errors are errno values.
class CmLink : public std::enable_shared_from_this<CmLink> {
 public:
  using Handler = std::function<void(const CmEvent&)>;

  /// Null with errno where rdma_cm can't be had.
  static std::shared_ptr<CmLink> open(boost::asio::io_context& context);
  /// Takes over a request's id, in every case. Null with errno.
  static std::shared_ptr<CmLink> adopt(boost::asio::io_context& context, rdma_cm_id* id);
  CmLink(boost::asio::io_context& context, rdma_event_channel* channel);
  ~CmLink();
  CmLink(const CmLink&) = delete;
  CmLink& operator=(const CmLink&) = delete;

  rdma_cm_id* id() const noexcept { return id_; }
  /// Runs for every event from now on, until it is replaced or the link ends.
  void on_event(Handler handler) { handler_ = std::move(handler); }
  /// Ends the connection, and stays until the peer has confirmed it, for a second at most.
  void hang_up();

 private:
  void wait();
  void take_events();

  rdma_event_channel* channel_;
  rdma_cm_id* id_ = nullptr;
  boost::asio::posix::stream_descriptor descriptor_;
  core::ClosedInChildren marks_[2];  // of the channel's descriptor and its duplicate
  boost::asio::steady_timer timer_;
  Handler handler_;
};

/// The name of the verbs device that rdma_cm has found for an id; empty where none.
std::string device_of(const rdma_cm_id* id);
/// Rejects a request, with the bytes for the peer to read, and lets its id go.
void reject(rdma_cm_id* id, std::span<const std::byte> reason);

}  // namespace verbena::transport
