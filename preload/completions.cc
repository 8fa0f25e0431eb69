// SPDX-License-Identifier: Apache-2.0
// Completion queues and channels.
#include <infiniband/verbs.h>

#include <cerrno>

#include "core/soft/soft_device.h"
#include "preload/real.h"

using verbena::core::Device;
using verbena::core::soft_device_of;

VERBENA_EXPORT ibv_comp_channel* ibv_create_comp_channel(ibv_context* context) {
  if (Device* const soft = soft_device_of(context)) return soft->create_comp_channel();
  return REAL(ibv_create_comp_channel, "IBVERBS_1.0")(context);
}

VERBENA_EXPORT int ibv_destroy_comp_channel(ibv_comp_channel* channel) {
  if (Device* const soft = soft_device_of(channel->context)) return soft->destroy_comp_channel(channel);
  return REAL(ibv_destroy_comp_channel, "IBVERBS_1.0")(channel);
}

VERBENA_EXPORT ibv_cq* ibv_create_cq(ibv_context* context, int entries, void* cq_context,
                                     ibv_comp_channel* channel, int vector) {
  if (Device* const soft = soft_device_of(context))
    return soft->create_cq(entries, cq_context, channel, vector);
  return REAL(ibv_create_cq)(context, entries, cq_context, channel, vector);
}

VERBENA_EXPORT int ibv_resize_cq(ibv_cq* cq, int entries) {
  if (Device* const soft = soft_device_of(cq->context)) return soft->resize_cq(cq, entries);
  return REAL(ibv_resize_cq)(cq, entries);
}

VERBENA_EXPORT int ibv_destroy_cq(ibv_cq* cq) {
  if (Device* const soft = soft_device_of(cq->context)) return soft->destroy_cq(cq);
  return REAL(ibv_destroy_cq)(cq);
}

VERBENA_EXPORT int ibv_get_cq_event(ibv_comp_channel* channel, ibv_cq** cq, void** cq_context) {
  if (Device* const soft = soft_device_of(channel->context))
    return soft->get_cq_event(channel, cq, cq_context);
  return REAL(ibv_get_cq_event)(channel, cq, cq_context);
}

VERBENA_EXPORT void ibv_ack_cq_events(ibv_cq* cq, unsigned int count) {
  if (Device* const soft = soft_device_of(cq->context)) return soft->ack_cq_events(cq, count);
  REAL(ibv_ack_cq_events)(cq, count);
}
