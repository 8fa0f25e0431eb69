// SPDX-License-Identifier: Apache-2.0
// A reply of many parts: the server writes primes as fast as the client takes them, the client stops it when
// it has seen enough. Both are coroutines on one io_context.
#include <verbena/async_stream.h>

#include <boost/asio.hpp>
#include <cstdio>
#include <cstring>
#include <string>

namespace asio = boost::asio;
namespace rpc = verbena::rpc;

constexpr rpc::MethodId primes = 1;

bool is_prime(std::uint32_t number) {
  for (std::uint32_t divisor = 2; divisor * divisor <= number; ++divisor)
    if (number % divisor == 0) return false;
  return number > 1;
}

// Endless: write() waits while the caller has 16 parts ahead, and throws when it has given up.
asio::awaitable<void> write_primes(verbena::Loop& loop, rpc::Reply reply) {
  rpc::ReplyStream stream{std::move(reply)};
  for (std::uint32_t number = 2;; ++number) {
    if (is_prime(number))
      co_await rpc::async_write(loop, stream, std::as_bytes(std::span(&number, 1)), asio::use_awaitable);
  }
}

asio::awaitable<void> read_primes(verbena::Loop& loop, std::string address, std::uint32_t& last) {
  rpc::Client client = co_await rpc::async_connect(loop, address, asio::use_awaitable);
  rpc::StreamReader parts{client, primes, {}, {.window = 16}};
  for (int i = 0; i < 1000; ++i) {
    const auto part = co_await parts.next(asio::use_awaitable);
    std::memcpy(&last, part->data(), sizeof last);
  }
}  // the reader goes: the call is cancelled, and the server hears of it

int main() {
  try {
    asio::io_context context;
    verbena::Loop loop{context};
    rpc::Server server{loop, "rdma://127.0.0.1:0"};
    bool server_done = false;
    server.on(primes, [&](rpc::Bytes, rpc::Reply& reply) {
      asio::co_spawn(context, write_primes(loop, std::move(reply)),
                     [&](std::exception_ptr) { server_done = true; });
    });

    std::uint32_t last = 0;
    const std::string address = "rdma://127.0.0.1:" + std::to_string(server.port());
    asio::co_spawn(context, read_primes(loop, address, last), [&](std::exception_ptr failure) {
      if (failure) std::rethrow_exception(failure);
    });
    while (!server_done) context.run_one();
    std::printf("the 1000th prime is %u\n", last);
    return last == 7919 ? 0 : 1;
  } catch (const std::exception& error) {
    std::fprintf(stderr, "streaming: %s\n", error.what());
    return 1;
  }
}
