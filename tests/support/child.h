// SPDX-License-Identifier: Apache-2.0
/// A test's second process: the same program, started anew in a named role, with a pipe each way.
///
///     const Role echo{"echo", [](Line& parent) { … parent.get<Facts>() … }};   // in the test's file
///     Child child{"echo"};
///     child.line().put(facts);
#pragma once

#include <sys/types.h>

#include <cstddef>
#include <functional>
#include <optional>
#include <string>
#include <type_traits>

namespace verbena::test {

/// Values between the two processes, whole and in order; every wait ends, with an exception.
class Line {
 public:
  explicit Line(int socket) : socket_(socket) {}

  template <class T>
  void put(const T& value) {
    static_assert(std::is_trivially_copyable_v<T>);
    put_bytes(&value, sizeof value);
  }
  template <class T>
  T get() {
    static_assert(std::is_trivially_copyable_v<T>);
    T value;
    get_bytes(&value, sizeof value);
    return value;
  }
  /// Sleeps in read() until the other side writes a byte or is gone; true for a byte.
  bool sleep_until_woken();
  /// Wakes the other side's sleep_until_woken.
  void wake();

 private:
  void put_bytes(const void* data, std::size_t size);
  void get_bytes(void* data, std::size_t size);

  int socket_;
};

/// Registers a role before main(). Its process ends with status 0, or 1 and the exception's text on stderr.
class Role {
 public:
  Role(const char* name, std::function<void(Line&)> play);
};

/// In main(): where the command line names a role, plays it and returns the exit status.
std::optional<int> play_role(int argc, char** argv);

class Child {
 public:
  explicit Child(const std::string& role);
  /// Kills it if it is still there.
  ~Child();
  Child(const Child&) = delete;
  Child& operator=(const Child&) = delete;

  Line& line() { return line_; }
  pid_t pid() const { return pid_; }
  /// SIGKILL, and waits until it is gone.
  void kill();
  void signal(int number);
  /// Waits for its end; its exit status, or -1 if a signal ended it.
  int join();

 private:
  Child(const std::string& role, int sockets[2]);
  int reap();

  int socket_ = -1;
  Line line_;
  pid_t pid_ = -1;
};

}  // namespace verbena::test
