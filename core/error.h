// SPDX-License-Identifier: Apache-2.0
/// From verbs' errors to Verbena's: work-completion statuses and errno values.
#pragma once

#include <infiniband/verbs.h>

#include <string>
#include <string_view>

#include "verbena/error.h"

namespace verbena::core {

/// The category of `ibv_wc_status`, named "work completion"; its codes compare equal to the errc that they
/// mean.
const std::error_category& completion_category() noexcept;
/// The errc that a failed completion means to a user.
errc to_errc(ibv_wc_status status) noexcept;
/// The errc that errno value `error` of a set-up verb means to a user.
errc to_errc(std::string_view verb, int error) noexcept;
/// One sentence: "send to 10.9.0.1:7471 failed: retry exceeded (peer's process is gone or its link is down)
/// …".
std::string describe(ibv_wc_status status, std::string_view operation, std::string_view peer);

/// Throws Error for a set-up verb that failed with errno value `error`: names the verb, the device, the
/// likely cause and the remedy (ENOMEM on registration: the memlock limit with its value; EOPNOTSUPP: the
/// device lacks it).
[[noreturn]] void throw_verb_error(std::string_view device, std::string_view verb, int error,
                                   std::string_view details = {});

}  // namespace verbena::core
