// SPDX-License-Identifier: Apache-2.0
/// Lets programs of the same user on this host ask a Loop for its snapshot: `verbena top`.
#pragma once

#include <cstdint>
#include <memory>

namespace boost::asio {
class io_context;
}

namespace verbena::transport {

class Engine;

/// Listens at the abstract Unix socket "verbena/loop/PID/NUMBER". Who connects sends a line, "json" or
/// "prometheus", and is sent the text. It lives in the loop's io_context: turns of the data path never see
/// it.
///
/// Strangers (neither the same user nor root) are hung up on; a few are served at once, each for a bounded
/// time. A word that isn't understood gets a line that begins with "error".
class Observer {
 public:
  /// Null where the socket can't be had: the loop goes on without.
  static std::unique_ptr<Observer> open(boost::asio::io_context& context, const Engine& engine,
                                        std::uint32_t number) noexcept;
  /// Hangs up on all. Their last handlers may run later, in a given context, and do nothing.
  ~Observer();
  Observer(const Observer&) = delete;
  Observer& operator=(const Observer&) = delete;

 private:
  class Reception;
  explicit Observer(std::shared_ptr<Reception> reception) noexcept;

  std::shared_ptr<Reception> reception_;
};

}  // namespace verbena::transport
