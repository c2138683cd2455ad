#!/bin/sh
# SPDX-License-Identifier: BSD-3-Clause
#
# A server whose address is taken says which, exits with code 1 and leaves nothing behind: neither a
# process nor the other addresses it had already bound.
. "$(dirname "$0")/support/soak.sh"
begin "$@"
need curl

start_server --workers 2
taken=127.0.0.1:$port
before=$(workers)

# refused <option>...: runs a second server to its end; its exit code must be 1.
refused() {
  timeout 20 "$hello" "$@" 2>"$scratch/refused"
  [ $? -eq 1 ]
}
left_running() {
  for each in /proc/[0-9]*; do
    [ "$(readlink "$each/exe" 2>/dev/null)" = "$(readlink -f "$hello")" ] || continue
    case " $server $before " in *" ${each#/proc/} "*) continue ;; esac
    ended "${each#/proc/}" || return 0
  done
  return 1
}
nothing_left() {
  ! left_running
}

for kind in process thread coroutine; do
  claim "a second server at $taken exits with code 1 ($kind workers)" \
    refused --bind "$taken" --workers 4 --concurrency "$kind"
  claim "it names the address and what to do: $(sed 's/.*\] //' "$scratch/refused")" \
    grep -q "$taken is in use: .*--bind" "$scratch/refused"
  claim "it says so in one line" test "$(wc -l <"$scratch/refused")" -eq 1
  claim "nothing of it is left running" nothing_left
done
refused --bind "unix:$scratch/socket" --bind "$taken"
claim "the socket file that it had made before is removed" test ! -e "$scratch/socket"

claim "the first server still answers" answers
claim "its workers are the same" test "$(workers)" = "$before"
stop_server
claim "its port is free again" nobody_listens
finish
