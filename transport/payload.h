// SPDX-License-Identifier: Apache-2.0
/// The bytes of a message, in one piece or in several: a gather list that nobody flattens before it has to.
#pragma once

#include <algorithm>
#include <cstddef>
#include <span>

#include "core/copy_bytes.h"

namespace verbena::transport {

/// A view: of bytes, and of the list of further pieces, both of which outlive it.
class Payload {
 public:
  using Bytes = std::span<const std::byte>;

  Payload() noexcept = default;
  Payload(Bytes whole) noexcept  // NOLINT(google-explicit-constructor)
      : first_(whole), size_(whole.size()) {}
  Payload(Bytes first, std::span<const Bytes> rest) noexcept
      : first_(first), rest_(rest), size_(first.size()) {
    for (const Bytes& piece : rest) size_ += piece.size();
  }

  /// Bytes in all.
  std::size_t size() const noexcept { return size_; }
  std::size_t pieces() const noexcept { return 1 + rest_.size(); }
  template <class Visit>
  void for_each(Visit visit) const {
    visit(first_);
    for (const Bytes& piece : rest_) visit(piece);
  }
  void write_to(std::byte* to) const noexcept {
    core::copy_bytes(to, first_.data(), first_.size());
    to += first_.size();
    for (const Bytes& piece : rest_) {
      core::copy_bytes(to, piece.data(), piece.size());
      to += piece.size();
    }
  }

 private:
  Bytes first_;
  std::span<const Bytes> rest_;
  std::size_t size_ = 0;
};

}  // namespace verbena::transport
