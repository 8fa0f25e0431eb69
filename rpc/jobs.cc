// SPDX-License-Identifier: Apache-2.0
#include "verbena/jobs.h"

#include <system_error>

namespace verbena::rpc::detail {
namespace {

/// What a handler's exception tells the caller: the error of a call of its own, where a handler may say it.
errc code_of(const std::exception_ptr& failure) noexcept {
  if (!failure) return errc{};
  try {
    std::rethrow_exception(failure);
  } catch (const std::system_error& error) {
    for (const errc code : {errc::rejected, errc::overloaded, errc::cancelled}) {
      if (error.code() == code) return code;
    }
    if (error.code() == errc::no_credit) return errc::overloaded;  // to its caller it's the same: try again
  } catch (...) {
  }
  return errc::handler_failed;
}

}  // namespace

Job::Job(const std::shared_ptr<Desk>& desk, Reply& reply, Bytes kept)
    : Posted(&come_back), desk_(desk), poster_(desk->poster_), held_(reply.hold(kept)) {
  reply_.emplace(std::move(reply));
}

// Acquire: what the loop wrote is there anyway, as the executor hands the job over; this is for a desk that
// has dropped it. Relaxed on failure: nothing of the job is touched then.
bool Job::begin() noexcept {
  State queued = State::queued;
  return state_.compare_exchange_strong(queued, State::running, std::memory_order_acquire,
                                        std::memory_order_relaxed);
}

void Job::finish(std::shared_ptr<Job> self, errc failure) noexcept {
  failure_ = failure;
  forget();
  // Release: all that was read of the request, before the desk gives its memory back.
  state_.store(State::finished, std::memory_order_release);
  state_.notify_one();
  self_ = std::move(self);
  if (!poster_.push(*this)) self_.reset();  // the loop has ended; this may be gone now
}

void Job::come_back(Posted& posted, bool run) noexcept {
  auto& job = static_cast<Job&>(posted);
  const std::shared_ptr<Job> self = std::move(job.self_);
  if (!run) return;
  if (const auto desk = job.desk_.lock()) desk->answer(job);
}

std::shared_ptr<Desk> make_desk(Loop& loop) {
  return std::make_shared<Desk>(loop);
}

Desk::~Desk() {
  for (const auto& job : jobs_) {  // all of them, before the first wait lets another begin
    auto state = Job::State::queued;
    if (job->state_.compare_exchange_strong(state, Job::State::dropped, std::memory_order_relaxed))
      job->forget();  // whoever has the ticket looks at nothing any more
  }
  for (const auto& job : jobs_) {
    job->state_.wait(Job::State::running, std::memory_order_acquire);  // pairs with finish()'s release
    job->reply_->fail(errc::cancelled);
    job->reply_.reset();
    job->held_ = {};
  }
}

void Desk::answer(Job& job) noexcept {
  if (job.failure_ == errc{}) {
    job.reply_->send(job.result());
  } else {
    job.reply_->fail(job.failure_);
  }
  job.reply_.reset();
  job.held_ = {};
  jobs_.back()->place_ = job.place_;
  std::swap(jobs_[job.place_], jobs_.back());
  jobs_.pop_back();
}

Ticket::Ticket(Desk& desk, std::shared_ptr<Job> job) : job_(std::move(job)) {
  job_->place_ = desk.jobs_.size();
  desk.jobs_.push_back(job_);
}

void Ticket::settle(const std::exception_ptr& failure) noexcept {
  Job& job = *job_;
  job.finish(std::move(job_), code_of(failure));
}

}  // namespace verbena::rpc::detail
