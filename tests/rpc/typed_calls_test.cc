// SPDX-License-Identifier: Apache-2.0
// Calls of values.
#include <numeric>

#include "rpc/calls.h"

namespace verbena::test {
namespace {

struct Sum {
  static constexpr rpc::MethodId id = 11;
  using Request = std::span<const double>;
  using Result = double;
};
struct Reverse {
  static constexpr rpc::MethodId id = 12;
  using Request = std::string;
  using Result = std::string;
};
struct Squares {
  static constexpr rpc::MethodId id = 13;
  using Request = std::vector<std::int32_t>;
  using Result = std::vector<std::int64_t>;
};
struct Point {
  double x, y;
};
struct Mirror {
  static constexpr rpc::MethodId id = 14;
  using Request = Point;
  using Result = Point;
};
struct Numbers {
  static constexpr rpc::MethodId id = 15;
  using Request = std::span<const std::uint64_t>;
  using Result = std::uint64_t;
};
/// The same method, for those who don't know its types.
struct WrongResult : Mirror {
  using Result = std::int32_t;
};
struct WrongRequest : Mirror {
  using Request = std::string_view;
};

struct TypedCalls : Calls {
  TypedCalls() {
    server.on<Sum>([](std::span<const double> xs) { return std::accumulate(xs.begin(), xs.end(), 0.0); });
    server.on<Reverse>([](const std::string& text) { return std::string(text.rbegin(), text.rend()); });
    server.on<Squares>([](const std::vector<std::int32_t>& xs) {
      std::vector<std::int64_t> squares;
      for (const std::int64_t x : xs) squares.push_back(x * x);
      return squares;
    });
    server.on<Mirror>([](const Point& point) {
      if (point.x < 0) throw std::runtime_error("no such place");
      return Point{point.y, point.x};
    });
  }
  template <class Method>
  auto result_of(const typename Method::Request& request, std::error_code* failure = nullptr) {
    std::optional<typename Method::Result> result;
    bool done = false;
    std::error_code error;
    EXPECT_FALSE(
        client.call<Method>(request, [&](std::error_code code, std::optional<typename Method::Result> value) {
          error = code;
          result = std::move(value);
          done = true;
        }));
    until("a typed call", [&] { return done; });
    EXPECT_EQ(result.has_value(), !error);
    if (failure) *failure = error;
    return result;
  }
};

TEST(TypedCallsTest, ValuesOfEachKindComeAndGo) {
  TypedCalls calls;
  const std::vector<double> xs{1.5, 2.5, 3};
  EXPECT_EQ(calls.result_of<Sum>(xs), 7.0);
  EXPECT_EQ(calls.result_of<Sum>({}), 0.0);
  EXPECT_EQ(calls.result_of<Reverse>("verbena"), "anebrev");
  EXPECT_EQ(calls.result_of<Reverse>(""), "");
  EXPECT_EQ(calls.result_of<Squares>({1, -2, 100'000}), (std::vector<std::int64_t>{1, 4, 10'000'000'000}));
  EXPECT_EQ(calls.result_of<Mirror>({1, 2})->x, 2);
}

TEST(TypedCallsTest, LargeValuesComeAndGo) {
  TypedCalls calls;
  const std::vector<double> xs(100'000, 0.5);
  EXPECT_EQ(calls.result_of<Sum>(xs), 50'000.0);
  std::vector<std::int32_t> numbers(50'000);
  std::iota(numbers.begin(), numbers.end(), 0);
  const auto squares = calls.result_of<Squares>(numbers);
  ASSERT_EQ(squares->size(), numbers.size());
  EXPECT_EQ(squares->back(), 49'999LL * 49'999);
}

TEST(TypedCallsTest, ASpanLiesInTheMessageAlignedForItsType) {
  TypedCalls calls;
  calls.server.on<Numbers>([](std::span<const std::uint64_t> xs) {
    return std::accumulate(xs.begin(), xs.end(), std::uint64_t{0});
  });
  for (std::size_t count = 0; count < 300; ++count) {
    const std::vector<std::uint64_t> ones(count, 1);
    EXPECT_EQ(calls.result_of<Numbers>(ones), count);
  }
}

TEST(TypedCallsTest, WhatAHandlerThrowsIsItsFailure) {
  TypedCalls calls;
  std::error_code error;
  calls.result_of<Mirror>({-1, 0}, &error);
  EXPECT_EQ(error, code(errc::handler_failed));
}

TEST(TypedCallsTest, ARequestOfAnotherTypeIsRejected) {
  TypedCalls calls;
  std::error_code error;
  calls.result_of<WrongRequest>("not a point", &error);
  EXPECT_EQ(error, code(errc::rejected));
}

TEST(TypedCallsTest, AResultOfAnotherTypeIsAViolation) {
  TypedCalls calls;
  std::error_code error;
  calls.result_of<WrongResult>({1, 2}, &error);
  EXPECT_EQ(error, code(errc::protocol_violation));
  EXPECT_TRUE(calls.client.is_open());
}

}  // namespace
}  // namespace verbena::test
