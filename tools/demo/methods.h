// SPDX-License-Identifier: Apache-2.0
/// What the demonstration's server answers.
#pragma once

#include <verbena/memory.h>
#include <cstdint>
#include <string_view>

#include "tools/demo/sha256.h"

namespace verbena::tools {

/// What a client needs to read the file and to judge what it has read.
struct FileFacts {
  std::uint64_t size = 0;
  RemoteRegion pages;            ///< the file's pages in the server's memory
  std::uint64_t pages_port = 0;  ///< where the server listens for those who read them
  Sha256 hash{};                 ///< of the file when the server started
};

struct DescribeFile {
  static constexpr std::uint32_t id = 1;
  static constexpr std::string_view name = "describe-file";
  using Request = std::uint64_t;  ///< describe_version
  using Result = FileFacts;
};
constexpr std::uint64_t describe_version = 1;

/// Gives its argument back: what is timed.
struct Echo {
  static constexpr std::uint32_t id = 2;
  static constexpr std::string_view name = "echo";
  using Request = std::uint64_t;
  using Result = std::uint64_t;
};

}  // namespace verbena::tools
