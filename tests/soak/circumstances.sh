#!/bin/sh
# SPDX-License-Identifier: BSD-3-Clause
#
# Whatever a server is started by and meets: a log that cannot be written, no standard descriptors,
# signals that its parent ignored or blocked, processes that were stopped, signals in heaps, a
# process namespace in which it is number 1.
. "$(dirname "$0")/support/soak.sh"
begin "$@"
need wrk curl

kill_one() {
  each=$(workers)
  kill -KILL "${each%% *}"
}
is_replaced() {
  has_workers 2 && [ "$(workers)" != "$before" ]
}

# start_at_free_port <command>...: for servers whose log cannot be read; sets server and port.
start_at_free_port() {
  # A moment ago it was free.
  start_server --workers 1
  kill -TERM "$server"
  ends_with 0
  "$@" --bind "127.0.0.1:$port" --workers 2 &
  server=$!
  to_end="$to_end $server"
  if ! eventually 20 answers; then
    failed "the server starts"
    exit 1
  fi
}

start_at_free_port sh -c 'exec "$0" --log-level trace "$@" 2>/dev/full' "$hello"
before=$(workers)
kill_one
claim "with a full device for its log a worker is replaced" eventually 10 is_replaced
claim "with a full device for its log it answers" answers
used=$(cpu_ms "$server")
sleep 2
used=$(($(cpu_ms "$server") - used))
claim "and does not spin: $used ms of processor time in 2 s" test "$used" -le 60
stop_server

start_at_free_port sh -c 'exec "$0" "$@" <&- >&- 2>&-' "$hello"
nothing_but_null() {
  for each in "$server" $(workers); do
    for n in 0 1 2; do
      [ "$(readlink "/proc/$each/fd/$n")" = /dev/null ] || return 1
    done
  done
}
claim "without standard descriptors all processes have /dev/null there" nothing_but_null
claim "without standard descriptors it answers" answers
stop_server

under="env --block-signal"
start_server --workers 2
claim "with all signals blocked by its parent it answers" answers
stop_server

under="env --ignore-signal"
start_server --workers 2
before=$(workers)
kill_one
claim "with all signals ignored by its parent a worker is replaced" eventually 10 is_replaced
claim "the log says how it ended" grep -q 'has ended (signal 9 (Killed))' "$log"
stop_server
under=

start_server --workers 2 --graceful-timeout 1
wrk --threads 1 --connections 16 --duration 3s --timeout 1s "http://127.0.0.1:$port/" \
  >"$scratch/wrk" 2>&1 &
load=$!
to_end="$to_end $load"
sleep 1
each=$(workers)
kill -STOP "${each%% *}"
still_answers() {
  n=0
  while [ "$n" -lt 20 ]; do
    answers || return 1
    n=$((n + 1))
  done
}
claim "with a stopped worker, under load, twenty new connections are served" still_answers
wait "$load"
# shellcheck disable=SC2086
set -- $each
stop_server
claim "the stopped worker is gone with it" all_ended "$@"

start_server --workers 2
before=$(workers)
kill -STOP "$server"
kill -TERM "${before%% *}"
claim "with a stopped arbiter and a worker that leaves it goes on" still_answers
kill -CONT "$server"
claim "the worker is replaced once the arbiter runs again" eventually 10 is_replaced
stop_server

start_server --workers 2
before=$(workers)
n=0
while [ "$n" -lt 100 ]; do
  # shellcheck disable=SC2086
  kill -TERM $before "$server" 2>/dev/null
  n=$((n + 1))
done
claim "a hundred TERM to each process at once: exit code 0" ends_with 0
# shellcheck disable=SC2086
claim "no worker is left then" all_ended $before

mkfifo "$scratch/never"
sleep 60 >"$scratch/never" &
to_end="$to_end $!"
start_server --workers 2
curl --silent --max-time 60 --upload-file - "http://127.0.0.1:$port/" <"$scratch/never" >/dev/null &
to_end="$to_end $!"
holds_one() {
  for each in $(workers); do
    [ "$(connections_of "$each")" -eq 0 ] || return 0
  done
  return 1
}
eventually 10 holds_one
before=$(workers)
kill -INT "$server"
eventually 5 grep -q 'INT received' "$log"
claim "after one INT a request under way has its time" holds_one
kill -INT "$server"
claim "a second INT ends it at once" ends_with 0
# shellcheck disable=SC2086
claim "and its workers" all_ended $before

# Signals at any moment of its beginning.
n=0
wrong=
while [ "$n" -lt 60 ] && [ -z "$wrong" ]; do
  signal=TERM
  [ $((n % 3)) -ne 1 ] || signal=QUIT
  [ $((n % 3)) -ne 2 ] || signal=KILL
  env --default-signal=QUIT "$hello" --bind "unix:$scratch/socket" --workers 2 2>"$log" &
  server=$!
  to_end=$server
  sleep "0.0$((n / 3 / 10))$((n / 3 % 10))"
  children=$(workers)
  kill -"$signal" "$server"
  eventually 10 ended "$server" || wrong="$signal does not end it at step $n"
  wait "$server" 2>/dev/null
  # shellcheck disable=SC2086
  eventually 5 all_ended $children || wrong="a worker is left after $signal at step $n"
  # After KILL nobody could remove it.
  [ "$signal" = KILL ] || [ ! -e "$scratch/socket" ] || wrong="$signal leaves the socket at step $n"
  rm -f "$scratch/socket"
  n=$((n + 1))
done
claim "${wrong:-TERM, QUIT and KILL at $n moments of its beginning leave nothing behind}" test -z "$wrong"

if unshare --pid --fork --mount-proc true 2>/dev/null; then
  : >"$log"
  unshare --pid --fork --mount-proc "$hello" --bind 127.0.0.1:0 --workers 2 2>"$log" &
  outside=$!
  to_end=$outside
  if eventually 20 find_port; then
    server=$(cat "/proc/$outside/task/$outside/children")
    server=${server% }
    before=$(workers)
    kill_one
    claim "as number 1 of its namespace it replaces a worker" eventually 10 is_replaced
    claim "as number 1 it answers" answers
    kill -TERM "$server"
    server=$outside
    claim "as number 1 it ends with exit code 0 at TERM" ends_with 0
  else
    failed "it starts as number 1 of its namespace"
  fi
else
  echo "$soak_name: skipped: namespaces may not be made here"
fi
finish
