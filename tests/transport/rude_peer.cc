// SPDX-License-Identifier: Apache-2.0
#include "transport/rude_peer.h"

#include <algorithm>
#include <cstring>
#include <stdexcept>

namespace verbena::test {
namespace {

using transport::Hello;
using transport::HelloKind;

constexpr std::size_t longest = 4096;
constexpr std::size_t receive_size = 2048;
constexpr std::uint32_t receives = 128;

Hello offer_of(const EndpointFacts& facts) {
  Hello hello;
  hello.device_kind = on_soft0() ? 1 : 0;
  hello.eager_size = 1024;
  hello.request_depth = hello.call_depth = 16;
  hello.large_depth = 4;
  hello.large_bytes = 1 << 20;
  hello.epoch = 0x1234'5678;
  hello.facts = {facts.qp_number, facts.packet_sequence, facts.lid, 3, 4, {}};
  std::memcpy(hello.facts.gid.data(), facts.gid.raw, sizeof facts.gid.raw);
  return hello;
}

EndpointFacts facts_of(const Hello& hello) {
  EndpointFacts facts{hello.facts.qp_number, hello.facts.packet_sequence, hello.facts.lid, {}};
  std::memcpy(facts.gid.raw, hello.facts.gid.data(), sizeof facts.gid.raw);
  return facts;
}

}  // namespace

RudePeer::RudePeer(Loops& loops, std::uint16_t port)
    : device_(core::open_device(device_name())),
      endpoint_(*device_, {.receive_depth = receives}),
      out_(&endpoint_.buffer(longest)),
      memory_(&endpoint_.buffer(65536)),
      line_(port) {
  Hello hello = offer_of(endpoint_.facts());
  line_.say(hello);
  loops.until("an answer to a hello",
              [&] { return line_.heard().size() >= transport::hello_size || line_.was_hung_up_on(); });
  if (line_.heard().size() < transport::hello_size) throw std::runtime_error("the listener hung up");
  server_ = transport::decode(line_.heard().first<transport::hello_size>()).value();
  if (server_.kind != HelloKind::accept) throw std::runtime_error(server_.text);
  endpoint_.connect(facts_of(server_));
  Buffer& in = endpoint_.buffer(receive_size);
  for (std::uint32_t i = 0; i < receives; ++i) endpoint_.post_receive(in.piece());
  hello.kind = HelloKind::ready;
  line_.say(hello);
}

transport::MessageHeader RudePeer::header(transport::Kind kind) const {
  return {kind, 0, 0x5678, 16, 0, 0};
}

bool RudePeer::say(std::span<const std::byte> bytes) {
  std::ranges::copy(bytes, out_->bytes().begin());
  if (endpoint_.try_post(send({out_->piece(0, bytes.size())})) != 0) return false;
  return endpoint_.sent().status == IBV_WC_SUCCESS;
}

}  // namespace verbena::test
