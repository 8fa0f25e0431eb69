# SPDX-License-Identifier: Apache-2.0
# Installing: the public headers, the layers as static libraries, a CMake package and a pkg-config file.
# What the layers link decides what the two packages ask their users' build for, so that they can't fall behind.
include(CMakePackageConfigHelpers)

set(verbena_component verbena_development)
set(verbena_package_dir ${CMAKE_INSTALL_LIBDIR}/cmake/verbena)

set(verbena_layers)
foreach(layer include core transport rpc)
  if(TARGET verbena_${layer})
    set_target_properties(verbena_${layer} PROPERTIES EXPORT_NAME ${layer})
    list(APPEND verbena_layers ${layer})
  endif()
endforeach()

# From a linked target to how users find it: a line of CMake, and a word of pkg-config's Requires or Libs.
set(verbena_find_lines)
set(verbena_pc_requires)
set(verbena_pc_libs)
foreach(layer IN LISTS verbena_layers)
  get_target_property(links verbena_${layer} INTERFACE_LINK_LIBRARIES)
  foreach(link IN LISTS links)
    string(REGEX REPLACE "^\\$<LINK_ONLY:(.*)>$" "\\1" link "${link}")
    if(link MATCHES "^PkgConfig::(.+)$")
      list(APPEND verbena_find_lines
           "find_dependency(PkgConfig)"
           "pkg_check_modules(${CMAKE_MATCH_1} REQUIRED QUIET IMPORTED_TARGET lib${CMAKE_MATCH_1})")
      list(APPEND verbena_pc_requires lib${CMAKE_MATCH_1})
    elseif(link STREQUAL "fmt::fmt")
      list(APPEND verbena_find_lines "find_dependency(fmt)")
      list(APPEND verbena_pc_requires fmt)
    elseif(link MATCHES "^OpenSSL::Crypto$")
      list(APPEND verbena_find_lines "find_dependency(OpenSSL)")
      list(APPEND verbena_pc_requires libcrypto)
    elseif(link MATCHES "^Boost::(headers|boost)$")
      list(APPEND verbena_find_lines "find_dependency(Boost 1.74)") # headers only: nothing for pkg-config
    elseif(link STREQUAL "Threads::Threads")
      list(APPEND verbena_find_lines "find_dependency(Threads)")
      list(APPEND verbena_pc_libs -pthread)
    elseif(link AND NOT link MATCHES "^verbena")
      message(FATAL_ERROR "verbena_${layer} links ${link}: tell cmake/install.cmake how users find it")
    endif()
  endforeach()
  if(NOT layer STREQUAL include)
    list(PREPEND verbena_pc_libs -lverbena_${layer}) # a layer stands before those that it links
  endif()
endforeach()
foreach(words verbena_find_lines verbena_pc_requires verbena_pc_libs)
  list(REMOVE_DUPLICATES ${words})
endforeach()
list(JOIN verbena_find_lines "\n" verbena_find_lines)
list(JOIN verbena_pc_requires " " verbena_pc_requires)
list(JOIN verbena_pc_libs " " verbena_pc_libs)

list(TRANSFORM verbena_layers PREPEND verbena_)
install(TARGETS verbena ${verbena_layers} EXPORT verbenaTargets
        ARCHIVE COMPONENT ${verbena_component}
        FILE_SET HEADERS COMPONENT ${verbena_component})
install(EXPORT verbenaTargets NAMESPACE verbena:: DESTINATION ${verbena_package_dir}
        COMPONENT ${verbena_component})

configure_package_config_file(${PROJECT_SOURCE_DIR}/packaging/verbenaConfig.cmake.in
                              ${PROJECT_BINARY_DIR}/verbenaConfig.cmake
                              INSTALL_DESTINATION ${verbena_package_dir})
write_basic_package_version_file(${PROJECT_BINARY_DIR}/verbenaConfigVersion.cmake
                                 COMPATIBILITY SameMinorVersion)
# From the .pc file up to the prefix, so that an installed tree can be moved: LIBDIR may have several parts.
string(REGEX REPLACE "[^/]+" ".." verbena_pc_up ${CMAKE_INSTALL_LIBDIR})
configure_file(${PROJECT_SOURCE_DIR}/packaging/verbena.pc.in ${PROJECT_BINARY_DIR}/verbena.pc @ONLY)
install(FILES ${PROJECT_BINARY_DIR}/verbenaConfig.cmake ${PROJECT_BINARY_DIR}/verbenaConfigVersion.cmake
        DESTINATION ${verbena_package_dir} COMPONENT ${verbena_component})
install(FILES ${PROJECT_BINARY_DIR}/verbena.pc DESTINATION ${CMAKE_INSTALL_LIBDIR}/pkgconfig
        COMPONENT ${verbena_component})

# Each public header compiles by itself: the target all_verify_interface_header_sets.
if(PROJECT_IS_TOP_LEVEL)
  set_target_properties(verbena_include PROPERTIES VERIFY_INTERFACE_HEADER_SETS ON)
endif()
