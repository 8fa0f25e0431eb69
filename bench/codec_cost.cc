// SPDX-License-Identifier: Apache-2.0
// What do typed requests cost on top of bytes?
//
// A value that lies in one piece (a plain value, a span, a string) is sent from there: encoding is taking an
// address (a few ns, with the list that it goes into), and decoding a length check, and a copy only where the
// type owns its bytes. A nested value costs a copy of each short part (1 to 2 ns) and nothing for the long
// ones; what it owns is allocated again when it is decoded (20 ns each). Counters: pieces of the message, and
// whether they were too many.
#include <benchmark/benchmark.h>
#include <verbena/codec.h>

#include <array>
#include <optional>
#include <string>
#include <tuple>
#include <vector>

namespace {

using verbena::Pieces;

template <typename Value>
void encode(benchmark::State& state, Value value) {
  for (auto _ : state) {
    benchmark::DoNotOptimize(value);
    Pieces pieces;
    verbena::encode(value, pieces);
    benchmark::DoNotOptimize(pieces.list().data());
  }
  Pieces pieces;
  verbena::encode(value, pieces);
  state.counters["pieces"] = static_cast<double>(pieces.list().size());
  state.counters["flattened"] = pieces.flattened();
}

template <typename Value>
void decode(benchmark::State& state, Value value) {
  Pieces pieces;
  verbena::encode(value, pieces);
  const auto bytes = pieces.flat();
  for (auto _ : state) {
    benchmark::ClobberMemory();
    benchmark::DoNotOptimize(verbena::decode<Value>(bytes));
  }
  state.SetBytesProcessed(state.iterations() * static_cast<std::int64_t>(bytes.size()));
}

struct Contact {
  std::string name;
  std::vector<std::string> mails;
  std::optional<std::int32_t> age;
};

const std::vector<double> numbers(1000, 1.5);
const std::tuple<std::string_view, std::span<const double>, std::uint32_t> named{"a name", numbers, 7};
const std::optional<std::uint64_t> maybe = 7;
const Contact contact{"Ada", {"ada@example.org", "countess@example.org"}, 36};
const std::vector<Contact> contacts(100, contact);

BENCHMARK_CAPTURE(encode, value, std::array<std::uint32_t, 4>{});
BENCHMARK_CAPTURE(encode, span, std::span<const double>(numbers));
BENCHMARK_CAPTURE(encode, text, std::string_view("a name that is looked up"));
BENCHMARK_CAPTURE(encode, optional, maybe);
BENCHMARK_CAPTURE(encode, tuple_of_views, named);
BENCHMARK_CAPTURE(encode, aggregate, contact);
BENCHMARK_CAPTURE(encode, hundred_aggregates, contacts);
BENCHMARK_CAPTURE(decode, value, std::array<std::uint32_t, 4>{});
BENCHMARK_CAPTURE(decode, span, std::span<const double>(numbers));
BENCHMARK_CAPTURE(decode, text, std::string_view("a name that is looked up"));
BENCHMARK_CAPTURE(decode, owned_text, std::string("a name that is looked up"));
BENCHMARK_CAPTURE(decode, owned_vector, numbers);
BENCHMARK_CAPTURE(decode, optional, maybe);
BENCHMARK_CAPTURE(decode, tuple_of_views, named);
BENCHMARK_CAPTURE(decode, aggregate, contact);
BENCHMARK_CAPTURE(decode, hundred_aggregates, contacts);

}  // namespace
