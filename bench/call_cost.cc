// SPDX-License-Identifier: Apache-2.0
// What does a call cost the processors, all in all: encode, post, receive, dispatch, answer, complete?
//
// Client and server are two loops in one thread on soft0, turned one after the other, so both sides'
// instructions are counted and no waiting is. Expected: four crossings of soft0's rings (60–100 ns each way
// with completions) and a few tens of nanoseconds for headers, credits and tables: 250–400 ns for one call at
// a time; batches of 32 share turns and doorbells: 100–150 ns a call. The best library on this kind of
// machine needs some 900 instructions a call.
#include <benchmark/benchmark.h>
#include <verbena/loop.h>
#include <verbena/rpc.h>

#include <fmt/format.h>

#include <array>
#include <stdexcept>
#include <vector>

#include "tools/common/samples.h"

namespace {

using namespace verbena;

struct Sum {
  static constexpr rpc::MethodId id = 1;
  using Request = std::array<std::uint32_t, 2>;
  using Result = std::uint64_t;
};
constexpr rpc::MethodId echo = 2;

Options options() {
  Options options;
  options.device = "soft0";
  options.busy_poll = true;
  options.peers = 2;
  return options;
}

/// Throws instead of hanging.
template <typename Predicate>
void turn_until(Loop& first, Loop& second, Predicate&& happened) {
  constexpr unsigned patience = 50'000'000;
  for (unsigned turns = 0; !happened(); ++turns) {
    first.poll();
    second.poll();
    if (turns == patience) throw std::runtime_error("nothing happens");
  }
}

class BothSides {
 public:
  BothSides()
      : server_loop_(options()), client_loop_(options()), server_(server_loop_, "soft://127.0.0.1:0") {
    server_.on<Sum>([](const Sum::Request& terms) { return std::uint64_t{terms[0]} + terms[1]; });
    server_.on(echo, [](rpc::Bytes request, rpc::Reply& reply) { reply.send(request); });
    bool connected = false;
    rpc::connect(client_loop_, fmt::format("soft://127.0.0.1:{}", server_.port()),
                 [this, &connected](const Error* error, rpc::Client client) {
                   if (error != nullptr) throw Error(*error);
                   client_ = std::move(client);
                   connected = true;
                 });
    turn_until(client_loop_, server_loop_, [&] { return connected; });
  }

  rpc::Client& client() { return client_; }
  /// Until `completed` reaches `count`; the client's turn first sends what is queued.
  void await(const std::size_t& completed, std::size_t count) {
    turn_until(client_loop_, server_loop_, [&] { return completed == count; });
  }

 private:
  Loop server_loop_;
  Loop client_loop_;
  rpc::Server server_;
  rpc::Client client_;
};

void must(std::error_code error) {
  if (error) throw std::system_error(error);
}

void BM_call(benchmark::State& state) {
  BothSides sides;
  const std::vector<std::byte> request(static_cast<std::size_t>(state.range(0)));
  const auto batch = static_cast<std::size_t>(state.range(1));
  for (auto _ : state) {
    std::size_t completed = 0;
    for (std::size_t i = 0; i < batch; ++i)
      must(sides.client().call(
          echo, request, [&completed](std::error_code error, rpc::Bytes) { completed += error ? 0 : 1; }));
    sides.await(completed, batch);
  }
  state.SetItemsProcessed(state.iterations() * state.range(1));
}
BENCHMARK(BM_call)->ArgNames({"bytes", "batch"})->ArgsProduct({{8, 1024}, {1, 32}})->Args({65536, 1});

/// The same with types, one at a time, with its distribution.
void BM_typed_call(benchmark::State& state) {
  BothSides sides;
  constexpr std::size_t most = 100'000;
  tools::Samples samples(most);
  for (auto _ : state) {
    const tools::Ticks before = tools::now_ticks();
    std::size_t completed = 0;
    must(sides.client().call<Sum>({3, 4}, [&completed](std::error_code, std::optional<std::uint64_t> sum) {
      completed += sum == 7U ? 1 : 0;
    }));
    sides.await(completed, 1);
    if (samples.room() > 0) samples.add(tools::now_ticks() - before);
  }
  const tools::Distribution found = samples.distribution();
  state.counters["p50_ns"] = found.p50;
  state.counters["p99_ns"] = found.p99;
}
BENCHMARK(BM_typed_call);

/// What a turn costs that finds nothing.
void BM_idle_turn(benchmark::State& state) {
  Loop loop(options());
  for (auto _ : state) benchmark::DoNotOptimize(loop.poll());
}
BENCHMARK(BM_idle_turn);

}  // namespace
