// SPDX-License-Identifier: Apache-2.0
#include "tools/demo/sha256.h"

#include <fmt/format.h>
#include <openssl/evp.h>

#include <algorithm>
#include <memory>

#include "tools/common/failure.h"
#include "tools/common/progress.h"

namespace verbena::tools {
namespace {

using Context = std::unique_ptr<EVP_MD_CTX, decltype(&EVP_MD_CTX_free)>;

void expect(bool good) {
  if (!good) throw Failure("OpenSSL could not compute a SHA-256; is its default provider installed?");
}

}  // namespace

Sha256 sha256_of(std::span<const std::byte> bytes) {
  constexpr std::size_t piece = std::size_t{8} << 20;
  Progress progress("SHA-256");
  const Context context(EVP_MD_CTX_new(), &EVP_MD_CTX_free);
  expect(context != nullptr && EVP_DigestInit_ex(context.get(), EVP_sha256(), nullptr) == 1);
  for (std::size_t at = 0; at < bytes.size(); at += piece) {
    const std::size_t length = std::min(piece, bytes.size() - at);
    expect(EVP_DigestUpdate(context.get(), bytes.data() + at, length) == 1);
    progress.update(static_cast<double>(at + length) / static_cast<double>(bytes.size()));
  }
  Sha256 hash{};
  expect(EVP_DigestFinal_ex(context.get(), hash.data(), nullptr) == 1);
  return hash;
}

std::string show(const Sha256& hash) {
  std::string text;
  for (const unsigned char byte : hash) text += fmt::format("{:02x}", byte);
  return text;
}

}  // namespace verbena::tools
