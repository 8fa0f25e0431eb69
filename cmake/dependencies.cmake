# SPDX-License-Identifier: Apache-2.0
# What Verbena stands on, all from Debian 12.
find_package(PkgConfig REQUIRED)
find_package(Threads REQUIRED)
pkg_check_modules(ibverbs REQUIRED IMPORTED_TARGET libibverbs)
pkg_check_modules(rdmacm REQUIRED IMPORTED_TARGET librdmacm)
find_package(Boost 1.74 REQUIRED) # Asio, header only
find_package(fmt 9 REQUIRED)
if(VERBENA_BUILD_TOOLS)
  find_package(CLI11 REQUIRED)
  find_package(nlohmann_json REQUIRED)
  find_package(OpenSSL REQUIRED) # SHA-256 in the demonstration
endif()
if(VERBENA_BUILD_TESTS)
  find_package(GTest REQUIRED)
  include(GoogleTest)
endif()
if(VERBENA_BUILD_BENCH)
  find_package(benchmark REQUIRED)
endif()
