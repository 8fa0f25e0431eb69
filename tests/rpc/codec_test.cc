// SPDX-License-Identifier: Apache-2.0
// What values become as bytes, and what any bytes become.
#include "verbena/codec.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <chrono>
#include <complex>
#include <cstdlib>
#include <memory>
#include <new>
#include <string>
#include <tuple>
#include <vector>

#include "support/seed.h"

namespace {

std::size_t allocated = 0;  // bytes, in all

}  // namespace

[[gnu::noinline]] void* operator new(std::size_t size) {
  allocated += size;
  if (void* memory = std::malloc(std::max<std::size_t>(size, 1))) return memory;
  throw std::bad_alloc{};
}
[[gnu::noinline]] void operator delete(void* memory) noexcept {
  std::free(memory);
}
[[gnu::noinline]] void operator delete(void* memory, std::size_t) noexcept {
  std::free(memory);
}

namespace verbena::test {
namespace {

using Message = std::vector<std::byte>;

struct Point {
  double x, y;
  bool operator==(const Point&) const = default;
};
struct Flags {
  std::uint16_t id;
  bool set;
  std::array<bool, 3> others;
  bool operator==(const Flags&) const = default;
};
enum class Colour : std::uint8_t { red, green };
struct Person {
  std::string name;
  std::vector<std::string> mails;
  std::optional<Point> home;
  char initials[3];
  std::array<std::string, 2> parents;
  Colour colour;
  bool operator==(const Person&) const = default;
};
struct Group {
  std::uint32_t id;
  std::vector<Person> people;
  std::vector<Point> places;
  std::pair<std::string, std::optional<std::vector<std::int16_t>>> note;
  std::tuple<bool, std::vector<bool>, Flags> rest;
  bool operator==(const Group&) const = default;
};
struct Sixteen {
  std::string a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p;
  bool operator==(const Sixteen&) const = default;
};

/// Move-only, with the least that a codec can be.
struct Ticket {
  std::unique_ptr<std::uint64_t> number;
};

/// In the form of pieces: its length is known only when it has been written.
struct Lines {
  std::vector<std::string> lines;
  bool operator==(const Lines&) const = default;
};

/// In the form of a stream, and of any depth: its own codec has to bound it.
struct Tree {
  std::uint32_t value = 0;
  std::vector<Tree> children;
  bool operator==(const Tree&) const = default;
};

}  // namespace
}  // namespace verbena::test

template <>
struct verbena::Codec<verbena::test::Ticket> {
  static std::span<const std::byte> bytes(const test::Ticket& ticket) {
    return ticket.number ? std::as_bytes(std::span{ticket.number.get(), 1}) : std::span<const std::byte>{};
  }
  static std::optional<test::Ticket> decode(std::span<const std::byte> bytes) {
    if (bytes.empty()) return test::Ticket{};
    const auto number = verbena::decode<std::uint64_t>(bytes);
    if (!number) return std::nullopt;
    return test::Ticket{std::make_unique<std::uint64_t>(*number)};
  }
};

template <>
struct verbena::Codec<verbena::test::Lines> {
  static void encode(const test::Lines& value, Pieces& pieces) {
    for (const std::string& line : value.lines) {
      pieces.put(std::as_bytes(std::span{line}));
      pieces.copy(std::as_bytes(std::span{"\n", 1}));
    }
  }
  static std::optional<test::Lines> decode(std::span<const std::byte> bytes) {
    test::Lines value;
    std::string_view text{reinterpret_cast<const char*>(bytes.data()), bytes.size()};
    while (!text.empty()) {
      const std::size_t end = text.find('\n');
      if (end == text.npos) return std::nullopt;
      value.lines.emplace_back(text.substr(0, end));
      text.remove_prefix(end + 1);
    }
    return value;
  }
};

template <>
struct verbena::Codec<verbena::test::Tree> {
  static constexpr std::size_t least_bytes = 5;
  static void encode(const test::Tree& tree, Pieces& pieces) {
    encode_within(tree.value, pieces);
    encode_within(static_cast<std::uint8_t>(tree.children.size()), pieces);
    for (const test::Tree& child : tree.children) encode(child, pieces);
  }
  static std::optional<test::Tree> decode(Reader& reader) { return decode(reader, 8); }

 private:
  static std::optional<test::Tree> decode(Reader& reader, int depth) {
    const auto value = decode_within<std::uint32_t>(reader);
    const auto count = decode_within<std::uint8_t>(reader);
    if (depth == 0 || !value || !count) return std::nullopt;
    test::Tree tree{*value, {}};
    for (int i = 0; i < *count; ++i) {
      auto child = decode(reader, depth - 1);
      if (!child) return std::nullopt;
      tree.children.push_back(std::move(*child));
    }
    return tree;
  }
};

namespace verbena::test {
namespace {

// ---- Which types ----

struct HasPointer {
  int a;
  const char* text;
};
struct HasView {
  std::string_view text;
  int a;
};
struct Deep {
  HasPointer inner[2];
};
struct Derived : Point {
  int more;
};
struct Name {
  char text[4096];
  int length;
};
union Either {
  int a;
  float b;
};
struct Seventeen {
  int a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p, q;
};
struct Said {
  int a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p, q;
};
class Private {
 public:
  explicit Private(int a) : a_(a) {}
  int a() const { return a_; }

 private:
  int a_;
};

template <class... Ts>
constexpr bool plain = (detail::Plain<Ts> && ...);
template <class... Ts>
constexpr bool any_encodable = (Encodable<Ts> || ...);
template <class... Ts>
constexpr bool encodable = (Encodable<Ts> && ...);

}  // namespace
}  // namespace verbena::test

template <>
inline constexpr bool verbena::sent_as_bytes<verbena::test::Said> = true;

namespace verbena::test {
namespace {

static_assert(
    plain<int, bool, double, Colour, std::byte, Point, Flags, Name, Derived, Either, Private, Said>);
static_assert(plain<std::array<Point, 3>, std::complex<float>, std::chrono::nanoseconds, std::monostate>);
static_assert(!plain<HasView> && !plain<std::string_view> && !plain<std::optional<int>>);
static_assert(encodable<HasView, Person, Group, Sixteen, Ticket, Lines, Tree, std::vector<Ticket>>);
static_assert(encodable<std::array<std::string, 2>, std::optional<std::optional<int>>, std::vector<bool>>);
static_assert(
    !any_encodable<void, int&, const int, int[2], char*, std::nullptr_t, HasPointer, Deep, Seventeen>);
static_assert(
    !any_encodable<int Point::*, std::unique_ptr<int>, std::error_code, std::reference_wrapper<int>>);
static_assert(!any_encodable<std::span<int>, std::span<const int, 2>, std::span<const HasPointer>>);
static_assert(!any_encodable<std::optional<char*>, std::vector<char*>, std::tuple<int, char*>,
                             std::pair<int, int&>, std::array<char*, 2>>);
static_assert(detail::is_view<HasView>() && detail::is_view<std::vector<std::string_view>>());
static_assert(!detail::is_view<Group>() && !detail::is_view<void>());

// ---- There and back ----

template <class T>
Message encoded(const T& value) {
  Pieces pieces;
  encode(value, pieces);
  Message joined;
  for (const auto piece : pieces.list()) {
    EXPECT_FALSE(piece.empty());
    joined.insert(joined.end(), piece.begin(), piece.end());
  }
  EXPECT_EQ(joined.size(), pieces.size());
  EXPECT_LE(pieces.list().size(), Pieces::max_pieces);
  return joined;
}

template <class T>
void expect_round_trip(const T& value) {
  const std::optional<T> back = decode<T>(encoded(value));
  ASSERT_TRUE(back);
  EXPECT_TRUE(*back == value);
}

TEST(CodecTest, ValuesOfEachKindComeBack) {
  expect_round_trip(42);
  expect_round_trip(true);
  expect_round_trip(Colour::green);
  expect_round_trip(Point{1, 2});
  expect_round_trip(Flags{1, true, {false, true, false}});
  expect_round_trip(std::string("text"));
  expect_round_trip(std::string());
  expect_round_trip(std::vector<int>{1, 2, 3});
  expect_round_trip(std::vector<Point>{});
  expect_round_trip(std::vector<bool>{true, false, true});
  expect_round_trip(std::vector<std::string>{"a", "", std::string(1000, 'c')});
  expect_round_trip(std::vector<std::vector<std::vector<std::uint8_t>>>{{{1}, {}}, {}, {{2, 3}}});
  expect_round_trip(std::optional<std::string>("x"));
  expect_round_trip(std::optional<std::string>());
  expect_round_trip(std::optional<std::optional<int>>(std::in_place));
  expect_round_trip(std::pair<std::string, int>("x", 1));
  expect_round_trip(std::tuple<int, std::string, double>(1, "x", 2));
  expect_round_trip(std::tuple<std::tuple<std::tuple<std::string>>>("x"));
  expect_round_trip(std::array<std::string, 2>{"a", "b"});
  expect_round_trip(Person{"n", {"m", "l"}, Point{1, 2}, {'a', 'b', 'c'}, {"p", "q"}, Colour::red});
  Sixteen sixteen;
  sixteen.a = "first";
  sixteen.p = "last";
  expect_round_trip(sixteen);
  expect_round_trip(Lines{{"one", "", std::string(100, 'x')}});
  expect_round_trip(std::vector<Lines>{{{"one"}}, {}, {{"two", "three"}}});
  expect_round_trip(std::tuple<Tree, int>(Tree{1, {{2, {}}, {3, {{4, {}}}}}}, 5));
  EXPECT_EQ(decode<Private>(encoded(Private(7)))->a(), 7);
}

TEST(CodecTest, AMoveOnlyTypeOfOnesOwnComesBackAloneAndWithinOthers) {
  EXPECT_EQ(*decode<Ticket>(encoded(Ticket{std::make_unique<std::uint64_t>(7)}))->number, 7U);
  using Both = std::tuple<std::string, Ticket, std::optional<Ticket>>;
  const Both both{"x", Ticket{std::make_unique<std::uint64_t>(8)}, Ticket{}};
  const auto back = decode<Both>(encoded(both));
  ASSERT_TRUE(back);
  EXPECT_EQ(*std::get<1>(*back).number, 8U);
  EXPECT_TRUE(std::get<2>(*back).has_value());
  std::vector<Ticket> many(3);
  many[1].number = std::make_unique<std::uint64_t>(9);
  EXPECT_EQ(*decode<std::vector<Ticket>>(encoded(many))->at(1).number, 9U);
}

TEST(CodecTest, ASideMaySendAVectorAndTheOtherSeeASpan) {
  using Sent = std::tuple<std::string, std::vector<double>>;
  using Seen = std::tuple<std::string_view, std::span<const double>>;
  const Message bytes = encoded(Sent{"odd", {1, 2, 3}});
  const auto seen = decode<Seen>(bytes);
  ASSERT_TRUE(seen);
  EXPECT_EQ(std::get<0>(*seen), "odd");
  EXPECT_EQ(std::get<1>(*seen)[2], 3.0);
  EXPECT_GE(reinterpret_cast<const std::byte*>(std::get<1>(*seen).data()), bytes.data());
  EXPECT_EQ(encoded(*seen), bytes);
}

// The page docs/typed-calls.md, in bytes.
TEST(CodecTest, TheBytesAreAsTheyAreDocumented) {
  const auto bytes = [](std::initializer_list<int> values) {
    Message message;
    for (const int value : values) message.push_back(static_cast<std::byte>(value));
    return message;
  };
  EXPECT_EQ(encoded(std::string("ab")), bytes({'a', 'b'}));
  EXPECT_EQ(encoded(std::tuple(std::uint16_t{1}, std::string("ab"), std::vector<std::uint16_t>{3})),
            bytes({1,   0, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0, 'a',
                   'b', 0, 0, 0, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0, 3, 0}));
  EXPECT_EQ(encoded(std::optional<std::uint16_t>(5)), bytes({1, 5, 0}));
  EXPECT_EQ(encoded(std::vector<std::optional<std::uint8_t>>{{}, 7}),
            bytes({2, 0, 0, 0, 0, 0, 0, 0, 0, 1, 7}));
}

// ---- Alignment ----

struct alignas(16) Wide {
  std::uint64_t a, b;
  bool operator==(const Wide&) const = default;
};

template <class T>
void expect_aligned_behind(std::size_t text) {
  using Value = std::tuple<std::string, std::vector<T>, std::uint8_t, std::vector<T>>;
  using Seen = std::tuple<std::string_view, std::span<const T>, std::uint8_t, std::span<const T>>;
  const Value value{std::string(text, 'x'), std::vector<T>(3), 1, std::vector<T>(100)};
  const Message joined = encoded(value);
  alignas(16) std::array<std::byte, 4096> payload;
  ASSERT_LE(joined.size(), payload.size());
  std::ranges::copy(joined, payload.begin());
  const auto seen = decode<Seen>(std::span{payload}.first(joined.size()));
  ASSERT_TRUE(seen) << text;
  EXPECT_EQ(reinterpret_cast<std::uintptr_t>(std::get<1>(*seen).data()) % alignof(T), 0U);
  EXPECT_EQ(std::get<3>(*seen).size(), 100U);
}

TEST(CodecTest, NestedSpansAreAlignedForTheirType) {
  for (std::size_t text = 0; text < 80; ++text) {
    expect_aligned_behind<std::uint8_t>(text);
    expect_aligned_behind<std::uint16_t>(text);
    expect_aligned_behind<float>(text);
    expect_aligned_behind<double>(text);
    expect_aligned_behind<Wide>(text);
  }
}

TEST(CodecTest, AnUnalignedSpanIsNothing) {
  alignas(16) std::array<std::byte, 24> bytes{};
  EXPECT_TRUE(decode<std::span<const double>>(std::span{bytes}.first(16)));
  EXPECT_FALSE(decode<std::span<const double>>(std::span{bytes}.subspan(1, 16)));
}

// ---- Pieces ----

TEST(PiecesOfAMessageTest, AValueInOnePieceStaysWhereItIs) {
  const std::vector<double> xs(1000);
  Pieces pieces;
  encode(xs, pieces);
  ASSERT_EQ(pieces.list().size(), 1U);
  EXPECT_EQ(static_cast<const void*>(pieces.list()[0].data()), xs.data());
  EXPECT_TRUE(pieces.borrowed());
  EXPECT_EQ(pieces.flat().data(), pieces.list()[0].data());
  EXPECT_FALSE(pieces.flattened());
}

TEST(PiecesOfAMessageTest, LongMemoryIsBorrowedAndShortThingsAreMerged) {
  const std::tuple<int, std::string, std::vector<double>, std::vector<int>, std::uint8_t> value{
      1, "short", std::vector<double>(100), {1, 2}, std::uint8_t{3}};
  Pieces pieces;
  encode(value, pieces);
  ASSERT_EQ(pieces.list().size(), 3U);
  EXPECT_EQ(static_cast<const void*>(pieces.list()[1].data()), std::get<2>(value).data());
  EXPECT_FALSE(pieces.flattened());
  EXPECT_FALSE(pieces.borrowed());
}

TEST(PiecesOfAMessageTest, TooManyPiecesAreFlattenedAndRight) {
  std::vector<std::string> texts;
  for (std::size_t i = 0; i < 40; ++i) {
    texts.emplace_back(100 + i, static_cast<char>('a' + i % 26));
    Pieces pieces;
    encode(texts, pieces);
    EXPECT_EQ(pieces.flattened(), pieces.list().size() == 1) << i;
    EXPECT_EQ(pieces.flattened(), texts.size() > Pieces::max_pieces / 2) << i;
    EXPECT_EQ(decode<std::vector<std::string>>(encoded(texts)), texts);
  }
}

TEST(PiecesOfAMessageTest, TooManyShortThingsAreFlattenedAndRight) {
  std::vector<std::string> texts;
  for (std::size_t i = 0; i < 100; ++i) {
    texts.emplace_back(i % 5, 'x');
    Pieces pieces;
    encode(texts, pieces);
    EXPECT_EQ(pieces.list().size(), 1U);
    EXPECT_EQ(pieces.flattened(), pieces.size() > Pieces::scratch_size);
    EXPECT_EQ(decode<std::vector<std::string>>(pieces.flat()), texts);
  }
}

TEST(PiecesOfAMessageTest, ALengthIsFilledInBeforeAndAfterFlattening) {
  for (std::size_t count = 0; count < 30; ++count) {
    std::tuple<std::string, Lines, int, Lines> value;
    std::get<0>(value).assign(count * 11, 'y');
    std::get<1>(value).lines.assign(count, std::string(70, 'x'));
    std::get<3>(value).lines.assign(count, std::string(3, 'z'));
    EXPECT_EQ((decode<std::tuple<std::string, Lines, int, Lines>>(encoded(value))), value) << count;
  }
}

TEST(PiecesOfAMessageTest, AnythingWrittenComesOutInOrder) {
  for (int round = 0; round < 300; ++round) {
    Dice dice;
    Message source(300);
    dice.fill(source);
    Pieces pieces;
    Message wanted;
    for (std::size_t writes = dice.between(0, 40); writes > 0; --writes) {
      const auto bytes = std::span<const std::byte>(source).first(dice.between(0, source.size()));
      const std::size_t how = dice.between(0, 3);
      if (how == 0) pieces.borrow(bytes);
      if (how == 1) pieces.copy(bytes);
      if (how == 2) pieces.put(bytes);
      if (how == 3) {
        pieces.pad(16);
        wanted.resize((wanted.size() + 15) / 16 * 16);
      } else {
        wanted.insert(wanted.end(), bytes.begin(), bytes.end());
      }
    }
    ASSERT_EQ(pieces.size(), wanted.size());
    EXPECT_TRUE(std::ranges::equal(pieces.flat(), wanted));
  }
}

// ---- By chance ----

std::string some_text(Dice& dice) {
  std::string text(dice.one_in(8) ? dice.between(60, 500) : dice.between(0, 20), ' ');
  for (char& c : text) c = static_cast<char>(dice.word());
  return text;
}

template <class Make>
auto some(Dice& dice, std::size_t most, Make make) {
  std::vector<decltype(make(dice))> values;
  for (std::size_t n = dice.between(0, most); n > 0; --n) values.push_back(make(dice));
  return values;
}

Point some_point(Dice& dice) {
  return {static_cast<double>(dice.word()), static_cast<double>(dice.word())};
}

Person some_person(Dice& dice) {
  Person person{some_text(dice), some(dice, 4, some_text), {}, {}, {some_text(dice), ""}, Colour::red};
  if (dice.one_in(2)) person.home = some_point(dice);
  person.initials[1] = static_cast<char>(dice.word());
  return person;
}

Group some_group(Dice& dice) {
  Group group{static_cast<std::uint32_t>(dice.word()),
              some(dice, 5, some_person),
              some(dice, 20, some_point),
              {some_text(dice), {}},
              {dice.one_in(2), {}, {1, true, {true, false, dice.one_in(2)}}}};
  if (dice.one_in(2))
    group.note.second = some(dice, 50, [](Dice& d) { return static_cast<std::int16_t>(d.word()); });
  for (std::size_t n = dice.between(0, 9); n > 0; --n) std::get<1>(group.rest).push_back(dice.one_in(2));
  return group;
}

TEST(CodecByChanceTest, AnyNestedValueComesBack) {
  for (int round = 0; round < 500; ++round) {
    Dice dice;
    expect_round_trip(some_group(dice));
  }
}

/// In memory of its very size, so that a sanitizer sees each read beyond it.
template <class T>
std::optional<T> decoded_from_exactly(std::span<const std::byte> bytes) {
  const std::unique_ptr<std::byte[]> copy(new std::byte[bytes.size()]);
  std::ranges::copy(bytes, copy.get());
  return decode<T>({copy.get(), bytes.size()});
}

TEST(CodecByChanceTest, TruncatedBytesAreNothing) {
  for (int round = 0; round < 20; ++round) {
    Dice dice;
    const Message bytes = encoded(some_group(dice));
    for (std::size_t size = 0; size < bytes.size(); ++size)
      EXPECT_FALSE(decoded_from_exactly<Group>(std::span(bytes).first(size))) << size;
  }
}

TEST(CodecByChanceTest, TrailingBytesAreNothing) {
  Dice dice;
  Message bytes = encoded(some_group(dice));
  bytes.push_back(std::byte{0});
  EXPECT_FALSE(decode<Group>(bytes));
  EXPECT_FALSE(decode<std::uint32_t>(Message(5)));
  EXPECT_FALSE((decode<std::tuple<std::uint32_t, std::string>>(Message(17))));
}

/// The worst is a vector of empty optionals: 48 bytes in memory for one on the wire.
constexpr std::size_t allocated_per_byte = 64;

template <class T>
void expect_total(std::span<const std::byte> bytes) {
  const std::size_t before = allocated;
  const auto value = decoded_from_exactly<T>(bytes);
  EXPECT_LE(allocated - before, allocated_per_byte * bytes.size() + bytes.size());
  // There is one way to write a value, padding inside of plain ones aside.
  if (value) {
    EXPECT_EQ(encoded(*value).size(), bytes.size());
  }
}

TEST(CodecByChanceTest, AnyBytesAreAValueOrNothing) {
  for (int round = 0; round < 3000; ++round) {
    Dice dice;
    Message bytes(dice.between(0, 200));
    // Small numbers, mostly zeros: lengths that fit are what goes deep.
    for (std::byte& b : bytes)
      b = dice.one_in(6) ? static_cast<std::byte>(dice.between(0, 20)) : std::byte{0};
    expect_total<Group>(bytes);
    expect_total<Person>(bytes);
    expect_total<std::vector<std::string>>(bytes);
    expect_total<std::vector<std::optional<std::vector<bool>>>>(bytes);
    expect_total<std::tuple<std::optional<std::string>, std::vector<Lines>>>(bytes);
    expect_total<std::vector<Tree>>(bytes);
  }
}

TEST(CodecByChanceTest, ABentMessageIsAValueOrNothing) {
  for (int round = 0; round < 2000; ++round) {
    Dice dice;
    Message bytes = encoded(some_group(dice));
    for (std::size_t n = dice.between(1, 4); n > 0; --n)
      bytes[dice.between(0, bytes.size() - 1)] = static_cast<std::byte>(dice.word());
    expect_total<Group>(bytes);
  }
}

// ---- What a peer may not do ----

Message numbers(std::initializer_list<std::uint64_t> values) {
  const auto bytes = std::as_bytes(std::span{values.begin(), values.size()});
  return {bytes.begin(), bytes.end()};
}

TEST(CodecLimitsTest, ALengthBeyondTheMessageIsNothing) {
  for (const std::uint64_t length : {std::uint64_t{1}, std::uint64_t{1} << 32, std::uint64_t{1} << 63,
                                     ~std::uint64_t{0}, ~std::uint64_t{7}}) {
    const Message bytes = numbers({length});
    EXPECT_FALSE(decode<std::tuple<std::string>>(bytes));
    EXPECT_FALSE(decode<std::tuple<std::vector<double>>>(bytes));
    EXPECT_FALSE(decode<std::tuple<std::span<const double>>>(bytes));
    EXPECT_FALSE(decode<std::vector<std::string>>(bytes));
    EXPECT_FALSE(decode<std::vector<bool>>(bytes));
  }
}

TEST(CodecLimitsTest, ALengthThatIsNoMultipleOfItsElementsIsNothing) {
  EXPECT_FALSE(decode<std::vector<int>>(Message(7)));
  Message bytes = numbers({3});
  bytes.resize(12);
  EXPECT_FALSE((decode<std::tuple<std::vector<std::uint16_t>, std::uint8_t>>(bytes)));
  EXPECT_TRUE((decode<std::tuple<std::vector<std::uint8_t>, std::uint8_t>>(bytes)));
}

TEST(CodecLimitsTest, OnlyZeroAndOneAreBools) {
  for (int value = 0; value < 256; ++value) {
    const Message bytes{static_cast<std::byte>(value)};
    EXPECT_EQ(decode<bool>(bytes).has_value(), value <= 1);
    EXPECT_EQ(decode<std::vector<std::optional<int>>>(bytes).has_value(), false);
    EXPECT_EQ((decode<std::array<bool, 1>>(bytes).has_value()), value <= 1);
    EXPECT_EQ(decode<std::span<const bool>>(bytes).has_value(), value <= 1);
    EXPECT_EQ(decode<std::optional<char>>(bytes).has_value(), value == 0);
  }
  Message flags = encoded(Flags{1, true, {}});
  flags[5] = std::byte{2};
  EXPECT_FALSE(decode<Flags>(flags));
  EXPECT_FALSE(decode<std::vector<Flags>>(flags));
  EXPECT_FALSE(decode<std::span<const Flags>>(flags));
}

TEST(CodecLimitsTest, PaddingIsZero) {
  using Value = std::tuple<std::uint8_t, std::string>;
  Message bytes = encoded(Value{1, "x"});
  ASSERT_TRUE(decode<Value>(bytes));
  bytes[3] = std::byte{1};
  EXPECT_FALSE(decode<Value>(bytes));
}

TEST(CodecLimitsTest, TheOwnCodecBoundsItsDepth) {
  Message deep;
  for (int i = 0; i < 100; ++i) {
    for (const int b : {0, 0, 0, 0, 1}) deep.push_back(static_cast<std::byte>(b));
  }
  EXPECT_FALSE(decode<Tree>(deep));
}

}  // namespace
}  // namespace verbena::test
