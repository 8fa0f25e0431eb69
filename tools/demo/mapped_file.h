// SPDX-License-Identifier: Apache-2.0
/// A file's pages as memory.
#pragma once

#include <cstddef>
#include <span>
#include <string>

namespace verbena::tools {

/// Maps the file read-only: its own pages, until a kernel copies them for a device that pins them. Throws
/// Failure where it can't be read or is empty.
class MappedFile {
 public:
  explicit MappedFile(const std::string& path);
  MappedFile(const MappedFile&) = delete;
  MappedFile& operator=(const MappedFile&) = delete;
  ~MappedFile();

  std::span<const std::byte> bytes() const noexcept { return bytes_; }

 private:
  std::span<const std::byte> bytes_;
};

}  // namespace verbena::tools
