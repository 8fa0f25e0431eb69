// SPDX-License-Identifier: Apache-2.0
// `verbena top` on live processes.
#include <signal.h>
#include <stdlib.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>

#include "expect.h"

namespace verbena::test {
namespace {

using nlohmann::json;

Outcome top(std::vector<std::string> arguments) {
  arguments.insert(arguments.begin(), {verbena_program(), "top"});
  return run(std::move(arguments));
}

/// A server with some calls behind it.
class Top : public testing::Test {
 protected:
  Top() {
    std::string pattern = (std::filesystem::temp_directory_path() / "verbena-top-test-XXXXXX").string();
    folder_ = ::mkdtemp(pattern.data());
    const std::string path = (folder_ / "file").string();
    std::ofstream(path) << std::string(100'000, 'x');
    server_.emplace(std::vector<std::string>{demo_program(), "--serve=" + listen_address(), "--file=" + path,
                                             device_option()});
    const std::string address = await_address(*server_);
    EXPECT_EQ(run({demo_program(), "--connect=" + address}).status, 0);
    pid_ = std::to_string(server_->pid());
  }
  ~Top() override { std::filesystem::remove_all(folder_); }

  std::filesystem::path folder_;
  std::optional<Program> server_;
  std::string pid_;
};

TEST_F(Top, OnceAsJsonHasItsMethodsWithCallsBytesAndTimes) {
  const Outcome outcome = top({pid_, "--once", "--json"});
  ASSERT_EQ(outcome.status, 0) << outcome.err;
  const json view = json::parse(outcome.out);
  ASSERT_EQ(view.at("processes").size(), 1U);
  const json& process = view["processes"][0];
  EXPECT_EQ(process.at("pid"), server_->pid());
  EXPECT_EQ(process.at("command"), "verbena-demo");
  const json& loop = process.at("loops").at(0);
  EXPECT_EQ(loop.at("device"), test_device());
  EXPECT_EQ(loop.at("counters").at("connections_opened"), 2);
  std::uint64_t calls = 0, times = 0;
  for (const json& method : loop.at("methods")) {
    EXPECT_EQ(method.at("role"), "server");
    EXPECT_EQ(method.at("calls"), method.at("completed"));
    calls += method.at("calls").get<std::uint64_t>();
    const json& latency = method.at("latency");
    std::uint64_t sum = 0;
    for (const json& bucket : latency.at("buckets")) sum += bucket.at(1).get<std::uint64_t>();
    EXPECT_EQ(sum, latency.at("count").get<std::uint64_t>());
    EXPECT_LE(latency.at("p50_ns"), latency.at("p999_ns"));
    times += sum;
  }
  EXPECT_GT(calls, 1000U);
  EXPECT_GT(times, 0U);
}

TEST_F(Top, ForPrometheusItSaysWhatTheLoopItselfSays) {
  const Outcome outcome = top({pid_, "--prometheus"});
  ASSERT_EQ(outcome.status, 0) << outcome.err;
  EXPECT_THAT(outcome.out, testing::StartsWith("# HELP verbena_connections "));
  EXPECT_THAT(outcome.out, testing::HasSubstr(R"(verbena_connections_opened_total{loop="0",device=")" +
                                              test_device() + "\"} 2\n"));
  EXPECT_THAT(outcome.out, testing::HasSubstr(R"(role="server",method="echo",le="+Inf"})"));
}

TEST_F(Top, OnceIsForPeople) {
  const Outcome outcome = top({pid_, "--once"});
  ASSERT_EQ(outcome.status, 0) << outcome.err;
  for (const std::string& part :
       {"process " + pid_, std::string("verbena-demo"), "loop 0 on " + test_device(), std::string("server"),
        std::string("describe-file"), std::string("p99.9")})
    EXPECT_THAT(outcome.out, testing::HasSubstr(part));
}

TEST_F(Top, WithoutAProcessAllAreShown) {
  const Outcome outcome = top({"--once", "--json"});
  ASSERT_EQ(outcome.status, 0) << outcome.err;
  bool found = false;
  const json view = json::parse(outcome.out);
  for (const json& process : view.at("processes")) found = found || process.at("pid") == server_->pid();
  EXPECT_TRUE(found) << outcome.out;
}

TEST_F(Top, FollowsUntilTheProcessEnds) {
  Program watching({verbena_program(), "top", pid_, "--interval=100ms"});
  const auto line = watching.read_line();
  ASSERT_TRUE(line);
  EXPECT_THAT(*line, testing::HasSubstr("process " + pid_));
  server_->signal(SIGKILL);
  const Outcome outcome = watching.wait();
  EXPECT_EQ(outcome.status, 0) << outcome.err;
  EXPECT_THAT(outcome.out, testing::EndsWith("process " + pid_ + " has ended\n"));
}

TEST_F(Top, CtrlCEndsItCleanly) {
  Program watching({verbena_program(), "top", pid_, "--interval=100ms", "--json"});
  for (int i = 0; i < 2; ++i) {
    const auto line = watching.read_line();
    ASSERT_TRUE(line);
    EXPECT_TRUE(json::accept(*line)) << *line;
  }
  watching.signal(SIGINT);
  const Outcome outcome = watching.wait();
  EXPECT_EQ(outcome.status, 0) << outcome.err;
  EXPECT_EQ(outcome.err, "");
}

TEST_F(Top, AStoppedProcessIsSaidNotToAnswer) {
  server_->signal(SIGSTOP);
  expect_sentence(top({pid_, "--once"}), failure, "verbena", "does not answer");
  server_->signal(SIGCONT);
  EXPECT_EQ(top({pid_, "--once"}).status, 0);
}

// ---- What can't be shown ----

TEST(TopFailure, AProcessThatIsNotThereIsNamed) {
  expect_sentence(top({"4194303", "--once"}), failure, "verbena", "no process 4194303");
}

TEST(TopFailure, AProcessWithoutVerbenaIsNamed) {
  expect_sentence(top({std::to_string(::getpid()), "--once"}), failure, "verbena", "observable");
}

TEST(TopFailure, WrongArgumentsAreNamed) {
  expect_sentence(top({"x"}), usage, "verbena", "x");
  expect_sentence(top({"--interval=0"}), usage, "verbena", "interval");
  expect_sentence(top({"--interval=2h"}), usage, "verbena", "2h");
  expect_sentence(top({"--json", "--prometheus"}), usage, "verbena", "--prometheus");
  expect_sentence(top({"--", "-5"}), usage, "verbena", "-5");
}

}  // namespace
}  // namespace verbena::test
