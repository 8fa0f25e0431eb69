// SPDX-License-Identifier: Apache-2.0
// Four processes count primes. The first has all the tasks; who has none steals half of another's.
#include <spawn.h>
#include <unistd.h>
#include <verbena/asio.h>

#include <array>
#include <boost/asio.hpp>
#include <cstdio>
#include <map>
#include <random>
#include <string>
#include <vector>

namespace asio = boost::asio;
namespace rpc = verbena::rpc;
using asio::use_awaitable;
using Numbers = std::vector<std::uint32_t>;        // of ports; of tasks: where each begins
using Peers = std::map<std::string, rpc::Client>;  // by port

constexpr std::uint32_t processes = 4, task_size = 1000, limit = 1'000'000, wanted = 78'498;

struct Report {  // my port, tasks done and primes found since the last one; answered with all ports
  static constexpr rpc::MethodId id = 1;
  using Request = std::array<std::uint32_t, 3>;
  using Result = Numbers;
};
struct Steal {
  static constexpr rpc::MethodId id = 2;
  using Request = void;
  using Result = Numbers;
};

std::uint32_t count_primes(std::uint32_t first) {
  std::uint32_t count = 0;
  for (std::uint32_t n = first, divisor = 2; n < first + task_size; ++n, divisor = 2) {
    while (divisor * divisor <= n && n % divisor != 0) ++divisor;
    count += n > 1 && divisor * divisor > n;
  }
  return count;
}

// Handlers, calls and the work take turns in one thread: no lock, and a thief waits for one task at most.
asio::awaitable<void> work(rpc::Server& server, Numbers& tasks, Peers& peers, std::string first) {
  std::minstd_rand dice(server.port());
  for (std::string victim = first;;) {
    if (!peers.contains(victim))
      peers[victim] = co_await rpc::async_connect(server.loop(), "rdma://127.0.0.1:" + victim, use_awaitable);
    const Numbers stolen = co_await rpc::async_call<Steal>(peers[victim], use_awaitable);
    tasks.insert(tasks.end(), stolen.begin(), stolen.end());
    Report::Request report{server.port(), 0, 0};
    for (; !tasks.empty(); ++report[1]) {
      report[2] += count_primes(tasks.back());
      tasks.pop_back();
      co_await asio::post(use_awaitable);
    }
    const Numbers ports = co_await rpc::async_call<Report>(peers[first], report, use_awaitable);
    victim = std::to_string(ports[dice() % ports.size()]);
  }
}

int main(int argc, char** argv) {
  asio::io_context context{1};  // outlives the loop, which outlives its clients
  verbena::Loop loop{context};
  rpc::Server server{loop, "rdma://127.0.0.1:0"};
  Numbers tasks;
  server.on<Steal>([&] {
    const auto half = tasks.begin() + static_cast<std::ptrdiff_t>((tasks.size() + 1) / 2);
    const Numbers stolen(tasks.begin(), half);
    tasks.erase(tasks.begin(), half);
    return stolen;
  });
  std::map<std::uint32_t, std::uint32_t> done;  // tasks, by port
  std::uint32_t primes = 0, left = limit / task_size;
  server.on<Report>([&](const Report::Request& report) {
    const auto [port, count, found] = report;
    done[port] += count;
    primes += found;
    left -= count;
    if (left == 0 && done.size() == processes) asio::post(context, [&] { context.stop(); });
    Numbers ports;
    for (const auto& [each, unused] : done) ports.push_back(each);
    return ports;
  });
  const bool is_first = argc == 1;
  std::string first = is_first ? std::to_string(server.port()) : argv[1];
  char* const arguments[] = {argv[0], first.data(), nullptr};
  for (std::uint32_t task = 0; is_first && task < limit; task += task_size) tasks.push_back(task);
  for (std::uint32_t i = 1; is_first && i < processes; ++i)
    posix_spawn(nullptr, "/proc/self/exe", nullptr, nullptr, arguments, environ);
  Peers peers;
  // A call fails when a peer has left: then all is done.
  asio::co_spawn(context, work(server, tasks, peers, first), [&](std::exception_ptr) { context.stop(); });
  context.run_for(std::chrono::seconds(60));
  for (const auto& [port, count] : done) std::printf("port %u: %u tasks\n", port, count);
  if (is_first) std::printf("%u primes below %u\n", primes, limit);
  return !is_first || primes == wanted ? 0 : 1;
}
