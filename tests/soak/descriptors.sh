#!/bin/sh
# SPDX-License-Identifier: BSD-3-Clause
#
# The descriptors of a worker under load are exactly those meant for it: the three standard ones, a
# control socket, a stream, the listener, what its loop needs, and its clients. Those that the master
# was started with stay with the master.
. "$(dirname "$0")/support/soak.sh"
begin "$@"
need wrk curl

# In the master by inheritance.
mkfifo "$scratch/fifo"
exec 4</etc/passwd 5>"$scratch/file" 6<>"$scratch/fifo" 7</dev/null 8</ 9</etc/group
start_server --workers 2
exec 4<&- 5>&- 6<&- 7<&- 8<&- 9<&-
strays() {
  for each in "/proc/$1/fd"/*; do
    case $(readlink "$each") in
      /etc/passwd | /etc/group | "$scratch/file" | "$scratch/fifo" | /) echo "$each" ;;
    esac
  done
}
claim "the master has descriptors that nobody meant for its workers" \
  test "$(strays "$server" | wc -l)" -ge 5

# look_at <pid>: puts what it has open into the file open, a line each: its number and its kind.
look_at() {
  for each in "/proc/$1/fd"/*; do
    inode=$(readlink "$each" | sed -n 's/^socket:\[\([0-9]*\)\]$/\1/p')
    if [ -n "$inode" ]; then
      kind=$(awk -v inode="$inode" -v port="$(printf ':%04X' "$port")" '
        FILENAME ~ /unix/ && $7 == inode { print $5 == "0005" ? "unix seqpacket" : "unix stream" }
        FILENAME ~ /tcp/ && $10 == inode && index($2, port) {
          print $4 == "0A" ? "listener" : "connection" }' /proc/net/unix /proc/net/tcp)
    else
      kind=$(readlink "$each" | sed 's/^pipe:.*/pipe/')
    fi
    echo "${each##*/} ${kind:-unknown}"
  done | sort -n >"$scratch/open"
}
has() {
  [ "$(sed 's/^[0-9]* //' "$scratch/open" | grep -cFx "$2")" -eq "$1" ]
}
all_are_meant() {
  expected=$(printf '%s\n' "0 /dev/null" "1 $(readlink "/proc/$server/fd/1" | sed 's/^pipe:.*/pipe/')" \
    "2 $log")
  [ "$(sed -n '1,3p' "$scratch/open")" = "$expected" ] &&
    has 1 'unix seqpacket' && has 1 'unix stream' && has 1 listener &&
    has 1 'anon_inode:[eventpoll]' && has 1 'anon_inode:[eventfd]' && has 2 'anon_inode:[timerfd]' &&
    has "$1" connection &&
    # Both ends of the pipe that signals come through.
    [ "$(wc -l <"$scratch/open")" -eq $((3 + 3 + 4 + 2 + $1)) ]
}
list_if_not() {
  "$@" || {
    sed 's/^/    /' "$scratch/open"
    return 1
  }
}

wrk --threads 1 --connections 32 --duration 5s "http://127.0.0.1:$port/" >"$scratch/wrk" &
load=$!
to_end="$to_end $load"
sum() {
  held=0
  for each in $(workers); do
    held=$((held + $(connections_of "$each")))
  done
  [ "$held" -eq "$1" ]
}
# wrk opens one connection to try the address, and another 32.
eventually 10 sum 32
for each in $(workers); do
  held=$(connections_of "$each")
  look_at "$each"
  claim "a worker with $held connections has those, 0 to 2 and 9 others, all meant for it" \
    list_if_not all_are_meant "$held"
  claim "none of the master's strays is among them" test -z "$(strays "$each")"
done
wait "$load"
claim "without load the connections are closed" eventually 10 sum 0

before=$(workers)
kill -KILL "${before%% *}"
replaced() {
  has_workers 2 && [ "$(workers)" != "$before" ]
}
looks_right() {
  look_at "$1"
  all_are_meant 0
}
claim "a killed worker is replaced" eventually 10 replaced
for each in $(workers); do
  claim "a worker has 12 descriptors then" eventually 10 looks_right "$each"
done
stop_server
finish
