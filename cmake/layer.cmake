# SPDX-License-Identifier: Apache-2.0
# verbena_layer(NAME SOURCES ... LINKS ...): one layer of the house as a static library.
# Its headers are included by their path from the project's root ("core/device.h"), inside the project only.
function(verbena_layer name)
  cmake_parse_arguments(LAYER "" "" "SOURCES;LINKS;PRIVATE_LINKS" ${ARGN})
  add_library(verbena_${name} STATIC ${LAYER_SOURCES})
  add_library(verbena::${name} ALIAS verbena_${name})
  target_compile_features(verbena_${name} PUBLIC cxx_std_20)
  # The code is position-independent, but nobody replaces its functions one by one: calls within a file stay direct.
  target_compile_options(verbena_${name} PRIVATE -fno-semantic-interposition)
  target_include_directories(verbena_${name} PUBLIC $<BUILD_INTERFACE:${PROJECT_SOURCE_DIR}>)
  target_link_libraries(verbena_${name} PUBLIC ${LAYER_LINKS} PRIVATE ${LAYER_PRIVATE_LINKS})
endfunction()
