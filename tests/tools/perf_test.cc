// SPDX-License-Identifier: Apache-2.0
// The JSON contract of `verbena perf`, on every test; the figures themselves are no matter of a test.
#include <nlohmann/json.hpp>

#include <sstream>

#include "expect.h"

namespace verbena::test {
namespace {

using Json = nlohmann::ordered_json;

std::vector<Json> lines_of(const std::string& text) {
  std::vector<Json> lines;
  std::istringstream stream(text);
  for (std::string line; std::getline(stream, line);) lines.push_back(Json::parse(line));
  return lines;
}

/// Few operations: this also runs on an emulated machine.
Outcome perf(const std::string& test, std::vector<std::string> more) {
  std::vector<std::string> command{verbena_program(), "perf", test, device_option(), "--json"};
  if (test == "floor") command.erase(command.begin() + 3);
  command.insert(command.end(), more.begin(), more.end());
  return run(command);
}

void expect_keys_in_order(const Json& line) {
  const std::vector<std::string> contract{"test",       "device",   "size",       "iterations",
                                          "latency_ns", "floor_ns", "rate_per_s", "bandwidth_bytes_per_s"};
  std::vector<std::string> keys;
  for (const auto& [key, value] : line.items()) keys.push_back(key);
  ASSERT_GE(keys.size(), contract.size());
  keys.resize(contract.size());
  EXPECT_EQ(keys, contract);
}

void expect_rising(const Json& latency) {
  double before = 0;
  for (const char* key : {"min", "p50", "p99", "p999", "max"}) {
    const double value = latency.at(key).get<double>();
    EXPECT_GE(value, before) << key;
    before = value;
  }
  EXPECT_GT(before, 0);
}

TEST(PerfOptions, TheTestMayStandBehindTheSizes) {
  const Outcome outcome =
      run({verbena_program(), "perf", "--iterations=50", "--json", "--size", "8", "floor"});
  ASSERT_EQ(outcome.status, 0) << outcome.err;
  EXPECT_EQ(lines_of(outcome.out).size(), 1U);
}

TEST(PerfOptions, SizesMayBeRepeatedOrAList) {
  const Outcome outcome = perf("send-latency", {"--iterations=50", "--size", "8,16", "--size=32"});
  ASSERT_EQ(outcome.status, 0) << outcome.err;
  EXPECT_EQ(lines_of(outcome.out).size(), 3U);
}

class PerfContract : public testing::TestWithParam<const char*> {};

TEST_P(PerfContract, ALineHasEveryKeyAndItsValueIsPlausible) {
  const std::string test = GetParam();
  const Outcome outcome = perf(test, {"--iterations=300"});
  ASSERT_EQ(outcome.status, 0) << outcome.err;
  const std::vector<Json> lines = lines_of(outcome.out);
  ASSERT_EQ(lines.size(), 1U) << outcome.out;
  const Json& line = lines[0];
  expect_keys_in_order(line);
  EXPECT_EQ(line.at("test"), test);
  if (test != "floor") {
    EXPECT_EQ(line.at("device"), test_device());
  }
  EXPECT_GE(line.at("iterations").get<std::uint64_t>(), 300U);
  EXPECT_GT(line.at("floor_ns").get<double>(), 0);
  EXPECT_GT(line.at("rate_per_s").get<double>(), 0);
  EXPECT_GT(line.at("bandwidth_bytes_per_s").get<double>(), 0);
  EXPECT_TRUE(line.at("latency_ns").is_null() || line.at("latency_ns").is_object());
  if (test.ends_with("latency") || line.at("latency_ns").is_object()) expect_rising(line.at("latency_ns"));
}

std::string name_of(const testing::TestParamInfo<const char*>& test) {
  std::string name = test.param;
  for (char& letter : name)
    if (letter == '-') letter = '_';
  return name;
}

INSTANTIATE_TEST_SUITE_P(Perf, PerfContract,
                         testing::Values("floor", "send-latency", "write-latency", "read-latency",
                                         "atomic-latency", "send-bandwidth", "write-bandwidth",
                                         "read-bandwidth", "call-latency", "call-rate"),
                         name_of);

TEST(Perf, ALineForEachSizeInTheOrderGiven) {
  for (const char* test : {"send-latency", "write-latency", "read-latency", "call-latency"}) {
    const Outcome outcome = perf(test, {"--iterations=20", "--size=1,64", "--size=4K", "--size=100000"});
    ASSERT_EQ(outcome.status, 0) << test << ": " << outcome.err;
    std::vector<std::uint64_t> sizes;
    for (const Json& line : lines_of(outcome.out)) sizes.push_back(line.at("size"));
    EXPECT_EQ(sizes, (std::vector<std::uint64_t>{1, 64, 4096, 100000})) << test;
  }
}

TEST(Perf, StreamsTakeEverySizeAtAnyDepth) {
  for (const char* test : {"send-bandwidth", "write-bandwidth", "read-bandwidth", "call-rate"})
    for (const char* depth : {"--depth=1", "--depth=3", "--depth=200"}) {
      const Outcome outcome = perf(test, {"--iterations=40", "--size=1,4096,65536", depth});
      ASSERT_EQ(outcome.status, 0) << test << " " << depth << ": " << outcome.err;
      EXPECT_EQ(lines_of(outcome.out).size(), 3U) << test;
    }
}

TEST(Perf, OneSidedStreamsTakeMemoryOfAnyKind) {
  for (const char* test : {"write-bandwidth", "read-bandwidth"}) {
    for (const char* memory : {"--memory=pool", "--memory=shared", "--memory=malloc"}) {
      const Outcome outcome = perf(test, {"--iterations=40", "--size=1,65536", memory});
      ASSERT_EQ(outcome.status, 0) << test << ": " << outcome.err;
      EXPECT_EQ(lines_of(outcome.out).size(), 2U) << test;
    }
  }
  const Outcome other = perf("send-bandwidth", {"--iterations=40", "--memory=malloc"});
  EXPECT_EQ(other.status, 2);
  EXPECT_THAT(other.err, testing::HasSubstr("--memory is for write-bandwidth and read-bandwidth"));
  const Outcome unknown = perf("read-bandwidth", {"--iterations=40", "--memory=huge"});
  EXPECT_EQ(unknown.status, 2);
  EXPECT_THAT(unknown.err, testing::HasSubstr("pool, shared or malloc"));
}

TEST(Perf, RegistrationsCostALineForEachSizeWithTheCachesCounters) {
  const Outcome outcome = perf("register", {"--iterations=20", "--size=4K,100000"});
  ASSERT_EQ(outcome.status, 0) << outcome.err;
  const std::vector<Json> lines = lines_of(outcome.out);
  ASSERT_EQ(lines.size(), 2U) << outcome.out;
  for (const Json& line : lines) {
    EXPECT_EQ(line.at("test"), "register");
    EXPECT_EQ(line.at("device"), test_device());
    EXPECT_EQ(line.at("iterations"), 20);
    for (const char* what : {"register_ns", "deregister_ns", "cached_first_ns", "cached_again_ns"})
      expect_rising(line.at(what));
    const Json& cache = line.at("cache");
    if (cache.at("not_kept") == 0) {  // where the kernel lets changes of mappings be watched
      EXPECT_EQ(cache.at("hits"), 20);
      EXPECT_EQ(cache.at("registrations"), 20) << "new pages are registered anew";
      EXPECT_GE(cache.at("invalidations"), 19) << "each exchange but the first was noticed";
    } else {
      EXPECT_EQ(cache.at("registrations"), 40);
      EXPECT_EQ(cache.at("hits"), 0);
    }
  }
}

TEST(Perf, RegistrationsNeedNoPeer) {
  expect_sentence(perf("register", {"--connect=soft0://127.0.0.1:1"}), usage, "verbena", "--connect");
  const Outcome outcome =
      run({verbena_program(), "perf", "register", device_option(), "--iterations=5", "--size=64K"});
  ASSERT_EQ(outcome.status, 0) << outcome.err;
  for (const char* word : {"deregister", "cached: first", "again", "hits", "64 KiB"})
    EXPECT_THAT(outcome.out, testing::HasSubstr(word));
}

TEST(Perf, ForPeopleHasAHeaderAndARowPerSize) {
  const Outcome outcome =
      run({verbena_program(), "perf", "send-latency", device_option(), "--iterations=50", "--size=8,64"});
  ASSERT_EQ(outcome.status, 0) << outcome.err;
  for (const char* word : {"send-latency", "device", "floor", "p50", "p99", "8 B", "64 B"})
    EXPECT_THAT(outcome.out, testing::HasSubstr(word));
  EXPECT_THAT(outcome.out, testing::HasSubstr(test_device()));
  EXPECT_EQ(outcome.err, "") << "a progress bar belongs on a terminal only";
}

TEST(Perf, TimeBoundsARun) {
  const Outcome outcome = perf("send-latency", {"--seconds=0.2"});
  ASSERT_EQ(outcome.status, 0) << outcome.err;
  EXPECT_EQ(lines_of(outcome.out).size(), 1U);
}

TEST(Perf, TwoProcessesByHandHaveNoFloor) {
  Program listener({verbena_program(), "perf", "--listen=" + listen_address()});
  const std::string address = await_address(listener);
  ASSERT_NE(address, "") << listener.wait().err;
  const Outcome outcome = perf("call-latency", {"--iterations=50", "--connect=" + address});
  ASSERT_EQ(outcome.status, 0) << outcome.err;
  EXPECT_TRUE(lines_of(outcome.out).at(0).at("floor_ns").is_null());
  listener.signal(SIGTERM);
  listener.wait();
  EXPECT_FALSE(listener.leaves_something());
}

TEST(Perf, AnOccupiedPortIsNamed) {
  Program listener({verbena_program(), "perf", "--listen=" + listen_address()});
  const std::string address = await_address(listener);
  ASSERT_NE(address, "") << listener.wait().err;
  expect_sentence(run({verbena_program(), "perf", "--listen=" + address}), failure, "verbena",
                  address.substr(address.rfind(':') + 1));
}

TEST(Perf, NobodyListeningIsSaid) {
  std::string address = listen_address();
  address.replace(address.rfind(':'), std::string::npos, ":1");
  expect_sentence(perf("send-latency", {"--connect=" + address}), failure, "verbena", ":1");
}

}  // namespace
}  // namespace verbena::test
