// SPDX-License-Identifier: Apache-2.0
/// The way into a Loop's thread: functions that any thread posts, and the loop runs.
#pragma once

#include <memory>
#include <type_traits>
#include <utility>

namespace verbena {

namespace transport {
class Inbox;
}

/// Something posted, for those who post often and keep the memory themselves.
struct Posted {
  /// Once, in the loop's thread, with `run`; or, where the Loop ends first, in the thread that ends it,
  /// without. It frees `self` in either case.
  using Act = void(Posted& self, bool run) noexcept;
  explicit Posted(Act* what) noexcept : act(what) {}
  Act* act;
  Posted* next = nullptr;  ///< the inbox's
};

/// Posts to one Loop, whatever thread uses it. Copyable; it may outlive the Loop.
class Poster {
 public:
  /// Posts to nobody.
  Poster() noexcept = default;

  /// Runs `function()` in the loop's thread, in one of its next turns, never inside this call. What one
  /// thread posts runs in that order. A sleeping loop wakes; a polling one costs no system call. False where
  /// the Loop has ended: then `function` is destroyed here. What is posted and not run when the Loop ends is
  /// destroyed unrun, in the thread that ends it. `function` must not throw, nor destroy the Loop. Allocates
  /// once; throws nothing but std::bad_alloc. Thread: any.
  template <class Function>
  bool post(Function&& function) const {
    using F = std::decay_t<Function>;
    struct Node final : Posted {
      explicit Node(Function&& f) : Posted(&finish), call(std::forward<Function>(f)) {}
      static void finish(Posted& self, bool run) noexcept {
        const std::unique_ptr<Node> node(static_cast<Node*>(&self));
        if (run) node->call();
      }
      F call;
    };
    auto node = std::make_unique<Node>(std::forward<Function>(function));
    if (!push(*node)) return false;
    static_cast<void>(node.release());  // finish() owns it
    return true;
  }
  /// The same without allocating. Lifetime: `node` stays until it acts. False: it won't act.
  bool push(Posted& node) const noexcept;

  explicit Poster(std::shared_ptr<transport::Inbox> inbox) noexcept : inbox_(std::move(inbox)) {}

 private:
  std::shared_ptr<transport::Inbox> inbox_;  // shared with the Loop, so that it's there to say "ended"
};

}  // namespace verbena
