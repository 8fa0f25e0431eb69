// SPDX-License-Identifier: Apache-2.0
// Methods with types: what goes in and what comes out are plain C++ values, nested as you like.
#include <verbena/rpc.h>

#include <cmath>
#include <cstdio>
#include <map>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <tuple>
#include <vector>

// A method is a struct: its number, what goes in, what comes out.
struct Norm {
  static constexpr verbena::rpc::MethodId id = 1;
  using Request = std::tuple<std::string_view, std::span<const double>>;  // views: nothing is copied
  using Result = double;
};

// Aggregates need nothing to be sent: no macro, no schema.
struct Contact {
  std::string name;
  std::vector<std::string> mails;
  std::optional<int> age;
};
struct Add {
  static constexpr verbena::rpc::MethodId id = 2;
  using Request = Contact;
  using Result = void;
};
struct Find {
  static constexpr verbena::rpc::MethodId id = 3;
  using Request = std::string_view;
  using Result = std::optional<Contact>;
};

// A class that keeps its inside to itself has a codec of its own: to bytes, and back if they are right.
class Even {
 public:
  static std::optional<Even> of(int n) { return n % 2 == 0 ? std::optional(Even(n)) : std::nullopt; }
  const int number;

 private:
  explicit Even(int n) : number(n) {}
};
template <>
struct verbena::Codec<Even> {
  static std::span<const std::byte> bytes(const Even& e) { return std::as_bytes(std::span{&e.number, 1}); }
  static std::optional<Even> decode(std::span<const std::byte> bytes) {
    const auto number = verbena::decode<int>(bytes);
    return number ? Even::of(*number) : std::nullopt;
  }
};
struct Halves {
  static constexpr verbena::rpc::MethodId id = 4;
  using Request = std::vector<Even>;
  using Result = std::vector<int>;
};

int main() try {
  verbena::Loop loop;
  verbena::rpc::Server server{loop, "rdma://127.0.0.1:0"};
  std::map<std::string, Contact, std::less<>> contacts;
  server.on<Norm>([](const Norm::Request& request) {
    double norm = 0;
    for (const double x : std::get<1>(request)) norm = std::hypot(norm, x);  // it lies in the message
    return norm;
  });
  server.on<Add>([&](Contact contact) { contacts.insert_or_assign(contact.name, std::move(contact)); });
  server.on<Find>([&](std::string_view name) {
    const auto found = contacts.find(name);
    return found == contacts.end() ? std::nullopt : std::optional(found->second);
  });
  server.on<Halves>([](const std::vector<Even>& evens) {
    std::vector<int> halves;
    for (const Even& even : evens) halves.push_back(even.number / 2);
    return halves;
  });

  auto client = verbena::rpc::connect(loop, "rdma://127.0.0.1:" + std::to_string(server.port()));
  int right = 0;
  const std::vector<double> xs{3, 4};
  client.call<Norm>({"euclid", xs}, [&](std::error_code, auto norm) { right += norm == 5.0; });
  client.call<Add>({"Ada", {"ada@example.org"}, 36}, [&](std::error_code error) { right += !error; });
  client.call<Find>("Ada", [&](std::error_code, std::optional<Find::Result> found) {
    right += found && *found && (*found)->age == 36;  // an answer came, and in it a contact
  });
  client.call<Halves>({*Even::of(2), *Even::of(8)}, [&](std::error_code, auto halves) {
    right += halves == std::vector{1, 4};
  });
  loop.run_until([&] { return client.in_flight() == 0; });
  std::printf("%d of 4 answers are right\n", right);
  return right == 4 ? 0 : 1;
} catch (const verbena::Error& error) {
  std::fprintf(stderr, "typed_calls: %s\n", error.what());
  return 1;
}
