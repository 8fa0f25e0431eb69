// SPDX-License-Identifier: Apache-2.0
// The queue pair isn't rdma_cm's (its id has none), so that the connecting side is told CONNECT_RESPONSE,
// brings its queue pair up and says rdma_establish; the listening side has brought its own up before it
// accepts.
#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <utility>

#include "transport/cm_hello.h"
#include "transport/cm_link.h"
#include "transport/meeting.h"

namespace verbena::transport {
namespace {

using boost::asio::ip::tcp;
using boost::system::error_code;

std::string path_of(const Engine& engine) {
  return fmt::format("queue pairs exchanged by rdma_cm, {} requests deep", engine.options().request_depth);
}

rdma_conn_param parameters(const Hello& ours, std::span<const std::byte> bytes) {
  rdma_conn_param parameters{};
  parameters.private_data = bytes.data();
  parameters.private_data_len = static_cast<std::uint8_t>(bytes.size());
  parameters.responder_resources = parameters.initiator_depth = ours.facts.reads_accepted;
  parameters.retry_count = parameters.rnr_retry_count = 7;  // our queue pair has its own
  parameters.srq = 1;
  parameters.qp_num = ours.facts.qp_number;
  return parameters;
}

class CmMeeting : public Meeting {
 public:
  using Meeting::Meeting;

 protected:
  /// `then(event)` in place of the handler before; it doesn't keep the meeting alive, its clock does.
  template <class Then>
  void on_event(Then then) {
    link_->on_event([this, weak = weak_from_this(), then](const CmEvent& event) {
      const auto self = weak.lock();
      if (self && engine_lives()) then(event);
    });
  }
  /// The end of rdma_cm's connection is now the peer's end.
  void hand_over_link(const std::string& peer) {
    if (!channel_lives()) return;
    Channel& channel = *channel_;
    channel.lifeline = link_;
    channel.close_lifeline = [link = std::weak_ptr(link_)] {
      if (const auto open = link.lock()) open->hang_up();
    };
    link_->on_event([engine = &engine_, &channel, serial = serial_, peer](const CmEvent& event) {
      if (event.kind == RDMA_CM_EVENT_DISCONNECTED || event.kind == RDMA_CM_EVENT_DEVICE_REMOVAL) {
        end_of_peer(*engine, channel, serial, peer);
      }
    });
    link_.reset();
  }

  std::shared_ptr<CmLink> link_;
};

// ---- The listening side ----

class CmArrival final : public CmMeeting {
 public:
  CmArrival(Engine& engine, std::shared_ptr<Accept> accept) : CmMeeting(engine), accept_(std::move(accept)) {}

  void start(const CmEvent& request) {
    tcp::endpoint peer;
    if (const sockaddr* from = rdma_get_peer_addr(request.id)) {
      std::memcpy(peer.data(), from,
                  from->sa_family == AF_INET6 ? sizeof(sockaddr_in6) : sizeof(sockaddr_in));
    }
    peer_ = name_of(peer);
    Hello refusal;
    const auto theirs = decode_offer(request.private_data(), request.qp_number);
    if (!theirs) return reject(request.id, {});  // not Verbena: no word of ours would be understood
    try {
      refusal.text = prepare(request, *theirs);
      if (refusal.text.empty()) return welcome(request);
    } catch (const Error& error) {
      refusal.text = error.what();
    }
    give_up_berth();
    std::array<std::byte, cm_refusal_size> bytes;
    encode_refusal(refusal, bytes);
    reject(request.id, bytes);
  }

 private:
  /// Brings our side up; else says why not, in words that are right where they are read.
  std::string prepare(const CmEvent& request, const Hello& theirs) {
    if (const std::string device = device_of(request.id); device != engine_.device().name()) {
      return fmt::format("this address is {}'s, the server runs on {}", device, engine_.device().name());
    }
    berth_ = engine_.reserve();
    ours_ = engine_.make_hello(HelloKind::accept, *berth_.queue_pair);
    ours_.epoch = theirs.epoch;
    if (std::string mismatch = find_mismatch(theirs, ours_); !mismatch.empty()) return mismatch;
    engine_.open(berth_, ours_, theirs, peer_, path_of(engine_));
    channel_is_up();
    return {};
  }

  // The channel is up on this side; the peer's first message may come before word that it is up on its.
  void welcome(const CmEvent& request) {
    link_ = CmLink::adopt(engine_.context(), request.id);
    std::array<std::byte, hello_size> bytes;
    encode(ours_, bytes);
    rdma_conn_param accept = parameters(ours_, bytes);
    if (!link_ || rdma_accept(link_->id(), &accept) != 0) return lose();
    start_clock(engine_.options().connect_timeout);
    channel_->on_first_word = [this, self = std::weak_ptr(shared_from_this())] {
      const auto alive = self.lock();
      if (!alive) return;
      if (link_) rdma_notify(link_->id(), IBV_EVENT_COMM_EST);  // should the peer's last word have been lost
      announce();
    };
    on_event([this](const CmEvent& event) {
      if (event.kind != RDMA_CM_EVENT_ESTABLISHED) return lose();
      stop_clock();
      hand_over_link(peer_);
      announce();
    });
  }
  void announce() {
    if (std::exchange(announced_, true) || !channel_lives()) return;
    channel_->on_first_word = nullptr;
    const auto accept = accept_.lock();  // the listener may go while its handler runs
    if (!accept) return channel_->fail(make_error_code(errc::connection_lost), "the listener is gone");
    (*accept)(connection());
  }
  void on_time_out() override { lose(); }
  void lose() {
    stop_clock();
    if (channel_lives()) {
      channel_->fail(make_error_code(errc::connection_lost), "the peer left while it was connecting");
    }
    link_.reset();
  }

  bool announced_ = false;
  std::weak_ptr<Accept> accept_;  // dead once the listener is
  std::string peer_;
};

class CmListener final : public ListenerState {
 public:
  CmListener(Engine& engine, std::shared_ptr<CmLink> link, std::shared_ptr<Accept> accept)
      : link_(std::move(link)) {
    link_->on_event([&engine, alive = engine.alive(), accept = std::move(accept)](const CmEvent& event) {
      if (event.kind != RDMA_CM_EVENT_CONNECT_REQUEST) return;
      if (!*alive) return reject(event.id, {});
      std::make_shared<CmArrival>(engine, accept)->start(event);
    });
  }
  std::uint16_t port() const noexcept override { return ntohs(rdma_get_src_port(link_->id())); }

 private:
  std::shared_ptr<CmLink> link_;
};

// ---- The connecting side ----

class CmDeparture final : public CmMeeting {
 public:
  CmDeparture(Engine& engine, Address address, Connected done)
      : CmMeeting(engine),
        address_(std::move(address)),
        done_(std::move(done)),
        deadline_(std::chrono::steady_clock::now() + engine.options().connect_timeout) {}

  void start() {
    // Half of the time; the other is for TCP, should rdma_cm's packets be lost on the way.
    start_clock(std::max(engine_.options().connect_timeout / 2, std::chrono::milliseconds(1)));
    error_code error;
    const auto endpoints = resolve(engine_, address_, error);
    if (error || endpoints.empty()) return fall_back("the host isn't known");  // TCP says so
    link_ = CmLink::open(engine_.context());
    if (!link_) return fall_back(std::strerror(errno));
    on_event([this](const CmEvent& event) { advance(event); });
    tcp::endpoint to = *endpoints.begin();
    if (rdma_resolve_addr(link_->id(), nullptr, to.data(), patience_ms()) != 0)
      give_up_on("rdma_resolve_addr", errno);
  }

 private:
  void advance(const CmEvent& event) {
    switch (event.kind) {
      case RDMA_CM_EVENT_ADDR_RESOLVED:
        return find_route();
      case RDMA_CM_EVENT_ROUTE_RESOLVED:
        return offer();
      case RDMA_CM_EVENT_CONNECT_RESPONSE:
        return answered(event);
      case RDMA_CM_EVENT_ADDR_ERROR:
        return give_up_on("rdma_resolve_addr", -event.status);
      case RDMA_CM_EVENT_ROUTE_ERROR:
        return give_up_on("rdma_resolve_route", -event.status);
      case RDMA_CM_EVENT_REJECTED:
        if (const auto refusal = decode_refusal(event.private_data())) {
          return fail(*find_objection(address_, ours_, refusal));
        }
        return fall_back(fmt::format("nobody there listens for it, reason {}", event.status));
      case RDMA_CM_EVENT_UNREACHABLE:
      case RDMA_CM_EVENT_CONNECT_ERROR:
        return give_up_on("rdma_connect", -event.status);
      default:
        return;
    }
  }

  void find_route() {
    if (const std::string device = device_of(link_->id()); device != engine_.device().name()) {
      return fall_back(fmt::format("it goes there by {}", device.empty() ? "no device" : device));
    }
    if (rdma_resolve_route(link_->id(), patience_ms()) != 0) give_up_on("rdma_resolve_route", errno);
  }

  void offer() {
    try {
      berth_ = engine_.reserve();
    } catch (const Error& no_berth) {
      return fail(no_berth);
    }
    ours_ = shortened(engine_.make_hello(HelloKind::offer, *berth_.queue_pair));
    std::array<std::byte, cm_offer_size> bytes;
    encode_offer(ours_, bytes);
    rdma_conn_param connect = parameters(ours_, bytes);
    if (rdma_connect(link_->id(), &connect) != 0) give_up_on("rdma_connect", errno);
  }

  void answered(const CmEvent& event) {
    std::optional<Hello> theirs;
    if (event.length >= hello_size) theirs = decode(event.private_data().first<hello_size>());
    if (const auto objection = find_objection(address_, ours_, theirs)) return fail(*objection);
    const std::string peer = fmt::format("{}:{}", address_.host, address_.port);
    try {
      engine_.open(berth_, ours_, *theirs, peer, path_of(engine_));
    } catch (const Error& error) {
      return fail(error);
    }
    channel_is_up();
    if (rdma_establish(link_->id()) != 0) {
      const int error = errno;
      channel_->fail(make_error_code(errc::connection_lost), "the server left");
      return fail({errc::connection_refused, fmt::format("{} can't be reached: {} (rdma_establish)",
                                                         address_.to_string(), std::strerror(error))});
    }
    stop_clock();
    hand_over_link(peer);
    std::exchange(done_, {})(nullptr, connection());
  }

  int patience_ms() const noexcept { return static_cast<int>(engine_.options().connect_timeout.count()); }
  void on_time_out() override { fall_back("no answer in half of the time"); }
  void give_up_on(const char* step, int error) {
    fall_back(fmt::format("{}: {}", step, std::strerror(error)));
  }
  /// TCP gets there, or finds better words.
  void fall_back(const std::string& why) {
    let_go();
    if (!done_) return;
    const auto left =
        std::chrono::duration_cast<std::chrono::milliseconds>(deadline_ - std::chrono::steady_clock::now());
    connect_over_tcp(engine_, address_, std::exchange(done_, {}),
                     std::max(left, std::chrono::milliseconds(1)), fmt::format(" (not by rdma_cm: {})", why));
  }
  void fail(const Error& error) {
    let_go();
    if (done_) std::exchange(done_, {})(&error, Connection{});
  }
  void let_go() {
    stop_clock();
    link_.reset();
    give_up_berth();
  }

  Address address_;
  Connected done_;
  std::chrono::steady_clock::time_point deadline_;
};

}  // namespace

std::unique_ptr<ListenerState> listen_by_cm(Engine& engine, const Address& address, std::uint16_t port,
                                            std::shared_ptr<Accept> accept, std::string& why) {
  const auto cannot = [&why](int error) {
    why = fmt::format(" (not by rdma_cm: {})", std::strerror(error));
    return nullptr;
  };
  error_code error;
  const auto endpoints = resolve(engine, address, error);
  if (error || endpoints.empty()) throw unknown_host(address, error.message());
  const auto link = CmLink::open(engine.context());
  if (!link) return cannot(errno);
  tcp::endpoint at = *endpoints.begin();
  at.port(port);
  constexpr int backlog = 128;
  if (rdma_bind_addr(link->id(), at.data()) != 0 || rdma_listen(link->id(), backlog) != 0) {
    if (errno == EADDRINUSE) throw port_taken(address);
    return cannot(errno);
  }
  if (const std::string device = device_of(link->id()); !device.empty() && device != engine.device().name()) {
    why = fmt::format(" (not by rdma_cm: its device for that address is {})", device);
    return nullptr;
  }
  return std::make_unique<CmListener>(engine, link, std::move(accept));
}

void connect_by_cm(Engine& engine, const Address& address, Connected done) {
  std::make_shared<CmDeparture>(engine, address, std::move(done))->start();
}

}  // namespace verbena::transport
