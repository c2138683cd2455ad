#!/bin/sh
# SPDX-License-Identifier: BSD-3-Clause
#
# Process actors and process workers under valgrind; an actor that is a thread under gdb.
. "$(dirname "$0")/support/soak.sh"
begin "$@"
need valgrind gdb curl

expected=$(printf '%s\n' "ann has 500" "bob: map::at" "gone: true")
under="valgrind --trace-children=yes --error-exitcode=9"

# valgrind_is_content <processes>: it has seen so many and found nothing in any of them.
valgrind_is_content() {
  [ "$(grep -c 'ERROR SUMMARY' "$log")" -eq "$1" ] &&
    [ "$(grep -c 'ERROR SUMMARY: 0 errors' "$log")" -eq "$1" ]
}

# shellcheck disable=SC2086
printed=$(timeout 120 $under "$examples/01_hello_actor" 2>"$log")
code=$?
claim "a process actor works under valgrind" test "$printed" = "$expected" -a "$code" -eq 0
claim "valgrind finds nothing in the arbiter and in the actor's process" valgrind_is_content 2

start_server --workers 2
several_answers() {
  n=0
  while [ "$n" -lt 20 ]; do
    answers || return 1
    n=$((n + 1))
  done
}
claim "a server with two process workers answers under valgrind" several_answers
kill -TERM "$server"
claim "TERM ends it with exit code 0" ends_with 0
claim "valgrind finds nothing in the three processes" valgrind_is_content 3
under=

# One that was compiled for a debugger.
root=$(cd "$(dirname "$0")/../.." && pwd)
"${CXX:-g++}" -std=c++20 -O0 -g -DASIO_STANDALONE -DASIO_NO_DEPRECATED -DFMT_SHARED \
  -I"$root/include" "$root/examples/01_hello_actor.cpp" -lfmt -o "$scratch/for_gdb" || {
  failed "examples/01_hello_actor.cpp compiles for gdb"
  finish
}
timeout 120 gdb -batch -nx -iex 'set debuginfod enabled off' -ex 'break ledger::deposit' -ex run \
  -ex bt -ex 'info threads' -ex finish -ex delete -ex 'break ledger::crash' -ex continue -ex kill \
  --args "$scratch/for_gdb" --concurrency thread >"$scratch/gdb" 2>&1
claim "gdb stops in a command of an actor that is a thread" grep -q '^#0  ledger::deposit' "$scratch/gdb"
claim "the stack leads to the loop of its thread" grep -q 'pulsar::event_loop::run_forever' "$scratch/gdb"
claim "the arbiter is another thread of this process" \
  test "$(grep -c '^[ *] *[12] *Thread 0x' "$scratch/gdb")" -eq 2
claim "the command ends with what it returns" grep -q '^Value returned is .* = 250$' "$scratch/gdb"
claim "the last command is reached in the same session" \
  grep -q '^Thread.* hit Breakpoint 2, ledger::crash' "$scratch/gdb"
[ "$failures" -eq 0 ] || cut -c 1-200 "$scratch/gdb" | sed 's/^/    /'
finish
