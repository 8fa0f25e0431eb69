// SPDX-License-Identifier: Apache-2.0
// The demonstration: what it verifies, and what it says where it can't.
#include <signal.h>
#include <stdlib.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>

#include "expect.h"

namespace verbena::test {
namespace {

class Demo : public testing::Test {
 protected:
  Demo() {
    std::string pattern = (std::filesystem::temp_directory_path() / "verbena-demo-test-XXXXXX").string();
    folder_ = ::mkdtemp(pattern.data());
  }
  ~Demo() override { std::filesystem::remove_all(folder_); }

  /// Bytes that differ everywhere, so that a chunk in a wrong place is seen.
  std::string file(std::size_t size) {
    const std::filesystem::path path = folder_ / "file";
    std::ofstream stream(path, std::ios::binary);
    for (std::uint64_t i = 0; i < size; ++i)
      stream.put(static_cast<char>((i * 0x9E37'79B9'7F4A'7C15U) >> 56));
    return path.string();
  }

  static Outcome demo(std::vector<std::string> arguments) {
    arguments.insert(arguments.begin(), demo_program());
    return run(std::move(arguments));
  }

  static std::vector<std::string> serve(const std::string& path) {
    return {demo_program(), "--serve=" + listen_address(), "--file=" + path, device_option()};
  }

  std::filesystem::path folder_;
};

class DemoOfSize : public Demo, public testing::WithParamInterface<std::size_t> {};

TEST_P(DemoOfSize, VerifiesAFile) {
  const Outcome outcome = demo({"--file=" + file(GetParam()), device_option()});
  EXPECT_EQ(outcome.status, 0) << outcome.err;
  EXPECT_EQ(outcome.err, "");
  for (const char* word : {"device", "path", "p50", "memcpy", "SHA-256", "verified"})
    EXPECT_THAT(outcome.out, testing::HasSubstr(word));
}

// A byte; not a page; a page; not a chunk; just over many chunks.
INSTANTIATE_TEST_SUITE_P(Sizes, DemoOfSize, testing::Values(1, 1000, 4096, 1'234'567, (20 << 20) + 13));

TEST_F(Demo, AChangedFileIsAMismatch) {
  const std::string path = file(100'000);
  Program server(serve(path));
  const std::string address = await_address(server);
  ASSERT_NE(address, "");
  std::fstream stream(path, std::ios::in | std::ios::out | std::ios::binary);
  stream.seekp(50'000);
  stream.put('?').put('!');
  stream.close();
  const Outcome outcome = demo({"--connect=" + address});
  EXPECT_EQ(outcome.status, failure);
  EXPECT_THAT(outcome.err, testing::HasSubstr("SHA-256 differ"));
  EXPECT_THAT(outcome.out, testing::Not(testing::HasSubstr("verified")));
}

TEST_F(Demo, AServerServesOneClientAfterTheOther) {
  Program server(serve(file(300'000)));
  const std::string address = await_address(server);
  ASSERT_NE(address, "");
  for (int client = 0; client < 2; ++client) {
    const Outcome outcome = demo({"--connect=" + address});
    EXPECT_EQ(outcome.status, 0) << outcome.err;
  }
  server.signal(SIGTERM);
  EXPECT_EQ(server.wait().signal, SIGTERM);
}

TEST_F(Demo, AServerThatDiesInTheMiddleIsSaid) {
  Program server(serve(file(1 << 20)));
  const std::string address = await_address(server);
  ASSERT_NE(address, "");
  Program client({demo_program(), "--connect=" + address});
  ASSERT_TRUE(client.read_line());  // it is connected, and times calls
  server.signal(SIGKILL);
  expect_sentence(client.wait(), failure, "verbena-demo", "server");
}

TEST_F(Demo, CtrlCLeavesNothing) {
  Program program({demo_program(), "--file=" + file(1 << 20), device_option()});
  ASSERT_TRUE(program.read_line());
  program.signal_group(SIGINT);
  EXPECT_EQ(program.wait().signal, SIGINT);
  EXPECT_FALSE(program.leaves_something());
}

// ---- What can't be served or reached ----

TEST_F(Demo, AFileThatCannotBeReadIsNamed) {
  const std::string path = (folder_ / "absent").string();
  expect_sentence(demo({"--file=" + path, device_option()}), failure, "verbena-demo", path);
  expect_sentence(demo({"--file=" + folder_.string(), device_option()}), failure, "verbena-demo",
                  "regular file");
}

TEST_F(Demo, AnEmptyFileIsRefused) {
  expect_sentence(demo({"--file=" + file(0), device_option()}), failure, "verbena-demo", "empty");
}

TEST_F(Demo, WithoutAFileOneIsAskedFor) {
  expect_sentence(demo({}), usage, "verbena-demo", "--file");
}

TEST_F(Demo, BothSidesAtOnceIsRefused) {
  expect_sentence(demo({"--serve=soft://127.0.0.1:0", "--connect=soft://127.0.0.1:1"}), usage, "verbena-demo",
                  "--serve");
}

TEST_F(Demo, AWrongAddressIsNamed) {
  expect_sentence(demo({"--connect=somewhere"}), usage, "verbena-demo", "somewhere");
  expect_sentence(demo({"--connect=soft://127.0.0.1:1"}), failure, "verbena-demo", "127.0.0.1:1");
}

TEST_F(Demo, AnOccupiedPortIsNamed) {
  const std::string path = file(1000);
  Program server(serve(path));
  const std::string address = await_address(server);
  ASSERT_NE(address, "");
  expect_sentence(demo({"--serve=" + address, "--file=" + path}), failure, "verbena-demo",
                  address.substr(address.rfind(':') + 1));
}

TEST_F(Demo, AnUnknownDeviceIsNamed) {
  expect_sentence(demo({"--file=" + file(10), "--device=mlx9_9"}), failure, "verbena-demo", "mlx9_9");
}

}  // namespace
}  // namespace verbena::test
