// SPDX-License-Identifier: Apache-2.0
#include "tools/run.h"

#include <fmt/format.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <filesystem>

#include "tools/common/failure.h"
#include "verbena/devices.h"

namespace verbena::tools {
namespace {

namespace fs = std::filesystem;

/// It lies where it lay beside this program when both were built, wherever that has been moved to.
fs::path preload_library() {
  std::error_code error;
  const fs::path self = fs::read_symlink("/proc/self/exe", error);
  if (error)
    throw Failure(fmt::format("/proc/self/exe can't be read: {}; is /proc mounted?", error.message()));
  const fs::path library = (self.parent_path() / VERBENA_PRELOAD_LIBRARY).lexically_normal();
  if (!fs::exists(library, error))
    throw Failure(fmt::format("{} is missing, which belongs to this program; install Verbena as a whole.",
                              library.string()));
  // The loader takes spaces and colons for separators.
  if (library.string().find_first_of(" :") != std::string::npos)
    throw Failure(
        fmt::format("{} can't be preloaded, as there is a space or a colon in its name; move Verbena.",
                    library.string()));
  return library;
}

void set(const char* variable, const std::string& value) {
  if (::setenv(variable, value.c_str(), 1) != 0)
    throw Failure(fmt::format("the environment can't take {}: {}.", variable, std::strerror(errno)));
}

}  // namespace

void run_command(const RunArguments& arguments) {
  if (arguments.command.empty())
    throw UsageError("which program? Write it behind 'verbena run --', with its arguments.");
  if (!arguments.fault.empty()) {
    check_fault_plan(arguments.fault);
    set("VERBENA_FAULT", arguments.fault);
  }
  if (!arguments.trace.empty()) {
    const std::string file = fs::absolute(arguments.trace);  // wherever the program goes
    prepare_trace(file);
    set("VERBENA_TRACE", file);
  }
  const char* const others = std::getenv("LD_PRELOAD");
  std::string preloaded = preload_library();
  if (others && *others)
    preloaded = fmt::format("{}:{}", others, preloaded);  // sanitizers have to come first
  set("LD_PRELOAD", preloaded);

  std::vector<char*> words;
  for (const std::string& word : arguments.command) words.push_back(const_cast<char*>(word.c_str()));
  words.push_back(nullptr);
  ::execvp(words[0], words.data());
  const int error = errno;
  throw Failure(fmt::format("{} can't be run: {}.", arguments.command[0],
                            error == ENOENT ? "there is no such program; look at its name and at PATH"
                                            : std::strerror(error)),
                error == ENOENT ? Status::no_program : Status::unusable_program);
}

}  // namespace verbena::tools
