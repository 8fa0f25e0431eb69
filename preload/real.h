// SPDX-License-Identifier: Apache-2.0
/// The functions that ours stand in front of.
#pragma once

#include <algorithm>
#include <cstddef>

namespace verbena::preload {

/// A string that can be a template's argument.
template <std::size_t size>
struct Symbol {
  char text[size];
  // NOLINTNEXTLINE(google-explicit-constructor): written as a literal
  consteval Symbol(const char (&from)[size]) { std::copy_n(from, size, text); }
};

/// The next definition behind this library of a symbol, of that version where there is one. A program can't
/// go on without: ends it with one line on stderr that names the symbol.
void* find_next(const char* symbol, const char* version) noexcept;

/// A function of the real libibverbs, by name, type and version; looked up once. REAL(verb) is shorter.
template <Symbol name, class Function, Symbol version = "IBVERBS_1.1">
Function* real() noexcept {
  static Function* const found = reinterpret_cast<Function*>(find_next(name.text, version.text));
  return found;
}

}  // namespace verbena::preload

/// The real function of a verb that verbs.h declares: REAL(ibv_alloc_pd)(context); REAL(verb, "IBVERBS_1.9").
#define REAL(verb, ...) verbena::preload::real<#verb, decltype(verb) __VA_OPT__(, ) __VA_ARGS__>()

/// Of the functions that the program calls; all else in this library is hidden.
#define VERBENA_EXPORT extern "C" __attribute__((visibility("default")))
