// SPDX-License-Identifier: Apache-2.0
// Calls of values.
#include <algorithm>
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
  bool operator==(const Point&) const = default;
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
struct Scale {
  static constexpr rpc::MethodId id = 16;
  using Request = std::tuple<std::string, std::span<const double>>;
  using Result = std::vector<std::pair<std::string, double>>;
};
struct Find {
  static constexpr rpc::MethodId id = 17;
  using Request = std::vector<std::string_view>;
  using Result = std::optional<std::uint64_t>;
};
struct Book {
  std::string title;
  std::vector<std::string> authors;
  std::optional<Point> shelf;
  bool operator==(const Book&) const = default;
};
struct Copy {
  static constexpr rpc::MethodId id = 18;
  using Request = Book;
  using Result = std::vector<Book>;
};
struct Count {
  static constexpr rpc::MethodId id = 19;
  using Request = void;
  using Result = std::uint32_t;
};
struct Note {
  static constexpr rpc::MethodId id = 20;
  using Request = std::string;
  using Result = void;
};
struct Reset {
  static constexpr rpc::MethodId id = 21;
  using Request = void;
  using Result = void;
};
/// The same method, for those who don't know its types.
struct WrongResult : Mirror {
  using Result = std::int32_t;
};
struct WrongRequest : Mirror {
  using Request = std::string_view;
};
struct NoRequest : Mirror {
  using Request = void;
};
struct NoResult : Mirror {
  using Result = void;
};
struct ARequest : Count {
  using Request = std::uint8_t;
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
    server.on<Scale>([](const Scale::Request& request) {
      const auto& [name, factors] = request;
      Scale::Result result;
      for (const double factor : factors) result.emplace_back(name.substr(0, 4), factor);
      return result;
    });
    server.on<Find>([](const std::vector<std::string_view>& names) -> std::optional<std::uint64_t> {
      const auto found = std::ranges::find(names, "needle");
      if (found == names.end()) return std::nullopt;
      return static_cast<std::uint64_t>(found - names.begin());
    });
    server.on<Copy>([](Book book) {
      std::vector<Book> books(3, book);
      books.push_back(std::move(book));
      return books;
    });
    server.on<Count>([this] { return static_cast<std::uint32_t>(notes.size()); });
    server.on<Note>([this](std::string note) {
      if (note.empty()) throw std::runtime_error("nothing to note");
      notes.push_back(std::move(note));
    });
    server.on<Reset>([this] { notes.clear(); });
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
  /// The same where nothing goes in, or nothing comes out.
  template <class Method>
  std::optional<std::uint32_t> result_of_nothing() {
    std::optional<std::optional<std::uint32_t>> result;
    EXPECT_FALSE(
        client.call<Method>([&](std::error_code, std::optional<std::uint32_t> value) { result = value; }));
    until("a call without a request", [&] { return result.has_value(); });
    return *result;
  }
  template <class Method, class... Request>
  std::error_code end_of(const Request&... request) {
    std::optional<std::error_code> end;
    EXPECT_FALSE(client.call<Method>(request..., [&](std::error_code error) { end = error; }));
    until("a call without a result", [&] { return end.has_value(); });
    return *end;
  }

  std::vector<std::string> notes;
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

TEST(TypedCallsTest, NestedValuesComeAndGo) {
  TypedCalls calls;
  const std::vector<double> factors{1, 2.5};
  EXPECT_EQ(calls.result_of<Scale>({"x", factors}), (Scale::Result{{"x", 1}, {"x", 2.5}}));
  EXPECT_EQ(calls.result_of<Find>({"hay", "needle"}), std::optional<std::uint64_t>(1));
  const auto none = calls.result_of<Find>({"hay", "straw"});
  ASSERT_TRUE(none);
  EXPECT_FALSE(none->has_value());
  const Book book{"Verbs", {"Ada", "", std::string(100, 'x')}, Point{1, 2}};
  EXPECT_EQ(calls.result_of<Copy>(book), std::vector<Book>(4, book));
}

TEST(TypedCallsTest, LargeNestedValuesComeAndGo) {
  TypedCalls calls;
  for (const std::size_t size : {900U, 1000U, 1100U, 5000U, 100'000U}) {
    SCOPED_TRACE(size);
    const std::vector<double> factors(size / 8, 0.5);
    EXPECT_EQ(calls.result_of<Scale>({std::string(size, 's'), factors})->size(), factors.size());
    Book book{std::string(size, 't'), {}, {}};
    for (std::size_t i = 0; i < size / 20; ++i)
      book.authors.emplace_back(i % 80, 'a');  // too many for pieces
    EXPECT_EQ(calls.result_of<Copy>(book), std::vector<Book>(4, book));
  }
}

// Some are read in place after the call has returned: their short parts, which were copied, have to be there.
TEST(TypedCallsTest, LargeNestedRequestsStandInLine) {
  TypedCalls calls;
  std::vector<std::vector<double>> factors;
  for (std::size_t i = 1; i <= 4; ++i) factors.emplace_back(i * 500, static_cast<double>(i));
  std::size_t done = 0;
  for (const auto& xs : factors) {
    const auto check = [&](std::error_code error, std::optional<Scale::Result> result) {
      EXPECT_EQ(error, std::error_code{});
      ASSERT_TRUE(result);
      EXPECT_EQ(result->size(), xs.size());
      EXPECT_EQ(result->back(), (std::pair<std::string, double>{"name", xs.front()}));
      ++done;
    };
    ASSERT_EQ(calls.client.call<Scale>({"name", xs}, check), std::error_code{});
  }
  calls.until("all of them", [&] { return done == factors.size(); });
}

TEST(TypedCallsTest, NothingMayGoInAndNothingMayComeOut) {
  TypedCalls calls;
  EXPECT_EQ(calls.result_of_nothing<Count>(), 0U);
  EXPECT_FALSE(calls.end_of<Note>("one"));
  EXPECT_FALSE(calls.end_of<Note>("two"));
  EXPECT_EQ(calls.result_of_nothing<Count>(), 2U);
  EXPECT_EQ(calls.end_of<Note>(""), code(errc::handler_failed));
  EXPECT_FALSE(calls.end_of<Reset>());
  EXPECT_EQ(calls.result_of_nothing<Count>(), 0U);
}

TEST(TypedCallsTest, NothingWhereSomethingIsExpectedIsRefused) {
  TypedCalls calls;
  EXPECT_EQ(calls.end_of<NoResult>(Point{1, 2}), code(errc::protocol_violation));
  std::error_code error;
  calls.result_of<ARequest>(std::uint8_t{1}, &error);
  EXPECT_EQ(error, code(errc::rejected));
  bool done = false;
  EXPECT_FALSE(calls.client.call<NoRequest>(
      [&](std::error_code failure, std::optional<Point> result) {
        EXPECT_EQ(failure, code(errc::rejected));
        EXPECT_FALSE(result);
        done = true;
      },
      std::chrono::seconds{5}));
  calls.until("its end", [&] { return done; });
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
