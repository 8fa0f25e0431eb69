// SPDX-License-Identifier: Apache-2.0
#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <boost/asio.hpp>
#include <optional>
#include <utility>

#include "core/fork.h"
#include "transport/meeting.h"

namespace verbena::transport {
namespace {

namespace asio = boost::asio;
using asio::ip::tcp;
using boost::system::error_code;

std::string peer_of(const tcp::socket& socket) {
  error_code error;
  const tcp::endpoint peer = socket.remote_endpoint(error);
  if (error) return "a peer that has gone";
  return name_of(peer);
}

/// A meeting over a socket. Its pending handlers keep it alive, of which there is always one.
class TcpMeeting : public Meeting {
 public:
  TcpMeeting(Engine& engine, tcp::socket socket) : Meeting(engine), socket_(std::move(socket)) {}

 protected:
  void on_time_out() override {
    error_code ignored;
    socket_.close(ignored);
  }
  std::shared_ptr<TcpMeeting> self() { return std::static_pointer_cast<TcpMeeting>(shared_from_this()); }

  template <class Then>
  void send(const Hello& hello, Then then) {
    encode(hello, out_);
    asio::async_write(socket_, asio::buffer(out_), [self = self(), then](error_code error, std::size_t) {
      if (self->engine_lives()) then(error);
    });
  }
  /// `then(error, hello)`; bytes that are no hello arrive as an empty one.
  template <class Then>
  void receive(Then then) {
    asio::async_read(socket_, asio::buffer(in_), [self = self(), then](error_code error, std::size_t) {
      if (self->engine_lives()) then(error, error ? std::nullopt : decode(self->in_));
    });
  }
  /// The socket's end is now the peer's end.
  void hand_over_socket(const std::string& peer) {
    if (!channel_lives()) return;
    Channel& channel = *channel_;
    const auto lifeline = std::make_shared<Lifeline>(std::move(socket_));
    const std::shared_ptr<tcp::socket> socket(lifeline, &lifeline->socket);
    auto byte = std::make_shared<char>();
    channel.lifeline = socket;
    channel.close_lifeline = [weak = std::weak_ptr(lifeline)] {
      if (const auto open = weak.lock()) open->close();
    };
    socket->async_read_some(asio::buffer(byte.get(), 1),
                            [engine = &engine_, &channel, serial = serial_, peer, byte,
                             weak = std::weak_ptr(socket)](error_code error, std::size_t) {
                              const auto socket_alive = weak.lock();
                              if (error == asio::error::operation_aborted || !socket_alive)
                                return;  // ended by this side
                              end_of_peer(*engine, channel, serial, peer);
                            });
  }

  /// The socket while the connection lives. A forked child doesn't keep it, so that it ends with this
  /// process.
  struct Lifeline {
    explicit Lifeline(tcp::socket taken) : socket(std::move(taken)), mark(socket.native_handle()) {}
    void close() {
      mark = {};
      error_code ignored;
      socket.close(ignored);
    }
    tcp::socket socket;
    core::ClosedInChildren mark;
  };

  tcp::socket socket_;
  std::array<std::byte, hello_size> in_{};
  std::array<std::byte, hello_size> out_{};
};

std::string path_of(const Engine& engine, const std::string& remark) {
  return fmt::format("queue pairs exchanged over TCP{}, {} requests deep", remark,
                     engine.options().request_depth);
}

/// Throws Error where a connection would run out of descriptors on its way: a device takes some for a moment.
/// The sentence has to fit into a refusal.
void require_descriptors(int like) {
  std::array<int, 4> taken;
  for (int& descriptor : taken) descriptor = ::dup(like);
  const bool enough = std::ranges::all_of(taken, [](int descriptor) { return descriptor >= 0; });
  for (const int descriptor : taken) {
    if (descriptor >= 0) ::close(descriptor);
  }
  if (!enough) throw Error(errc::overloaded, "the server may open no more files; raise its `ulimit -n`");
}

// ---- The listening side ----

class Arrival final : public TcpMeeting {
 public:
  Arrival(Engine& engine, tcp::socket socket, std::shared_ptr<Accept> accept,
          std::shared_ptr<const std::string> remark)
      : TcpMeeting(engine, std::move(socket)),
        accept_(std::move(accept)),
        remark_(std::move(remark)),
        peer_(peer_of(socket_)) {}

  void start() {
    start_clock(engine_.options().connect_timeout);
    receive([this](error_code error, std::optional<Hello> hello) { error ? stop_clock() : greet(hello); });
  }

 private:
  void greet(const std::optional<Hello>& theirs) {
    if (!theirs) return stop_clock();  // not Verbena: no word of ours would be understood
    Hello refusal;
    refusal.kind = HelloKind::refuse;
    try {
      require_descriptors(socket_.native_handle());
      berth_ = engine_.reserve();
      ours_ = engine_.make_hello(HelloKind::accept, *berth_.queue_pair);
      refusal.device_kind = ours_.device_kind;
      refusal.text = find_mismatch(*theirs, ours_);  // in words that are right where they are read
      if (refusal.text.empty() && theirs->kind == HelloKind::offer) {
        ours_.epoch = theirs->epoch;
        engine_.open(berth_, ours_, *theirs, peer_, path_of(engine_, *remark_));
        channel_is_up();
        return welcome();
      }
    } catch (const Error& error) {
      refusal.text = error.what();
    }
    give_up_berth();
    send(refusal, [this](error_code) { stop_clock(); });
  }

  // The channel is up on this side; the peer says when it is on its. Its first message may come before that
  // word.
  void welcome() {
    channel_->on_first_word = [this, self = std::weak_ptr(shared_from_this())] {
      if (const auto alive = self.lock()) announce();
    };
    send(ours_, [this](error_code error) {
      if (error) return lose();
      receive([this](error_code read_error, std::optional<Hello> ready) {
        if (read_error || !ready || ready->kind != HelloKind::ready) return lose();
        stop_clock();
        announce();
        hand_over_socket(peer_);
      });
    });
  }
  void announce() {
    if (std::exchange(announced_, true) || !channel_lives()) return;
    channel_->on_first_word = nullptr;
    const auto accept = accept_.lock();  // the listener may go while its handler runs
    if (!accept) return channel_->fail(make_error_code(errc::connection_lost), "the listener is gone");
    (*accept)(connection());
  }
  void lose() {
    stop_clock();
    if (channel_lives())
      channel_->fail(make_error_code(errc::connection_lost), "the peer left while it was connecting");
  }

  bool announced_ = false;
  std::weak_ptr<Accept> accept_;  // dead once the listener is
  std::shared_ptr<const std::string> remark_;
  std::string peer_;
};

class TcpListener final : public ListenerState {
 public:
  TcpListener(Engine& engine, const tcp::endpoint& endpoint, std::shared_ptr<Accept> accept,
              std::shared_ptr<const std::string> remark)
      : engine_(engine),
        acceptor_(engine.context()),
        spare_(engine.context()),
        timer_(engine.context()),
        accept_(std::move(accept)),
        remark_(std::move(remark)) {
    acceptor_.open(endpoint.protocol());
    acceptor_.set_option(tcp::acceptor::reuse_address(true));
    if (engine.options().share_port) {
      using ReusePort =
          asio::detail::socket_option::boolean<SOL_SOCKET, SO_REUSEPORT>;  // Asio has no name for it
      acceptor_.set_option(ReusePort(true));
    }
    acceptor_.bind(endpoint);
    acceptor_.listen();
    mark_ = core::ClosedInChildren(acceptor_.native_handle());
    keep_spare();
    next();
  }
  std::uint16_t port() const noexcept override {
    error_code ignored;
    return acceptor_.local_endpoint(ignored).port();
  }

 private:
  // Where no descriptor is left, a peer would wait in vain for its socket to be accepted. It is accepted with
  // this one; what else the connection needs then isn't to be had, and the peer is told.
  void keep_spare() {
    if (spare_.is_open()) return;
    error_code ignored;
    spare_.open(tcp::v4(), ignored);
  }
  bool give_up_spare() {
    error_code ignored;
    const bool had = spare_.is_open();
    spare_.close(ignored);
    return had;
  }
  void next() {
    acceptor_.async_accept([this, open = std::weak_ptr(accept_)](error_code error, tcp::socket socket) {
      if (error == asio::error::operation_aborted || open.expired()) return;
      if (error == asio::error::no_descriptors && give_up_spare()) return next();
      if (error) return rest();  // no descriptor is free, say: asked at once, it would answer the same
      std::make_shared<Arrival>(engine_, std::move(socket), accept_, remark_)->start();
      if (!spare_.is_open()) return rest();  // until that peer has been answered
      next();
    });
  }
  void rest() {
    timer_.expires_after(std::chrono::milliseconds(100));
    timer_.async_wait([this, open = std::weak_ptr(accept_)](error_code error) {
      if (error || open.expired()) return;
      keep_spare();
      next();
    });
  }

  Engine& engine_;
  tcp::acceptor acceptor_;
  core::ClosedInChildren mark_;
  tcp::socket spare_;
  asio::steady_timer timer_;
  std::shared_ptr<Accept> accept_;
  std::shared_ptr<const std::string> remark_;
};

// ---- The connecting side ----

class Departure final : public TcpMeeting {
 public:
  Departure(Engine& engine, Address address, Connected done, std::chrono::milliseconds within,
            std::string remark)
      : TcpMeeting(engine, tcp::socket(engine.context())),
        address_(std::move(address)),
        done_(std::move(done)),
        within_(within),
        remark_(std::move(remark)) {}

  void start() {
    error_code error;
    endpoints_ = resolve(engine_, address_, error);
    if (error) return fail_later(unknown_host(address_, error.message()));
    try {
      berth_ = engine_.reserve();
    } catch (const Error& no_berth) {
      return fail_later(no_berth);
    }
    start_clock(within_);
    asio::async_connect(socket_, endpoints_,
                        [this, self = shared_from_this()](error_code connect_error, const tcp::endpoint&) {
                          if (!engine_lives()) return;
                          if (connect_error) return fail(explain(connect_error));
                          offer();
                        });
  }

 private:
  void offer() {
    error_code ignored;
    socket_.set_option(tcp::no_delay(true), ignored);
    ours_ = engine_.make_hello(HelloKind::offer, *berth_.queue_pair);
    send(ours_, [this](error_code error) {
      if (error) return fail(explain(error));
      receive([this](error_code read_error, std::optional<Hello> theirs) {
        if (read_error) return fail(explain(read_error));
        answered(theirs);
      });
    });
  }

  void answered(const std::optional<Hello>& theirs) {
    if (const auto objection = find_objection(address_, ours_, theirs)) return fail(*objection);
    try {
      engine_.open(berth_, ours_, *theirs, fmt::format("{}:{}", address_.host, address_.port),
                   path_of(engine_, remark_));
    } catch (const Error& error) {
      return fail(error);
    }
    channel_is_up();
    Hello ready = ours_;
    ready.kind = HelloKind::ready;
    send(ready, [this](error_code error) {
      if (error) {
        channel_->fail(make_error_code(errc::connection_lost), "the server left");
        return fail(explain(error));
      }
      stop_clock();
      hand_over_socket(fmt::format("{}:{}", address_.host, address_.port));
      std::exchange(done_, {})(nullptr, connection());
    });
  }

  Error explain(const error_code& error) const {
    const std::string where = address_.to_string();
    if (timed_out_) return not_answered(address_, engine_.options());
    if (error == asio::error::connection_refused) {
      return {errc::connection_refused,
              fmt::format("nobody listens at {}; start the server first, or check the port", where)};
    }
    if (error == asio::error::eof || error == asio::error::connection_reset) {
      return {errc::connection_refused,
              fmt::format("{} closed the connection before it was made; check that it is a Verbena "
                          "server of this version",
                          where)};
    }
    const char* const remedy = error == asio::error::no_descriptors
                                   ? "; this process may open no more files: raise `ulimit -n`"
                                   : "";
    return {errc::connection_refused,
            fmt::format("{} can't be reached: {}{}", where, error.message(), remedy)};
  }

  void fail(const Error& error) {
    stop_clock();
    if (done_) std::exchange(done_, {})(&error, Connection{});
  }
  void fail_later(Error error) {
    asio::post(engine_.context(), [this, self = shared_from_this(), error = std::move(error)] {
      if (engine_lives()) fail(error);
    });
  }

  Address address_;
  Connected done_;
  std::chrono::milliseconds within_;
  std::string remark_;
  tcp::resolver::results_type endpoints_;
};

}  // namespace

std::unique_ptr<ListenerState> listen_over_tcp(Engine& engine, const Address& address,
                                               std::shared_ptr<Accept> accept,
                                               std::shared_ptr<const std::string> remark) {
  error_code error;
  const auto endpoints = resolve(engine, address, error);
  if (error || endpoints.empty()) throw unknown_host(address, error.message());
  try {
    return std::make_unique<TcpListener>(engine, *endpoints.begin(), std::move(accept), std::move(remark));
  } catch (const boost::system::system_error& failure) {
    if (failure.code() == asio::error::address_in_use) throw port_taken(address);
    throw Error(errc::address_unusable,
                fmt::format("{} can't be listened at: {}; give an address of this host, or 0.0.0.0 for "
                            "all of them",
                            address.to_string(), failure.code().message()));
  }
}

void connect_over_tcp(Engine& engine, const Address& address, Connected done,
                      std::chrono::milliseconds within, std::string remark) {
  std::make_shared<Departure>(engine, address, std::move(done), within, std::move(remark))->start();
}

}  // namespace verbena::transport
