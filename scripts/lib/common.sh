# shellcheck shell=bash
# SPDX-License-Identifier: Apache-2.0
# What every script shares: messages that carry the script's name, and the repository's root.

REPOSITORY=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")/../.." && pwd)
SCRIPT_NAME=$(basename -- "$0")
# shellcheck disable=SC2034  # REPOSITORY is for those who source this file
readonly REPOSITORY SCRIPT_NAME

say() { printf '%s: %s\n' "$SCRIPT_NAME" "$*" >&2; }

die() { # STATUS MESSAGE
  local status=$1
  shift
  say "$*"
  exit "$status"
}

# The comment block under the licence line is a script's help: one text, at one place.
usage() { sed -n '4,/^[^#]/{/^# shellcheck/d;s/^# \{0,1\}//p}' "$0"; }

wrong_usage() { die 2 "$1; 'scripts/$SCRIPT_NAME --help' shows the usage."; }

have() { command -v "$1" >/dev/null 2>&1; }
