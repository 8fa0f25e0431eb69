# shellcheck shell=bash
# SPDX-License-Identifier: Apache-2.0
# The kernel of the machine that scripts/rxe boots: Debian's stock one, unpacked and not
# installed, with the modules that rxe needs. Made once, kept in the user's cache.

readonly RXE_MODULES=(virtio_pci virtio_console 9p 9pnet_virtio overlay crc32_generic
  rdma_rxe ib_uverbs rdma_ucm veth virtio_net sch_netem)

# Prints the folder that holds vmlinux, initrd and release, making it where it is missing.
rxe_kernel() { # [PACKAGE]
  local cache=${XDG_CACHE_HOME:-${HOME:-/root}/.cache}/verbena/rxe key ready work lock
  key=$(cat "$REPOSITORY"/scripts/lib/rxe-{init,kernel.sh} | sha256sum | cut -c 1-12)
  ready=$cache/${1:-default}-$key
  if [[ ! -e $ready ]]; then
    { mkdir -p "$cache" && [[ -w $cache ]]; } ||
      die 125 "the kernel can't be kept in $cache; make that folder writable or set XDG_CACHE_HOME."
    exec {lock}>"$cache/lock"
    flock "$lock"
    if [[ ! -e $ready ]]; then
      rxe_need_tools depmod:kmod modprobe:kmod cpio:cpio xz:xz-utils python3:python3
      rm -rf "$cache"/making.* # of one that was killed; we hold the lock
      find "$cache" -mindepth 1 -maxdepth 1 -type d -mtime +14 -exec rm -rf {} +
      work=$(mktemp -d "$cache/making.XXXXXX")
      say "preparing a Linux kernel with SoftRoCE, once (a download of some 70 MB) ..."
      # shellcheck disable=SC2064  # this folder, now
      trap "rm -rf '$work'" EXIT
      rxe_make_kernel "$work" "${1:-}" ||
        die 125 "the kernel could not be prepared. The lines above say why; when it is mended, run this again."
      mv -T "$work" "$ready"
    fi
    exec {lock}>&-
  fi
  touch "$ready" # an unused one goes after a fortnight
  printf '%s\n' "$ready"
}

rxe_need_tools() { # TOOL:PACKAGE...
  local tool missing=()
  local PATH=$PATH:/usr/sbin:/sbin
  for tool in "$@"; do
    have "${tool%%:*}" || missing+=("${tool##*:}")
  done
  ((${#missing[@]} == 0)) ||
    die 125 "a machine with SoftRoCE needs these packages, which are missing: ${missing[*]}; run scripts/install-dependencies --rxe"
}

rxe_make_kernel() ( # FOLDER [PACKAGE]
  PATH=$PATH:/usr/sbin:/sbin
  mkdir "$1/unpacked" && cd "$1/unpacked" &&
    rxe_download "$2" && rxe_unpack && rxe_pack_initrd "$1" &&
    rxe_uncompress_kernel boot/vmlinuz-* "$1/vmlinux" &&
    rm -rf "$1/unpacked"
)

# Downloads with the system's package lists; where those are missing or outdated, with
# lists of our own, which needs no root.
rxe_download() { # [PACKAGE]
  rxe_download_with "$1" >apt.log 2>&1 && return
  mkdir -p lists/partial archives/partial
  local own=(-o "Dir::State::lists=$PWD/lists" -o "Dir::Cache=$PWD")
  if ! { apt-get "${own[@]}" update && rxe_download_with "$1" "${own[@]}"; } >>apt.log 2>&1; then
    tail -n 5 apt.log >&2
    say "the packages busybox-static and ${1:-linux-image-amd64} could not be downloaded; look at the network, the proxy and apt's sources."
    return 1
  fi
}

rxe_download_with() { # PACKAGE APT-OPTION...
  local package=$1
  shift
  [[ -n $package ]] || package=$(apt-cache "$@" depends linux-image-amd64 | awk '/Depends:/ {print $2; exit}')
  [[ -n $package ]] && apt-get "$@" download "$package" busybox-static
}

# The parts of the kernel's package that RXE_MODULES live in.
rxe_unpack() {
  dpkg-deb --fsys-tarfile linux-image-*.deb | tar -x --wildcards './boot/vmlinuz*' \
    './lib/modules/*/modules.*' '*/kernel/crypto/*' '*/kernel/drivers/char/*' \
    '*/kernel/drivers/infiniband/*' '*/kernel/drivers/net/*' '*/kernel/drivers/virtio/*' \
    '*/kernel/fs/*' '*/kernel/lib/*' '*/kernel/net/*' &&
    dpkg-deb --fsys-tarfile busybox-static_*.deb | tar -xO ./bin/busybox >busybox
}

rxe_pack_initrd() { # FOLDER
  local release
  release=$(basename lib/modules/*)
  printf '%s\n' "$release" >"$1/release" &&
    mkdir -p initrd/bin initrd/modules &&
    install -m 755 busybox initrd/bin/busybox &&
    install -m 755 "$REPOSITORY/scripts/lib/rxe-init" initrd/init &&
    depmod -b "$PWD" "$release" &&
    rxe_module_files "$release" | rxe_copy_modules initrd/modules &&
    (cd initrd && find . | cpio --quiet -o -H newc) >"$1/initrd"
}

# Prints RXE_MODULES and what they need, in the order of loading.
rxe_module_files() { # RELEASE
  local module
  for module in "${RXE_MODULES[@]}"; do
    modprobe -d "$PWD" -S "$1" --show-depends "$module" || return
  done | awk '$1 == "insmod" && !seen[$2]++ {print $2}'
}

rxe_copy_modules() { # FOLDER
  local file name
  while read -r file; do
    name=$(basename "$file" .xz)
    if [[ $file == *.xz ]]; then xz -dc "$file"; else cat "$file"; fi >"$1/$name" || return
    printf '%s\n' "$name" >>"$1/order"
  done
}

# An uncompressed kernel saves the emulated machine two seconds of unpacking.
rxe_uncompress_kernel() { # VMLINUZ VMLINUX
  python3 - "$@" <<'PYTHON'
import lzma, sys
packed = open(sys.argv[1], "rb").read()
start = packed.index(b"\xfd7zXZ\0")
open(sys.argv[2], "wb").write(lzma.LZMADecompressor().decompress(packed[start:]))
PYTHON
}
