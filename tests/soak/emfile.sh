#!/bin/sh
# SPDX-License-Identifier: BSD-3-Clause
#
# More connections than descriptors: the server says so, at most once a second, waits without
# spinning, goes on with the connections it has and takes the others as soon as it can.
. "$(dirname "$0")/support/soak.sh"
begin "$@"
need curl

# Whatever POSIX says: dash, bash and busybox have it.
# shellcheck disable=SC3045
ulimit -n 32
start_server --workers 1
worker=$(workers)
worker=${worker% }

# Connections on which nothing is ever asked.
mkfifo "$scratch/never"
sleep 100 >"$scratch/never" &
silence=$!
to_end="$to_end $silence"
clients=
open_connections() {
  n=0
  while [ "$n" -lt "$1" ]; do
    curl --silent --max-time 100 "telnet://127.0.0.1:$port" <"$scratch/never" >/dev/null &
    clients="$clients $!"
    n=$((n + 1))
  done
  to_end="$to_end $clients"
}
connections_are() {
  [ "$(connections_of "$worker")" -eq "$1" ]
}
complaints() {
  grep -c 'cannot accept connections' "$log"
}
complains() {
  [ "$(complaints)" -gt 0 ]
}
descriptors_are() {
  [ "$(ls "/proc/$worker/fd" | wc -l)" -eq "$1" ]
}

open_connections 40
claim "with 40 clients and \`ulimit -n 32\` the worker has 32 descriptors" eventually 10 descriptors_are 32
claim "it says why it takes no more, and what to do" eventually 10 complains
printf '    %s\n' "$(grep -m 1 'cannot accept' "$log" | sed 's/.*\] //')"

used=$(cpu_ms "$worker")
said=$(complaints)
sleep 3
used=$(($(cpu_ms "$worker") - used))
said=$(($(complaints) - said))
claim "it does not spin: $used ms of processor time in 3 s" test "$used" -le 60
claim "it says so once a second at most: $said times in 3 s" test "$said" -ge 1 -a "$said" -le 4
claim "its worker is the same" test "$(workers)" = "$worker "

# shellcheck disable=SC2086
kill $clients
claim "once the clients have gone it answers again" eventually 10 answers
claim "the worker is down to its 12 descriptors" eventually 10 descriptors_are 12
said=$(complaints)
claim "ten requests are answered" sh -c '
  for i in 1 2 3 4 5 6 7 8 9 10; do
    [ "$(curl --silent --max-time 5 "http://127.0.0.1:'"$port"'/")" = "Hello, World!" ] || exit 1
  done'
claim "it has no more to say" test "$(complaints)" -eq "$said"
stop_server
finish
