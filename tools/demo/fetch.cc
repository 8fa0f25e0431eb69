// SPDX-License-Identifier: Apache-2.0
#include "tools/demo/fetch.h"

#include <fmt/format.h>

#include <algorithm>

#include "tools/common/cycles.h"
#include "tools/common/failure.h"
#include "tools/common/units.h"

namespace verbena::tools {

Fetch::Fetch(Loop& loop, Connection& peer, Region& into, const RemoteRegion& from)
    : loop_(loop), peer_(peer), into_(into), from_(from) {
  for (Read& read : reads_) {
    read.complete = &finished;
    read.fetch = this;
  }
}

void Fetch::finished(Operation* self, std::error_code error, std::size_t bytes) noexcept {
  Read& read = *static_cast<Read*>(self);
  Fetch& fetch = *read.fetch;
  --fetch.running_;
  if (error && !fetch.error_) fetch.error_ = error;
  if (!error) fetch.done_ += bytes;
  fetch.start(read);
}

void Fetch::start(Read& read) noexcept {
  if (error_ || next_ >= from_.length) return;
  const std::size_t length = std::min<std::uint64_t>(chunk, from_.length - next_);
  const std::error_code error = peer_.get(into_.slice(next_, length), from_, next_, read);
  if (error == errc::overloaded || error == errc::no_credit) {
    waiting_[waiting_count_++] = &read;
  } else if (error) {
    error_ = error;
  } else {
    next_ += length;
    ++running_;
  }
}

void Fetch::drain() {
  while (running_ > 0) loop_.poll();
}

double Fetch::run(Progress& progress) {
  next_ = done_ = 0;
  const std::uint64_t start_ns = now_ns();
  for (Read& read : reads_) start(read);
  while (!error_ && done_ < from_.length) {
    loop_.poll();
    for (std::size_t count = std::exchange(waiting_count_, 0), i = 0; i < count; ++i) start(*waiting_[i]);
    progress.update(static_cast<double>(done_) / static_cast<double>(from_.length));
    if (!peer_.is_open() && running_ == 0) break;
  }
  drain();
  if (done_ == from_.length) return static_cast<double>(now_ns() - start_ns);
  throw Failure(fmt::format("the server went away after {} of {} had been read ({}); start it again.",
                            show_size(done_), show_size(from_.length),
                            error_ ? error_.message() : "the connection is closed"));
}

}  // namespace verbena::tools
