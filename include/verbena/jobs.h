// SPDX-License-Identifier: Apache-2.0
/// What stands between a request and a handler that runs elsewhere; verbena/handlers.h is what one uses.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <exception>
#include <memory>
#include <optional>
#include <utility>
#include <vector>

#include "verbena/poster.h"
#include "verbena/rpc.h"

namespace verbena::rpc::detail {

class Desk;

/// One request, until its result has come back. Reply and hold are touched in the loop's thread alone; the
/// result belongs to whoever works on it until finish() posts it.
class Job : public Posted {
 public:
  Job(const std::shared_ptr<Desk>& desk, Reply& reply, Bytes kept);
  Job(const Job&) = delete;
  Job& operator=(const Job&) = delete;
  virtual ~Job() = default;
  /// Drops the user's function.
  virtual void forget() noexcept = 0;
  virtual Gather result() const noexcept = 0;

 private:
  friend class Desk;
  friend class Ticket;
  /// queued → running → finished, or queued → dropped. Whoever leaves `queued` by an exchange has the job.
  enum class State : std::uint8_t { queued, running, finished, dropped };

  bool begin() noexcept;
  void finish(std::shared_ptr<Job> self, errc failure) noexcept;
  static void come_back(Posted& self, bool run) noexcept;

  std::atomic<State> state_{State::queued};
  std::weak_ptr<Desk> desk_;
  Poster poster_;
  std::shared_ptr<Job> self_;  // while it is in the inbox
  std::optional<Reply> reply_;
  Held held_;
  std::size_t place_ = 0;  // in the desk
  errc failure_{};
};

/// The jobs of one method, owned by its handler, and so by the server. Thread: the loop's.
class Desk {
 public:
  explicit Desk(Loop& loop) : poster_(loop.poster()) {}
  Desk(const Desk&) = delete;
  Desk& operator=(const Desk&) = delete;
  /// Drops what has not begun, and waits for functions that run: they read requests in place.
  ~Desk();
  std::size_t size() const noexcept { return jobs_.size(); }

 private:
  friend class Job;
  friend class Ticket;
  void answer(Job& job) noexcept;
  Poster poster_;
  std::vector<std::shared_ptr<Job>> jobs_;
};
std::shared_ptr<Desk> make_desk(Loop& loop);

/// The right and the duty to do a job: destroyed without having done it, it answers `cancelled`.
class Ticket {
 public:
  Ticket(Desk& desk, std::shared_ptr<Job> job);
  Ticket(Ticket&&) noexcept = default;
  Ticket& operator=(Ticket&&) = delete;
  ~Ticket() {
    if (job_ && job_->begin()) job_.get()->finish(job_, errc::cancelled);
  }

  /// For a function: runs it, unless the server has ended.
  template <class Function>
  void run(Function function) noexcept {
    if (!job_->begin()) return job_.reset();
    std::exception_ptr failure;
    try {
      function(job_->held_.bytes());
    } catch (...) {
      failure = std::current_exception();
    }
    settle(failure);
  }
  /// For a coroutine: it has ended.
  void finish(const std::exception_ptr& failure) noexcept {
    if (job_->begin()) settle(failure);
  }

 private:
  void settle(const std::exception_ptr& failure) noexcept;
  std::shared_ptr<Job> job_;
};

}  // namespace verbena::rpc::detail
