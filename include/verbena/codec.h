// SPDX-License-Identifier: Apache-2.0
/// How values of typed calls become bytes, and bytes values. Out of the box: plain values (numbers, enums,
/// structs and arrays of such), spans, strings, string views, vectors, optionals, pairs, tuples, arrays and
/// aggregates of all of these. For others, specialise Codec: codec/contract.h says how. docs/typed-calls.md
/// has the bytes.
///
/// Decoding is total: whatever a peer sends, it gives a value or nothing, never reads beyond the bytes, and
/// allocates in proportion to them. It throws nothing but std::bad_alloc.
///
/// A decoded view (span, string view) points into the message, and is valid as long as that is: in a handler,
/// during it. Thread: all of it is without state.
#pragma once

#include <cstddef>
#include <optional>
#include <span>

#include "verbena/codec/contract.h"
#include "verbena/codec/standard.h"
#include "verbena/codec/within.h"

namespace verbena {

/// The whole of a message. Lifetime: long parts of `value` are borrowed; see Pieces::borrow.
template <class T>
void encode(const T& value, Pieces& pieces) {
  detail::check_encodable<T>();
  if constexpr (detail::HasBytes<T>) {
    pieces.borrow(Codec<T>::bytes(value));
  } else {
    Codec<T>::encode(value, pieces);
  }
}

/// Nothing where the bytes aren't a T and nothing else.
template <class T>
std::optional<T> decode(std::span<const std::byte> message) {
  detail::check_encodable<T>();
  if constexpr (detail::DecodesMessage<T>) {
    return Codec<T>::decode(message);
  } else if constexpr (detail::Plain<T>) {
    return message.size() == sizeof(T) ? detail::loaded<T>(message) : std::nullopt;
  } else {
    Reader reader(message);
    std::optional<T> value = Codec<T>::decode(reader);
    if (!reader.done()) value.reset();
    return value;
  }
}

}  // namespace verbena
