// SPDX-License-Identifier: Apache-2.0
/// verbena: the command line.
#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <string_view>

#include "tools/common/failure.h"
#include "tools/info.h"
#include "tools/perf/command.h"
#include "tools/run.h"
#include "tools/top/top.h"

namespace {

using namespace std::string_view_literals;
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
  RunArguments run_arguments;
  CLI::App* const run_subcommand = app.add_subcommand(
      "run", "run any verbs program, with soft0 among its devices: verbena run -- ib_write_bw");
  run_subcommand->add_option("--fault", run_arguments.fault, "what goes wrong on soft0: docs/fault-plan.md");
  run_subcommand->add_option("--trace", run_arguments.trace,
                             "the file that soft0's traffic goes to, for Wireshark: docs/soft0.md");
  run_subcommand->footer("Behind --: the program, looked for in PATH, and its arguments.");
  run_subcommand->allow_extras();

  // What stands behind "--" is another program's, and none of our options.
  const bool is_run = argc > 1 && argv[1] == "run"sv;
  char** const dashes =
      is_run ? std::find_if(argv, argv + argc, [](const char* word) { return word == "--"sv; }) : argv + argc;
  if (dashes != argv + argc) run_arguments.command.assign(dashes + 1, argv + argc);
  try {
    app.parse(static_cast<int>(dashes - argv), argv);
  } catch (const CLI::CallForVersion& version) {
    fmt::print("{}\n", version.what());
    return;
  } catch (const CLI::CallForHelp&) {
    fmt::print("{}", app.help());
    return;
  } catch (const CLI::ParseError& error) {
    const std::string_view command = perf_command->parsed()     ? " perf"
                                     : top_command->parsed()    ? " top"
                                     : info_command->parsed()   ? " info"
                                     : run_subcommand->parsed() ? " run"
                                                                : "";
    throw UsageError(fmt::format("{}; 'verbena{} --help' shows what there is.", error.what(), command));
  }
  if (info_command->parsed()) return info(json);
  if (top_command->parsed()) return run_top(top_arguments);
  if (run_subcommand->parsed()) {
    if (const auto extra = run_subcommand->remaining(); !extra.empty())
      throw UsageError(fmt::format(
          "'{0}' isn't an option; a program is named behind '--': verbena run -- {0}", extra.front()));
    return run_command(run_arguments);
  }
  if (!perf_command->parsed()) throw UsageError("which command? 'verbena --help' shows what there is.");
  run_perf(perf_arguments);
}

}  // namespace

int main(int argc, char** argv) {
  return run_program("verbena", [&] { run(argc, argv); });
}
