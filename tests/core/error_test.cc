// SPDX-License-Identifier: Apache-2.0
#include "core/error.h"

#include <gtest/gtest.h>
#include <sys/resource.h>

#include <array>
#include <cerrno>
#include <set>
#include <vector>

namespace verbena::core {
namespace {

const std::vector<errc> every_errc{errc::timed_out,          errc::cancelled,         errc::rejected,
                                   errc::handler_failed,     errc::overloaded,        errc::no_credit,
                                   errc::no_buffer,          errc::message_too_long,  errc::connection_lost,
                                   errc::connection_refused, errc::protocol_mismatch, errc::retry_exceeded,
                                   errc::receiver_not_ready, errc::remote_access,     errc::remote_operation,
                                   errc::local_protection,   errc::local_length,      errc::flushed,
                                   errc::protocol_violation, errc::not_sent,          errc::device_not_found,
                                   errc::device_failed,      errc::memlock_too_small, errc::address_in_use,
                                   errc::address_unusable,   errc::invalid_argument,  errc::invalid_state,
                                   errc::not_supported};

/// The error that a failed verb throws.
Error thrown_for(std::string_view verb, int error, std::string_view details = {}) {
  try {
    throw_verb_error("soft0", verb, error, details);
  } catch (const Error& caught) {
    return caught;
  }
}

bool contains(std::string_view text, std::string_view part) {
  return text.find(part) != text.npos;
}

TEST(ErrorTest, EachCodeHasAMessageOfItsOwnWithoutAFullStop) {
  std::set<std::string> messages;
  for (const errc code : every_errc) {
    const std::string message = make_error_code(code).message();
    EXPECT_NE(message, "unknown error");
    EXPECT_FALSE(message.ends_with('.'));
    EXPECT_TRUE(messages.insert(message).second) << message;
  }
  EXPECT_EQ(std::error_code(9999, verbena_category()).message(), "unknown error");
}

TEST(ErrorTest, ACodeTellsWhatDied) {
  EXPECT_EQ(died(errc::timed_out), Died::operation);
  EXPECT_EQ(died(errc::flushed), Died::connection);
  EXPECT_EQ(died(errc::not_sent), Died::connection);
  EXPECT_EQ(died(errc::memlock_too_small), Died::device);
  EXPECT_EQ(died(errc::invalid_state), Died::programmer);
}

TEST(ErrorTest, AWorkCompletionsCodeEqualsTheErrcThatItMeans) {
  const std::error_code code{IBV_WC_RETRY_EXC_ERR, completion_category()};
  EXPECT_EQ(code, errc::retry_exceeded);
  EXPECT_TRUE(errc::retry_exceeded == code);
  EXPECT_NE(code, errc::flushed);
  EXPECT_EQ(code.category().name(), std::string{"work completion"});
  EXPECT_FALSE(std::error_code(IBV_WC_SUCCESS, completion_category()));
}

TEST(ErrorTest, EveryFailedStatusMeansAnErrcAndHasAMessage) {
  for (int status = IBV_WC_SUCCESS + 1; status <= IBV_WC_TM_RNDV_INCOMPLETE; ++status) {
    const std::error_code code{status, completion_category()};
    EXPECT_EQ(code, to_errc(static_cast<ibv_wc_status>(status))) << status;
    EXPECT_FALSE(code.message().empty()) << status;
  }
}

TEST(ErrorTest, ADescriptionNamesOperationPeerAndCause) {
  const std::string text = describe(IBV_WC_RETRY_EXC_ERR, "send", "10.9.0.1:7471");
  EXPECT_TRUE(text.starts_with("send to 10.9.0.1:7471 failed: retry exceeded")) << text;
  EXPECT_TRUE(contains(text, "gone")) << text;
}

TEST(ErrorTest, AFailedRegistrationNamesTheLockedMemoryLimit) {
  rlimit before{};
  ASSERT_EQ(getrlimit(RLIMIT_MEMLOCK, &before), 0);
  const rlimit small{64 * 1024, before.rlim_max};
  ASSERT_EQ(setrlimit(RLIMIT_MEMLOCK, &small), 0);
  const Error error = thrown_for("ibv_reg_mr", ENOMEM, "1048576 bytes");
  setrlimit(RLIMIT_MEMLOCK, &before);
  EXPECT_EQ(error.code(), errc::memlock_too_small);
  for (const char* part : {"ibv_reg_mr", "soft0", "1048576 bytes", "64 KiB", "ulimit -l", "limits.conf"}) {
    EXPECT_TRUE(contains(error.what(), part)) << part << " isn't in: " << error.what();
  }
}

TEST(ErrorTest, AMissingVerbSaysThatTheDeviceLacksIt) {
  const Error error = thrown_for("ibv_alloc_mw", EOPNOTSUPP);
  EXPECT_EQ(error.code(), errc::not_supported);
  EXPECT_TRUE(contains(error.what(), "lacks this verb")) << error.what();
}

TEST(ErrorTest, AnInvalidValueIsTheProgrammersMistake) {
  const Error error = thrown_for("ibv_create_cq", EINVAL, "99999999 entries");
  EXPECT_EQ(error.code(), errc::invalid_argument);
  EXPECT_EQ(died(static_cast<errc>(error.code().value())), Died::programmer);
}

}  // namespace
}  // namespace verbena::core
