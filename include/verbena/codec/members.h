// SPDX-License-Identifier: Apache-2.0
/// The members of an aggregate, without macros: counted by initialising it, reached by structured bindings.
#pragma once

#include <cstddef>
#include <type_traits>
#include <utility>

namespace verbena::detail {

inline constexpr std::size_t max_members = 16;

/// Converts to the bases of T alone, so that it can initialise the first of them and no member.
template <class T>
struct ToBaseOf {
  template <class Base>
  requires(std::is_base_of_v<Base, T> && !std::is_same_v<Base, T>) operator Base()
      const;  // NOLINT(google-explicit-constructor): never defined
};

/// An aggregate whose members structured bindings reach: they don't where some are a base's.
template <class T>
concept Aggregate = std::is_class_v<T> && std::is_aggregate_v<T> && !requires {
  T{ToBaseOf<T>{}};
};

/// How many members T has; more than max_members count as one more. An empty pair of braces initialises one
/// member, an array too, so that nothing is counted twice. Members that can't be initialised so end the
/// count.
template <class T>
consteval std::size_t count_members() {
  // clang-format off
  if constexpr (requires { T{{}, {}, {}, {}, {}, {}, {}, {}, {}, {}, {}, {}, {}, {}, {}, {}, {}}; }) return 17;
  else if constexpr (requires { T{{}, {}, {}, {}, {}, {}, {}, {}, {}, {}, {}, {}, {}, {}, {}, {}}; }) return 16;
  else if constexpr (requires { T{{}, {}, {}, {}, {}, {}, {}, {}, {}, {}, {}, {}, {}, {}, {}}; }) return 15;
  else if constexpr (requires { T{{}, {}, {}, {}, {}, {}, {}, {}, {}, {}, {}, {}, {}, {}}; }) return 14;
  else if constexpr (requires { T{{}, {}, {}, {}, {}, {}, {}, {}, {}, {}, {}, {}, {}}; }) return 13;
  else if constexpr (requires { T{{}, {}, {}, {}, {}, {}, {}, {}, {}, {}, {}, {}}; }) return 12;
  else if constexpr (requires { T{{}, {}, {}, {}, {}, {}, {}, {}, {}, {}, {}}; }) return 11;
  else if constexpr (requires { T{{}, {}, {}, {}, {}, {}, {}, {}, {}, {}}; }) return 10;
  else if constexpr (requires { T{{}, {}, {}, {}, {}, {}, {}, {}, {}}; }) return 9;
  else if constexpr (requires { T{{}, {}, {}, {}, {}, {}, {}, {}}; }) return 8;
  else if constexpr (requires { T{{}, {}, {}, {}, {}, {}, {}}; }) return 7;
  else if constexpr (requires { T{{}, {}, {}, {}, {}, {}}; }) return 6;
  else if constexpr (requires { T{{}, {}, {}, {}, {}}; }) return 5;
  else if constexpr (requires { T{{}, {}, {}, {}}; }) return 4;
  else if constexpr (requires { T{{}, {}, {}}; }) return 3;
  else if constexpr (requires { T{{}, {}}; }) return 2;
  else if constexpr (requires { T{{}}; }) return 1;
  else return 0;
  // clang-format on
}
static_assert(max_members == 16, "count_members() and with_members() go up to it");

/// Its members can be looked at: not too many, and all were counted.
template <class T>
concept Open =
    Aggregate<T> &&(std::is_empty_v<T> || count_members<T>() > 0) && count_members<T>() <= max_members;

/// `function(member...)`, with references.
template <class T, class Function>
constexpr decltype(auto) with_members(T& value, Function&& function) {
  constexpr std::size_t count = count_members<std::remove_const_t<T>>();
  static_assert(count <= max_members);
  // clang-format off
  if constexpr (count == 0) {
    return function();
  } else if constexpr (count == 1) {
    auto& [a] = value; return function(a);
  } else if constexpr (count == 2) {
    auto& [a, b] = value; return function(a, b);
  } else if constexpr (count == 3) {
    auto& [a, b, c] = value; return function(a, b, c);
  } else if constexpr (count == 4) {
    auto& [a, b, c, d] = value; return function(a, b, c, d);
  } else if constexpr (count == 5) {
    auto& [a, b, c, d, e] = value; return function(a, b, c, d, e);
  } else if constexpr (count == 6) {
    auto& [a, b, c, d, e, f] = value; return function(a, b, c, d, e, f);
  } else if constexpr (count == 7) {
    auto& [a, b, c, d, e, f, g] = value; return function(a, b, c, d, e, f, g);
  } else if constexpr (count == 8) {
    auto& [a, b, c, d, e, f, g, h] = value; return function(a, b, c, d, e, f, g, h);
  } else if constexpr (count == 9) {
    auto& [a, b, c, d, e, f, g, h, i] = value; return function(a, b, c, d, e, f, g, h, i);
  } else if constexpr (count == 10) {
    auto& [a, b, c, d, e, f, g, h, i, j] = value; return function(a, b, c, d, e, f, g, h, i, j);
  } else if constexpr (count == 11) {
    auto& [a, b, c, d, e, f, g, h, i, j, k] = value; return function(a, b, c, d, e, f, g, h, i, j, k);
  } else if constexpr (count == 12) {
    auto& [a, b, c, d, e, f, g, h, i, j, k, l] = value; return function(a, b, c, d, e, f, g, h, i, j, k, l);
  } else if constexpr (count == 13) {
    auto& [a, b, c, d, e, f, g, h, i, j, k, l, m] = value;
    return function(a, b, c, d, e, f, g, h, i, j, k, l, m);
  } else if constexpr (count == 14) {
    auto& [a, b, c, d, e, f, g, h, i, j, k, l, m, n] = value;
    return function(a, b, c, d, e, f, g, h, i, j, k, l, m, n);
  } else if constexpr (count == 15) {
    auto& [a, b, c, d, e, f, g, h, i, j, k, l, m, n, o] = value;
    return function(a, b, c, d, e, f, g, h, i, j, k, l, m, n, o);
  } else {
    auto& [a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p] = value;
    return function(a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p);
  }
  // clang-format on
}

template <class... Ts>
struct Types {};

struct CollectTypes {
  template <class... Ts>
  Types<Ts...> operator()(const Ts&...) const {
    return {};
  }
};

/// Types<member...>, without const.
template <Open T>
using Members = decltype(with_members(std::declval<const T&>(), CollectTypes{}));

}  // namespace verbena::detail
