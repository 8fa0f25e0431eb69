// SPDX-License-Identifier: Apache-2.0
#include "program.h"

#include <dirent.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <chrono>
#include <cstdlib>
#include <fstream>
#include <sstream>
#include <stdexcept>
#include <utility>

namespace verbena::test {
namespace {

constexpr std::chrono::seconds patience{60};

using Clock = std::chrono::steady_clock;

struct Pipe {
  std::array<int, 2> ends{};
  Pipe() {
    if (::pipe2(ends.data(), O_CLOEXEC) != 0) throw std::runtime_error("no pipe");
  }
};

[[noreturn]] void become(std::vector<std::string>& command, int out, int err) {
  ::setpgid(0, 0);
  ::prctl(PR_SET_PDEATHSIG, SIGKILL);  // a test that is ended by ctest leaves nothing either
  const int none = ::open("/dev/null", O_RDONLY | O_CLOEXEC);
  ::dup2(none, STDIN_FILENO);
  ::dup2(out, STDOUT_FILENO);
  ::dup2(err, STDERR_FILENO);
  std::vector<char*> arguments;
  for (std::string& argument : command) arguments.push_back(argument.data());
  arguments.push_back(nullptr);
  ::execv(arguments[0], arguments.data());
  ::_exit(127);
}

/// Appends what can be read at once; false at the end.
bool read_some(int fd, std::string& text) {
  std::array<char, 4096> buffer{};
  const ssize_t count = ::read(fd, buffer.data(), buffer.size());
  if (count > 0) text.append(buffer.data(), static_cast<std::size_t>(count));
  return count > 0;
}

/// The parent of a process and whether it is a zombie, by /proc.
struct Stat {
  char state = 'X';
  pid_t parent = 0;
  pid_t group = 0;
};

Stat stat_of(const std::string& pid) {
  std::ifstream file("/proc/" + pid + "/stat");
  std::string text;
  std::getline(file, text);
  Stat stat;
  const std::size_t name_end = text.rfind(')');
  if (name_end == std::string::npos) return stat;
  std::istringstream rest(text.substr(name_end + 1));
  rest >> stat.state >> stat.parent >> stat.group;
  return stat;
}

template <typename Matches>
std::vector<pid_t> living(Matches&& matches) {
  std::vector<pid_t> found;
  DIR* const processes = ::opendir("/proc");
  while (const dirent* entry = ::readdir(processes)) {
    const std::string name = entry->d_name;
    if (name.find_first_not_of("0123456789") != std::string::npos) continue;
    const Stat stat = stat_of(name);
    if (stat.state != 'Z' && stat.state != 'X' && matches(stat)) found.push_back(std::atoi(name.c_str()));
  }
  ::closedir(processes);
  return found;
}

std::string from_environment(const char* name, const char* otherwise) {
  const char* const value = std::getenv(name);
  return value == nullptr ? otherwise : value;
}

}  // namespace

Program::Program(std::vector<std::string> command) {
  const Pipe out, err;
  pid_ = ::fork();
  if (pid_ == 0) become(command, out.ends[1], err.ends[1]);
  if (pid_ > 0) ::setpgid(pid_, pid_);  // in both, so that it is done for whoever comes second
  ::close(out.ends[1]);
  ::close(err.ends[1]);
  out_ = out.ends[0];
  err_ = err.ends[0];
}

Program::~Program() {
  ::kill(-pid_, SIGKILL);
  if (!reaped_) ::waitpid(pid_, nullptr, 0);
  ::close(out_);
  ::close(err_);
}

void Program::signal_group(int number) {
  ::kill(-pid_, number);
}
void Program::signal(int number) {
  ::kill(pid_, number);
}

Outcome Program::wait() {
  Outcome outcome;
  outcome.out = std::exchange(out_text_, {});
  const auto deadline = Clock::now() + patience;
  std::array<pollfd, 2> streams{{{out_, POLLIN, 0}, {err_, POLLIN, 0}}};
  const std::array<std::string*, 2> texts{&outcome.out, &outcome.err};
  for (std::size_t open = 2; open > 0;) {
    const auto left = std::chrono::duration_cast<std::chrono::milliseconds>(deadline - Clock::now());
    if (left.count() <= 0 || ::poll(streams.data(), streams.size(), static_cast<int>(left.count())) == 0) {
      outcome.err += "\n(the test killed it: it did not end)";
      ::kill(-pid_, SIGKILL);
      break;
    }
    for (std::size_t i = 0; i < streams.size(); ++i)
      if (streams[i].revents != 0 && !read_some(streams[i].fd, *texts[i])) {
        streams[i].fd = -1;
        --open;
      }
  }
  int status = 0;
  while (::waitpid(pid_, &status, 0) < 0 && errno == EINTR) {
  }
  reaped_ = true;
  if (WIFEXITED(status)) outcome.status = WEXITSTATUS(status);
  if (WIFSIGNALED(status)) outcome.signal = WTERMSIG(status);
  return outcome;
}

std::optional<std::string> Program::read_line() {
  std::size_t end = 0;
  while ((end = out_text_.find('\n')) == std::string::npos) {
    pollfd stream{out_, POLLIN, 0};
    const auto most = std::chrono::duration_cast<std::chrono::milliseconds>(patience);
    if (::poll(&stream, 1, static_cast<int>(most.count())) <= 0 || !read_some(out_, out_text_))
      return std::nullopt;
  }
  std::string line = out_text_.substr(0, end);
  out_text_.erase(0, end + 1);
  return line;
}

std::vector<pid_t> Program::children() const {
  return living([this](const Stat& stat) { return stat.parent == pid_; });
}

bool Program::leaves_something() {
  // A killed process is not gone in the same moment. This waits for an event that has no descriptor.
  const auto deadline = Clock::now() + std::chrono::seconds(2);
  while (!living([this](const Stat& stat) { return stat.group == pid_; }).empty()) {
    if (Clock::now() > deadline) return true;
    ::poll(nullptr, 0, 5);
  }
  return false;
}

Outcome run(std::vector<std::string> command) {
  return Program(std::move(command)).wait();
}

std::string verbena_program() {
  return VERBENA_PROGRAM;
}
std::string demo_program() {
  return VERBENA_DEMO_PROGRAM;
}
std::string test_device() {
  return from_environment("VERBENA_TEST_DEVICE", "soft0");
}
std::string device_option() {
  return "--device=" + test_device();
}

std::string address_in(const std::string& line) {
  const std::size_t scheme_end = line.find("://");
  if (scheme_end == std::string::npos) return {};
  const std::size_t before = line.find_last_of(" '", scheme_end);
  const std::size_t start = before == std::string::npos ? 0 : before + 1;
  std::string address = line.substr(start, line.find_first_of(" ';,", scheme_end) - start);
  if (address.ends_with('.')) address.pop_back();
  return address;
}

std::string await_address(Program& program) {
  while (const std::optional<std::string> line = program.read_line())
    if (const std::string address = address_in(*line); !address.empty()) return address;
  return {};
}

std::string listen_address() {
  if (test_device() == "soft0") return "soft://127.0.0.1:0";
  return test_device() + "://" + from_environment("VERBENA_RXE_ADDRESS", "10.9.0.1") + ":0";
}

}  // namespace verbena::test
