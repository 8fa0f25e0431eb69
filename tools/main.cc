// SPDX-License-Identifier: Apache-2.0
/// verbena: the command line.
#include <fmt/format.h>

#include <CLI/CLI.hpp>

#include "tools/common/failure.h"
#include "tools/info.h"
#include "tools/perf/command.h"
#include "tools/top/top.h"

namespace {

using namespace verbena::tools;

void run(int argc, char** argv) {
  CLI::App app("Zero-copy messaging over RDMA verbs: what this machine has, how fast it is, and what runs.",
               "verbena");
  app.set_version_flag("--version", "verbena " VERBENA_VERSION);
  app.require_subcommand(0, 1);

  bool json = false;
  CLI::App* const info_command =
      app.add_subcommand("info", "show the devices, their ports, addresses and limits");
  info_command->add_flag("--json", json, "as one JSON object");
  PerfArguments perf_arguments;
  CLI::App* const perf_command = app.add_subcommand("perf", "measure latency, bandwidth and rates");
  add_perf_options(*perf_command, perf_arguments);
  TopArguments top_arguments;
  CLI::App* const top_command = app.add_subcommand("top", "show what live processes do, method by method");
  add_top_options(*top_command, top_arguments);

  try {
    app.parse(argc, argv);
  } catch (const CLI::CallForVersion& version) {
    fmt::print("{}\n", version.what());
    return;
  } catch (const CLI::CallForHelp&) {
    fmt::print("{}", app.help());
    return;
  } catch (const CLI::ParseError& error) {
    const std::string_view command = perf_command->parsed()   ? " perf"
                                     : top_command->parsed()  ? " top"
                                     : info_command->parsed() ? " info"
                                                              : "";
    throw UsageError(fmt::format("{}; 'verbena{} --help' shows what there is.", error.what(), command));
  }
  if (info_command->parsed()) return info(json);
  if (top_command->parsed()) return run_top(top_arguments);
  if (!perf_command->parsed()) throw UsageError("which command? 'verbena --help' shows what there is.");
  run_perf(perf_arguments);
}

}  // namespace

int main(int argc, char** argv) {
  return run_program("verbena", [&] { run(argc, argv); });
}
