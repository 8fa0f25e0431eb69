// SPDX-License-Identifier: Apache-2.0
/// The one owner of verbs objects: destroys through the device that made the object. Members of a class stand
/// in creation order, so that destruction is the reverse. A destroy that fails is logged, never thrown. In a
/// forked child the objects are its parent's, and stay.
#pragma once

#include <type_traits>
#include <utility>

#include "core/device.h"

namespace verbena::core {

namespace detail {
inline int destroy(Device& device, ibv_pd* pd) {
  return device.dealloc_pd(pd);
}
inline int destroy(Device& device, ibv_mr* mr) {
  return device.dereg_mr(mr);
}
inline int destroy(Device& device, ibv_mw* mw) {
  return device.dealloc_mw(mw);
}
inline int destroy(Device& device, ibv_ah* ah) {
  return device.destroy_ah(ah);
}
inline int destroy(Device& device, ibv_comp_channel* channel) {
  return device.destroy_comp_channel(channel);
}
inline int destroy(Device& device, ibv_cq* cq) {
  return device.destroy_cq(cq);
}
inline int destroy(Device& device, ibv_srq* srq) {
  return device.destroy_srq(srq);
}
inline int destroy(Device& device, ibv_qp* qp) {
  return device.destroy_qp(qp);
}
/// Writes one line to stderr: which kind of object of which device, and why.
void report_failed_destroy(Device& device, const char* kind, int error) noexcept;
}  // namespace detail

template <class T>
class Handle {
 public:
  Handle() = default;
  Handle(Device& device, T* object) noexcept : device_(&device), object_(object) {}
  Handle(Handle&& other) noexcept : device_(other.device_), object_(std::exchange(other.object_, nullptr)) {}
  Handle& operator=(Handle&& other) noexcept {
    if (this != &other) {
      reset();
      device_ = other.device_;
      object_ = std::exchange(other.object_, nullptr);
    }
    return *this;
  }
  ~Handle() { reset(); }

  T* get() const noexcept { return object_; }
  T* operator->() const noexcept { return object_; }
  explicit operator bool() const noexcept { return object_ != nullptr; }
  /// Of a handle that holds something.
  bool is_of_this_process() const noexcept { return device_->is_of_this_process(); }

  /// Gives the object up to the caller, who destroys it.
  T* release() noexcept { return std::exchange(object_, nullptr); }

  /// Destroys the object now: 0; or the device's errno value, and the object is still there.
  int destroy() noexcept {
    if (object_ == nullptr) return 0;
    const int error = detail::destroy(*device_, object_);
    if (error == 0) object_ = nullptr;
    return error;
  }

  void reset() noexcept {
    if (T* object = std::exchange(object_, nullptr)) {
      if (!device_->is_of_this_process()) return;
      if (const int error = detail::destroy(*device_, object)) {
        detail::report_failed_destroy(*device_, kind(), error);
      }
    }
  }

 private:
  static constexpr const char* kind() {
    if constexpr (std::is_same_v<T, ibv_pd>) return "protection domain";
    if constexpr (std::is_same_v<T, ibv_mr>) return "memory region";
    if constexpr (std::is_same_v<T, ibv_mw>) return "memory window";
    if constexpr (std::is_same_v<T, ibv_ah>) return "address handle";
    if constexpr (std::is_same_v<T, ibv_comp_channel>) return "completion channel";
    if constexpr (std::is_same_v<T, ibv_cq>) return "completion queue";
    if constexpr (std::is_same_v<T, ibv_srq>) return "shared receive queue";
    if constexpr (std::is_same_v<T, ibv_qp>) return "queue pair";
    return "object";
  }

  Device* device_ = nullptr;
  T* object_ = nullptr;
};

}  // namespace verbena::core
