// SPDX-License-Identifier: Apache-2.0
#include "verbena/connection.h"

#include <fmt/format.h>

#include <optional>
#include <utility>

#include "transport/channel.h"
#include "transport/engine.h"
#include "transport/exchange.h"
#include "verbena/address.h"

namespace verbena {

Connection::Connection(Connection&& other) noexcept
    : channel_(std::exchange(other.channel_, nullptr)), serial_(other.serial_) {}

Connection& Connection::operator=(Connection&& other) noexcept {
  if (this != &other) {
    close();
    channel_ = std::exchange(other.channel_, nullptr);
    serial_ = other.serial_;
  }
  return *this;
}

Connection::~Connection() {
  close();
}

// On the data path a lookup that doesn't ask for more than the handle's own: the channel knows its state.
inline transport::Channel* Connection::current() const noexcept {
  return channel_ && channel_->serial() == serial_ ? channel_ : nullptr;
}

// Of a handle that has no channel any more.
[[gnu::cold]] std::error_code Connection::why_not() const noexcept {
  return make_error_code(is_parents() ? errc::other_process : errc::connection_lost);
}

bool Connection::is_parents() const noexcept {
  return channel_ && !channel_->engine().is_of_this_process();
}

transport::Channel* Connection::channel() const noexcept {
  transport::Channel* own = current();
  return own && own->is_open() ? own : nullptr;
}

bool Connection::is_open() const noexcept {
  return channel() != nullptr;
}

void Connection::close() noexcept {
  if (transport::Channel* own = current()) {
    if (own->is_open()) {
      own->close();
    } else {
      own->closed_handler = {};  // it is ending by itself, and nobody is to hear of it any more
    }
  }
  channel_ = nullptr;
}

std::error_code Connection::send(std::span<const std::byte> bytes, Operation& done) noexcept {
  transport::Channel* open = current();
  return open ? open->send_message(bytes, &done) : why_not();
}

std::error_code Connection::send(std::span<const std::byte> bytes) noexcept {
  transport::Channel* open = current();
  return open ? open->send_message(bytes, nullptr) : why_not();
}

std::error_code Connection::send(std::span<const Slice> pieces, Operation& done) noexcept {
  transport::Channel* open = current();
  return open ? open->send_pieces(pieces, done) : why_not();
}

std::error_code Connection::put(const Slice& from, const RemoteRegion& to, std::uint64_t offset,
                                Operation& done) noexcept {
  transport::Channel* open = current();
  return open ? open->put(from, to, offset, done) : why_not();
}

std::error_code Connection::get(const Slice& into, const RemoteRegion& from, std::uint64_t offset,
                                Operation& done) noexcept {
  transport::Channel* open = current();
  return open ? open->get(into, from, offset, done) : why_not();
}

std::error_code Connection::put(std::span<const std::byte> from, const RemoteRegion& to, std::uint64_t offset,
                                Operation& done) noexcept {
  transport::Channel* open = current();
  return open ? open->put(from, to, offset, done) : why_not();
}

std::error_code Connection::get(std::span<std::byte> into, const RemoteRegion& from, std::uint64_t offset,
                                Operation& done) noexcept {
  transport::Channel* open = current();
  return open ? open->get(into, from, offset, done) : why_not();
}

namespace {

constexpr std::size_t word = sizeof(std::uint64_t);
bool is_word(const Slice& former, const RemoteRegion& at, std::uint64_t offset) {
  return former.length == word && (at.address + offset) % word == 0;
}

}  // namespace

std::error_code Connection::fetch_add(const Slice& former, const RemoteRegion& at, std::uint64_t offset,
                                      std::uint64_t add, Operation& done) noexcept {
  transport::Channel* open = current();
  if (!open) return why_not();
  if (!is_word(former, at, offset)) return make_error_code(errc::invalid_argument);
  return open->atomic(IBV_WR_ATOMIC_FETCH_AND_ADD, former, at, offset, add, 0, done);
}

std::error_code Connection::compare_swap(const Slice& former, const RemoteRegion& at, std::uint64_t offset,
                                         std::uint64_t expected, std::uint64_t desired,
                                         Operation& done) noexcept {
  transport::Channel* open = current();
  if (!open) return why_not();
  if (!is_word(former, at, offset)) return make_error_code(errc::invalid_argument);
  return open->atomic(IBV_WR_ATOMIC_CMP_AND_SWP, former, at, offset, expected, desired, done);
}

void Connection::on_message(Handler<void(std::span<const std::byte>)> handler) {
  if (transport::Channel* open = channel()) open->message_handler = std::move(handler);
}

void Connection::on_closed(Handler<void(std::error_code, std::string_view)> handler) {
  if (transport::Channel* open = channel()) open->closed_handler = std::move(handler);
}

std::string Connection::peer() const {
  return is_open() ? channel_->peer_name() : "nobody: the connection is closed";
}
std::string Connection::explain() const {
  return is_open() ? channel_->explain() : "the connection is closed";
}
std::string Connection::explain(std::size_t bytes) const {
  return is_open() ? channel_->explain(bytes) : "the connection is closed";
}

Listener::Listener() noexcept = default;
Listener::Listener(Listener&&) noexcept = default;
Listener& Listener::operator=(Listener&&) noexcept = default;
// In a forked child the socket, and what Asio knows of it, are the parent's.
Listener::~Listener() {
  if (state_ && !state_->is_of_this_process()) static_cast<void>(state_.release());
}
Listener::Listener(std::unique_ptr<transport::ListenerState> state) noexcept : state_(std::move(state)) {}
std::uint16_t Listener::port() const noexcept {
  return state_ ? state_->port() : 0;
}

namespace {

/// The address's scheme must name the device that the loop runs on.
void check_device(Loop& loop, const Address& address) {
  const std::string_view device = loop.device();
  if (address.scheme == "rdma" || address.scheme == device || (address.scheme == "soft" && device == "soft0"))
    return;
  throw Error(
      errc::device_not_found,
      fmt::format(
          "{} asks for device {}, but this loop runs on {}; open the loop with Options::device \"{}\"",
          address.to_string(), address.scheme == "soft" ? "soft0" : address.scheme, device,
          address.scheme == "soft" ? "soft0" : address.scheme));
}

}  // namespace

Listener listen(Loop& loop, std::string_view text, Handler<void(Connection)> on_connection) {
  loop.engine().require_this_process();
  const Address address = Address::parse(text);
  check_device(loop, address);
  return Listener(transport::listen_for_peers(loop.engine(), address, std::move(on_connection)));
}

void connect(Loop& loop, std::string_view text, Handler<void(const Error*, Connection)> done) {
  loop.engine().require_this_process();
  const Address address = Address::parse(text);
  check_device(loop, address);
  transport::connect_to_peer(loop.engine(), address, std::move(done));
}

Connection connect(Loop& loop, std::string_view address) {
  std::optional<Error> failure;
  Connection connection;
  bool finished = false;
  connect(loop, address, [&](const Error* error, Connection made) {
    if (error) failure = *error;
    connection = std::move(made);
    finished = true;
  });
  loop.run_until([&] { return finished; });
  if (failure) throw *failure;
  return connection;
}

}  // namespace verbena
