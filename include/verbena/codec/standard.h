// SPDX-License-Identifier: Apache-2.0
/// The codecs of the standard library's types. Spans, vectors of plain values and strings have the same
/// bytes, so that one side may send a vector and the other one see a span.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <tuple>
#include <type_traits>
#include <utility>
#include <vector>

#include "verbena/codec/within.h"

namespace verbena {

namespace detail {

/// Lies in memory as it goes over the wire, one after the other; std::vector<bool> doesn't.
template <class T>
concept PlainElement = Plain<T> && !std::is_same_v<T, bool>;

template <Plain T>
bool has_right_bools(std::span<const T> values) noexcept {
  return !holds_bool<T>() ||
         std::ranges::all_of(values, [](const T& value) { return has_right_bools(value); });
}

}  // namespace detail

/// T's alignment may be up to Pieces::max_alignment. Decoded, it lies in the message.
template <class T>
struct Codec<std::span<const T>> {
  static constexpr bool is_view = true;
  static constexpr std::size_t alignment = alignof(T);

  static std::span<const std::byte> bytes(std::span<const T> values) noexcept
      requires(detail::Plain<T> && alignof(T) <= Pieces::max_alignment) {
    return std::as_bytes(values);
  }
  static std::optional<std::span<const T>> decode(
      std::span<const std::byte> bytes) noexcept requires detail::Plain<T> {
    const bool aligned = reinterpret_cast<std::uintptr_t>(bytes.data()) % alignof(T) == 0;
    if (bytes.size() % sizeof(T) != 0 || !aligned) return std::nullopt;
    const std::span values{reinterpret_cast<const T*>(bytes.data()), bytes.size() / sizeof(T)};
    if (!detail::has_right_bools(values)) return std::nullopt;
    return values;
  }
};

template <>
struct Codec<std::string_view> {
  static constexpr bool is_view = true;
  static constexpr std::size_t alignment = 1;

  static std::span<const std::byte> bytes(std::string_view text) noexcept {
    return std::as_bytes(std::span{text});
  }
  static std::optional<std::string_view> decode(std::span<const std::byte> bytes) noexcept {
    return std::string_view{reinterpret_cast<const char*>(bytes.data()), bytes.size()};
  }
};

template <>
struct Codec<std::string> {
  static constexpr std::size_t alignment = 1;

  static std::span<const std::byte> bytes(const std::string& text) noexcept {
    return std::as_bytes(std::span{text});
  }
  static std::optional<std::string> decode(std::span<const std::byte> bytes) {
    return std::string{reinterpret_cast<const char*>(bytes.data()), bytes.size()};
  }
};

/// Of plain values one block, copied at once; of others a count, and then each of them.
template <class T>
struct Codec<std::vector<T>> {
  static constexpr std::size_t alignment = std::min(alignof(T), Pieces::max_alignment);
  static constexpr std::size_t least_bytes = sizeof(std::uint64_t);
  static constexpr bool is_view = detail::is_view<T>();

  static std::span<const std::byte> bytes(
      const std::vector<T>& values) noexcept requires detail::PlainElement<T> {
    return std::as_bytes(std::span{values});
  }
  static std::optional<std::vector<T>> decode(
      std::span<const std::byte> bytes) requires detail::PlainElement<T> {
    if (bytes.size() % sizeof(T) != 0) return std::nullopt;
    if constexpr (std::default_initializable<T>) {
      std::vector<T> values(bytes.size() / sizeof(T));
      if (!bytes.empty()) std::memcpy(static_cast<void*>(values.data()), bytes.data(), bytes.size());
      if (!detail::has_right_bools(std::span<const T>{values})) return std::nullopt;
      return values;
    } else {
      Reader reader(bytes);
      return elements(reader, bytes.size() / sizeof(T));
    }
  }

  static void encode(const std::vector<T>& values,
                     Pieces& pieces) requires(!detail::PlainElement<T> && Encodable<T>) {
    pieces.pad(alignof(std::uint64_t));
    pieces.number(values.size());
    for (const auto& value : values) encode_within<T>(value, pieces);
  }
  static std::optional<std::vector<T>> decode(Reader& reader) requires(!detail::PlainElement<T> &&
                                                                       Encodable<T>) {
    if (!reader.skip_padding(alignof(std::uint64_t))) return std::nullopt;
    const auto count = reader.count(detail::least_bytes<T>());
    if (!count) return std::nullopt;
    return elements(reader, *count);
  }

 private:
  static std::optional<std::vector<T>> elements(Reader& reader, std::size_t count) {
    std::vector<T> values;
    values.reserve(count);
    for (std::size_t i = 0; i < count; ++i) {
      std::optional<T> value = decode_within<T>(reader);
      if (!value) return std::nullopt;
      values.push_back(std::move(*value));
    }
    return values;
  }
};

/// One byte, 0 or 1, and the value if there is one.
template <class T>
struct Codec<std::optional<T>> {
  static constexpr std::size_t least_bytes = 1;
  static constexpr bool is_view = detail::is_view<T>();

  static void encode(const std::optional<T>& value, Pieces& pieces) requires Encodable<T> {
    detail::encode_member(value.has_value(), pieces);
    if (value) encode_within(*value, pieces);
  }
  static std::optional<std::optional<T>> decode(Reader& reader) requires Encodable<T> {
    bool has_value;
    if (!detail::decode_member(has_value, reader)) return std::nullopt;
    if (!has_value) return std::optional<std::optional<T>>(std::in_place);
    std::optional<T> value = decode_within<T>(reader);
    if (!value) return std::nullopt;
    return std::optional<std::optional<T>>(std::in_place, std::move(value));
  }
};

template <class First, class Second>
struct Codec<std::pair<First, Second>> {
  static constexpr std::size_t least_bytes = detail::least_bytes<First>() + detail::least_bytes<Second>();
  static constexpr bool is_view = detail::is_view<First>() || detail::is_view<Second>();

  static void encode(const std::pair<First, Second>& value,
                     Pieces& pieces) requires(Encodable<First>&& Encodable<Second>) {
    encode_within(value.first, pieces);
    encode_within(value.second, pieces);
  }
  static std::optional<std::pair<First, Second>> decode(Reader& reader) requires(
      Encodable<First>&& Encodable<Second>) {
    std::optional<First> first = decode_within<First>(reader);
    if (!first) return std::nullopt;
    std::optional<Second> second = decode_within<Second>(reader);
    if (!second) return std::nullopt;
    return std::pair<First, Second>(std::move(*first), std::move(*second));
  }
};

template <class... Ts>
requires(sizeof...(Ts) > 0)  //
    struct Codec<std::tuple<Ts...>> {
  static constexpr std::size_t least_bytes = (detail::least_bytes<Ts>() + ...);
  static constexpr bool is_view = (detail::is_view<Ts>() || ...);

  static void encode(const std::tuple<Ts...>& value, Pieces& pieces) requires(Encodable<Ts>&&...) {
    std::apply([&](const auto&... part) { (encode_within(part, pieces), ...); }, value);
  }
  static std::optional<std::tuple<Ts...>> decode(Reader& reader) requires(Encodable<Ts>&&...) {
    std::tuple<std::optional<Ts>...> parts;
    const auto read = [&]<class T>(std::optional<T>& part) {
      if (std::optional<T> value = decode_within<T>(reader)) part.emplace(std::move(*value));
      return part.has_value();
    };
    if (!std::apply([&](auto&... part) { return (read(part) && ...); }, parts)) return std::nullopt;
    return std::apply(
        [](auto&... part) { return std::optional<std::tuple<Ts...>>(std::in_place, std::move(*part)...); },
        parts);
  }
};

}  // namespace verbena
