// SPDX-License-Identifier: Apache-2.0
/// Where two processes of this machine meet on a device.
#pragma once

#include <string>
#include <string_view>

namespace verbena::tools {

/// "soft://127.0.0.1:0", "rxe1://10.9.0.1:0": a free port at an address that the device itself answers to. An
/// empty name means the best usable device. Throws Failure naming the devices that there are.
std::string local_address(const std::string& device);

/// Throws UsageError where `address` isn't one, with what is wrong and how one looks.
void check_address(std::string_view address);

/// The device that `address` asks for, or `device` where it asks for none. Throws verbena::Error where it is
/// no address.
std::string device_for(std::string_view address, const std::string& device);

/// `address` with another port.
std::string with_port(std::string_view address, std::uint16_t port);

/// "software", "hardware", or nothing where there is no such device.
std::string kind_of_device(std::string_view name);

}  // namespace verbena::tools
