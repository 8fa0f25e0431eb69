// SPDX-License-Identifier: Apache-2.0
/// A call of which the result is waited for.
#pragma once

#include <fmt/format.h>

#include <verbena/loop.h>
#include <verbena/rpc.h>
#include <chrono>
#include <optional>

#include "tools/common/failure.h"

namespace verbena::tools {

constexpr std::chrono::seconds call_patience{3};

[[noreturn]] inline void throw_call_failed(const rpc::Client& client, std::error_code error) {
  throw Failure(fmt::format("the server at {} does not answer ({}); is it still running?", client.peer(),
                            error.message()));
}

/// Throws Failure where the server says no, goes away, or takes longer than `call_patience`.
template <typename Method>
typename Method::Result call_and_wait(rpc::Client& client, const typename Method::Request& request) {
  struct Outcome {
    bool known = false;
    std::error_code error;
    std::optional<typename Method::Result> result;
  } outcome;
  const std::error_code refused = client.call<Method>(
      request,
      [&outcome](std::error_code error, std::optional<typename Method::Result> result) {
        outcome = {true, error, std::move(result)};
      },
      call_patience);
  if (refused) throw_call_failed(client, refused);
  while (!outcome.known) client.loop().poll();
  if (outcome.error) throw_call_failed(client, outcome.error);
  return *outcome.result;
}

}  // namespace verbena::tools
