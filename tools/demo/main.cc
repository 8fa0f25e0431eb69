// SPDX-License-Identifier: Apache-2.0
/// verbena-demo: a real file, read out of another process's memory, and calls timed.
#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <cstdio>

#include "tools/common/cores.h"
#include "tools/common/failure.h"
#include "tools/common/second_process.h"
#include "tools/demo/client.h"
#include "tools/demo/mapped_file.h"
#include "tools/demo/server.h"
#include "tools/local_address.h"

namespace {

using namespace verbena::tools;

constexpr const char* description =
    "A server holds a file's pages in memory; a client times small calls, reads the file with one-sided\n"
    "reads, without any work of the server's processor, and compares SHA-256.\n"
    "With --file alone, both run here, as two processes on the best device.";

struct Arguments {
  std::string serve, connect, file, device, cores;
  int channel = -1;
  int core = -1;
};

/// Both sides here. Nothing is left behind, whatever happens: see SecondProcess.
void run_both(const Arguments& arguments) {
  { MappedFile{arguments.file}; }  // a wrong file is this process's to tell
  const auto cores = arguments.cores.empty() ? choose_cores() : parse_cores(arguments.cores);
  std::vector<std::string> theirs{"--serve=" + local_address(arguments.device), "--file=" + arguments.file};
  if (cores) theirs.push_back(fmt::format("--core={}", cores->second));
  SecondProcess server(theirs, {});
  const std::string address = server.channel().receive_line();
  if (cores) pin_to(cores->first);
  ask({address, arguments.device, cores});
  server.finish();
}

void run(const Arguments& arguments) {
  if (!arguments.serve.empty() && !arguments.connect.empty())
    throw UsageError("--serve and --connect are for two processes; give each one of them.");
  for (const std::string& address : {arguments.serve, arguments.connect})
    if (!address.empty()) check_address(address);
  if (!arguments.connect.empty()) {
    if (!arguments.file.empty()) throw UsageError("--connect takes no --file: the server has it.");
    return ask({arguments.connect, arguments.device, {}});
  }
  if (arguments.file.empty())
    throw UsageError("which file? Name one with --file PATH, or a server with --connect ADDRESS.");
  if (arguments.serve.empty()) return run_both(arguments);
  ServerPlan plan{arguments.serve, arguments.file, arguments.device, {}, arguments.channel};
  if (arguments.core >= 0) plan.core = arguments.core;
  if (plan.channel >= 0) behave_as_second_process();
  serve(plan);
}

/// False where there is nothing more to do: help was asked for.
bool parse(Arguments& arguments, int argc, char** argv) {
  CLI::App app(description, "verbena-demo");
  app.add_option("--file", arguments.file, "the file to serve");
  app.add_option("--serve", arguments.serve, "serve at ADDRESS, as in rdma://0.0.0.0:7471")
      ->type_name("ADDRESS");
  app.add_option("--connect", arguments.connect, "read from the server at ADDRESS")->type_name("ADDRESS");
  app.add_option("--device", arguments.device, "device by name; default: the best one ('verbena info')");
  app.add_option("--cores", arguments.cores, "the two cores of both sides, as in 0,1");
  app.add_option("--channel", arguments.channel)->group("");  // what a first process starts the second with
  app.add_option("--core", arguments.core)->group("");
  try {
    app.parse(argc, argv);
  } catch (const CLI::CallForHelp&) {
    fmt::print("{}", app.help());
    return false;
  } catch (const CLI::ParseError& error) {
    throw UsageError(fmt::format("{}; 'verbena-demo --help' shows the options.", error.what()));
  }
  return true;
}

}  // namespace

int main(int argc, char** argv) {
  return run_program("verbena-demo", [&] {
    Arguments arguments;
    if (parse(arguments, argc, argv)) run(arguments);
  });
}
