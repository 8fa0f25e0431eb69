// SPDX-License-Identifier: Apache-2.0
#include "transport/exchange.h"

#include <fmt/format.h>

#include "transport/meeting.h"

namespace verbena::transport {
namespace {

bool wants_cm(Engine& engine, const Address& address) {
  return !address.names_device() && engine.device().kind() == core::DeviceKind::hca;
}

class BothWays final : public ListenerState {
 public:
  BothWays(std::unique_ptr<ListenerState> tcp, std::unique_ptr<ListenerState> cm)
      : tcp_(std::move(tcp)), cm_(std::move(cm)) {}
  std::uint16_t port() const noexcept override { return tcp_->port(); }

 private:
  std::unique_ptr<ListenerState> tcp_;
  std::unique_ptr<ListenerState> cm_;
};

}  // namespace

std::unique_ptr<ListenerState> listen_for_peers(Engine& engine, const Address& address, Accept accept) {
  const auto shared = std::make_shared<Accept>(std::move(accept));
  const auto remark = std::make_shared<std::string>();
  if (!wants_cm(engine, address)) return listen_over_tcp(engine, address, shared, remark);
  if (engine.options().share_port) {
    *remark = " (not by rdma_cm: it can't share a port, as Options::share_port asks)";
    return listen_over_tcp(engine, address, shared, remark);
  }
  // TCP chooses a free port; rdma_cm has ports of its own, and another's may be the same: then again.
  for (int attempts = 10;; --attempts) {
    auto tcp = listen_over_tcp(engine, address, shared, remark);
    try {
      auto cm = listen_by_cm(engine, address, tcp->port(), shared, *remark);
      return std::make_unique<BothWays>(std::move(tcp), std::move(cm));
    } catch (const Error& error) {
      if (address.port != 0 || attempts == 0) throw;
    }
  }
}

void connect_to_peer(Engine& engine, const Address& address, Connected done) {
  if (wants_cm(engine, address)) return connect_by_cm(engine, address, std::move(done));
  connect_over_tcp(engine, address, std::move(done), engine.options().connect_timeout, {});
}

// ---- What both ways share ----

void end_of_peer(Engine& engine, Channel& channel, std::uint32_t serial, const std::string& peer) {
  if (channel.serial() != serial) return;
  for (int turns = 0; turns < 1000 && engine.turn() > 0; ++turns) {
  }
  if (channel.serial() != serial) return;
  channel.fail(make_error_code(errc::connection_lost),
               fmt::format("{} closed the connection, or its process ended", peer));
}

std::string name_of(const boost::asio::ip::tcp::endpoint& endpoint) {
  const auto& address = endpoint.address();
  return address.is_v6() ? fmt::format("[{}]:{}", address.to_string(), endpoint.port())
                         : fmt::format("{}:{}", address.to_string(), endpoint.port());
}

boost::asio::ip::tcp::resolver::results_type resolve(Engine& engine, const Address& address,
                                                     boost::system::error_code& error) {
  using boost::asio::ip::tcp;
  tcp::resolver resolver(engine.context());
  return resolver.resolve(address.host, std::to_string(address.port), tcp::resolver::numeric_service, error);
}

Error unknown_host(const Address& address, std::string_view why) {
  return {
      errc::address_unusable,
      fmt::format("{} can't be used: host \"{}\" isn't known ({}); check its name, or give its IP address",
                  address.to_string(), address.host, why)};
}

Error not_answered(const Address& address, const Options& options) {
  return {errc::timed_out,
          fmt::format("{} didn't answer within {} ms; check that it is a Verbena server and that no "
                      "firewall is between, or raise Options::connect_timeout",
                      address.to_string(), options.connect_timeout.count())};
}

Error port_taken(const Address& address) {
  return {errc::address_in_use,
          fmt::format("port {} of {} is taken by another process; choose another port, or 0 for a free one",
                      address.port, address.host)};
}

std::optional<Error> find_objection(const Address& address, const Hello& ours,
                                    const std::optional<Hello>& theirs) {
  const std::string where = address.to_string();
  const Error no_server{
      errc::protocol_mismatch,
      fmt::format("{} isn't a Verbena server: it answers something else; check the port", where)};
  if (!theirs) return no_server;
  if (theirs->version != ours.version) {
    return Error{errc::protocol_mismatch,
                 fmt::format("{} was not connected: {}; use the same version of Verbena on both sides", where,
                             find_mismatch(ours, *theirs))};
  }
  if (theirs->kind == HelloKind::refuse) {
    return Error{errc::connection_refused, fmt::format("{} refused the connection: {}", where, theirs->text)};
  }
  if (theirs->kind != HelloKind::accept) return no_server;
  if (const std::string mismatch = find_mismatch(ours, *theirs); !mismatch.empty()) {
    return Error{errc::protocol_mismatch, fmt::format("{} was not connected: {}", where, mismatch)};
  }
  return std::nullopt;
}

}  // namespace verbena::transport
