// SPDX-License-Identifier: Apache-2.0
#include "tools/perf/session.h"

#include <fmt/format.h>

#include <algorithm>

#include "tools/common/failure.h"
#include "tools/local_address.h"

namespace verbena::tools {
namespace {

constexpr std::size_t most_floor_round_trips = 20'000;  // 2 ms near
constexpr double floor_round_ns = 2e6;

std::uint32_t deepest(const Plan& plan) {
  std::uint32_t depth = 1;
  for (const std::uint64_t size : plan.sizes) depth = std::max(depth, depth_for(plan, size));
  return depth;
}

}  // namespace

void throw_failed(const char* operation, std::error_code error) {
  throw Failure(fmt::format("{} failed: {}.", operation, error.message()));
}

Session::Session(const Plan& plan) : address_(plan.connect), floor_samples_(most_floor_round_trips) {
  if (plan.connect.empty()) start_second_process(plan);
  if (plan.cores) pin_to(plan.cores->first);
  if (plan.test == TestKind::floor) return;  // which needs no device
  open_loop(plan);
}

Session::~Session() = default;

void Session::start_second_process(const Plan& plan) {
  floor_.emplace(Floor::create());
  std::vector<std::string> arguments{"perf", "--respond", fmt::format("--floor={}", floor_->descriptor()),
                                     fmt::format("--depth={}", deepest(plan)),
                                     fmt::format("--size={}", longest_message(plan))};
  if (plan.cores) arguments.push_back(fmt::format("--core={}", plan.cores->second));
  if (plan.test != TestKind::floor) arguments.push_back("--listen=" + local_address(plan.device));
  second_.emplace(std::move(arguments), std::vector<int>{floor_->descriptor()});
  address_ = second_->channel().receive_line();
}

void Session::open_loop(const Plan& plan) {
  const std::string device = device_for(address_, plan.device);
  Options options = loop_options(device, longest_message(plan), deepest(plan), plan.cores.has_value());
  options.lend = plan.test == TestKind::lend_latency;  // the others measure what their names say
  loop_ = std::make_unique<Loop>(options);
  software_ = kind_of_device(loop_->device()) == "software";
  connection_ = connect(*loop_, address_);
  connection_.on_closed([this](std::error_code error, std::string_view why) {
    closed_because_ = why.empty() ? error.message() : std::string(why);
  });
  take_messages_back();
}

void Session::on_message(Handler<void(std::span<const std::byte>)> handler) {
  connection_.on_message(std::move(handler));
}

void Session::take_messages_back() {
  connection_.on_message([this](std::span<const std::byte> bytes) { answer_ = read_as<Answer>(bytes); });
}

void Session::expect_open() const {
  if (connection_.is_open()) return;
  throw Failure(fmt::format("the responding side at {} is gone: {}.", address_,
                            closed_because_.empty() ? "the connection was lost" : closed_because_));
}

void Session::turn() {
  if (loop_->poll() == 0) expect_open();
}

void Session::send(const Order& order) {
  insist([&] { return connection_.send(std::as_bytes(std::span{&order, 1})); });
  turn();  // which posts it
}

Answer Session::ask(const Order& order) {
  answer_.reset();
  send(order);
  loop_->run_until([this] { return answer_ || !connection_.is_open(); });
  expect_open();
  if (answer_->version != order_version)
    throw Failure(fmt::format("the responding side at {} is of another version; use the same on both hosts.",
                              address_));
  if (answer_->problem[0] != 0) throw Failure(std::string(answer_->problem.data()));
  return *answer_;
}

Answer Session::prepare(TestKind test, std::uint64_t size, std::uint32_t depth, const RemoteRegion& ours) {
  Order order;
  order.kind = OrderKind::prepare;
  order.test = test;
  order.size = size;
  order.depth = depth;
  order.region = ours;
  return ask(order);
}

void Session::announce_round(std::uint64_t count) {
  Order order;
  order.kind = OrderKind::round;
  order.count = count;
  send(order);
}

std::uint64_t Session::count_there() {
  Order order;
  order.kind = OrderKind::report;
  return ask(order).count;
}

void Session::ping_floor(std::size_t round_trips, Samples& samples) {
  if (loop_) {
    Order order;
    order.kind = OrderKind::floor;
    order.count = round_trips;
    send(order);
  } else {
    second_->channel().send_line(std::to_string(round_trips));
  }
  floor_->ping(round_trips, samples);
}

std::size_t Session::floor_round_trips() {
  // As many as fit in 2 ms: 20,000 between near cores, few where two processes share one core.
  if (floor_round_trips_ == 0) {
    constexpr std::size_t first_try = 2 * Floor::warm_up;
    floor_samples_.rewind(0);
    ping_floor(first_try, floor_samples_);
    const double fitting = floor_round_ns / floor_samples_.median_ns();
    floor_round_trips_ =
        Floor::warm_up +
        static_cast<std::size_t>(std::clamp(fitting, 16.0, double{most_floor_round_trips - Floor::warm_up}));
  }
  return floor_round_trips_;
}

std::optional<double> Session::floor_one_way_ns() {
  if (!floor_) return std::nullopt;
  const std::size_t round_trips = floor_round_trips();
  floor_samples_.rewind(0);
  ping_floor(round_trips, floor_samples_);
  return floor_samples_.median_ns() / 2;
}

void Session::finish() {
  if (second_) second_->expect_end();
  if (loop_) {
    send(Order{});
    connection_.close();
    loop_->poll();
  } else if (second_) {
    second_->channel().send_line("0");
  }
  if (second_) second_->finish();
}

}  // namespace verbena::tools
