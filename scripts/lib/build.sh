# shellcheck shell=bash
# SPDX-License-Identifier: Apache-2.0
# The release build, for the scripts that run what it makes.

# Installs what the build needs, and builds PROGRAMs of its bin folder; its words go to
# stderr. Beside a device that scripts/rxe provides, nothing can be installed or kept:
# there the build has to be ready.
build_release() { # PROGRAM...
  local build=$REPOSITORY/build/release program
  if [[ -n ${VERBENA_RXE_DEVICE:-} ]]; then
    for program in "$@"; do
      [[ -x $build/bin/$program ]] ||
        die 1 "$build/bin/$program isn't built yet. Build it first, outside of scripts/rxe: scripts/$SCRIPT_NAME --build"
    done
    return
  fi
  "$REPOSITORY/scripts/install-dependencies" >&2
  (
    cd -- "$REPOSITORY" || exit
    [[ -e $build/build.ninja ]] || cmake --preset release || exit
    [[ -t 2 ]] || exec cmake --build --preset release --target "${@/#/bin/}" -- --quiet
    cmake --build --preset release --target "${@/#/bin/}"
  ) >&2 || die 1 "the build failed; the lines above say why."
}
