// SPDX-License-Identifier: Apache-2.0
// A server that sends back what it is sent, and a client that measures how long that takes.
//
//   echo serve rdma://0.0.0.0:7471
//   echo call rdma://node7:7471
//   echo                       both in this process: a server's loop on one thread, a client's on another
#include <verbena/rpc.h>

#include <array>
#include <atomic>
#include <chrono>
#include <cstdio>
#include <string>
#include <string_view>
#include <thread>

namespace {

constexpr verbena::rpc::MethodId echo = 1;

// One Loop a thread: it owns the device, and everything on it belongs to this thread.
void serve(const std::string& address, std::atomic<int>& port, const std::atomic<bool>& stop) {
  verbena::Loop loop;
  verbena::rpc::Server server{loop, address};
  server.on(echo, [](verbena::rpc::Bytes request, verbena::rpc::Reply& reply) { reply.send(request); });
  port = server.port();
  loop.run_until([&] { return stop.load(); });
}

int call(const std::string& address) {
  verbena::Loop loop;
  verbena::rpc::Client client = verbena::rpc::connect(loop, address);
  std::printf("%s\n", client.explain().c_str());

  constexpr int calls = 10'000;
  std::array<std::byte, 8> message{};
  const auto start = std::chrono::steady_clock::now();
  for (int i = 0; i < calls; ++i) {
    bool done = false;
    std::error_code failure;
    const auto error = client.call(
        echo, message,
        [&](std::error_code result, verbena::rpc::Bytes reply) {
          failure =
              reply.size() == message.size() ? result : make_error_code(verbena::errc::protocol_violation);
          done = true;
        },
        std::chrono::seconds{5});
    if (error) failure = error;
    if (!error) loop.run_until([&] { return done; });
    if (failure) {
      std::fprintf(stderr, "echo: call %d failed: %s\n", i, failure.message().c_str());
      return 1;
    }
  }
  const std::chrono::duration<double, std::micro> elapsed = std::chrono::steady_clock::now() - start;
  std::printf("%d calls, %.2f us each\n", calls, elapsed.count() / calls);
  return 0;
}

int both() {
  std::atomic<int> port{0};
  std::atomic<bool> stop{false};
  std::thread server([&] { serve("rdma://127.0.0.1:0", port, stop); });
  while (port == 0) std::this_thread::yield();
  const int result = call("rdma://127.0.0.1:" + std::to_string(port));
  stop = true;
  server.join();
  return result;
}

}  // namespace

int main(int argc, char** argv) {
  try {
    std::atomic<int> port{0};
    const std::atomic<bool> never{false};
    if (argc == 1) return both();
    if (argc == 3 && argv[1] == std::string_view("serve")) serve(argv[2], port, never);
    if (argc == 3 && argv[1] == std::string_view("call")) return call(argv[2]);
    std::fprintf(stderr, "usage: echo [serve ADDRESS | call ADDRESS]\n");
    return 2;
  } catch (const verbena::Error& error) {
    std::fprintf(stderr, "echo: %s\n", error.what());
    return 1;
  }
}
