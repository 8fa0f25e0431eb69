// SPDX-License-Identifier: Apache-2.0
// Calls of protobuf messages: one codec makes all of them requests and results, alone or within other values.
#include <google/protobuf/message_lite.h>
#include <verbena/rpc.h>

#include <concepts>
#include <cstdio>
#include <limits>
#include <optional>
#include <span>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include "phonebook.pb.h"

template <std::derived_from<google::protobuf::MessageLite> Message>
struct verbena::Codec<Message> {
  static void encode(const Message& message, Pieces& pieces) {
    const std::size_t size = message.ByteSizeLong();
    if (size > std::numeric_limits<int>::max()) throw std::length_error("a protobuf message is over 2 GiB");
    message.SerializeToArray(pieces.room(size).data(), static_cast<int>(size));
  }
  static std::optional<Message> decode(std::span<const std::byte> bytes) {
    if (bytes.size() > std::numeric_limits<int>::max()) return std::nullopt;
    std::optional<Message> message(std::in_place);
    if (!message->ParseFromArray(bytes.data(), static_cast<int>(bytes.size()))) return std::nullopt;
    return message;
  }
};

struct Add {
  static constexpr verbena::rpc::MethodId id = 1;
  using Request = phonebook::Person;
  using Result = void;
};
struct Search {
  static constexpr verbena::rpc::MethodId id = 2;
  using Request = std::pair<phonebook::Query, std::uint32_t>;  // and how many at most
  using Result = phonebook::People;
};

int main() try {
  verbena::Loop loop;
  verbena::rpc::Server server{loop, "rdma://127.0.0.1:0"};
  std::vector<phonebook::Person> book;
  server.on<Add>([&](phonebook::Person person) { book.push_back(std::move(person)); });
  server.on<Search>([&](const Search::Request& request) {
    const auto& [query, most] = request;
    phonebook::People found;
    for (const phonebook::Person& person : book) {
      const bool fits = person.name().starts_with(query.prefix());
      if (fits && static_cast<std::uint32_t>(found.people_size()) < most) *found.add_people() = person;
    }
    return found;
  });

  auto client = verbena::rpc::connect(loop, "rdma://127.0.0.1:" + std::to_string(server.port()));
  for (const char* name : {"Ada", "Adele", "Bertha", "Adam"}) {
    phonebook::Person person;
    person.set_name(name);
    person.add_numbers("555-0100");
    client.call<Add>(person, [](std::error_code error) {
      if (error) std::fprintf(stderr, "protobuf_calls: %s\n", error.message().c_str());
    });
  }
  phonebook::Query query;
  query.set_prefix("Ad");
  std::optional<phonebook::People> answer;
  client.call<Search>({query, 2}, [&](std::error_code, auto people) { answer = std::move(people); });
  loop.run_until([&] { return client.in_flight() == 0; });
  if (!answer) return 1;
  for (const phonebook::Person& person : answer->people())
    std::printf("%s: %s\n", person.name().c_str(), person.numbers(0).c_str());
  google::protobuf::ShutdownProtobufLibrary();
  return answer->people_size() == 2 ? 0 : 1;
} catch (const std::exception& error) {
  std::fprintf(stderr, "protobuf_calls: %s\n", error.what());
  return 1;
}
