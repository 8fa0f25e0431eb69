// SPDX-License-Identifier: Apache-2.0
#include "core/error.h"

#include <fmt/format.h>
#include <sys/resource.h>

#include <cerrno>
#include <system_error>

namespace verbena {
namespace {

constexpr const char* message_of(errc code) noexcept {
  switch (code) {
    case errc::timed_out:
      return "the deadline passed";
    case errc::cancelled:
      return "the operation was cancelled";
    case errc::rejected:
      return "the peer refused the call";
    case errc::handler_failed:
      return "the peer's handler reported an error";
    case errc::overloaded:
      return "a declared queue is full, nothing was sent";
    case errc::no_credit:
      return "the peer has granted no further receive, nothing was sent";
    case errc::no_buffer:
      return "the buffer pool is exhausted";
    case errc::message_too_long:
      return "the message is too long";
    case errc::connection_lost:
      return "the connection to the peer is lost";
    case errc::connection_refused:
      return "the peer refused the connection";
    case errc::protocol_mismatch:
      return "the peer speaks another protocol or version";
    case errc::retry_exceeded:
      return "the peer's device stopped acknowledging";
    case errc::receiver_not_ready:
      return "the peer posted no receive in time";
    case errc::remote_access:
      return "the peer's key doesn't allow that access";
    case errc::remote_operation:
      return "the peer's device couldn't carry out the operation";
    case errc::local_protection:
      return "the local key doesn't cover the buffer";
    case errc::local_length:
      return "a message was longer than the receive it met";
    case errc::flushed:
      return "flushed behind an operation that failed";
    case errc::protocol_violation:
      return "the peer sent bytes that the protocol forbids";
    case errc::not_sent:
      return "the connection was lost before the request left, it has not run";
    case errc::device_not_found:
      return "there is no such device";
    case errc::device_failed:
      return "the device failed";
    case errc::memlock_too_small:
      return "the limit on locked memory is too small";
    case errc::address_in_use:
      return "the address is in use";
    case errc::address_unusable:
      return "the address can't be used";
    case errc::invalid_argument:
      return "an argument is invalid";
    case errc::invalid_state:
      return "the object is in a state that doesn't allow that";
    case errc::not_supported:
      return "the device or this build doesn't support that";
    case errc::other_process:
      return "the object belongs to the process that this one was forked from; open one of its own after "
             "fork";
  }
  return "unknown error";
}

class VerbenaCategory final : public std::error_category {
 public:
  const char* name() const noexcept override { return "verbena"; }
  std::string message(int code) const override { return message_of(static_cast<errc>(code)); }
};

}  // namespace

Died died(errc code) noexcept {
  // The enumeration numbers its groups in hundreds.
  switch (static_cast<int>(code) / 100) {
    case 0:
      return Died::operation;
    case 1:
      return Died::connection;
    case 2:
      return Died::device;
    default:
      return Died::programmer;
  }
}

const std::error_category& verbena_category() noexcept {
  static const VerbenaCategory category;
  return category;
}

Error::Error(errc code, std::string sentence) : Error(make_error_code(code), std::move(sentence)) {}
Error::Error(std::error_code code, std::string sentence)
    : std::system_error(code), sentence_(std::move(sentence)) {}

}  // namespace verbena

namespace verbena::core {
namespace {

/// What a failed completion most often comes from, for a reader who must mend something.
constexpr const char* cause_of(ibv_wc_status status) noexcept {
  switch (status) {
    case IBV_WC_LOC_LEN_ERR:
      return "local length error (a message was longer than the receive it met)";
    case IBV_WC_LOC_QP_OP_ERR:
      return "local queue pair error (a buffer lies outside its key, or a message met too short a receive)";
    case IBV_WC_LOC_PROT_ERR:
      return "local protection error (the local key doesn't cover the buffer)";
    case IBV_WC_LOC_ACCESS_ERR:
      return "local access error (the peer wrote where this side doesn't allow it)";
    case IBV_WC_WR_FLUSH_ERR:
      return "flushed (it stood behind an operation that failed; see that one's error)";
    case IBV_WC_MW_BIND_ERR:
      return "memory window bind error (the region or its rights don't allow the window)";
    case IBV_WC_REM_INV_REQ_ERR:
      return "remote invalid request (the peer's queue pair doesn't allow such operations)";
    case IBV_WC_REM_ACCESS_ERR:
      return "remote access error (the peer's key doesn't allow that range or that access, or was revoked)";
    case IBV_WC_REM_OP_ERR:
      return "remote operation error (the peer's device couldn't carry it out, e.g. its receive was too "
             "short)";
    case IBV_WC_RETRY_EXC_ERR:
      return "retry exceeded (the peer's process is gone or its link is down)";
    case IBV_WC_RNR_RETRY_EXC_ERR:
      return "receiver not ready (the peer posted no receive in time)";
    default:
      return nullptr;
  }
}

class CompletionCategory final : public std::error_category {
 public:
  const char* name() const noexcept override { return "work completion"; }
  std::string message(int code) const override {
    const auto status = static_cast<ibv_wc_status>(code);
    const char* cause = cause_of(status);
    return cause != nullptr ? cause : ibv_wc_status_str(status);
  }
  std::error_condition default_error_condition(int code) const noexcept override {
    if (code == IBV_WC_SUCCESS) return {};
    return make_error_condition(to_errc(static_cast<ibv_wc_status>(code)));
  }
};

std::string memlock_limit() {
  rlimit limit{};
  if (getrlimit(RLIMIT_MEMLOCK, &limit) != 0) return "unknown";
  if (limit.rlim_cur == RLIM_INFINITY) return "unlimited";
  return fmt::format("{} KiB", limit.rlim_cur / 1024);
}

std::string open_files_limit() {
  rlimit limit{};
  return getrlimit(RLIMIT_NOFILE, &limit) == 0 ? std::to_string(limit.rlim_cur) : "a limited number of";
}

bool registers(std::string_view verb) noexcept {
  return verb.starts_with("ibv_reg_");
}

std::string remedy_of(std::string_view verb, int error) {
  switch (error) {
    case ENOMEM:
      return fmt::format(
          "; the limit on locked memory is {}: raise it with `ulimit -l unlimited`, or a memlock line in "
          "/etc/security/limits.conf, {}",
          memlock_limit(), registers(verb) ? "or register less" : "or ask for shallower queues");
    case EMFILE:
      return fmt::format(
          "; this process may have {} files open, and a connection takes one or more: raise the limit with "
          "`ulimit -n`, or a nofile line in /etc/security/limits.conf",
          open_files_limit());
    case EOPNOTSUPP:
    case ENOSYS:
      return "; the device lacks this verb";
    case EFAULT:
      return "; nothing is mapped there, or the mapping lacks the rights that were asked for (before Linux "
             "6.2, "
             "memory that may only be read has to be mapped with MAP_PRIVATE)";
    case EACCES:
      if (registers(verb)) return "; whoever gives that memory out doesn't allow such access";
      [[fallthrough]];
    case EPERM:
      return "; this user may not open /dev/infiniband/uverbs*, or may not lock memory";
    case EINVAL:
      return "; a value is beyond the device's limits (`verbena info` lists them)";
    case ENODEV:
    case EIO:
      return "; the device is gone or has failed: see the kernel's log";
    default:
      return {};
  }
}

}  // namespace

const std::error_category& completion_category() noexcept {
  static const CompletionCategory category;
  return category;
}

errc to_errc(ibv_wc_status status) noexcept {
  switch (status) {
    case IBV_WC_LOC_LEN_ERR:
      return errc::local_length;
    case IBV_WC_LOC_QP_OP_ERR:
    case IBV_WC_LOC_PROT_ERR:
    case IBV_WC_LOC_ACCESS_ERR:
    case IBV_WC_MW_BIND_ERR:
      return errc::local_protection;
    case IBV_WC_WR_FLUSH_ERR:
      return errc::flushed;
    case IBV_WC_REM_ACCESS_ERR:
      return errc::remote_access;
    case IBV_WC_REM_INV_REQ_ERR:
    case IBV_WC_REM_INV_RD_REQ_ERR:
    case IBV_WC_REM_ABORT_ERR:
    case IBV_WC_REM_OP_ERR:
      return errc::remote_operation;
    case IBV_WC_RETRY_EXC_ERR:
    case IBV_WC_RESP_TIMEOUT_ERR:
      return errc::retry_exceeded;
    case IBV_WC_RNR_RETRY_EXC_ERR:
      return errc::receiver_not_ready;
    default:
      return errc::device_failed;
  }
}

errc to_errc(std::string_view verb, int error) noexcept {
  switch (error) {
    case ENOMEM:
      return registers(verb) ? errc::memlock_too_small : errc::device_failed;
    case EOPNOTSUPP:
    case ENOSYS:
      return errc::not_supported;
    case EFAULT:
    case EACCES:
      return registers(verb) ? errc::invalid_argument : errc::device_failed;
    case EINVAL:
      return errc::invalid_argument;
    default:
      return errc::device_failed;
  }
}

std::string describe(ibv_wc_status status, std::string_view operation, std::string_view peer) {
  return fmt::format("{} to {} failed: {}", operation, peer,
                     completion_category().message(static_cast<int>(status)));
}

void throw_verb_error(std::string_view device, std::string_view verb, int error, std::string_view details) {
  std::string sentence = fmt::format("{} on device {} failed", verb, device);
  if (!details.empty()) sentence += fmt::format(" ({})", details);
  sentence += fmt::format(": {}{}", std::generic_category().message(error), remedy_of(verb, error));
  throw Error(to_errc(verb, error), std::move(sentence));
}

}  // namespace verbena::core
