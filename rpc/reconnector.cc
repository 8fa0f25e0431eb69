// SPDX-License-Identifier: Apache-2.0
#include "rpc/reconnector.h"

#include <fmt/format.h>

#include <utility>

#include "rpc/client_state.h"
#include "verbena/loop.h"

namespace verbena::rpc {
namespace {

/// The next connection would meet the same: one side's program or options have to change first.
bool is_final(std::error_code error) noexcept {
  for (const errc code : {errc::protocol_mismatch, errc::protocol_violation, errc::cancelled,
                          errc::device_not_found, errc::invalid_argument}) {
    if (error == code) return true;
  }
  return false;
}

template <class T>
void require(const char* name, T value, T least, T most) {
  if (value >= least && value <= most) return;  // false for a double that is no number
  throw Error(
      errc::invalid_argument,
      fmt::format("{} of the reconnect policy is {}; it must be from {} to {}", name, value, least, most));
}

}  // namespace

void ReconnectPolicy::validate() const {
  constexpr std::chrono::milliseconds::rep hour = 3'600'000;
  require("first (ms)", first.count(), decltype(hour){1}, hour);
  require("most (ms)", most.count(), first.count(), hour);
  require("factor", factor, 1.0, 100.0);
  require("jitter", jitter, 0.0, 1.0);
}

Reconnector::Reconnector(ClientState& client, std::string address, const ReconnectPolicy& policy,
                         std::uint32_t seed)
    : client_(client),
      address_(std::move(address)),
      policy_(policy),
      backoff_(policy, seed),
      timer_(client.loop().context()) {}

Reconnector::~Reconnector() {
  stop();
}

void Reconnector::stop() noexcept {
  *wanted_ = false;
  boost::system::error_code ignored;
  timer_.cancel(ignored);
}

bool Reconnector::begin(std::error_code error, std::string_view why) {
  if (!*wanted_ || is_final(error)) return false;
  why_ = why;
  failures_ = 0;
  backoff_.reset();
  wait();
  return true;
}

void Reconnector::wait() {
  timer_.expires_after(backoff_.next());
  timer_.async_wait([this, wanted = wanted_](const boost::system::error_code& error) {
    if (!error && *wanted) connect();
  });
}

void Reconnector::connect() {
  try {
    verbena::connect(client_.loop(), address_,
                     [this, wanted = wanted_](const Error* error, Connection connection) {
                       if (*wanted) answered(error, std::move(connection));
                     });
  } catch (const Error& error) {
    answered(&error, {});
  }
}

// Its last act is a call of the user's handler, who may destroy the client, and so this.
void Reconnector::answered(const Error* error, Connection connection) {
  if (!error && connection.is_open()) {
    ++successes_;
    return client_.adopt(std::move(connection));
  }
  const std::error_code code = error ? error->code() : make_error_code(errc::connection_lost);
  ++failures_;
  if (!is_final(code) && (policy_.tries == 0 || failures_ < policy_.tries)) return wait();
  stop();
  client_.give_up(code, fmt::format("{}; connecting again failed {} times, at last: {}", why_, failures_,
                                    error ? error->what() : "it was lost again at once"));
}

}  // namespace verbena::rpc
