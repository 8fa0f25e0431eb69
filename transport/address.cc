// SPDX-License-Identifier: Apache-2.0
#include "verbena/address.h"

#include <fmt/format.h>

#include <charconv>

#include "verbena/error.h"

namespace verbena {
namespace {

[[noreturn]] void refuse(std::string_view text, std::string_view why) {
  throw Error(errc::address_unusable,
              fmt::format("address \"{}\" can't be used: {}; write scheme://host:port, as rdma://node7:7471, "
                          "soft://localhost:7471 or rxe1://10.9.0.1:7471",
                          text, why));
}

}  // namespace

Address Address::parse(std::string_view text) {
  const std::size_t mark = text.find("://");
  if (mark == std::string_view::npos || mark == 0) refuse(text, "it names no scheme");
  Address address;
  address.scheme = text.substr(0, mark);
  std::string_view rest = text.substr(mark + 3);
  std::size_t colon = std::string_view::npos;
  if (rest.starts_with('[')) {
    const std::size_t end = rest.find(']');
    if (end == std::string_view::npos) refuse(text, "the bracket of its IPv6 address isn't closed");
    address.host = rest.substr(1, end - 1);
    if (end + 1 < rest.size() && rest[end + 1] == ':') colon = end + 1;
  } else {
    colon = rest.rfind(':');
    address.host = rest.substr(0, colon);
    if (address.host.find(':') != std::string::npos)
      refuse(text, "an IPv6 address stands in brackets, as [fe80::1]");
  }
  if (colon == std::string_view::npos) refuse(text, "it names no port");
  if (address.host.empty()) refuse(text, "it names no host");
  const std::string_view port = rest.substr(colon + 1);
  unsigned number = 0;
  const auto [end, error] = std::from_chars(port.data(), port.data() + port.size(), number);
  if (port.empty() || error != std::errc{} || end != port.data() + port.size() || number > 65535) {
    refuse(text, fmt::format("\"{}\" isn't a port from 0 to 65535", port));
  }
  address.port = static_cast<std::uint16_t>(number);
  return address;
}

std::string Address::to_string() const {
  return host.find(':') == std::string::npos ? fmt::format("{}://{}:{}", scheme, host, port)
                                             : fmt::format("{}://[{}]:{}", scheme, host, port);
}

}  // namespace verbena
