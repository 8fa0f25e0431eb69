#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
#
# usage: installed_test.sh BUILD
#
# Installs BUILD, moves what has been installed, and runs a verbs program by it; then takes
# the library away, which has to be said.
set -euo pipefail
build=$1
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

cmake --install "$build" --prefix "$work/staged" >"$work/log"
mv "$work/staged" "$work/moved"
verbena=$work/moved/bin/verbena

"$verbena" run -- ibv_devices | grep -E '^ +soft0 '
rm "$(find "$work/moved" -name libverbena-ibverbs.so)"
if "$verbena" run -- true 2>"$work/error"; then
  echo "a missing library went unnoticed" >&2
  exit 1
fi
grep 'libverbena-ibverbs.so is missing' "$work/error"
