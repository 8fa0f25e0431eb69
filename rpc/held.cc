// SPDX-License-Identifier: Apache-2.0
#include <utility>

#include "transport/channel.h"
#include "verbena/rpc.h"

namespace verbena::rpc {

Held::Held(Held&& other) noexcept
    : channel_(std::exchange(other.channel_, nullptr)),
      serial_(other.serial_),
      receive_(other.receive_),
      range_(other.range_),
      length_(other.length_),
      copy_(std::move(other.copy_)),
      bytes_(std::exchange(other.bytes_, {})) {}

Held& Held::operator=(Held&& other) noexcept {
  if (this != &other) {
    release();
    channel_ = std::exchange(other.channel_, nullptr);
    serial_ = other.serial_;
    receive_ = other.receive_;
    range_ = other.range_;
    length_ = other.length_;
    copy_ = std::move(other.copy_);
    bytes_ = std::exchange(other.bytes_, {});
  }
  return *this;
}

Held::~Held() {
  release();
}

void Held::release() noexcept {
  bytes_ = {};
  if (transport::Channel* channel = std::exchange(channel_, nullptr))
    channel->release_request(serial_, receive_, range_, length_);
}

}  // namespace verbena::rpc
