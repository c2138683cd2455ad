#!/bin/sh
# SPDX-License-Identifier: BSD-3-Clause
#
# kill -9 of a worker again and again for 20 s, under the load of wrk at 64 connections: what is
# lost are that worker's connections and nothing else, and another worker takes its place. Once a
# second at first; then the monitor takes longer and longer to replace workers that die so soon, and
# the next one is killed when there are two again.
. "$(dirname "$0")/support/soak.sh"
begin "$@"
need wrk curl

seconds=20
start_server --workers 2
descriptors=$(ls "/proc/$server/fd" | wc -l)
wrk --threads 1 --connections 64 --duration $((seconds + 4))s --timeout 10s \
  "http://127.0.0.1:$port/" >"$scratch/wrk" &
load=$!
to_end="$to_end $load"

under_load() {
  held=0
  for each in $(workers); do
    held=$((held + $(connections_of "$each")))
  done
  [ "$held" -ge 64 ]
}
claim "64 connections are open" eventually 10 under_load

lost=0
killed=0
unanswered=0
all_killed=
end=$(($(date +%s) + seconds))
while [ "$(date +%s)" -lt "$end" ]; do
  victim=
  if has_workers 2; then
    for each in $(workers); do
      [ "$(connections_of "$each")" -gt 0 ] && victim=$each
    done
  fi
  if [ -n "$victim" ]; then
    # Stopped first, so that what is counted stays what it holds.
    kill -STOP "$victim"
    eventually 5 is_stopped "$victim"
    held=$(connections_of "$victim")
    kill -KILL "$victim"
    lost=$((lost + held))
    killed=$((killed + 1))
    all_killed="$all_killed $victim"
  fi
  answers || unanswered=$((unanswered + 1))
  sleep 0.9
done

# shellcheck disable=SC2086
claim "$killed workers were killed, with $lost connections in all" \
  test "$killed" -ge 5 -a "$lost" -gt 0
claim "a request was answered after each" test "$unanswered" -eq 0
claim "two workers are there again" eventually 20 has_workers 2
for each in $(workers); do
  case " $all_killed " in *" $each "*) failed "worker $each is a new one" ;; esac
done
claim "the arbiter has $descriptors descriptors as before" \
  test "$(ls "/proc/$server/fd" | wc -l)" -eq "$descriptors"
answers || failed "it still answers"

wait "$load"
# "Socket errors: connect 0, read 57, write 0, timeout 0"; no such line if there are none.
errors=$(sed -n 's/.*Socket errors: \(.*\)/\1/p' "$scratch/wrk")
count() {
  printf '%s' "$errors" | sed -n "s/.*$1 \([0-9]*\).*/\1/p"
}
broken=$(($(count read) + $(count write)))
claim "$broken connections broke for wrk, no more than the $lost that the killed workers held" \
  test "$broken" -le "$lost"
claim "none was refused, none waited for 10 s" \
  test "$(count connect)" = 0 -a "$(count timeout)" = 0
claim "$(sed -n 's/^ *\([0-9]* requests\) in.*/\1/p' "$scratch/wrk") were answered meanwhile" \
  test "$(sed -n 's/^ *\([0-9]*\) requests in.*/\1/p' "$scratch/wrk")" -gt 10000
if grep -q 'Non-2xx' "$scratch/wrk"; then
  failed "every answer is 200"
fi
stop_server
finish
