// SPDX-License-Identifier: Apache-2.0
/// Asio's cancellation slots, where Boost has them (from 1.77 on): the slot associated with a call's handler
/// cancels the call. Where it hasn't, Client::cancel() is the way.
///
/// Emit in the loop's thread. Any type of cancellation gives the call up: it completes with `cancelled`, and
/// whether its handler at the server has run isn't known (Asio calls that terminal).
#pragma once

#include "verbena/rpc.h"

#if __has_include(<boost/asio/associated_cancellation_slot.hpp>)
#include <boost/asio/associated_cancellation_slot.hpp>
#define VERBENA_HAS_CANCELLATION_SLOTS 1
#else
#define VERBENA_HAS_CANCELLATION_SLOTS 0
#endif

namespace verbena::rpc::detail {

#if VERBENA_HAS_CANCELLATION_SLOTS

template <class H>
void let_slot_cancel(const H& handler, Canceller canceller) {
  auto slot = boost::asio::get_associated_cancellation_slot(handler);
  if (!slot.is_connected()) return;
  slot.assign([canceller = std::move(canceller)](boost::asio::cancellation_type type) {
    if (type != boost::asio::cancellation_type::none) canceller();
  });
}

/// Before the handler runs: the slot may serve another operation then.
template <class H>
void leave_slot(const H& handler) {
  auto slot = boost::asio::get_associated_cancellation_slot(handler);
  if (slot.is_connected()) slot.clear();
}

#else

template <class H>
void let_slot_cancel(const H&, const Canceller&) {}
template <class H>
void leave_slot(const H&) {}

#endif

}  // namespace verbena::rpc::detail
