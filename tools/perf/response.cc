// SPDX-License-Identifier: Apache-2.0
#include "tools/perf/response.h"

#include <algorithm>
#include <cstdio>
#include <cstring>

#include "tools/common/failure.h"
#include "tools/local_address.h"
#include "tools/perf/call_client.h"

namespace verbena::tools {

Response::Response(Loop& loop, Connection connection, const std::string& address, Floor* floor)
    : loop_(loop), connection_(std::move(connection)), address_(address), floor_(floor) {
  connection_.on_message([this](std::span<const std::byte> bytes) { take(bytes); });
}

Response::~Response() {
  connection_.close();
  loop_.poll();
}

void Response::take(std::span<const std::byte> bytes) {
  if (const auto order = read_as<Order>(bytes)) [[unlikely]] {
    orders_.push_back(*order);
    return;
  }
  ++messages_;
  if (test_ == TestKind::send_latency) echo();
}

void Response::echo() {
  if (echo_source_ && echo_source_->try_send()) ++owed_echoes_;
}

void Response::run() {
  while (!finished_ && connection_.is_open()) {
    const auto has_work = [this] { return !orders_.empty() || owed_echoes_ > 0 || !connection_.is_open(); };
    if (loop_.options().busy_poll) {
      while (!has_work()) loop_.poll();
    } else {
      loop_.run_until(has_work);
    }
    if (owed_echoes_ > 0) {
      loop_.poll();
      if (owed_echoes_ > 0 && !echo_source_->try_send()) --owed_echoes_;
    }
    if (orders_.empty()) continue;
    const Order order = orders_.front();
    orders_.pop_front();
    carry_out(order);
  }
}

void Response::carry_out(const Order& order) {
  switch (order.kind) {
    case OrderKind::prepare:
      return prepare(order);
    case OrderKind::floor:
      if (floor_ != nullptr) floor_->pong(order.count);
      return;
    case OrderKind::round:
      return run_round(order.count);
    case OrderKind::report: {
      Answer count;
      count.count = messages_;
      return answer(count);
    }
    case OrderKind::finish:
      finished_ = true;
  }
}

void Response::run_round(std::uint64_t count) {
  if (!writes_) return;  // other tests are answered as their traffic comes
  for (std::uint64_t i = 0; i < count; ++i) {
    writes_->await();
    writes_->send();
  }
}

void Response::open_call_server() {
  calls_.emplace(loop_, with_port(address_, 0));
  calls_->on(echo_method, [](rpc::Bytes request, rpc::Reply& reply) { reply.send(request); });
  calls_->on(stamp_method, [](rpc::Bytes request, rpc::Reply& reply) {
    const std::uint64_t stamp = request.empty() ? 0 : stamp_of(request);
    reply.send(std::as_bytes(std::span{&stamp, 1}));
  });
}

void Response::prepare(const Order& order) {
  echo_source_.reset();
  writes_.reset();
  calls_.reset();
  memory_ = {};
  messages_ = owed_echoes_ = 0;
  test_ = order.test;
  Answer ready;
  try {
    if (order.version != order_version)
      throw Failure("the two sides are of different versions; use the same.");
    if (test_ == TestKind::write_latency) {
      writes_ = std::make_unique<WritePingPong>(loop_, connection_, order.size);
      writes_->set_peer(order.region);
      ready.region = writes_->mine();
    } else if (test_ == TestKind::send_latency) {
      echo_source_ = std::make_unique<MessageSource>(loop_, connection_, order.size);
    } else if (makes_calls(test_)) {
      open_call_server();
      ready.port = calls_->port();
    } else {
      memory_ = loop_.memory().allocate(std::max<std::uint64_t>(order.size, 1));
      std::memset(memory_.bytes().data(), 0, memory_.size());  // its pages are here before the clock runs
      ready.region = memory_.remote();
    }
  } catch (const std::exception& error) {
    std::snprintf(ready.problem.data(), ready.problem.size(), "the responding side: %s", error.what());
  }
  answer(ready);
}

void Response::answer(const Answer& answer) {
  while (const std::error_code error = connection_.send(std::as_bytes(std::span{&answer, 1}))) {
    if (!passes(error)) return;  // the connection is gone, which run() sees
    loop_.poll();
  }
  loop_.flush();
}

}  // namespace verbena::tools
