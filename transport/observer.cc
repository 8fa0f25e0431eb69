// SPDX-License-Identifier: Apache-2.0
#include "transport/observer.h"

#include <fmt/format.h>
#include <sys/socket.h>
#include <unistd.h>

#include <boost/asio.hpp>
#include <chrono>
#include <exception>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "transport/engine.h"

namespace verbena::transport {

namespace asio = boost::asio;
using Protocol = asio::local::stream_protocol;
using boost::system::error_code;

namespace {

constexpr std::size_t most_visitors = 4;  // at a time; more wait in the kernel's queue
constexpr int waiting_visitors = 16;
constexpr std::size_t longest_request = 64;
constexpr std::chrono::seconds visiting_time{1};
// A flood of visitors leaves time for calls: after so many of them in a row there is a pause.
constexpr unsigned visitors_between_pauses = 16;
constexpr std::chrono::milliseconds pause_time{10};

bool may_ask(Protocol::socket& socket) noexcept {
  ucred credentials{};
  socklen_t length = sizeof credentials;
  if (::getsockopt(socket.native_handle(), SOL_SOCKET, SO_PEERCRED, &credentials, &length) != 0) return false;
  return credentials.uid == ::geteuid() || credentials.uid == 0;
}

/// Containers that share a network may have equal process ids: then the name gets a suffix.
bool bind_to_name(Protocol::acceptor& acceptor, std::uint32_t number) {
  constexpr int tries = 16;
  const std::string name = fmt::format("verbena/loop/{}/{}", ::getpid(), number);
  for (int i = 0; i < tries; ++i) {
    error_code error;
    acceptor.bind(Protocol::endpoint('\0' + name + (i == 0 ? "" : fmt::format(".{}", i))), error);
    if (!error) return true;
    if (error != asio::error::address_in_use) return false;
  }
  return false;
}

}  // namespace

/// The listening socket and its visitors. Pending handlers own it; `engine_` says whether the observer is
/// still there.
class Observer::Reception : public std::enable_shared_from_this<Reception> {
 public:
  Reception(asio::io_context& context, const Engine& engine)
      : engine_(&engine), acceptor_(context), pause_(context) {}

  bool listen(std::uint32_t number);
  void close() noexcept;

 private:
  class Visitor;
  void accept() noexcept;
  void receive(Protocol::socket socket);
  void rest();

  const Engine* engine_;
  Protocol::acceptor acceptor_;
  asio::steady_timer pause_;
  std::vector<Visitor*> visitors_;
  unsigned in_a_row_ = 0;
  bool accepting_ = false;
};

/// One who asks. Its pending operation owns it.
class Observer::Reception::Visitor : public std::enable_shared_from_this<Visitor> {
 public:
  Visitor(Protocol::socket socket, std::shared_ptr<Reception> reception)
      : socket_(std::move(socket)), time_(socket_.get_executor()), reception_(std::move(reception)) {
    reception_->visitors_.push_back(this);
  }
  ~Visitor() {
    std::erase(reception_->visitors_, this);
    reception_->accept();
  }
  Visitor(const Visitor&) = delete;
  Visitor& operator=(const Visitor&) = delete;

  void listen() {
    time_.expires_after(visiting_time);
    time_.async_wait([weak = weak_from_this()](const error_code& error) {
      if (const auto self = weak.lock(); self && !error) self->close();
    });
    asio::async_read_until(socket_, asio::dynamic_buffer(text_, longest_request), '\n',
                           [self = shared_from_this()](const error_code& error, std::size_t length) {
                             if (!error || error == asio::error::not_found) self->answer(length);
                           });
  }
  void close() noexcept {
    error_code ignored;
    socket_.close(ignored);
  }

 private:
  // `length` 0: there was no end of the line.
  void answer(std::size_t length) try {
    if (!reception_->engine_) return;
    std::string_view request = std::string_view(text_).substr(0, length);
    while (request.ends_with('\n') || request.ends_with('\r')) request.remove_suffix(1);
    if (request == "json") {
      text_ = json(reception_->engine_->snapshot()) + '\n';
    } else if (request == "prometheus") {
      text_ = prometheus(reception_->engine_->snapshot());
    } else {
      text_ = "error: ask for json or prometheus\n";
    }
    asio::async_write(socket_, asio::buffer(text_),
                      [self = shared_from_this()](const error_code&, std::size_t) {});
  } catch (const std::exception&) {  // no memory: the visitor finds the line dead
  }

  Protocol::socket socket_;
  asio::steady_timer time_;
  std::shared_ptr<Reception> reception_;
  std::string text_;  // the request, then the answer
};

bool Observer::Reception::listen(std::uint32_t number) {
  error_code error;
  acceptor_.open(Protocol(), error);
  if (error || !bind_to_name(acceptor_, number)) return false;
  acceptor_.listen(waiting_visitors, error);
  if (error) return false;
  accept();
  return true;
}

void Observer::Reception::close() noexcept {
  engine_ = nullptr;
  error_code ignored;
  acceptor_.close(ignored);
  pause_.cancel(ignored);
  for (Visitor* visitor : visitors_) visitor->close();
}

void Observer::Reception::accept() noexcept try {
  if (!engine_ || accepting_ || visitors_.size() >= most_visitors) return;
  accepting_ = true;
  acceptor_.async_accept([self = shared_from_this()](const error_code& error, Protocol::socket socket) {
    self->accepting_ = false;
    if (!self->engine_) return;
    if (error || ++self->in_a_row_ % visitors_between_pauses == 0)
      self->rest();  // no descriptor is left, say
    if (!error && may_ask(socket)) self->receive(std::move(socket));
    self->accept();
  });
} catch (const std::exception&) {  // no memory: nobody is let in any more
}

void Observer::Reception::receive(Protocol::socket socket) try {
  std::make_shared<Visitor>(std::move(socket), shared_from_this())->listen();
} catch (const std::exception&) {  // no memory
}

void Observer::Reception::rest() {
  accepting_ = true;
  pause_.expires_after(pause_time);
  pause_.async_wait([self = shared_from_this()](const error_code&) {
    self->accepting_ = false;
    self->accept();
  });
}

Observer::Observer(std::shared_ptr<Reception> reception) noexcept : reception_(std::move(reception)) {}

Observer::~Observer() {
  reception_->close();
}

std::unique_ptr<Observer> Observer::open(asio::io_context& context, const Engine& engine,
                                         std::uint32_t number) noexcept try {
  auto reception = std::make_shared<Reception>(context, engine);
  if (!reception->listen(number)) return nullptr;
  return std::unique_ptr<Observer>(new Observer(std::move(reception)));
} catch (const std::exception&) {
  return nullptr;
}

}  // namespace verbena::transport
