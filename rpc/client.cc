// SPDX-License-Identifier: Apache-2.0
#include <optional>
#include <random>
#include <string>
#include <utility>

#include "rpc/client_state.h"
#include "rpc/method_table.h"
#include "verbena/rpc.h"

namespace verbena::rpc {

Client::Client() noexcept = default;
Client::Client(Client&&) noexcept = default;
Client& Client::operator=(Client&&) noexcept = default;
Client::~Client() = default;
Client::Client(std::unique_ptr<ClientState> state) noexcept : state_(std::move(state)) {}

Client::Pending Client::begin() noexcept {
  Pending pending{nullptr, 0, {}};
  if (state_) {
    pending.handler = state_->begin(pending.slot, pending.error);
  } else {
    pending.error = make_error_code(errc::connection_lost);
  }
  return pending;
}

void Client::prepare(const Pending& pending, const CallOptions& options) noexcept {
  state_->prepare(pending.slot, options);
}

bool Client::prepare_stream(const Pending& pending, Handler<void(Bytes)> on_part,
                            const StreamOptions& options) {
  return state_->prepare_stream(pending.slot, std::move(on_part), options);
}

void Client::consumed(Ticket stream, std::uint32_t parts) noexcept {
  if (state_) state_->consumed(stream, parts);
}

void Client::cancel(Ticket ticket) noexcept {
  if (state_) state_->cancel(ticket);
}

Canceller::Canceller(ClientState& state, Ticket ticket) noexcept
    : alive_(state.alive()), state_(&state), ticket_(ticket) {}

void Canceller::operator()() const noexcept {
  if (alive_ && *alive_) state_->cancel(ticket_);
}

Canceller Client::canceller(Ticket ticket) const noexcept {
  return state_ ? Canceller(*state_, ticket) : Canceller();
}

std::error_code Client::submit(const Pending& pending, MethodId method, Bytes request,
                               std::span<const Bytes> more, std::chrono::nanoseconds deadline) noexcept {
  return state_->submit(pending.slot, method, request, more, deadline);
}

void Client::name(MethodId method, std::string_view name) {
  if (state_) MethodTable::of(state_->loop().engine()).name(Role::client, method, name);
}
std::size_t Client::in_flight() const noexcept {
  return state_ ? state_->in_flight() : 0;
}
std::size_t Client::eager_size() const noexcept {
  const transport::Channel* channel = state_ ? state_->connection().channel() : nullptr;
  return channel ? channel->copy_limit() : 0;
}
std::size_t Client::most_pieces() const noexcept {
  const transport::Channel* channel = state_ ? state_->connection().channel() : nullptr;
  return channel ? channel->most_large_pieces() : 1;
}
bool Client::is_open() const noexcept {
  return state_ && state_->connection().is_open();
}
void Client::on_closed(Handler<void(std::error_code, std::string_view)> handler) {
  if (state_) state_->closed_handler = std::move(handler);
}
void Client::on_reconnected(Handler<void()> handler) {
  if (state_) state_->reconnected_handler = std::move(handler);
}
std::uint64_t Client::reconnections() const noexcept {
  return state_ ? state_->reconnections() : 0;
}
void Client::close() noexcept {
  if (state_) state_->close();
}
std::string Client::peer() const {
  return state_ ? state_->connection().peer() : "nobody";
}
std::string Client::explain() const {
  return state_ ? state_->connection().explain() : "not connected";
}
std::string Client::explain(std::size_t request_bytes) const {
  return state_ ? state_->connection().explain(request_bytes) : "not connected";
}
Loop& Client::loop() const noexcept {
  return state_->loop();
}

void connect(Loop& loop, std::string_view address, Handler<void(const Error*, Client)> done) {
  verbena::connect(loop, address, [&loop, done = std::move(done)](const Error* error, Connection connection) {
    if (error) return done(error, Client{});
    done(nullptr, Client{std::make_unique<ClientState>(loop, std::move(connection))});
  });
}

Client connect(Loop& loop, std::string_view address) {
  return Client{std::make_unique<ClientState>(loop, verbena::connect(loop, address))};
}

namespace {

Client reconnecting(Loop& loop, Connection connection, std::string address, const ReconnectPolicy& policy) {
  auto state = std::make_unique<ClientState>(loop, std::move(connection));
  state->reconnect(std::move(address), policy, std::random_device{}());
  return Client{std::move(state)};
}

}  // namespace

void connect(Loop& loop, std::string_view address, const ReconnectPolicy& policy,
             Handler<void(const Error*, Client)> done) {
  policy.validate();
  verbena::connect(loop, address,
                   [&loop, address = std::string(address), policy, done = std::move(done)](
                       const Error* error, Connection connection) {
                     if (error) return done(error, Client{});
                     done(nullptr, reconnecting(loop, std::move(connection), address, policy));
                   });
}

Client connect(Loop& loop, std::string_view address, const ReconnectPolicy& policy) {
  policy.validate();
  return reconnecting(loop, verbena::connect(loop, address), std::string(address), policy);
}

}  // namespace verbena::rpc
