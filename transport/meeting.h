// SPDX-License-Identifier: Apache-2.0
/// What both ways of meeting share: the berth until the channel is up, the clock that bounds it, and the
/// words.
#pragma once

#include <boost/asio/io_context.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/steady_timer.hpp>
#include <chrono>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>

#include "transport/engine.h"
#include "transport/exchange.h"
#include "verbena/error.h"

namespace verbena::transport {

/// One meeting, from the first word to the channel. Its timer's handler keeps it alive, and ends with it.
class Meeting : public std::enable_shared_from_this<Meeting> {
 public:
  explicit Meeting(Engine& engine) : engine_(engine), alive_(engine.alive()), timer_(engine.context()) {}
  virtual ~Meeting() {
    if (*alive_) give_up_berth();
  }
  Meeting(const Meeting&) = delete;
  Meeting& operator=(const Meeting&) = delete;

 protected:
  /// The time is over: ends what is under way.
  virtual void on_time_out() = 0;

  void start_clock(std::chrono::milliseconds within) {
    timer_.expires_after(within);
    timer_.async_wait([self = shared_from_this()](boost::system::error_code error) {
      if (error || !self->engine_lives()) return;
      self->timed_out_ = true;
      self->on_time_out();
    });
  }
  void stop_clock() { timer_.cancel(); }
  /// A given io_context may outlive the engine, and run handlers of its after it.
  bool engine_lives() const noexcept { return *alive_; }

  /// The connection won't come about: its place is free for another at once.
  void give_up_berth() {
    if (berth_.channel) engine_.abandon(std::exchange(berth_, {}));
  }
  /// The channel is up, and its own master.
  void channel_is_up() {
    channel_ = std::exchange(berth_, {}).channel;
    serial_ = channel_->serial();
  }
  bool channel_lives() const noexcept { return channel_ && channel_->serial() == serial_; }
  Connection connection() const noexcept { return {*channel_, serial_}; }

  Engine& engine_;
  const std::shared_ptr<const bool> alive_;
  boost::asio::steady_timer timer_;
  Engine::Berth berth_{};
  Channel* channel_ = nullptr;
  std::uint32_t serial_ = 0;
  Hello ours_;
  bool timed_out_ = false;
};

/// Ends a channel whose peer has gone, once what it sent before has been handed out.
void end_of_peer(Engine& engine, Channel& channel, std::uint32_t serial, const std::string& peer);

std::string name_of(const boost::asio::ip::tcp::endpoint& endpoint);
boost::asio::ip::tcp::resolver::results_type resolve(Engine& engine, const Address& address,
                                                     boost::system::error_code& error);

// ---- What a user is told ----
Error unknown_host(const Address& address, std::string_view why);
Error not_answered(const Address& address, const Options& options);
Error port_taken(const Address& address);
/// Why the answer to our offer makes no connection; nothing where it does. `theirs` empty: it was no hello.
std::optional<Error> find_objection(const Address& address, const Hello& ours,
                                    const std::optional<Hello>& theirs);

}  // namespace verbena::transport
