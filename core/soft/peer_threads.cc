// SPDX-License-Identifier: Apache-2.0
#include "core/soft/peer_threads.h"

#include <dirent.h>
#include <fcntl.h>
#include <fmt/format.h>

#include <charconv>
#include <cstdlib>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "core/soft/shared_file.h"

namespace verbena::core::soft {
namespace {

constexpr char gone = 'X';

std::string read_file(const std::string& path) {
  const Descriptor file(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
  char text[512];
  const ssize_t got = file ? ::read(file.get(), text, sizeof text) : -1;
  return got > 0 ? std::string(text, static_cast<std::size_t>(got)) : std::string();
}

/// The letter of the state in a file of the form "pid (name) S …".
char state_in(const std::string& path) {
  const std::string stat = read_file(path);
  const std::size_t end = stat.rfind(')');  // a name may hold anything, but the last parenthesis is its end
  return end != stat.npos && end + 2 < stat.size() ? stat[end + 2] : gone;
}

bool is_stop(char state) {
  return state == 'T' || state == 't';
}

/// ns on a processor so far; 0 where the kernel doesn't say.
std::uint64_t run_time(pid_t pid, pid_t thread) {
  const std::string text = read_file(fmt::format("/proc/{}/task/{}/schedstat", pid, thread));
  std::uint64_t time = 0;
  std::from_chars(text.data(), text.data() + text.size(), time);
  return time;
}

std::vector<pid_t> threads_of(pid_t pid) {
  std::vector<pid_t> threads;
  const std::unique_ptr<DIR, int (*)(DIR*)> folder(::opendir(fmt::format("/proc/{}/task", pid).c_str()),
                                                   ::closedir);
  if (!folder) return threads;
  while (const dirent* entry = ::readdir(folder.get())) {
    if (const pid_t thread = std::atoi(entry->d_name)) threads.push_back(thread);
  }
  return threads;
}

}  // namespace

bool is_stopped(pid_t pid) noexcept {
  return is_stop(state_in(fmt::format("/proc/{}/stat", pid)));
}

KernelCopies::KernelCopies(pid_t pid) : pid_(pid) {
  for (const pid_t thread : threads_of(pid)) suspects_.emplace(thread, run_time(pid, thread));
}

bool KernelCopies::all_ended() {
  constexpr std::uint64_t longer_than_any_copy_ns = 50'000'000;  // QueuePair::copy_by_kernel makes short ones
  std::erase_if(suspects_, [&](const auto& suspect) {
    const char state = state_in(fmt::format("/proc/{}/task/{}/stat", pid_, suspect.first));
    if (state != 'R' && state != 'D') return true;
    return run_time(pid_, suspect.first) - suspect.second > longer_than_any_copy_ns;
  });
  return suspects_.empty();
}

}  // namespace verbena::core::soft
