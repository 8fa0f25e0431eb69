// SPDX-License-Identifier: Apache-2.0
/// Plain values: those whose bytes are the value, so that sending them is copying them.
///
/// Being trivially copyable isn't enough, as pointers, spans and string views are, and every struct that has
/// one in it: an aggregate is looked into. A class with constructors or bases, and a union, can't be looked
/// into: one that is trivially copyable is taken at its word.
#pragma once

#include <array>
#include <concepts>
#include <cstddef>
#include <cstring>
#include <functional>
#include <initializer_list>
#include <span>
#include <system_error>
#include <type_traits>

#include "verbena/codec/members.h"

namespace verbena {

template <class T>
struct Codec;

/// Set it to true for a trivially copyable type that isn't to be looked into: one of more than 16 members, or
/// with an anonymous union in it. It mustn't hold pointers.
template <class T>
inline constexpr bool sent_as_bytes = false;

namespace detail {

/// The base of the codecs that nobody has written: see Codec.
struct Automatic {};

template <class T>
inline constexpr bool is_std_array = false;
template <class T, std::size_t n>
inline constexpr bool is_std_array<std::array<T, n>> = true;

/// Views and references that look like values.
template <class T>
inline constexpr bool is_pointer_like = std::ranges::enable_view<T>;
template <class T>
inline constexpr bool is_pointer_like<std::reference_wrapper<T>> = true;
template <class T>
inline constexpr bool is_pointer_like<std::initializer_list<T>> = true;
template <>
inline constexpr bool is_pointer_like<std::error_code> = true;  // it points to its category
template <>
inline constexpr bool is_pointer_like<std::error_condition> = true;

template <class T>
consteval bool is_plain();

template <class... Ts>
consteval bool are_plain(Types<Ts...>) {
  return (is_plain<Ts>() && ...);
}

template <class T>
consteval bool is_plain() {
  if constexpr (std::is_bounded_array_v<T>) {
    return is_plain<std::remove_extent_t<T>>();
  } else if constexpr (is_std_array<T>) {
    return is_plain<typename T::value_type>();
  } else if constexpr (!std::is_object_v<T> || !std::is_trivially_copyable_v<T>) {
    return false;
  } else if constexpr (sent_as_bytes<T>) {
    return true;
  } else if constexpr (!std::derived_from<Codec<T>, Automatic>) {
    return false;  // its codec says what is sent
  } else if constexpr (std::is_arithmetic_v<T> || std::is_enum_v<T>) {
    return true;
  } else if constexpr (!std::is_class_v<T> && !std::is_union_v<T>) {
    return false;  // a pointer of some kind
  } else if constexpr (is_pointer_like<T>) {
    return false;
  } else if constexpr (Open<T>) {
    return are_plain(Members<T>{});
  } else {
    return !Aggregate<T>;
  }
}

template <class T>
concept Plain = is_plain<T>();

/// The one plain type of which some bytes are no value.
template <Plain T>
consteval bool holds_bool();

template <class... Ts>
consteval bool hold_bool(Types<Ts...>) {
  return (holds_bool<Ts>() || ...);
}

template <Plain T>
consteval bool holds_bool() {
  if constexpr (std::is_bounded_array_v<T>) {
    return holds_bool<std::remove_extent_t<T>>();
  } else if constexpr (is_std_array<T>) {
    return holds_bool<typename T::value_type>();
  } else if constexpr (Open<T> && !sent_as_bytes<T>) {
    return hold_bool(Members<T>{});
  } else {
    return std::is_same_v<T, bool>;
  }
}

/// Whether every bool in a value that came as bytes is 0 or 1; another one mustn't even be looked at.
template <Plain T>
bool has_right_bools(const T& value) noexcept {
  if constexpr (!holds_bool<T>()) {
    return true;
  } else if constexpr (std::is_same_v<T, bool>) {
    unsigned char byte;
    static_assert(sizeof byte == sizeof value);
    std::memcpy(&byte, &value, sizeof byte);
    return byte <= 1;
  } else if constexpr (std::is_array_v<T> || is_std_array<T>) {
    for (const auto& element : value) {
      if (!has_right_bools(element)) return false;
    }
    return true;
  } else {
    return with_members(value, [](const auto&... member) { return (has_right_bools(member) && ...); });
  }
}

}  // namespace detail
}  // namespace verbena
