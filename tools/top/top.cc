// SPDX-License-Identifier: Apache-2.0
#include "tools/top/top.h"

#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <charconv>
#include <chrono>
#include <nlohmann/json.hpp>
#include <optional>

#include "tools/common/failure.h"
#include "tools/top/frame.h"
#include "tools/top/live_loop.h"
#include "tools/top/snapshot_json.h"
#include "tools/top/terminal.h"

namespace verbena::tools {
namespace {

using std::chrono::milliseconds;
using Json = nlohmann::ordered_json;
using Outcome = LoopAnswer::Outcome;

milliseconds parse_interval(std::string_view text) {
  double number = 0;
  const auto [rest, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  const std::string_view unit(rest, static_cast<std::size_t>(text.data() + text.size() - rest));
  const double ms = unit == "ms" ? number : number * 1000;
  const bool is_unit = unit == "ms" || unit == "s" || unit.empty();
  if (error != std::errc{} || !is_unit || !(ms >= 100 && ms <= 3'600'000))
    throw UsageError(fmt::format("--interval '{}' is not 100ms to 3600s; write it as 1s or 500ms.", text));
  return milliseconds(static_cast<std::int64_t>(ms));
}

/// What was found at one moment.
struct View {
  std::vector<LiveProcess> processes;
  Json json = Json::array();  // the same, as the loops said it
  std::optional<uid_t> another_user;
};

/// Of the process that stands last.
void add_answer(View& view, const std::string& answer) try {
  const Json said = Json::parse(answer);
  view.processes.back().loops.push_back(snapshot_of(said));
  view.json.back()["loops"].push_back(said);
} catch (const Json::exception&) {
  throw Failure(fmt::format("process {} gives an answer that this version of Verbena doesn't know.",
                            view.processes.back().process));
}

View look(pid_t wanted) {
  View view;
  for (const LiveLoop& loop : find_live_loops()) {
    if (wanted != 0 && loop.process != wanted) continue;
    const LoopAnswer answer = ask(loop);
    if (answer.outcome == Outcome::gone) continue;
    if (answer.outcome == Outcome::of_another_user) {
      view.another_user = answer.user;
      continue;
    }
    if (view.processes.empty() || view.processes.back().process != loop.process) {
      view.processes.push_back({loop.process, command_of(loop.process).value_or("?"), {}, 0});
      view.json.push_back(
          {{"pid", loop.process}, {"command", view.processes.back().command}, {"loops", Json::array()}});
    }
    if (answer.outcome == Outcome::silent) {
      ++view.processes.back().silent;
      continue;
    }
    add_answer(view, answer.json);
  }
  return view;
}

/// Where there is nothing to show: why.
void check(const View& view, pid_t wanted) {
  if (wanted == 0) {
    if (!view.processes.empty()) return;
    if (view.another_user)
      throw Failure(
          fmt::format("the Verbena processes here belong to other users (one to user {}); run this as that "
                      "user, or as root.",
                      *view.another_user));
    throw Failure(
        "no Verbena process runs here; start one, and look in the network namespace of its container.");
  }
  const std::optional<std::string> command = command_of(wanted);
  if (view.another_user)
    throw Failure(fmt::format("process {} belongs to user {}; run this as that user, or as root.", wanted,
                              *view.another_user));
  if (!command && view.processes.empty()) throw Failure(fmt::format("there is no process {}.", wanted));
  if (view.processes.empty())
    throw Failure(
        fmt::format("process {} ({}) has no loop that can be asked: it doesn't use Verbena, has "
                    "Options::observable off, or runs in another network namespace.",
                    wanted, *command));
  if (view.processes.front().loops.empty())
    throw Failure(
        fmt::format("process {} ({}) does not answer: nothing runs its loop, or a handler takes long.",
                    wanted, view.processes.front().command));
}

std::string as_json(const View& view) {
  return Json{{"version", VERBENA_VERSION}, {"processes", view.json}}.dump() + '\n';
}

std::string as_prometheus(const View& view) {
  std::vector<Snapshot> all;
  for (const LiveProcess& process : view.processes) {
    all.insert(all.end(), process.loops.begin(), process.loops.end());
  }
  return prometheus(all);
}

void follow(const TopArguments& arguments, View view) {
  const milliseconds interval = parse_interval(arguments.interval);
  Terminal terminal;
  if (arguments.json) terminal.show(as_json(view));
  while (terminal.pause(interval)) {
    View next = look(arguments.process);
    if (arguments.process != 0 && next.processes.empty()) {
      if (!arguments.json) terminal.show(fmt::format("process {} has ended\n", arguments.process));
      return;
    }
    const std::string frame = draw_rates(next.processes, view.processes);
    terminal.show(arguments.json ? as_json(next) : frame.empty() ? "no Verbena process runs here\n" : frame);
    view = std::move(next);
  }
}

}  // namespace

void add_top_options(CLI::App& command, TopArguments& arguments) {
  command.add_option("pid", arguments.process, "one process; without it, all that may be seen");
  command.add_flag("--once", arguments.once, "once, everything since each loop's beginning");
  command.add_flag("--json", arguments.json, "as JSON objects, one a line");
  command.add_flag("--prometheus", arguments.prometheus, "once, as Prometheus reads it");
  command.add_option("--interval", arguments.interval, "between two looks: 1s, 500ms")->capture_default_str();
}

void run_top(const TopArguments& arguments) {
  parse_interval(arguments.interval);
  if (arguments.json && arguments.prometheus)
    throw UsageError("--json and --prometheus are two formats; give one of them.");
  if (arguments.process < 0) throw UsageError(fmt::format("{} is not a process id.", arguments.process));
  View view = look(arguments.process);
  check(view, arguments.process);
  if (arguments.prometheus) {
    fmt::print("{}", as_prometheus(view));
  } else if (arguments.once) {
    fmt::print("{}", arguments.json ? as_json(view) : draw_totals(view.processes));
  } else {
    follow(arguments, std::move(view));
  }
}

}  // namespace verbena::tools
