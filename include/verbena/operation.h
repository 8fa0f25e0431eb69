// SPDX-License-Identifier: Apache-2.0
/// One asynchronous operation of the program: memory that the program owns, so that starting one allocates
/// nothing.
#pragma once

#include <cstddef>
#include <memory>
#include <system_error>
#include <type_traits>

namespace verbena {

/// Derive from it, or embed it, and set `complete`.
///
/// `complete` runs exactly once for an operation that was started without an error: in the thread of the
/// connection's Loop, in the order in which a connection's operations were started, and never inside the call
/// that started it. When it runs, whatever the error, the buffers are the program's again. The operation must
/// stay where it is until then; from then on it may be started anew or destroyed, also by `complete` itself.
struct Operation {
  using Complete = void (*)(Operation* self, std::error_code error, std::size_t bytes) noexcept;

  constexpr Operation() noexcept = default;
  constexpr explicit Operation(Complete function) noexcept : complete(function) {}
  Operation(const Operation&) = delete;
  Operation& operator=(const Operation&) = delete;

  Operation* next = nullptr;  ///< Verbena's while the operation is under way
  Complete complete = nullptr;
};

/// An operation that calls a function object: `OperationOf done{[&](std::error_code error, std::size_t bytes)
/// {…}};`
template <class Function>
struct OperationOf : Operation {
  explicit OperationOf(Function f) : Operation(&run), function(std::move(f)) {}
  Function function;

 private:
  static void run(Operation* self, std::error_code error, std::size_t bytes) noexcept {
    static_cast<OperationOf*>(self)->function(error, bytes);
  }
};

}  // namespace verbena
