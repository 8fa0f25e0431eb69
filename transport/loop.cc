// SPDX-License-Identifier: Apache-2.0
#include "verbena/loop.h"

#include <utility>

#include "transport/engine.h"

namespace verbena {

Loop::Loop(Options options)
    : engine_(std::make_unique<transport::Engine>(nullptr, std::move(options))), memory_(*engine_) {}
Loop::Loop(boost::asio::io_context& context, Options options)
    : engine_(std::make_unique<transport::Engine>(&context, std::move(options))), memory_(*engine_) {}
// A forked child leaves its parent's engine as it is: ending it would say goodbye in the parent's name.
Loop::~Loop() {
  if (!engine_->is_of_this_process()) static_cast<void>(engine_.release());
}

std::size_t Loop::poll() {
  return engine_->poll();
}
void Loop::flush() {
  engine_->flush();
}
void Loop::step() {
  engine_->step();
}
void Loop::run() {
  engine_->run();
}
void Loop::stop() noexcept {
  engine_->stop();
}

const Options& Loop::options() const noexcept {
  return engine_->options();
}
std::string_view Loop::device() const noexcept {
  return engine_->device().name();
}
std::size_t Loop::pinned_bytes() const noexcept {
  return engine_->pinned_bytes();
}
const Statistics& Loop::statistics() const noexcept {
  return engine_->counted();
}
Snapshot Loop::snapshot() const {
  return engine_->snapshot();
}
Poster Loop::poster() const noexcept {
  return Poster(engine_->inbox());
}
boost::asio::io_context& Loop::context() noexcept {
  return engine_->context();
}

}  // namespace verbena
