// SPDX-License-Identifier: Apache-2.0
/// Errors, grouped by what died: a caller's question is "what must I rebuild?".
///
/// Set-up calls throw `Error`, whose text says who, what, why and the remedy. Data-path calls return or
/// complete with a `std::error_code` of `errc`, and never throw.
#pragma once

#include <exception>
#include <string>
#include <system_error>

namespace verbena {

enum class errc {
  // One operation died; its connection lives.
  timed_out = 1,   ///< the deadline passed; neither side touches the buffers any more
  cancelled,       ///< the caller gave it up
  rejected,        ///< the peer has no such method, or refuses it
  handler_failed,  ///< the peer's handler reported an error
  overloaded,      ///< a declared queue is full; nothing was sent; try again later
  no_credit,       ///< the peer has granted no further receive; nothing was sent; try again after a poll
  no_buffer,       ///< the pool is exhausted; raise the option that sizes it
  message_too_long,

  // The connection died: reconnect.
  connection_lost = 100,  ///< the peer is gone, or the link; what was under way may have been carried out
  connection_refused,     ///< nobody listens there, or the peer said no; the text has its reason
  protocol_mismatch,      ///< the peer speaks another version, or isn't Verbena
  retry_exceeded,         ///< the peer's device stopped acknowledging
  receiver_not_ready,     ///< the peer posted no receive in time
  remote_access,          ///< the peer's key doesn't allow that range or that kind of access
  remote_operation,       ///< the peer's device couldn't carry out the operation
  local_protection,       ///< our own local key doesn't cover the buffer
  local_length,           ///< a message was longer than the receive it met
  flushed,                ///< it stood behind an operation that failed; see that one's error
  protocol_violation,     ///< the peer sent bytes that the protocol forbids
  not_sent,               ///< the connection was lost before the request left: it has not run

  // The device died, or can't be had: choose another, or mend the machine.
  device_not_found = 200,
  device_failed,
  memlock_too_small,
  address_in_use,
  address_unusable,

  // The programmer's mistake: mend the program.
  invalid_argument = 300,
  invalid_state,
  not_supported,
  other_process,  ///< the object is that of the process that this one was forked from; open one here
};

/// What a failed operation takes with it.
enum class Died { operation, connection, device, programmer };
Died died(errc code) noexcept;

/// The category of `errc`, named "verbena". Messages are one clause, without a full stop.
const std::error_category& verbena_category() noexcept;
inline std::error_code make_error_code(errc code) noexcept {
  return {static_cast<int>(code), verbena_category()};
}
inline std::error_condition make_error_condition(errc code) noexcept {
  return {static_cast<int>(code), verbena_category()};
}
/// By meaning: a code of another category (a work completion's status) equals the errc that it amounts to.
inline bool operator==(const std::error_code& code, errc meaning) noexcept {
  return code == make_error_condition(meaning);
}

/// As futures and coroutines have it: a std::system_error; null where there is no error.
inline std::exception_ptr exception_of(std::error_code error) {
  return error ? std::make_exception_ptr(std::system_error(error)) : nullptr;
}

/// What set-up calls throw. `what()` is the whole sentence: who, what, why, remedy.
class Error : public std::system_error {
 public:
  Error(errc code, std::string sentence);
  Error(std::error_code code, std::string sentence);
  const char* what() const noexcept override { return sentence_.c_str(); }

 private:
  std::string sentence_;
};

}  // namespace verbena

template <>
struct std::is_error_code_enum<verbena::errc> : std::true_type {};
