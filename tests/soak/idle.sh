#!/bin/sh
# SPDX-License-Identifier: BSD-3-Clause
#
# A loop with nothing to do makes no system call at all for a minute, although a thousand deadlines
# that lay in that minute were armed, slept on and cancelled before. PULSAR_SOAK_IDLE sets another
# number of seconds.
. "$(dirname "$0")/support/soak.sh"
begin "$@"
need strace g++

seconds=${PULSAR_SOAK_IDLE:-60}
root=$(cd "$(dirname "$0")/../.." && pwd)
g++ -std=c++20 -O2 -DASIO_STANDALONE -I"$root/include" "$root/tests/soak/support/idle_loop.cpp" \
  -lfmt -pthread -o "$scratch/idle_loop" || exit 1

# Each line begins with when the call did.
strace -f -ttt -o "$scratch/calls" "$scratch/idle_loop" >"$scratch/said" &
to_end=$!
says_idle() {
  grep -q idle "$scratch/said"
}
claim "it arms a thousand deadlines and cancels them" eventually 20 says_idle
# A second for the other thread to end in.
sleep $((seconds + 1))
idle=$(awk '{ print $1; exit }' "$scratch/calls")
to_end="$to_end $idle"
claim "it lives" kill -0 "$idle"
kill -KILL "$idle"
claim "it ends" eventually 10 ended "$idle"
awk '/write\(1, "idle/ { said = $2 } said && $2 > said + 1 && !/---|= [?]$|\+\+\+/' "$scratch/calls" \
  >"$scratch/made"
made=$(wc -l <"$scratch/made")
claim "it makes no system call in $seconds s ($made)" test "$made" -eq 0
sed 's/^/    /' "$scratch/made"
finish
