#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# usage: consumer_test.sh BUILD PROJECT CXX CXX_FLAGS
# Installs what users get, moves it, and builds and runs a small project against it, by CMake and by pkg-config.
set -euo pipefail
build=$1 project=$2 compiler=$3 flags=$4
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

cmake --install "$build" --prefix "$work/staged" --component verbena_development >/dev/null
mv "$work/staged" "$work/moved" # a package must not remember where it was installed
prefix=$work/moved

if grep -rlE "^# *include *[<\"](core|transport|rpc)/" "$prefix/include"; then
  echo "the installed headers above include what isn't installed" >&2
  exit 1
fi

cmake -S "$project" -B "$work/cmake" -G Ninja -DCMAKE_PREFIX_PATH="$prefix" \
  -DCMAKE_CXX_COMPILER="$compiler" -DCMAKE_CXX_FLAGS="$flags" >"$work/log" || { cat "$work/log"; exit 1; }
cmake --build "$work/cmake"
"$work/cmake/consumer"

pc=$(dirname "$(find "$prefix" -name verbena.pc)")
export PKG_CONFIG_PATH=$pc${PKG_CONFIG_PATH:+:$PKG_CONFIG_PATH}
# The flags are lists of words on purpose.
# shellcheck disable=SC2046,SC2086
"$compiler" -std=c++20 $flags "$project/main.cc" -o "$work/by-pkg-config" $(pkg-config --cflags --libs verbena)
"$work/by-pkg-config"
