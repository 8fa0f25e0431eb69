// SPDX-License-Identifier: Apache-2.0
#include "transport/engine.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <bit>
#include <boost/asio.hpp>
#include <cassert>
#include <cerrno>
#include <chrono>
#include <limits>
#include <random>

#include "core/error.h"
#include "core/monotonic_ns.h"
#include "transport/budget.h"
#include "transport/observer.h"
#include "verbena/error.h"

namespace verbena::transport {

namespace asio = boost::asio;

/// What of the engine is Asio's.
struct Engine::Asio {
  Asio(asio::io_context* given, int descriptor, int inbox)
      : own(given ? nullptr : std::make_unique<asio::io_context>(1)),
        context(given ? *given : *own),
        work(context.get_executor()),
        completions(context, ::dup(descriptor)),
        posts(context, ::dup(inbox)),
        timer(context) {}
  ~Asio() { *alive = false; }
  std::unique_ptr<asio::io_context> own;
  asio::io_context& context;
  asio::executor_work_guard<asio::io_context::executor_type> work;
  asio::posix::stream_descriptor completions;  // a duplicate: closing it leaves the channel's own open
  asio::posix::stream_descriptor posts;        // so is this
  asio::steady_timer timer;
  bool waiting = false;
  std::shared_ptr<bool> alive =
      std::make_shared<bool>(true);  // handlers may outlive the engine in a given context
};

namespace {

core::Handle<ibv_pd> make_pd(core::Device& device) {
  ibv_pd* pd = device.alloc_pd();
  if (!pd) core::throw_verb_error(device.name(), "ibv_alloc_pd", errno);
  return {device, pd};
}

core::QueuePairOptions queue_pair_options(const Options& options) {
  core::QueuePairOptions queue_pair;
  queue_pair.send_depth = sends_per_peer(options);
  queue_pair.gather = max_gather;
  queue_pair.inline_size = staging_size;
  queue_pair.ack_timeout_exponent = options.ack_timeout_exponent;
  queue_pair.retries = options.retries;
  return queue_pair;
}

std::uint32_t next_number() noexcept {
  static std::atomic<std::uint32_t> next{0};
  return next.fetch_add(1, std::memory_order_relaxed);
}

const Options& validated(const Options& options) {
  options.validate();
  return options;
}

}  // namespace

Engine::Engine(asio::io_context* context, Options options)
    : options_(validated(options)),
      device_(core::open_device(options_.device)),
      confirms_reads_(device_->may_misreport_reads()),
      costs_(options_.read_from != 0 ? std::nullopt : costs_of(device_->name())),
      pd_(make_pd(*device_)),
      completions_(*device_, static_cast<int>(completions(options_))),
      receives_(*device_, pd_.get(), options_),
      request_sends_(*device_, pd_.get(),
                     std::size_t{options_.peers} * (options_.request_depth + signal_interval(options_)),
                     buffer_bytes(options_), IBV_ACCESS_LOCAL_WRITE),
      reply_sends_(*device_, pd_.get(),
                   std::size_t{options_.peers} * (options_.call_depth + signal_interval(options_)),
                   buffer_bytes(options_), IBV_ACCESS_LOCAL_WRITE),
      large_requests_(*device_, pd_.get(), options_.large_bytes, IBV_ACCESS_LOCAL_WRITE),
      large_replies_(*device_, pd_.get(), options_.large_bytes, IBV_ACCESS_LOCAL_WRITE),
      large_copies_(*device_, pd_.get(), options_.large_bytes, IBV_ACCESS_REMOTE_READ),
      reads_(device_->kind() == core::DeviceKind::software ? 1 : 2),
      shared_regions_(*device_, pd_.get()),
      pool_(*device_, pd_.get(), shared_regions_, options_.pool_bytes),
      registrations_(*device_, pd_.get(), shared_regions_, pool_, options_.kept_registrations),
      queue_pairs_(*device_, pd_.get(), completions_.get(), receives_.get(), queue_pair_options(options_)),
      slots_(options_.peers, sends_per_peer(options_)),
      by_number_(std::bit_ceil(std::size_t{options_.peers} * 4)),
      dirty_(std::make_unique<Channel*[]>(options_.peers)),
      keep_alive_(options_.keep_alive, channels_),
      number_(next_number()),
      made_(core::monotonic_ns()),
      asio_(std::make_unique<Asio>(context, completions_.descriptor(), inbox_->descriptor())) {
  ended_.reserve(options_.peers);
  channels_.reserve(options_.peers);  // never moves: a fork in another thread goes through it
  if (options_.keep_alive.count() != 0) add(keep_alive_);
  watch_inbox();
  if (options_.observable) observer_ = Observer::open(asio_->context, *this, number_);
  short_of_room_.reserve(options_.peers);
  if (context)
    asio::post(*context, [this, alive = asio_->alive] {
      if (*alive) pump();
    });
}

Engine::~Engine() {
  inbox_->close();  // first: what it destroys may belong to connections
  // What was sent leaves first, within close()'s bound.
  for (const auto& channel : channels_) channel->close();
  while (!lingering_.empty()) {
    turn();
    tick();
  }
  for (const auto& channel : channels_) channel->fail(make_error_code(errc::cancelled), "its loop has ended");
  // The device lets go of every buffer before the pools go; a bound, as the device might be broken.
  constexpr int most_turns = 100'000;
  for (int i = 0; i < most_turns && (queue_pairs_.draining() > 0 || !ended_.empty()); ++i) turn();
  for (const auto& channel : channels_) channel->lifeline.reset();  // it is the io_context's
}

// What hands out handles on channels compares serials: from here on all of them are out of date.
void Engine::leave_to_parent() noexcept {
  for (const auto& channel : channels_) channel->leave_to_parent();
  dirty_count_ = 0;
  inbox_->leave_to_parent();
}

void Engine::throw_of_other_process() {
  throw Error(errc::other_process,
              "this Loop, and all that belongs to it, is that of the process that this one was forked from; "
              "open a Loop after fork, or exec");
}

std::size_t Engine::read_from() const noexcept {
  if (options_.read_from != 0) return options_.read_from;
  return costs_ ? costs_->read_from() : std::numeric_limits<std::size_t>::max();
}

std::string Engine::explain_cost(std::size_t bytes) const {
  if (options_.read_from != 0)
    return fmt::format("read_from says to read from {} bytes on", options_.read_from);
  if (!costs_) return "what reading would cost couldn't be measured";
  const std::size_t from = costs_->read_from();
  return fmt::format("measured: copying costs {:.1f} us, reading {:.1f} us, {}",
                     costs_->copied.of(bytes) / 1e3, costs_->read.of(bytes) / 1e3,
                     from == std::numeric_limits<std::size_t>::max()
                         ? std::string("never less")
                         : fmt::format("less from {} bytes on", from));
}

asio::io_context& Engine::context() noexcept {
  return asio_->context;
}
std::shared_ptr<const bool> Engine::alive() const noexcept {
  return asio_->alive;
}

// ---- Turning ----

std::size_t Engine::turn() {
  require_this_process();
  assert(!turning_ && "a handler must not turn its own loop");
  turning_ = true;
  ++statistics_.turns;
  flush();
  std::array<ibv_wc, 32> batch;
  const int count = completions_.poll(batch);
  for (int i = 0; i < count; ++i) take(batch[static_cast<std::size_t>(i)]);
  std::size_t ran = inbox_->is_quiet() ? 0 : run_posted();
  if (std::exchange(try_again_, false)) [[unlikely]] {
    ++ran;
    range_came_back();
  }
  receives_.post_if_due();
  if (!ended_.empty()) [[unlikely]]
    end_channels();
  constexpr std::uint32_t turns_between_ticks = 64;  // reading the clock costs as much as a turn
  if (++turns_to_tick_ == turns_between_ticks) {
    turns_to_tick_ = 0;
    tick();
  }
  flush();  // after all that runs handlers
  turning_ = false;
  return ran + (count > 0 ? static_cast<std::size_t>(count) : 0);
}

void Engine::flush_dirty() noexcept {
  for (std::uint32_t i = 0; i < dirty_count_; ++i) {
    Channel& channel = *dirty_[i];
    channel.dirty_ = false;
    channel.flush();
  }
  dirty_count_ = 0;
}

void Engine::take(const ibv_wc& completion) {
  if (completion.wr_id == core::QueuePairManager::drain_marker) [[unlikely]] {
    Channel* channel = find(completion.qp_num);
    queue_pairs_.on_drained(completion.qp_num);
    if (channel) {
      forget(*channel);
      channel->on_drained();
    }
  } else if (SendRing::owns(completion.wr_id)) {
    channels_[SendRing::channel_of(completion.wr_id)]->on_sent(completion);
  } else {
    take_message(completion);
  }
}

void Engine::take_message(const ibv_wc& completion) {
  auto* buffer = reinterpret_cast<std::byte*>(completion.wr_id);
  if (completion.status == IBV_WC_SUCCESS) [[likely]] {
    Channel* channel = find(completion.qp_num);
    delivered_ = buffer;
    if (channel && channel->is_open()) channel->on_message(buffer, completion.byte_len);
    delivered_ = nullptr;
    if (delivered_is_held_) [[unlikely]] {
      delivered_is_held_ = false;
      return receives_.release(buffer);
    }
  } else if (Channel* channel = find(completion.qp_num)) {
    channel->fail(make_error_code(core::to_errc(completion.status)),
                  core::describe(completion.status, "receiving", channel->peer_name()));
  }
  receives_.give_back(buffer);
}

const std::byte* Engine::hold_receive() noexcept {
  if (!delivered_) return nullptr;
  if (!std::exchange(delivered_is_held_, true)) receives_.hold(delivered_);  // until it has been delivered
  receives_.hold(delivered_);
  return delivered_;
}

Channel* Engine::find(std::uint32_t number) noexcept {
  const std::size_t mask = by_number_.size() - 1;
  for (std::size_t at = number & mask; by_number_[at].channel; at = (at + 1) & mask) {
    if (by_number_[at].number == number) [[likely]]
      return by_number_[at].channel;
  }
  return nullptr;
}

void Engine::remember(Channel& channel) noexcept {
  const std::size_t mask = by_number_.size() - 1;
  std::size_t at = channel.queue_pair_number() & mask;
  while (by_number_[at].channel) at = (at + 1) & mask;
  by_number_[at] = {channel.queue_pair_number(), &channel};
}

void Engine::forget(Channel& channel) noexcept {
  channel.queue_pair_ = nullptr;
  std::ranges::fill(by_number_, Numbered{});  // others may stand where they do because of it
  for (const auto& other : channels_) {
    if (other->queue_pair_) remember(*other);
  }
}

void Engine::tick() noexcept {
  if (tickers_.empty() && lingering_.empty()) return;
  const std::int64_t now = core::monotonic_ns();
  for (std::size_t i = 0; i < tickers_.size(); ++i) {
    if (tickers_[i]->due <= now) tickers_[i]->tick(*tickers_[i], now);
  }
  std::erase_if(lingering_, [now](Channel* channel) {
    channel->check_linger(now);
    return channel->state() != Channel::State::open;
  });
}

void Engine::end_channels() noexcept {
  for (Channel* channel : std::exchange(ended_, {})) channel->on_drained();
}

std::size_t Engine::poll() {
  const std::size_t count = turn();
  // Descriptors (sockets that tell of a peer's end) and timers: rarely, as a look costs a system call.
  constexpr std::uint32_t polls_between_looks = 4096;
  constexpr std::int64_t look_interval_ns = 10'000'000;
  if (++polls_ >= polls_between_looks) {
    polls_ = 0;
    if (const std::int64_t now = core::monotonic_ns(); now - looked_ > look_interval_ns) {
      looked_ = now;
      look_at_descriptors();
    }
  }
  return count;
}

void Engine::look_at_descriptors() {
  if (!asio_->own) return;  // whoever runs the given context looks
  asio_->context.restart();
  asio_->context.poll();
}

void Engine::step() {
  constexpr std::uint32_t turns_between_looks = 64;
  if (++polls_ >= turns_between_looks) {
    polls_ = 0;
    require_this_process();
    asio_->context.restart();
    asio_->context.poll();
  }
  if (turn() > 0 || options_.busy_poll) {
    idle_turns_ = 0;
    return;
  }
  // The clock is read seldom: a turn costs less than a look at it.
  if (idle_turns_++ == 0) {
    idle_since_ = core::monotonic_ns();
  } else if (idle_turns_ % 64 == 0 &&
             core::monotonic_ns() - idle_since_ > std::chrono::nanoseconds(options_.spin).count()) {
    sleep();
    idle_turns_ = 0;
  }
}

// No lost wake-up: armed first, then polled once more; what comes after that makes the descriptor readable.
bool Engine::arm_and_look() {
  if (!asio_->waiting) {
    asio_->waiting = true;
    asio_->completions.async_wait(asio::posix::stream_descriptor::wait_read,
                                  [this, alive = asio_->alive](const boost::system::error_code&) {
                                    if (!*alive) return;
                                    asio_->waiting = asleep_ = false;
                                    completions_.consume_events();
                                    if (!asio_->own) pump();
                                  });
  }
  completions_.arm();
  return turn() > 0;
}

void Engine::sleep() {
  if (arm_and_look() || try_again_ || !inbox_->sleep()) return;
  ++statistics_.sleeps;
  std::int64_t due =
      core::monotonic_ns() + 100'000'000;  // nothing is worth sleeping longer without a look around
  for (const Ticker* ticker : tickers_) due = std::min(due, ticker->due);
  if (!lingering_.empty()) due = std::min(due, core::monotonic_ns() + 1'000'000);
  asio_->context.restart();
  asio_->context.run_one_until(std::chrono::steady_clock::time_point(std::chrono::nanoseconds(due)));
  tick();
}

void Engine::run() {
  stopped_ = false;
  while (!stopped_) step();
}

// In a given io_context the loop is a handler that posts itself while there is something to do, and waits for
// the queue's descriptor (and for the next deadline) when there isn't.
void Engine::pump() {
  const auto again = [this, alive = asio_->alive] {
    if (*alive) pump();
  };
  if (asio_->waiting) return;
  const bool active = turn() > 0 || options_.busy_poll;
  const std::int64_t now = core::monotonic_ns();
  if (active) idle_since_ = now;
  if (active || now - idle_since_ < std::chrono::nanoseconds(options_.spin).count()) {
    asio::post(asio_->context, again);
    return;
  }
  idle_since_ = now;
  if (arm_and_look()) {
    idle_since_ = core::monotonic_ns();
  }
  if (try_again_ || !inbox_->sleep()) return wake();
  ++statistics_.sleeps;
  std::int64_t due = now + 100'000'000;
  for (const Ticker* ticker : tickers_) due = std::min(due, ticker->due);
  asleep_ = true;
  asio_->timer.expires_at(std::chrono::steady_clock::time_point(std::chrono::nanoseconds(due)));
  asio_->timer.async_wait([this, alive = asio_->alive](const boost::system::error_code& error) {
    if (error || !*alive) return;
    tick();
    turn();
    if (asio_->waiting) asio_->completions.cancel();  // its handler pumps
  });
}

// The mark that it sleeps is taken away here: so it must not stay asleep.
std::size_t Engine::run_posted() noexcept {
  if (asleep_) wake();
  return inbox_->run();
}

// Readable only where the loop was asleep: the turn that follows looks into the inbox.
void Engine::watch_inbox() {
  asio_->posts.async_wait(asio::posix::stream_descriptor::wait_read,
                          [this, alive = asio_->alive](const boost::system::error_code& error) {
                            if (!*alive || error) return;
                            inbox_->consume_event();
                            if (asleep_) wake();
                            watch_inbox();
                          });
}

// Another handler of the given context has queued something: it leaves now, not with the next event.
void Engine::wake() noexcept {
  asleep_ = false;
  idle_since_ = core::monotonic_ns();
  boost::system::error_code ignored;
  asio_->completions.cancel(ignored);  // its handler pumps
}

// ---- Channels ----

Engine::Berth Engine::reserve() {
  const auto free = std::ranges::find_if(channels_, [](const auto& channel) {
    return channel->state() == Channel::State::free && !channel->reserved_;
  });
  Channel* channel = nullptr;
  if (free != channels_.end()) {
    channel = free->get();
  } else if (channels_.size() < options_.peers) {
    channel =
        channels_.emplace_back(std::make_unique<Channel>(*this, static_cast<std::uint32_t>(channels_.size())))
            .get();
  } else {
    throw Error(errc::overloaded,
                fmt::format("this loop has {} connections already; raise Options::peers", options_.peers));
  }
  Berth berth{channel, &queue_pairs_.acquire()};
  channel->reserved_ = true;
  return berth;
}

void Engine::abandon(const Berth& berth) noexcept {
  berth.channel->reserved_ = false;
  queue_pairs_.retire(*berth.queue_pair);
}

Hello Engine::make_hello(HelloKind kind, const core::QueuePair& queue_pair) {
  Hello hello;
  hello.kind = kind;
  hello.device_kind = static_cast<std::uint8_t>(device_->kind());
  hello.eager_size = options_.eager_size;
  hello.request_depth = static_cast<std::uint16_t>(options_.request_depth);
  hello.call_depth = static_cast<std::uint16_t>(options_.call_depth);
  hello.large_depth = static_cast<std::uint16_t>(options_.large_depth);
  hello.large_bytes = options_.large_bytes;
  if (options_.lend && device_->lending()) hello.features = borrows_feature;
  hello.facts = queue_pair.facts();
  std::random_device random;
  hello.epoch = random();
  for (auto& byte : hello.nonce) byte = static_cast<std::uint8_t>(random());
  return hello;
}

void Engine::open(const Berth& berth, const Hello& ours, const Hello& theirs, std::string peer,
                  std::string path) {
  receives_.add_peer();  // first: the peer may send as soon as its hello is answered
  try {
    berth.channel->open(*berth.queue_pair, ours, theirs, std::move(peer), std::move(path));
  } catch (...) {
    receives_.remove_peer();
    throw;
  }
  berth.channel->reserved_ = false;
  ++statistics_.connections_opened;
  remember(*berth.channel);
}

void Engine::retire(Channel& channel) noexcept {
  const std::size_t before = queue_pairs_.draining();
  queue_pairs_.retire(*channel.queue_pair_);
  if (queue_pairs_.draining() != before) return;
  forget(channel);
  ended_.push_back(&channel);
}

void Engine::linger(Channel& channel) noexcept {
  lingering_.push_back(&channel);
}

std::size_t Engine::open_channels() const noexcept {
  return static_cast<std::size_t>(
      std::ranges::count_if(channels_, [](const auto& channel) { return channel->is_open(); }));
}

// ---- Memory ----

void Engine::range_came_back() noexcept {
  if (std::exchange(helping_, true)) return try_again_soon();  // a handler that ran within this has given one
  for (std::size_t i = 0; i < short_of_room_.size(); ++i) short_of_room_[i]->begin_waiting_reads();
  std::erase_if(short_of_room_, [](const Channel* channel) { return !channel->is_short_of_room(); });
  helping_ = false;
}

std::size_t Engine::pinned_bytes() const noexcept {
  return receives_.pinned_bytes() + request_sends_.pinned_bytes() + reply_sends_.pinned_bytes() +
         large_requests_.pinned_bytes() + large_replies_.pinned_bytes() + large_copies_.pinned_bytes() +
         pool_.pinned_bytes();
}

}  // namespace verbena::transport
