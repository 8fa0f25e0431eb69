// SPDX-License-Identifier: Apache-2.0
/// Where the datagrams of one UD queue pair leave and arrive: a Unix datagram socket, whose abstract name is
/// the queue pair's number. The kernel keeps processes apart and says who sent what; a system call a datagram
/// is the price.
#pragma once

#include <infiniband/verbs.h>
#include <sys/socket.h>
#include <sys/uio.h>

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "core/soft/receive_queue.h"
#include "core/soft/shared_file.h"

namespace verbena::core::soft {

/// Bytes of one datagram at most: soft0's MTU, without the GRH.
inline constexpr std::uint32_t longest_datagram = 4096;

/// From which address to which, as RoCE's network header says.
struct DatagramPath {
  ibv_gid source;
  ibv_gid destination;
};

struct DatagramHeader {
  std::uint32_t key;        ///< the Q_Key
  std::uint32_t immediate;  ///< in network order
  std::uint8_t flags;       ///< slot_flag
  std::uint8_t reserved[3];
  DatagramPath path;
};

/// As it has arrived; `payload` until the next one.
struct Datagram {
  std::uint32_t source;  ///< queue pair number, by the kernel's word
  DatagramHeader header;
  std::span<const std::byte> payload;
};

/// Sending is guarded by the queue pair's send completion queue, receiving by its receive completion queue.
class DatagramPort {
 public:
  explicit DatagramPort(std::uint32_t number);
  /// False: the system refused, with errno.
  bool is_open() const noexcept { return static_cast<bool>(socket_); }
  int descriptor() const noexcept { return socket_.get(); }

  /// False: the receiver has no room for it now. Where there is no receiver, it is lost, and that is no
  /// error.
  bool send(std::uint32_t to, const DatagramHeader& header, std::span<const ibv_sge> pieces) noexcept;
  /// To each member of the group that has room now; lost to the others.
  void send_to_group(const DatagramHeader& header, std::span<const ibv_sge> pieces) noexcept;

  /// What comes to the group comes here, too. 0 or errno; of one that it is in already 0, and nothing
  /// changes.
  int join(const ibv_gid& group);
  /// 0; EINVAL: it isn't in the group.
  int leave(const ibv_gid& group) noexcept;
  /// Of each group's socket.
  template <class Act>
  void for_each_group(Act act) const {
    for (const Group& group : groups_) act(group.socket.get());
  }

  /// False: there is none now.
  bool receive(Datagram& datagram) noexcept;
  /// Throws away what has arrived.
  void drain() noexcept;

  /// Nobody waits for this receiver any more: what finds no room there is lost, until something does again.
  void give_up(std::uint32_t to) noexcept;
  bool has_given_up(std::uint32_t to) const noexcept;
  void forget_given_up() noexcept { given_up_ = {}; }

 private:
  enum class Taken { nothing, foreign, ours };
  struct Group {
    ibv_gid gid;
    Descriptor socket;
  };
  Taken take(int socket, Datagram& datagram) noexcept;
  Taken take_from_any(Datagram& datagram) noexcept;

  Descriptor socket_;
  std::vector<Group> groups_;
  std::array<std::byte, longest_datagram> bytes_;
  std::array<std::uint32_t, 16> given_up_{};  // by number, 0 is none's; the longest-known makes room
  std::uint32_t next_given_up_ = 0;
};

}  // namespace verbena::core::soft
