// SPDX-License-Identifier: Apache-2.0
// Asking a live loop for its snapshot, politely and otherwise.
#include <fcntl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <boost/asio/io_context.hpp>
#include <cerrno>
#include <cstring>
#include <fstream>

#include "rpc/calls.h"
#include "verbena/snapshot.h"

namespace verbena::test {
namespace {

std::string socket_name(const Loop& loop) {
  const Snapshot snapshot = loop.snapshot();
  return "verbena/loop/" + std::to_string(snapshot.process) + "/" + std::to_string(snapshot.loop);
}

bool listens(const std::string& name) {
  std::ifstream sockets("/proc/net/unix");
  for (std::string line; std::getline(sockets, line);) {
    if (line.ends_with("@" + name)) return true;
  }
  return false;
}

/// One who asks a loop, and never blocks.
class Visitor {
 public:
  explicit Visitor(const std::string& name)
      : fd_(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0)) {
    address_.sun_family = AF_UNIX;
    std::memcpy(address_.sun_path + 1, name.data(), name.size());
    length_ = static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + 1 + name.size());
  }
  explicit Visitor(const Loop& loop) : Visitor(socket_name(loop)) {}
  Visitor(Visitor&& other) noexcept
      : fd_(std::exchange(other.fd_, -1)), address_(other.address_), length_(other.length_) {}
  ~Visitor() {
    if (fd_ >= 0) ::close(fd_);
  }
  Visitor& operator=(Visitor&&) = delete;

  /// False where the queue of visitors is full.
  bool arrive() {
    if (!arrived_) arrived_ = ::connect(fd_, reinterpret_cast<const sockaddr*>(&address_), length_) == 0;
    return arrived_;
  }
  void say(std::string_view words) {
    ASSERT_EQ(::send(fd_, words.data(), words.size(), MSG_NOSIGNAL), static_cast<ssize_t>(words.size()));
  }
  /// True once the loop has hung up; `answer` has what it said.
  bool listen() {
    std::array<char, 4096> buffer{};
    for (;;) {
      const ssize_t count = ::read(fd_, buffer.data(), buffer.size());
      if (count <= 0) return count == 0 || (errno != EAGAIN && errno != EINTR);
      answer.append(buffer.data(), static_cast<std::size_t>(count));
    }
  }
  std::string answer;

 private:
  int fd_;
  sockaddr_un address_{};
  socklen_t length_ = 0;
  bool arrived_ = false;
};

class ObserverTest : public testing::Test {
 protected:
  std::string answer_to(std::string_view words) {
    Visitor visitor(calls.server_loop);
    calls.until("a place in the queue", [&] { return visitor.arrive(); });
    visitor.say(words);
    calls.until("an answer", [&] { return visitor.listen(); });
    return visitor.answer;
  }

  Calls calls;
};

TEST_F(ObserverTest, TheSnapshotComesAsJsonAndForPrometheus) {
  calls.expect_echo(message(8));
  const std::string as_json = answer_to("json\n");
  EXPECT_TRUE(as_json.starts_with("{\"pid\":" + std::to_string(getpid()))) << as_json;
  EXPECT_TRUE(as_json.ends_with("]}\n")) << as_json;
  EXPECT_NE(as_json.find(R"("role":"server","method":1,"title":"1","calls":1,"completed":1)"),
            std::string::npos)
      << as_json;
  EXPECT_EQ(answer_to("json\r\n").substr(0, 6), as_json.substr(0, 6));
  const std::string text = answer_to("prometheus\n");
  EXPECT_TRUE(text.starts_with("# HELP verbena_")) << text;
  EXPECT_NE(text.find("verbena_calls_completed_total{"), std::string::npos);
}

// ---- What isn't a question ----

TEST_F(ObserverTest, WhatItDoesNotUnderstandIsRefused) {
  for (const std::string& words : {std::string("\n"), std::string("yaml\n"), std::string("json json\n"),
                                   std::string("JSON\n"), std::string(63, 'x') + "\n"}) {
    EXPECT_EQ(answer_to(words), "error: ask for json or prometheus\n") << words;
  }
  calls.expect_echo(message(8));
}

TEST_F(ObserverTest, ALineWithoutEndIsRefused) {
  EXPECT_TRUE(answer_to(std::string(10'000, 'x')).starts_with("error"))
      << "or the end, where bytes were left";
  calls.expect_echo(message(8));
}

TEST_F(ObserverTest, OneWhoLeavesAtOnceDoesNoHarm) {
  for (int i = 0; i < 100; ++i) {
    Visitor visitor(calls.server_loop);
    if (visitor.arrive() && i % 2 == 0) visitor.say("json\n");
    if (i % 5 == 0) calls.settle(50);
  }
  calls.expect_echo(message(8));
  EXPECT_TRUE(answer_to("json\n").starts_with("{"));
}

TEST_F(ObserverTest, ManyAtOnceAreServedWhileCallsGoOn) {
  std::deque<Visitor> visitors;
  for (int i = 0; i < 200; ++i) visitors.emplace_back(socket_name(calls.server_loop));
  std::vector<bool> asked(visitors.size()), served(visitors.size());
  while (!std::ranges::all_of(served, std::identity{})) {
    for (std::size_t i = 0; i < visitors.size(); ++i) {
      if (!asked[i] && visitors[i].arrive()) {
        visitors[i].say("json\n");
        asked[i] = true;
      }
      if (asked[i] && !served[i]) served[i] = visitors[i].listen();
    }
    ASSERT_NO_FATAL_FAILURE(calls.expect_echo(message(8)));
  }
  for (const Visitor& visitor : visitors) EXPECT_TRUE(visitor.answer.starts_with("{")) << visitor.answer;
}

TEST_F(ObserverTest, TheSilentAreHungUpOnAfterASecond) {
  std::deque<Visitor> silent;
  for (int i = 0; i < 8; ++i) EXPECT_TRUE(silent.emplace_back(socket_name(calls.server_loop)).arrive());
  const auto begin = std::chrono::steady_clock::now();
  EXPECT_TRUE(answer_to("json\n").starts_with("{")) << "though eight stand before it";
  EXPECT_GE(std::chrono::steady_clock::now() - begin, std::chrono::milliseconds{1900}) << "four at a time";
  for (Visitor& visitor : silent) {
    EXPECT_TRUE(visitor.listen());
    EXPECT_EQ(visitor.answer, "");
  }
}

TEST_F(ObserverTest, AnotherUserHearsNothing) {
  if (::geteuid() != 0) GTEST_SKIP() << "only root can be another user";
  const std::string name = socket_name(calls.server_loop);
  const pid_t stranger = ::fork();
  if (stranger == 0) {
    constexpr uid_t nobody = 65534;
    Visitor visitor(name);
    if (::setresuid(nobody, nobody, nobody) != 0 || !visitor.arrive()) ::_exit(1);
    while (!visitor.listen()) ::usleep(1000);
    ::_exit(visitor.answer.empty() ? 0 : 2);
  }
  int status = -1;
  calls.until("the stranger's end", [&] { return ::waitpid(stranger, &status, WNOHANG) == stranger; });
  EXPECT_EQ(status, 0);
}

// ---- Where it listens ----

TEST(ObservableTest, OnlyWhereTheOptionsSaySo) {
  Options options = small_options();
  EXPECT_TRUE(options.observable);
  std::string name;
  {
    const Loop loop(options);
    name = socket_name(loop);
    EXPECT_TRUE(listens(name));
  }
  EXPECT_FALSE(listens(name)) << "its loop is gone";
  options.observable = false;
  const Loop loop(options);
  EXPECT_FALSE(listens(socket_name(loop)));
}

TEST(ObservableTest, ANameThatIsTakenGetsASuffix) {
  const std::string mine = socket_name(Loop(small_options()));
  const std::size_t slash = mine.rfind('/');
  const std::string next = mine.substr(0, slash + 1) + std::to_string(std::stoul(mine.substr(slash + 1)) + 1);
  const int squatter = ::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  std::memcpy(address.sun_path + 1, next.data(), next.size());
  ASSERT_EQ(::bind(squatter, reinterpret_cast<const sockaddr*>(&address),
                   static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + 1 + next.size())),
            0);
  const Loop loop(small_options());
  EXPECT_EQ(socket_name(loop), next);
  EXPECT_TRUE(listens(next + ".1"));
  ::close(squatter);
}

TEST(ObservableTest, AGivenContextAnswersWhileItsLoopSleeps) {
  boost::asio::io_context context;
  Loop loop(context, small_options());
  Visitor visitor(loop);
  while (loop.statistics().sleeps == 0) context.run_one();
  ASSERT_TRUE(visitor.arrive());
  visitor.say("json\n");
  const auto end = std::chrono::steady_clock::now() + patience;
  while (!visitor.listen() && std::chrono::steady_clock::now() < end) context.run_one_until(end);
  EXPECT_TRUE(visitor.answer.starts_with("{")) << visitor.answer;
}

TEST(ObservableTest, AGivenContextEndsWithItsLoopThoughSomebodyIsAsking) {
  boost::asio::io_context context;
  std::optional<Loop> loop;
  loop.emplace(context, small_options());
  Visitor asking(*loop), silent(*loop);
  ASSERT_TRUE(asking.arrive() && silent.arrive());
  for (int i = 0; i < 100; ++i) context.poll_one();
  asking.say("json\n");
  loop.reset();
  const auto end = std::chrono::steady_clock::now() + std::chrono::milliseconds{500};
  context.run_until(end);
  EXPECT_TRUE(context.stopped()) << "something was still pending";
  EXPECT_TRUE(silent.listen());
}

TEST(ObservableTest, ALoopEndsAtOnceThoughSomebodyIsAsking) {
  std::optional<Loop> loop;
  loop.emplace(small_options());
  Visitor asking(*loop), silent(*loop);
  ASSERT_TRUE(asking.arrive() && silent.arrive());
  Loops::look(*loop);
  asking.say("json\n");
  const auto begin = std::chrono::steady_clock::now();
  loop.reset();
  EXPECT_LT(std::chrono::steady_clock::now() - begin, std::chrono::milliseconds{500});
  EXPECT_TRUE(silent.listen());
}

}  // namespace
}  // namespace verbena::test
