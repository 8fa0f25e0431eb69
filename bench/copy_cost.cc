// SPDX-License-Identifier: Apache-2.0
// What does a copy cost, where its target lies so many bytes further into a page than its source? Expected:
// the same everywhere, 40 to 100 GB/s out of the nearest cache. memcpy(3), beside it, falls to 2 or 3 GB/s on
// some processors of AMD where that is 1 to 31: see core/copy_bytes.h.
#include <benchmark/benchmark.h>

#include <cstring>

#include "core/copy_bytes.h"
#include "core/shared_memory.h"

namespace {

template <class Copy>
void copy_ahead(benchmark::State& state, Copy copy) {
  const auto length = static_cast<std::size_t>(state.range(0));
  const auto ahead = static_cast<std::size_t>(state.range(1));
  const verbena::core::SharedMemory from(length), to(length + ahead);
  std::memset(from.data(), 1, length);
  std::memset(to.data(), 2, length + ahead);
  for (auto _ : state) {
    copy(to.data() + ahead, from.data(), length);
    benchmark::ClobberMemory();
  }
  state.SetBytesProcessed(state.iterations() * state.range(0));
}

void BM_copy_bytes(benchmark::State& state) {
  copy_ahead(state, verbena::core::copy_bytes);
}
void BM_memcpy(benchmark::State& state) {
  copy_ahead(state,
             [](std::byte* to, const std::byte* from, std::size_t length) { std::memcpy(to, from, length); });
}
#define VERBENA_LENGTHS ArgNames({"bytes", "ahead"})->ArgsProduct({{1024, 4096, 65536}, {0, 8, 16, 64, 4080}})
BENCHMARK(BM_copy_bytes)->VERBENA_LENGTHS;
BENCHMARK(BM_memcpy)->VERBENA_LENGTHS;

}  // namespace
