// SPDX-License-Identifier: Apache-2.0
#include "tools/common/failure.h"

#include <cstdio>
#include <exception>
#include <new>

#include "tools/common/progress.h"
#include "tools/common/second_process.h"

namespace verbena::tools {
namespace {

int complain(const char* program, const char* sentence, Status status) noexcept {
  // Where the other process has already named the cause, ours would only be its echo.
  if (SecondProcess::failed_first()) return static_cast<int>(Status::failure);
  clear_progress_line();
  std::fprintf(stderr, "%s: %s\n", program, sentence);
  return static_cast<int>(status);
}

}  // namespace

int run_program(const char* program, const std::function<void()>& body) noexcept {
  try {
    body();
    if (std::fflush(stdout) != 0) throw Failure("the output could not be written; is the disk full?");
    return static_cast<int>(Status::success);
  } catch (const Failure& failure) {
    return complain(program, failure.what(), failure.status());
  } catch (const std::bad_alloc&) {
    return complain(program, "out of memory; ask for smaller sizes, fewer iterations or less depth.",
                    Status::failure);
  } catch (const std::exception& error) {
    return complain(program, error.what(), Status::failure);
  }
}

}  // namespace verbena::tools
