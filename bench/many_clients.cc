// SPDX-License-Identifier: Apache-2.0
// What does a server pay for clients that are connected and say nothing?
//
// A server loop in one process; in the other all clients, on eight loops (eight devices: to the server they
// are eight processes) that one thread turns in turn, as the machine may have no more than two processors:
// one for each side. Eight clients, one a loop, call without a pause; the others are idle, each after a few
// calls. Rates with few and with many connected are taken in turns, as the machine drifts, and compared by
// their medians. Expected: an idle queue pair is a byte in a bell that no poll looks at, so the rates are
// equal; and in memory a header and a page of a ring each way (shared: half of it counts), the first page of
// two queues, and a few objects: 16 KiB at most.
#include <fmt/format.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>
#include <verbena/loop.h>
#include <verbena/rpc.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <cstdlib>
#include <cstring>
#include <exception>
#include <filesystem>
#include <fstream>
#include <functional>
#include <memory>
#include <stdexcept>
#include <string>
#include <string_view>
#include <vector>

namespace {

using namespace verbena;
using std::chrono::steady_clock;

constexpr rpc::MethodId echo = 1;
constexpr std::size_t client_loops = 8;

struct Plan {
  std::size_t clients = 1000;
  std::size_t calls = 64;  // of each idle client, before it falls silent
  int rounds = 5;
  std::chrono::milliseconds span{500};
  bool defaults = false;
};

struct Footprint {
  std::size_t pss = 0;
  std::size_t shared_pss = 0;  // of it: memory that peers map, too
  std::size_t page_tables = 0;
  std::size_t descriptors = 0;
  std::size_t connections = 0;
};

std::size_t kibibytes(const char* file, std::string_view item) {
  std::ifstream lines(file);
  for (std::string line; std::getline(lines, line);) {
    if (line.starts_with(item)) return std::strtoull(line.c_str() + item.size(), nullptr, 10) * 1024;
  }
  throw std::runtime_error(fmt::format("{} has no {}", file, item));
}

Footprint footprint() {
  Footprint found;
  found.pss = kibibytes("/proc/self/smaps_rollup", "Pss:");
  found.shared_pss = kibibytes("/proc/self/smaps_rollup", "Pss_Shmem:");
  found.page_tables = kibibytes("/proc/self/status", "VmPTE:");
  const std::filesystem::directory_iterator all("/proc/self/fd");
  found.descriptors = static_cast<std::size_t>(std::distance(begin(all), end(all)));
  return found;
}

Options options(const Plan& plan, std::size_t peers) {
  Options options = plan.defaults ? Options{} : Options::many_peers(1);
  options.peers = static_cast<std::uint32_t>(peers);
  options.device = "soft0";
  options.busy_poll = true;
  options.connect_timeout = std::chrono::seconds(30);
  return options;
}

template <class T>
void put(int line, const T& value) {
  if (::write(line, &value, sizeof value) != sizeof value)
    throw std::runtime_error("the other process is gone");
}
template <class T>
T get(int line) {
  T value;
  if (::recv(line, &value, sizeof value, MSG_WAITALL) != sizeof value)
    throw std::runtime_error("the other process is gone");
  return value;
}

/// Serves, and tells what it weighs whenever a byte comes over `line`.
void serve(const Plan& plan, int line) {
  Loop loop(options(plan, plan.clients + client_loops));
  rpc::Server server(loop, "soft://127.0.0.1:0");
  server.on(echo, [](rpc::Bytes request, rpc::Reply& reply) { reply.send(request); });
  put(line, server.port());
  for (;;) {
    for (int i = 0; i < 4096; ++i) loop.poll();
    char word;
    const ssize_t got = ::recv(line, &word, 1, MSG_DONTWAIT);
    if (got == 0) return;
    if (got < 0) continue;
    Footprint found = footprint();
    found.connections = server.connections();
    put(line, found);
  }
}

struct Client {
  rpc::Client connection;
  std::size_t done = 0;
  std::size_t under_way = 0;
};

class Clients {
 public:
  Clients(const Plan& plan, std::uint16_t port) : address_(fmt::format("soft://127.0.0.1:{}", port)) {
    for (std::size_t i = 0; i < client_loops; ++i)
      loops_.push_back(std::make_unique<Loop>(options(plan, plan.clients / client_loops + 1)));
  }

  std::size_t size() const { return clients_.size(); }
  /// Until so many are connected; the loops take turns.
  void grow(std::size_t count) {
    while (clients_.size() < count) {
      const std::size_t batch = std::min<std::size_t>(32, count - clients_.size());
      std::size_t connected = 0;
      for (std::size_t i = 0; i < batch; ++i) {
        Client* client = clients_.emplace_back(std::make_unique<Client>()).get();
        rpc::connect(*loops_[(clients_.size() - 1) % client_loops], address_,
                     [client, &connected](const Error* error, rpc::Client made) {
                       if (error) throw Error(*error);
                       client->connection = std::move(made);
                       ++connected;
                     });
      }
      turn_until([&] { return connected == batch; });
    }
  }
  void shrink(std::size_t count) {
    clients_.resize(count);
    for (int i = 0; i < 20'000; ++i) turn();
  }
  /// Each of [begin, end) makes `calls` calls, a few at a time.
  void call(std::size_t begin, std::size_t end, std::size_t calls) {
    for (std::size_t i = begin; i < end; ++i) {
      Client& client = *clients_[i];
      const std::size_t wanted = client.done + calls;
      turn_until([&] {
        feed(client, wanted - client.done);
        return client.done >= wanted;
      });
    }
  }
  /// Calls a second of the first `active` clients.
  double rate(std::size_t active, std::chrono::milliseconds span) {
    const auto run = [&](std::chrono::milliseconds length) {
      const auto end = steady_clock::now() + length;
      do {
        for (int i = 0; i < 16; ++i) {
          for (std::size_t j = 0; j < active; ++j) feed(*clients_[j], depth);
          turn();
        }
      } while (steady_clock::now() < end);
    };
    run(span / 4);
    const std::size_t before = done(active);
    const auto start = steady_clock::now();
    run(span);
    const std::size_t calls = done(active) - before;
    const std::chrono::duration<double> taken = steady_clock::now() - start;
    turn_until([&] {
      return std::all_of(clients_.begin(), clients_.begin() + static_cast<std::ptrdiff_t>(active),
                         [](const auto& client) { return client->under_way == 0; });
    });
    return static_cast<double>(calls) / taken.count();
  }

 private:
  static constexpr std::size_t depth = 4;  // calls of one client at a time
  void feed(Client& client, std::size_t most) {
    static constexpr std::array<std::byte, 16> request{};
    for (; client.under_way < std::min(most, depth); ++client.under_way) {
      const std::error_code error =
          client.connection.call(echo, request, [&client](std::error_code failed, rpc::Bytes) {
            if (failed) throw std::system_error(failed);
            ++client.done;
            --client.under_way;
          });
      if (error) return;
    }
  }
  std::size_t done(std::size_t active) const {
    std::size_t sum = 0;
    for (std::size_t i = 0; i < active; ++i) sum += clients_[i]->done;
    return sum;
  }
  void turn() {
    for (const auto& loop : loops_) loop->poll();
  }
  template <class Condition>
  void turn_until(Condition condition) {
    const auto end = steady_clock::now() + std::chrono::seconds(60);
    while (!condition()) {
      turn();
      if (steady_clock::now() > end) throw std::runtime_error("nothing happens");
    }
  }

  std::string address_;
  std::vector<std::unique_ptr<Loop>> loops_;
  std::vector<std::unique_ptr<Client>> clients_;
};

double median(std::vector<double> values) {
  std::ranges::sort(values);
  return values[values.size() / 2];
}

void report(const Plan& plan, int line) {
  const auto weigh = [line](std::size_t connections) {
    for (;;) {
      put(line, 'm');
      const auto found = get<Footprint>(line);
      if (found.connections == connections) return found;
    }
  };
  Clients clients(plan, get<std::uint16_t>(line));
  constexpr std::size_t active = client_loops;
  clients.grow(active);
  clients.call(0, active, 2000);
  const Footprint few = weigh(active);
  clients.grow(plan.clients);
  const Footprint silent = weigh(plan.clients);
  clients.call(active, plan.clients, plan.calls);
  const Footprint used = weigh(plan.clients);

  const auto further = static_cast<double>(plan.clients - active);
  const auto line_of = [&](const char* what, const Footprint& now) {
    const auto each = [&](std::size_t Footprint::*item) {
      return (static_cast<double>(now.*item) - static_cast<double>(few.*item)) / further;
    };
    fmt::print("{:<34}{:8.0f} bytes, of it shared {:6.0f}; page tables {:5.0f}; {:4.2f} descriptors\n", what,
               each(&Footprint::pss), each(&Footprint::shared_pss), each(&Footprint::page_tables),
               each(&Footprint::descriptors));
  };
  fmt::print("the server with {} clients: {} KiB\n", active, few.pss / 1024);
  line_of("a further client, never heard of:", silent);
  line_of(fmt::format("a further client, after {} calls:", plan.calls).c_str(), used);

  std::vector<double> with_few;
  std::vector<double> with_many;
  std::vector<double> ratios;
  for (int round = 0; round < plan.rounds; ++round) {
    clients.grow(plan.clients);
    with_many.push_back(clients.rate(active, plan.span));
    clients.shrink(active);
    with_few.push_back(clients.rate(active, plan.span));
    ratios.push_back(with_many.back() / with_few.back());
  }
  if (ratios.empty()) return;
  fmt::print(
      "calls a second of {} clients, {} connected: {:.0f}; {} connected: {:.0f}; ratio {:.3f} ({:.3f} to "
      "{:.3f})\n",
      active, active, median(with_few), plan.clients, median(with_many), median(ratios),
      std::ranges::min(ratios), std::ranges::max(ratios));
}

Plan parse(int argc, char** argv) {
  Plan plan;
  for (int i = 1; i < argc; ++i) {
    const std::string_view argument = argv[i];
    const auto number = [&] { return std::strtoull(argv[i] + argument.find('=') + 1, nullptr, 10); };
    if (argument.starts_with("--clients=")) {
      plan.clients = std::max<std::size_t>(number(), client_loops + 1);
    } else if (argument.starts_with("--calls=")) {
      plan.calls = number();
    } else if (argument.starts_with("--rounds=")) {
      plan.rounds = static_cast<int>(number());
    } else if (argument.starts_with("--ms=")) {
      plan.span = std::chrono::milliseconds(number());
    } else if (argument == "--defaults") {
      plan.defaults = true;
    } else {
      throw std::runtime_error(fmt::format(
          "unknown argument {}; known: --clients=N --calls=N --rounds=N --ms=N --defaults", argument));
    }
  }
  return plan;
}

}  // namespace

int main(int argc, char** argv) try {
  const Plan plan = parse(argc, argv);
  int lines[2];
  if (::socketpair(AF_UNIX, SOCK_STREAM, 0, lines) != 0) throw std::runtime_error("socketpair failed");
  const pid_t server = ::fork();  // before there are threads
  if (server == 0) {
    ::close(lines[0]);
    try {
      serve(plan, lines[1]);
    } catch (const std::exception& error) {
      fmt::print(stderr, "the server: {}\n", error.what());
      ::_exit(1);
    }
    ::_exit(0);
  }
  ::close(lines[1]);
  report(plan, lines[0]);
  ::close(lines[0]);
  int status = 0;
  ::waitpid(server, &status, 0);
  return status == 0 ? 0 : 1;
} catch (const std::exception& error) {
  fmt::print(stderr, "bench_many_clients: {}\n", error.what());
  return 1;
}
