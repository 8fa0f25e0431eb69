// SPDX-License-Identifier: Apache-2.0
#include "tools/demo/server.h"

#include <fmt/format.h>

#include <verbena/connection.h>
#include <verbena/loop.h>
#include <verbena/rpc.h>
#include <algorithm>
#include <cstdio>
#include <stdexcept>
#include <vector>

#include "tools/common/cores.h"
#include "tools/common/second_process.h"
#include "tools/common/table.h"
#include "tools/common/units.h"
#include "tools/demo/mapped_file.h"
#include "tools/demo/methods.h"
#include "tools/local_address.h"

namespace verbena::tools {
namespace {

Options server_options(const ServerPlan& plan) {
  Options options;
  options.device = device_for(plan.address, plan.device);
  options.busy_poll = plan.channel >= 0 && plan.core.has_value();
  return options;
}

/// The file, what a client is told of it, and where.
class FileServer {
 public:
  explicit FileServer(const ServerPlan& plan)
      : file_(plan.file),
        loop_(server_options(plan)),
        pages_(loop_.memory().share(file_.bytes(), Access::remote_read)),
        calls_(loop_, plan.address),
        readers_(
            listen(loop_, with_port(plan.address, 0), [this](Connection peer) { admit(std::move(peer)); })),
        address_(with_port(plan.address, calls_.port())) {
    facts_.size = file_.bytes().size();
    facts_.pages = pages_.remote();
    facts_.pages_port = readers_.port();
    facts_.hash = sha256_of(file_.bytes());
    calls_.name<Echo>();
    calls_.name<DescribeFile>();
    calls_.on<Echo>([](std::uint64_t number) { return number; });
    calls_.on<DescribeFile>([this](std::uint64_t version) {
      if (version != describe_version) throw std::invalid_argument("the client is of another version");
      return facts_;
    });
  }

  const std::string& address() const noexcept { return address_; }
  const FileFacts& facts() const noexcept { return facts_; }
  Loop& loop() noexcept { return loop_; }

  /// Until a client has come and gone.
  void serve_one() {
    bool came = false;
    loop_.run_until([&] {
      came = came || calls_.connections() > 0;
      return came && calls_.connections() == 0;
    });
  }

 private:
  void admit(Connection peer) {
    std::erase_if(admitted_, [](const Connection& former) { return !former.is_open(); });
    admitted_.push_back(std::move(peer));
  }

  MappedFile file_;
  Loop loop_;
  Region pages_;
  FileFacts facts_;
  std::vector<Connection> admitted_;
  rpc::Server calls_;
  Listener readers_;
  std::string address_;
};

void print(const ServerPlan& plan, const FileServer& server) {
  fmt::print("verbena-demo: serving {} at {}\n", plan.file, server.address());
  fmt::print("{}", fact("size", fmt::format("{} ({} bytes)", show_size(server.facts().size),
                                            show_count(server.facts().size))));
  fmt::print("{}", fact("SHA-256", show(server.facts().hash)));
  fmt::print("{}", fact("read by", fmt::format("verbena-demo --connect {}", server.address())));
  std::fflush(stdout);
}

}  // namespace

void serve(const ServerPlan& plan) {
  if (plan.core) pin_to(*plan.core);
  FileServer server(plan);
  if (plan.channel < 0) {
    print(plan, server);
    server.loop().run();
    return;
  }
  Channel(plan.channel).send_line(server.address());
  server.serve_one();
}

}  // namespace verbena::tools
