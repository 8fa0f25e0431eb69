// SPDX-License-Identifier: Apache-2.0
/// A function object kept once at set-up and called often: one indirect call, no virtual, no copy.
#pragma once

#include <memory>
#include <type_traits>
#include <utility>

namespace verbena {

template <class Signature>
class Handler;

/// Move-only. Allocates when it is made, never when it is called. Calling an empty one is the programmer's
/// mistake.
template <class Result, class... Arguments>
class Handler<Result(Arguments...)> {
 public:
  Handler() noexcept = default;
  template <class Function>
  requires(!std::is_same_v<std::remove_cvref_t<Function>, Handler>)
      Handler(Function&& function)  // NOLINT(google-explicit-constructor): a lambda is a handler
      : object_(new std::decay_t<Function>(std::forward<Function>(function)),
                [](void* object) noexcept { delete static_cast<std::decay_t<Function>*>(object); }),
        call_([](void* object, Arguments... arguments) -> Result {
          return (*static_cast<std::decay_t<Function>*>(object))(std::forward<Arguments>(arguments)...);
        }) {}

  Result operator()(Arguments... arguments) const {
    return call_(object_.get(), std::forward<Arguments>(arguments)...);
  }
  explicit operator bool() const noexcept { return call_ != nullptr; }

 private:
  static void nothing(void*) noexcept {}
  std::unique_ptr<void, void (*)(void*) noexcept> object_{nullptr, &nothing};
  Result (*call_)(void*, Arguments...) = nullptr;
};

}  // namespace verbena
