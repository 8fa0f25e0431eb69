// SPDX-License-Identifier: Apache-2.0
/// This machine's memcpy, to hold a transfer against.
#pragma once

#include <cstddef>
#include <span>

namespace verbena::tools {

/// Bytes a second, of one pass over `from` in pieces of `piece` bytes. The spans have one length and don't
/// overlap.
double copy_once(std::span<std::byte> to, std::span<const std::byte> from, std::size_t piece);

/// The same of `count` copies of the whole, over each other.
double copy_again_and_again(std::span<std::byte> to, std::span<const std::byte> from, std::size_t count);

}  // namespace verbena::tools
