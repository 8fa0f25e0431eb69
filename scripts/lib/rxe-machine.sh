# shellcheck shell=bash
# SPDX-License-Identifier: Apache-2.0
# scripts/rxe in machines of its own: QEMU's command line, output, and what became of it.
# Reads the options of scripts/rxe and its temporary folder, which each machine sees as
# its control folder: the command goes in, the status comes out.
# shellcheck disable=SC2154  # those options

readonly PASSED_ON='^(PATH|HOME|USER|TERM|LANG|TZ|CI|LD_LIBRARY_PATH|(VERBENA|GTEST|CTEST|BENCHMARK|LC|ASAN|LSAN|TSAN|UBSAN)_.*)$'
readonly GRACE=10 # seconds that the second machine has once the first one failed

check_machine_tools() {
  [[ $(uname -m) == x86_64 ]] ||
    die 125 "there is no RDMA device here, and a machine that has one runs only on x86-64 hosts, not on $(uname -m)."
  rxe_need_tools qemu-system-x86_64:qemu-system-x86 python3:python3 ip:iproute2 rdma:iproute2
}

# The emulated processor counts with the host's time-stamp counter. A kernel that is told
# its rate skips a calibration that fails under emulation and would leave it a slow clock.
tsc_khz() {
  python3 - <<'PYTHON'
import ctypes, mmap, time
code = mmap.mmap(-1, 4096, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)
code.write(bytes.fromhex("0f31 48c1e220 4809d0 c3"))  # rdtsc; shl rdx, 32; or rax, rdx; ret
tsc = ctypes.CFUNCTYPE(ctypes.c_uint64)(ctypes.addressof(ctypes.c_char.from_buffer(code)))
first, begin = time.perf_counter_ns(), tsc()
time.sleep(0.03)
last, end = time.perf_counter_ns(), tsc()
print((end - begin) * 1000000 // (last - first))
PYTHON
}

# The script that a machine runs once rxe is up; it becomes the command.
write_command() {
  local name
  for name in $(compgen -e); do
    [[ ! $name =~ $PASSED_ON || $name == VERBENA_HOST* ]] ||
      printf 'export %s=%q\n' "$name" "${!name}"
  done
  printf 'export VERBENA_SHARE=%q VERBENA_RXE_DEVICE=rxe1\n' "$share"
  if ((hosts == 1)); then
    printf 'export VERBENA_RXE_ADDRESS=10.9.0.1\nunset VERBENA_HOST\n'
  else
    # shellcheck disable=SC2016  # the machine expands these
    printf 'export %s %s\n' 'VERBENA_RXE_ADDRESS=10.8.0.$((VERBENA_HOST + 1))' \
      'VERBENA_PEER=10.8.0.$((2 - VERBENA_HOST))'
  fi
  printf 'unset VERBENA_HOSTS\nset +euo pipefail\nulimit -n 65536 -c 0 -l %s\n' "$memlock"
  printf 'cd -- %q || exit 125\nexec' "$PWD"
  # Root isn't bound by the limit as long as it has this capability.
  [[ $memlock == unlimited ]] || printf ' setpriv --bounding-set -ipc_lock --'
  printf ' %q' "${command[@]}"
  printf '\n'
}

# A path in QEMU's options: a comma is written twice.
option() { printf '%s' "${1//,/,,}"; }
shared() { printf 'local,path=%s,mount_tag=%s,security_model=none' "$(option "$1")" "$2"; } # FOLDER TAG
output() { printf 'file,id=%s,path=%s' "$2" "$(option "$1/$2")"; }                          # FOLDER NAME

# With two machines, every line says whose it is.
copy_output() { # HOST
  if ((hosts == 1)); then cat; else sed -u "s/^/[$1] /"; fi
}

# Leaves the process in machines[HOST]. Whoever kills this script, even by SIGKILL, ends
# the machine too.
start_machine() { # HOST
  local run=$temporary/machine.$1 processors link=()
  processors=$(nproc)
  if ((hosts == 2)); then
    link=(-netdev "stream,id=link,server=$( (($1)) && echo off || echo on),addr.type=unix,addr.path=$(option "$temporary/link")"
      -device "virtio-net-pci,netdev=link,romfile=,mac=52:54:00:0a:08:0$(($1 + 1))")
  fi
  local qemu=(qemu-system-x86_64 -machine q35 -accel "tcg,thread=multi"
    -cpu "max,erms=off,pclmulqdq=off" -smp $((processors < 2 ? processors : 2)) -m "$memory"
    -display none -nodefaults -no-reboot -kernel "$kernel/vmlinux" -initrd "$kernel/initrd"
    -append "console=ttyS0 quiet panic=-1 oops=panic mitigations=off no_timer_check tsc=reliable tsc_early_khz=$tsc VERBENA_HOST=$1 VERBENA_HOSTS=$hosts"
    -chardev "$(output "$run" console)" -serial chardev:console
    -device virtio-serial-pci
    -chardev "$(output "$run" out)" -device "virtserialport,nr=1,chardev=out"
    -chardev "$(output "$run" err)" -device "virtserialport,nr=2,chardev=err"
    -virtfs "$(shared / root),multidevs=remap,readonly=on"
    -virtfs "$(shared "$temporary" control)" -virtfs "$(shared "$share" share)" "${link[@]}")

  mkdir "$run"
  mkfifo "$run/out" "$run/err"
  copy_output "$1" <"$run/out" &
  copiers+=($!)
  copy_output "$1" <"$run/err" >&2 &
  copiers+=($!)
  setpriv --pdeathsig TERM timeout -k 2 "$limit" \
    setpriv --pdeathsig KILL "${qemu[@]}" </dev/null >"$run/qemu" 2>&1 &
  machines[$1]=$!
}

# Returns what became of a machine whose QEMU ended with this status.
outcome() { # HOST STATUS
  local run=$temporary/machine.$1 result=125 what="died"
  [[ ! -s $temporary/status.$1 ]] || return "$(<"$temporary/status.$1")"
  (($2 != 124 && $2 != 137)) || result=124 what="was ended after $limit seconds"
  say "the machine $what; its console:"
  if [[ -s $run/console ]]; then tr -d '\r' <"$run/console" | what_matters >&2; fi
  tail -n 5 "$run/qemu" >&2
  return $result
}

# Of a console: what the kernel says from its first complaint on; without one, the end.
what_matters() {
  awk '/Kernel panic|BUG:|Oops/ {complained = 1} {line[NR] = $0} complained && ++shown <= 30
    END {for (n = NR > 15 ? NR - 14 : 1; !complained && n <= NR; n++) print line[n]}'
}

# Waits for all machines; returns the first status that isn't 0. When one fails, the other
# has a short while to say why it fails as well, for it may wait for the first one forever.
wait_for_machines() {
  local ended host code result=0 grace='' cut_short=false
  while ((${#machines[@]})); do
    code=0
    wait -n -p ended "${machines[@]}" $grace || code=$?
    if [[ $ended == "$grace" ]]; then
      say "the other machine failed $GRACE seconds ago, so this one is ended."
      kill "${machines[@]}" && cut_short=true grace=''
      continue
    fi
    for host in "${!machines[@]}"; do [[ ${machines[host]} != "$ended" ]] || break; done
    unset "machines[$host]"
    close_output "$host"
    $cut_short || outcome "$host" "$code" || {
      result=$((result ? result : $?))
      ((${#machines[@]} == 0)) || { sleep $GRACE & grace=$!; }
    }
  done
  [[ -z $grace ]] || kill "$grace" 2>/dev/null || true
  wait "${copiers[@]}" || true
  return $result
}

# A copier still waits where QEMU never opened its pipe: open and close it once.
close_output() { # HOST
  : <>"$temporary/machine.$1/out"
  : <>"$temporary/machine.$1/err"
}

run_in_machines() { # REASON
  local host patience=500
  check_machine_tools
  kernel=$(rxe_kernel "$package")
  tsc=$(tsc_khz)
  say "in $( ((hosts == 1)) && echo a virtual machine || echo two virtual machines), for $1 (Linux $(<"$kernel/release"))"
  cp "$REPOSITORY"/scripts/lib/rxe-{guest,link.sh} "$temporary"
  printf '%s\n' "$share" >"$temporary/share"
  write_command >"$temporary/command"
  ulimit -n "$(ulimit -Hn)" # a file open in the machine is one open in QEMU
  for ((host = 0; host < hosts; host++)); do
    until ((host == 0 || patience-- == 0)) || [[ -S $temporary/link ]]; do sleep 0.02; done
    start_machine "$host"
  done
  wait_for_machines
}
