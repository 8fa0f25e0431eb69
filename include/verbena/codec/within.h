// SPDX-License-Identifier: Apache-2.0
/// Values within other values: what a codec in the form of a stream writes and reads one after the other.
#pragma once

#include <algorithm>
#include <array>
#include <bit>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <optional>
#include <span>
#include <type_traits>
#include <utility>

#include "verbena/codec/contract.h"

namespace verbena {

namespace detail {

/// Of what goes with a length within other values.
template <class T>
consteval std::size_t alignment() {
  if constexpr (requires { Codec<T>::alignment; }) {
    constexpr std::size_t wanted = Codec<T>::alignment;
    static_assert(wanted > 0 && wanted <= Pieces::max_alignment && (wanted & (wanted - 1)) == 0);
    return wanted;
  } else {
    return Pieces::max_alignment;
  }
}

template <class T>
consteval std::size_t least_bytes();

template <class... Ts>
consteval std::size_t least_sum(Types<Ts...>) {
  return (least_bytes<Ts>() + ...);
}

/// What a value takes within others: at least 1.
template <class T>
consteval std::size_t least_bytes() {
  if constexpr (Plain<T>) {
    return sizeof(T);
  } else if constexpr (std::is_bounded_array_v<T>) {
    return std::extent_v<T> * least_bytes<std::remove_extent_t<T>>();
  } else if constexpr (is_std_array<T>) {
    return std::tuple_size_v<T> * least_bytes<typename T::value_type>();
  } else if constexpr (requires { Codec<T>::least_bytes; }) {
    static_assert(Codec<T>::least_bytes > 0);
    return Codec<T>::least_bytes;
  } else if constexpr (!DecodesStream<T>) {
    return sizeof(std::uint64_t);
  } else if constexpr (std::derived_from<Codec<T>, Automatic>) {
    return least_sum(Members<T>{});
  } else {
    return 1;
  }
}

template <class T>
consteval bool is_view();

template <class... Ts>
consteval bool are_views(Types<Ts...>) {
  return (is_view<Ts>() || ...);
}

/// Whether a decoded value points into its message.
template <class T>
consteval bool is_view() {
  if constexpr (std::is_void_v<T> || Plain<T>) {
    return false;
  } else if constexpr (std::is_bounded_array_v<T>) {
    return is_view<std::remove_extent_t<T>>();
  } else if constexpr (is_std_array<T>) {
    return is_view<typename T::value_type>();
  } else if constexpr (requires { Codec<T>::is_view; }) {
    return Codec<T>::is_view;
  } else if constexpr (std::derived_from<Codec<T>, Automatic>) {
    return are_views(Members<T>{});
  } else {
    return false;
  }
}

}  // namespace detail

/// A value within another one, for codecs in the form of a stream.
template <class T>
void encode_within(const T& value, Pieces& pieces) {
  detail::check_encodable<T>();
  if constexpr (detail::DecodesStream<T> && detail::HasEncode<T>) {
    Codec<T>::encode(value, pieces);
  } else if constexpr (detail::HasBytes<T>) {
    const std::span<const std::byte> bytes = Codec<T>::bytes(value);
    pieces.pad(alignof(std::uint64_t));
    pieces.number(bytes.size());
    pieces.pad(detail::alignment<T>());
    pieces.put(bytes);
  } else {
    pieces.pad(alignof(std::uint64_t));
    const Pieces::Place length = pieces.leave_number();
    pieces.pad(detail::alignment<T>());
    const std::size_t start = pieces.size();
    Codec<T>::encode(value, pieces);
    pieces.set_number(length, pieces.size() - start);
  }
}

namespace detail {

/// The bytes behind a length, padding skipped.
inline std::optional<std::span<const std::byte>> take_counted(Reader& reader,
                                                              std::size_t alignment) noexcept {
  if (!reader.skip_padding(alignof(std::uint64_t))) return std::nullopt;
  const auto length = reader.count(1);
  if (!length || !reader.skip_padding(alignment)) return std::nullopt;
  return reader.take(*length);
}

}  // namespace detail

/// The counterpart. After nothing, nothing further is to be read: the message is wrong.
template <class T>
std::optional<T> decode_within(Reader& reader) {
  detail::check_encodable<T>();
  if constexpr (detail::DecodesStream<T> && detail::HasEncode<T>) {
    return Codec<T>::decode(reader);
  } else {
    const auto bytes = detail::take_counted(reader, detail::alignment<T>());
    return bytes ? Codec<T>::decode(*bytes) : std::nullopt;
  }
}

namespace detail {

/// From bytes at any address.
template <Plain T>
bool load(std::span<const std::byte> bytes, T& value) noexcept {
  std::memcpy(static_cast<void*>(&value), bytes.data(), sizeof value);
  return has_right_bools(value);
}
template <Plain T>
std::optional<T> loaded(std::span<const std::byte> bytes) noexcept {
  if constexpr (std::default_initializable<T>) {
    T value;
    if (!load(bytes, value)) return std::nullopt;
    return value;
  } else {
    alignas(T) std::array<std::byte, sizeof(T)> copy;
    if (!load(bytes, *reinterpret_cast<T*>(copy.data()))) return std::nullopt;
    return std::bit_cast<T>(copy);
  }
}

template <class T>
void encode_member(const T& member, Pieces& pieces) {
  if constexpr (Plain<T>) {
    pieces.put(std::as_bytes(std::span{&member, 1}));
  } else if constexpr (std::is_array_v<T> || is_std_array<T>) {
    for (const auto& element : member) encode_member(element, pieces);
  } else {
    encode_within(member, pieces);
  }
}

template <class T>
bool decode_member(T& member, Reader& reader) {
  if constexpr (Plain<T>) {
    const auto bytes = reader.take(sizeof member);
    return bytes && load(*bytes, member);
  } else if constexpr (std::is_array_v<T> || is_std_array<T>) {
    return std::ranges::all_of(member, [&](auto& element) { return decode_member(element, reader); });
  } else {
    std::optional<T> value = decode_within<T>(reader);
    if (value) member = std::move(*value);
    return value.has_value();
  }
}

}  // namespace detail

template <class T>
void Codec<T>::encode(const T& value, Pieces& pieces) {
  if constexpr (detail::Plain<T> || detail::is_std_array<T>) {
    detail::encode_member(value, pieces);
  } else {
    detail::with_members(value, [&](const auto&... member) { (detail::encode_member(member, pieces), ...); });
  }
}

template <class T>
std::optional<T> Codec<T>::decode(Reader& reader) {
  if constexpr (detail::Plain<T>) {
    const auto bytes = reader.take(sizeof(T));
    return bytes ? detail::loaded<T>(*bytes) : std::nullopt;
  } else {
    std::optional<T> value(std::in_place);
    bool right;
    if constexpr (detail::is_std_array<T>) {
      right = detail::decode_member(*value, reader);
    } else {
      right = detail::with_members(
          *value, [&](auto&... member) { return (detail::decode_member(member, reader) && ...); });
    }
    if (!right) value.reset();
    return value;
  }
}

}  // namespace verbena
