// SPDX-License-Identifier: Apache-2.0
/// What a codec is, and which types have one.
#pragma once

#include <array>
#include <concepts>
#include <cstddef>
#include <optional>
#include <span>
#include <tuple>
#include <type_traits>

#include "verbena/codec/members.h"
#include "verbena/codec/plain.h"
#include "verbena/pieces.h"
#include "verbena/reader.h"

namespace verbena {

/// Specialise it for a type of your own, in one of three forms. Most need only the first:
///
/// 1. *Bytes*, for what lies in one piece: `static std::span<const std::byte> bytes(const T&)`, valid as long
///    as the value, and `static std::optional<T> decode(std::span<const std::byte>)`.
/// 2. *Pieces*: `static void encode(const T&, Pieces&)`, and the same decode.
/// 3. *Stream*, for what says itself where it ends: `static void encode(const T&, Pieces&)`, and
///    `static std::optional<T> decode(Reader&)`. Within them, encode_within and decode_within do the members.
///
/// Within another value, the first two get a length in front. `decode` gives nothing where the bytes aren't
/// such a value. These may be said as well, as `static constexpr`:
/// - `std::size_t alignment`, of the bytes within a message, for the first two: a power of two up to
///   Pieces::max_alignment, which it is otherwise.
/// - `std::size_t least_bytes` that a value takes, for the third; otherwise 1, and it must take that.
/// - `bool is_view`: a decoded value points into the message.
///
/// This one, for all types without a specialisation, sends plain values as they lie in memory, padding
/// included, and other aggregates member by member: up to 16, which can be value-initialised and assigned.
template <class T>
struct Codec : detail::Automatic {
  template <std::same_as<T> Value>  // a template, as nobody may ask whether T is plain while this is made
  requires detail::Plain<Value>
  static std::span<const std::byte> bytes(const Value& value) noexcept {
    return std::as_bytes(std::span{&value, 1});
  }
  static void encode(const T& value, Pieces& pieces);
  static std::optional<T> decode(Reader& reader);
};

namespace detail {

template <class T>
concept HasBytes = requires(const T& value) {
  { Codec<T>::bytes(value) } -> std::convertible_to<std::span<const std::byte>>;
};
template <class T>
concept HasEncode = requires(const T& value, Pieces& pieces) {
  Codec<T>::encode(value, pieces);
};
template <class T>
concept DecodesMessage = requires(std::span<const std::byte> bytes) {
  { Codec<T>::decode(bytes) } -> std::same_as<std::optional<T>>;
};
template <class T>
concept DecodesStream = requires(Reader& reader) {
  { Codec<T>::decode(reader) } -> std::same_as<std::optional<T>>;
};

template <class T>
consteval bool is_encodable();

template <class... Ts>
consteval bool are_encodable(Types<Ts...>) {
  return (is_encodable<Ts>() && ...);
}

/// An array in an aggregate is one here; by itself it is none.
template <class T>
consteval bool is_encodable() {
  if constexpr (!std::is_object_v<T> || !std::is_same_v<T, std::remove_cv_t<T>>) {
    return false;
  } else if constexpr (std::is_bounded_array_v<T>) {
    return is_encodable<std::remove_extent_t<T>>();
  } else if constexpr (std::is_array_v<T>) {
    return false;
  } else if constexpr (!std::derived_from<Codec<T>, Automatic>) {
    return ((HasBytes<T> || HasEncode<T>)&&DecodesMessage<T>) || (HasEncode<T> && DecodesStream<T>);
  } else if constexpr (Plain<T>) {
    return true;
  } else if constexpr (is_std_array<T>) {
    return std::tuple_size_v<T> > 0 && std::default_initializable<T> &&
           is_encodable<typename T::value_type>();
  } else if constexpr (Open<T> && std::default_initializable<T>) {
    return !std::is_empty_v<T> && are_encodable(Members<T>{});
  } else {
    return false;
  }
}

}  // namespace detail

/// What a request or a result can be.
template <class T>
concept Encodable = detail::is_encodable<T>() && !std::is_array_v<T>;

namespace detail {

template <class T>
consteval void check_encodable() {
  static_assert(
      Encodable<T>,
      "verbena can't send this type: it is, or has in it, a pointer, a reference, an unknown view (only "
      "std::span<const T> and std::string_view are known), more than 16 members, or a class that only a "
      "verbena::Codec of your own can take apart");
}

}  // namespace detail

}  // namespace verbena
