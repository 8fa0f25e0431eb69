// SPDX-License-Identifier: Apache-2.0
/// How values of typed calls become bytes. A value whose bytes lie in one piece already is sent from where it
/// is.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <type_traits>
#include <vector>

namespace verbena {

/// Specialise for other types: `bytes` gives a view that lives as long as the value; `decode` gives nothing
/// where the bytes aren't such a value. A decoded view (span, string_view) points into the message: valid
/// during the handler.
template <class T>
struct Codec {
  static_assert(std::is_trivially_copyable_v<T>, "specialise verbena::Codec for this type");
  static std::span<const std::byte> bytes(const T& value) noexcept {
    return std::as_bytes(std::span{&value, 1});
  }
  static std::optional<T> decode(std::span<const std::byte> bytes) noexcept {
    if (bytes.size() != sizeof(T)) return std::nullopt;
    T value;
    std::memcpy(&value, bytes.data(), sizeof(T));
    return value;
  }
};

template <class T>
struct Codec<std::span<const T>> {
  static_assert(std::is_trivially_copyable_v<T>);
  static std::span<const std::byte> bytes(std::span<const T> values) noexcept {
    return std::as_bytes(values);
  }
  static std::optional<std::span<const T>> decode(std::span<const std::byte> bytes) noexcept {
    const bool aligned = reinterpret_cast<std::uintptr_t>(bytes.data()) % alignof(T) == 0;
    if (bytes.size() % sizeof(T) != 0 || !aligned) return std::nullopt;
    return std::span{reinterpret_cast<const T*>(bytes.data()), bytes.size() / sizeof(T)};
  }
};

template <>
struct Codec<std::string_view> {
  static std::span<const std::byte> bytes(std::string_view text) noexcept {
    return std::as_bytes(std::span{text});
  }
  static std::optional<std::string_view> decode(std::span<const std::byte> bytes) noexcept {
    return std::string_view{reinterpret_cast<const char*>(bytes.data()), bytes.size()};
  }
};

template <>
struct Codec<std::string> {
  static std::span<const std::byte> bytes(const std::string& text) noexcept {
    return std::as_bytes(std::span{text});
  }
  static std::optional<std::string> decode(std::span<const std::byte> bytes) {
    return std::string{reinterpret_cast<const char*>(bytes.data()), bytes.size()};
  }
};

template <class T>
struct Codec<std::vector<T>> {
  static_assert(std::is_trivially_copyable_v<T>);
  static std::span<const std::byte> bytes(const std::vector<T>& values) noexcept {
    return std::as_bytes(std::span{values});
  }
  static std::optional<std::vector<T>> decode(std::span<const std::byte> bytes) {
    if (bytes.size() % sizeof(T) != 0) return std::nullopt;
    std::vector<T> values(bytes.size() / sizeof(T));
    if (!bytes.empty()) std::memcpy(values.data(), bytes.data(), bytes.size());
    return values;
  }
};

}  // namespace verbena
