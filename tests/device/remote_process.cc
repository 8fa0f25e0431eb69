// SPDX-License-Identifier: Apache-2.0
#include "device/remote_process.h"

#include <signal.h>
#include <sys/wait.h>

#include <algorithm>
#include <cstring>
#include <stdexcept>

#include "device/device_test.h"

namespace verbena::test {
namespace {

/// Peers may meet a receive queue that is empty for a moment: for ever, and soon again.
EndpointOptions patient_options() {
  return {.receiver_not_ready_retries = 7, .receiver_not_ready_timer = 1};
}

struct PeerFacts {
  EndpointFacts endpoint;
  Remote remote;
};

/// A peer that serves its parent.
class Served {
 public:
  explicit Served(Line& parent)
      : device_(open_test_device()), endpoint_(*device_, patient_options()), line_(parent) {
    memory_ = &meet_parent(endpoint_, parent);
  }

  Endpoint& endpoint() { return endpoint_; }
  Buffer& memory() { return *memory_; }
  Line& line() { return line_; }

 private:
  std::unique_ptr<core::Device> device_;
  Endpoint endpoint_;
  Line& line_;
  Buffer* memory_ = nullptr;
};

enum class Command : char { expect = 'e', message = 'm', checksum = 'c', sleep = 's' };

const Role storekeeper{
    "storekeeper", [](Line& parent) {
      Served served{parent};
      while (true) {
        switch (parent.get<Command>()) {
          case Command::expect: {
            const auto range = parent.get<Range>();
            Pieces pieces;
            if (range.length != 0) pieces.push_back(served.memory().piece(range.offset, range.length));
            served.endpoint().post_receive(pieces);
            parent.put('k');
            break;
          }
          case Command::message: {
            const ibv_wc completion = served.endpoint().received();
            if (completion.status != IBV_WC_SUCCESS) throw std::runtime_error("a receive failed");
            const bool with_imm = (completion.wc_flags & IBV_WC_WITH_IMM) != 0;
            parent.put(Message{completion.byte_len, with_imm ? ntohl(completion.imm_data) : 0});
            break;
          }
          case Command::checksum:
            parent.put(checksum(served.memory().bytes()));
            break;
          case Command::sleep:
            parent.put('z');
            parent.sleep_until_woken();
        }
      }
    }};

const Role streamer{"streamer", [](Line& parent) {
                      Served served{parent};
                      stream(served.endpoint(), served.memory());
                      parent.put('d');
                      parent.get<char>();  // what was sent must arrive before this queue pair goes
                    }};

const Role hammerer{"hammerer", [](Line& parent) {
                      Served served{parent};
                      const auto target = parent.get<Remote>();
                      const auto end = std::chrono::steady_clock::now() + 2 * patience;
                      ibv_wc_status status = IBV_WC_SUCCESS;
                      for (unsigned char value = 1;
                           status == IBV_WC_SUCCESS && std::chrono::steady_clock::now() < end; ++value) {
                        served.memory().fill(value == 0xfe ? 0x01 : value);  // never the canaries' value
                        served.endpoint().post(write({served.memory().piece()}, target));
                        status = served.endpoint().sent().status;
                      }
                      parent.put(status);
                    }};

constexpr std::uint32_t stream_messages = 5000;
constexpr std::size_t stream_slots = 16;
constexpr std::size_t slot_size = stream_memory / 2 / stream_slots;

/// The size and first byte of message `number`: something that differs from one to the next.
std::size_t stream_length(std::uint32_t number) {
  return 8 + (number * 2654435761U) % 3000;
}
unsigned char stream_byte(std::uint32_t number) {
  return static_cast<unsigned char>(number * 37 + 1);
}

void check_message(const Buffer& memory, const ibv_wc& completion, std::uint32_t number) {
  if (completion.status != IBV_WC_SUCCESS) throw std::runtime_error("a receive of the stream failed");
  if (completion.byte_len != stream_length(number)) throw std::runtime_error("a message has another length");
  const auto bytes = memory.bytes(completion.wr_id * slot_size, completion.byte_len);
  const std::byte wanted{stream_byte(number)};
  if (!std::all_of(bytes.begin(), bytes.end(), [&](std::byte byte) { return byte == wanted; })) {
    throw std::runtime_error("message " + std::to_string(number) + " has other bytes");
  }
}

}  // namespace

std::uint64_t checksum(std::span<const std::byte> bytes) {
  std::uint64_t sum = 14695981039346656037U;  // FNV-1a
  for (const std::byte byte : bytes) sum = (sum ^ static_cast<std::uint64_t>(byte)) * 1099511628211U;
  return sum;
}

void stream(Endpoint& endpoint, Buffer& memory) {
  const auto slot = [&](std::uint64_t i) { return memory.piece(i * slot_size, slot_size); };
  const auto out = [&](std::uint64_t i) { return stream_memory / 2 + i * slot_size; };
  for (std::uint64_t i = 0; i < stream_slots; ++i) endpoint.post_receive(slot(i), i);
  std::uint32_t posted = 0;
  std::uint32_t sent = 0;
  std::uint32_t received = 0;
  wait_until(
      "a stream of messages each way",
      [&] {
        ibv_wc completion{};
        while (posted < stream_messages && posted - sent < stream_slots) {
          const std::size_t offset = out(posted % stream_slots);
          std::memset(memory.bytes().data() + offset, stream_byte(posted), stream_length(posted));
          endpoint.post(send({memory.piece(offset, stream_length(posted))}));
          ++posted;
        }
        while (ibv_poll_cq(endpoint.send_cq(), 1, &completion) == 1) {
          if (completion.status != IBV_WC_SUCCESS) throw std::runtime_error("a send of the stream failed");
          ++sent;
        }
        while (ibv_poll_cq(endpoint.receive_cq(), 1, &completion) == 1) {
          check_message(memory, completion, received++);
          endpoint.post_receive(slot(completion.wr_id), completion.wr_id);
        }
        return sent == stream_messages && received == stream_messages;
      },
      4 * patience);
}

Buffer& meet_parent(Endpoint& endpoint, Line& parent) {
  const auto wanted = parent.get<PeerMemory>();
  Buffer& memory = endpoint.buffer(wanted.size, wanted.kind);
  parent.put(PeerFacts{endpoint.facts(), memory.remote()});
  endpoint.connect(parent.get<EndpointFacts>());
  parent.put('r');
  return memory;
}

RemoteProcess::RemoteProcess(core::Device& device, const std::string& role, PeerMemory memory)
    : RemoteProcess(device, role, memory, patient_options()) {}

RemoteProcess::RemoteProcess(core::Device& device, const std::string& role, PeerMemory memory,
                             const EndpointOptions& options)
    : child_(role), endpoint_(device, options) {
  child_.line().put(memory);
  const auto facts = child_.line().get<PeerFacts>();
  remote_ = facts.remote;
  child_.line().put(endpoint_.facts());
  endpoint_.connect(facts.endpoint);
  child_.line().get<char>();
}

void RemoteProcess::expect_message(Range into) {
  child_.line().put(Command::expect);
  child_.line().put(into);
  child_.line().get<char>();
}

Message RemoteProcess::message() {
  child_.line().put(Command::message);
  return child_.line().get<Message>();
}

std::uint64_t RemoteProcess::checksum() {
  child_.line().put(Command::checksum);
  return child_.line().get<std::uint64_t>();
}

void RemoteProcess::send_to_sleep() {
  child_.line().put(Command::sleep);
  child_.line().get<char>();
}

void RemoteProcess::stop() {
  child_.signal(SIGSTOP);
  await_stop();
}

void RemoteProcess::await_stop() {
  siginfo_t info{};
  waitid(P_PID, static_cast<id_t>(child_.pid()), &info, WSTOPPED);
}

void RemoteProcess::go_on() {
  child_.signal(SIGCONT);
}

void RemoteProcess::finish() {
  child_.line().get<char>();
  child_.line().put('.');
  if (child_.join() != 0) throw std::runtime_error("the peer process failed");
}

}  // namespace verbena::test
