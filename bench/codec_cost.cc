// SPDX-License-Identifier: Apache-2.0
// What do typed requests cost on top of bytes?
//
// Nothing is serialised: a trivially copyable value, a span and a string are sent from where they lie, so
// encoding is taking an address (below 1 ns), and decoding is a length check, and a copy only where the type
// owns its bytes.
#include <benchmark/benchmark.h>
#include <verbena/codec.h>

#include <array>
#include <string>
#include <vector>

namespace {

using verbena::Codec;

template <typename Value>
void encode(benchmark::State& state, Value value) {
  for (auto _ : state) {
    benchmark::DoNotOptimize(value);
    benchmark::DoNotOptimize(Codec<Value>::bytes(value));
  }
}

template <typename Value>
void decode(benchmark::State& state, Value value) {
  const auto bytes = Codec<Value>::bytes(value);
  for (auto _ : state) {
    benchmark::ClobberMemory();
    benchmark::DoNotOptimize(Codec<Value>::decode(bytes));
  }
}

const std::vector<double> numbers(1000, 1.5);

BENCHMARK_CAPTURE(encode, value, std::array<std::uint32_t, 4>{});
BENCHMARK_CAPTURE(encode, span, std::span<const double>(numbers));
BENCHMARK_CAPTURE(encode, text, std::string_view("a name that is looked up"));
BENCHMARK_CAPTURE(decode, value, std::array<std::uint32_t, 4>{});
BENCHMARK_CAPTURE(decode, span, std::span<const double>(numbers));
BENCHMARK_CAPTURE(decode, text, std::string_view("a name that is looked up"));
BENCHMARK_CAPTURE(decode, owned_text, std::string("a name that is looked up"));
BENCHMARK_CAPTURE(decode, owned_vector, numbers);

}  // namespace
