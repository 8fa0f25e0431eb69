// SPDX-License-Identifier: Apache-2.0
#include "transport/loops.h"

#include <algorithm>
#include <boost/asio/io_context.hpp>
#include <cstdlib>
#include <optional>

namespace verbena::test {
namespace {

std::string from_environment(const char* name, const char* otherwise) {
  const char* value = std::getenv(name);
  return value != nullptr ? value : otherwise;
}

}  // namespace

std::string device_name() {
  return from_environment("VERBENA_TEST_DEVICE", "soft0");
}

bool on_soft0() {
  return device_name() == "soft0";
}

std::string address_of(std::uint16_t port) {
  const std::string host = on_soft0() ? "127.0.0.1" : from_environment("VERBENA_RXE_ADDRESS", "10.9.0.1");
  return device_name() + "://" + host + ":" + std::to_string(port);
}

std::size_t rounds(std::size_t rounds) {
  return on_soft0() ? rounds : (rounds + 9) / 10;
}

Options small_options() {
  Options options;
  options.device = device_name();
  options.peers = 4;
  options.eager_size = 1024;
  options.request_depth = 16;
  options.call_depth = 16;
  options.large_depth = 4;
  options.send_depth = 16;
  options.large_bytes = 4 << 20;
  return options;
}

Message message(std::size_t size, std::uint32_t number) {
  Message bytes(size);
  std::uint32_t word = number * 2654435761U + 1;
  for (std::byte& byte : bytes) {
    word = word * 1664525U + 1013904223U;
    byte = static_cast<std::byte>(word >> 24);
  }
  return bytes;
}

void Noted::note(Operation* self, std::error_code error, std::size_t bytes) noexcept {
  auto& noted = *static_cast<Noted*>(self);
  ++noted.times;
  noted.error = error;
  noted.bytes = bytes;
}

void Loops::look(Loop& loop) {
  loop.context().restart();
  loop.context().poll();
}

void Loops::turn() {
  server_loop.poll();
  client_loop.poll();
  constexpr unsigned turns_between_looks = 16;  // sockets are looked at rarely by poll() itself
  if (++turns_ % turns_between_looks == 0) {
    look(server_loop);
    look(client_loop);
  }
}

void Loops::settle(int turns) {
  for (int i = 0; i < turns; ++i) turn();
}

Connected::Connected(const Options& server_options, const Options& client_options)
    : Loops(server_options, client_options) {
  listener = listen(server_loop, address_of(0), [this](Connection connection) {
    (server.is_open() ? later.emplace_back() : server) = std::move(connection);
  });
  std::optional<std::string> failure;
  connect(client_loop, address_of(listener.port()), [&](const Error* error, Connection connection) {
    if (error) failure = error->what();
    client = std::move(connection);
  });
  until("a connection", [&] { return failure || (client.is_open() && server.is_open()); });
  if (failure) throw std::runtime_error(*failure);
}

void Connected::send_when_it_may(std::span<const std::byte> bytes) {
  until("room for one more message", [&] { return !client.send(bytes); });
}

Inbox::Inbox(Connection& connection) {
  connection.on_message(
      [this](std::span<const std::byte> bytes) { messages.emplace_back(bytes.begin(), bytes.end()); });
}

Ending::Ending(Connection& connection) {
  connection.on_closed([this](std::error_code code, std::string_view text) {
    ++times;
    error = code;
    why = text;
  });
}

Refusal refusal_of(Loops& loops, const std::string& address) {
  std::optional<Refusal> refusal;
  connect(loops.client_loop, address, [&](const Error* error, Connection) {
    refusal = error ? Refusal{error->code(), error->what()} : Refusal{};
  });
  loops.until("an answer to connect", [&] { return refusal.has_value(); });
  return *refusal;
}

void expect_equal(std::span<const std::byte> got, std::span<const std::byte> wanted) {
  ASSERT_EQ(got.size(), wanted.size());
  const auto [at, unused] = std::mismatch(got.begin(), got.end(), wanted.begin());
  EXPECT_TRUE(at == got.end()) << "the first difference is at byte " << at - got.begin() << " of "
                               << got.size();
}

}  // namespace verbena::test
