// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <array>
#include <cstddef>
#include <span>
#include <string>

namespace verbena::tools {

using Sha256 = std::array<unsigned char, 32>;

/// Throws Failure where OpenSSL can't.
Sha256 sha256_of(std::span<const std::byte> bytes);
/// In hexadecimal, as sha256sum prints it.
std::string show(const Sha256& hash);

}  // namespace verbena::tools
