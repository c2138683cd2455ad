#!/bin/sh
# SPDX-License-Identifier: BSD-3-Clause
#
# kill -9 of the arbiter: within five seconds there is no worker and nobody listens at the port,
# whatever the workers are busy with, and even when they, or the arbiter, were stopped before.
. "$(dirname "$0")/support/soak.sh"
begin "$@"
need wrk curl

all_gone() {
  # shellcheck disable=SC2086
  all_ended $orphans && nobody_listens
}

# kill_arbiter <circumstances>
kill_arbiter() {
  orphans=$(workers)
  to_end="$to_end $orphans"
  kill -KILL "$server"
  # shellcheck disable=SC2086
  claim "$1: no worker and no bound port are left within 5 s" eventually 5 all_gone
  wait "$server" 2>/dev/null
}

start_server --workers 2
answers || failed "it answers"
kill_arbiter "idle workers"

start_server --workers 4
wrk --threads 1 --connections 64 --duration 3s "http://127.0.0.1:$port/" >"$scratch/wrk" 2>&1 &
load=$!
eventually 5 test -n "$(connections_of "$(workers | cut -d' ' -f1)")"
sleep 1
kill_arbiter "workers under load"
wait "$load"

start_server --workers 2
# A request that never ends: its worker waits for the rest of it while it drains.
mkfifo "$scratch/never"
sleep 60 >"$scratch/never" &
to_end="$to_end $!"
curl --silent --max-time 60 --upload-file - "http://127.0.0.1:$port/" <"$scratch/never" >/dev/null &
to_end="$to_end $!"
has_connection() {
  for each in $(workers); do
    [ "$(connections_of "$each")" -gt 0 ] && return 0
  done
  return 1
}
eventually 5 has_connection
kill_arbiter "a worker in the middle of a request"

start_server --workers 2
kill -STOP "$server"
eventually 5 is_stopped "$server"
kill_arbiter "an arbiter that was stopped"

start_server --workers 2
for each in $(workers); do
  kill -STOP "$each"
  eventually 5 is_stopped "$each"
done
kill_arbiter "workers that were stopped"

start_server --workers 2 --concurrency thread
kill_arbiter "workers that are threads"
finish
