// SPDX-License-Identifier: Apache-2.0
// Calls as coroutines, on an io_context that the program runs: connect, call, await.
#include <verbena/asio.h>

#include <boost/asio.hpp>
#include <cstdio>
#include <numeric>
#include <string>
#include <vector>

namespace asio = boost::asio;

// A typed method: what goes in, what comes out.
struct Sum {
  static constexpr verbena::rpc::MethodId id = 7;
  using Request = std::span<const double>;
  using Result = double;
};

asio::awaitable<void> ask(verbena::Loop& loop, std::string address, bool& right) {
  auto client = co_await verbena::rpc::async_connect(loop, address, asio::use_awaitable);
  std::vector<double> numbers(1000);
  std::iota(numbers.begin(), numbers.end(), 1.0);
  const double sum = co_await verbena::rpc::async_call<Sum>(client, numbers, asio::use_awaitable);
  std::printf("the sum of 1 to 1000 is %.0f\n", sum);
  right = sum == 500500;
}

int main() {
  asio::io_context context;
  bool right = false;
  try {
    verbena::Loop loop{context};  // it runs inside the context: no thread of its own
    verbena::rpc::Server server{loop, "rdma://127.0.0.1:0"};
    server.on<Sum>([](std::span<const double> xs) { return std::accumulate(xs.begin(), xs.end(), 0.0); });

    const std::string address = "rdma://127.0.0.1:" + std::to_string(server.port());
    asio::co_spawn(context, ask(loop, address, right), [&](std::exception_ptr failure) {
      context.stop();
      if (failure) std::rethrow_exception(failure);
    });
    context.run();
  } catch (const std::exception& error) {
    std::fprintf(stderr, "coroutine: %s\n", error.what());
    return 1;
  }
  return right ? 0 : 1;
}
