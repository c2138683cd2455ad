#!/bin/sh
# SPDX-License-Identifier: BSD-3-Clause
#
# 1,000 starts and stops of the server, by TERM and INT in turn, each after one answered request:
# no process is left, no file, no socket and no descriptor. PULSAR_SOAK_STARTS sets another number.
. "$(dirname "$0")/support/soak.sh"
begin "$@"
need curl strace

starts=${PULSAR_SOAK_STARTS:-1000}
# A path of its own tells the processes of this script from others.
cp "$hello" "$scratch/hello_world"
hello=$scratch/hello_world
socket=$scratch/socket
mkdir "$scratch/tmp"

ours() {
  for each in /proc/[0-9]*; do
    [ "$(readlink "$each/exe" 2>/dev/null)" = "$hello" ] && echo "$each"
  done
}
zombies() {
  cat /proc/[0-9]*/stat 2>/dev/null | grep -c '^[0-9]* (hello_world) Z'
}
# What a server could leave elsewhere.
traces() {
  find /tmp /var/tmp /run /dev/shm -maxdepth 1 \( -iname '*pulsar*' -o -iname '*hello*' \) \
    ! -path "$scratch" ! -name 'pulsar_soak.*'
  awk '{ print $8 }' /proc/net/unix | grep -i -e pulsar -e hello | grep -v pulsar_soak
  # System V segments, semaphores and queues; POSIX ones are in /dev/shm.
  sed 's/^/shm /' /proc/sysvipc/shm | awk '{ print $1, $2, $3 }'
  sed 's/^/sem /' /proc/sysvipc/sem | awk '{ print $1, $2, $3 }'
  sed 's/^/msg /' /proc/sysvipc/msg | awk '{ print $1, $2, $3 }'
}

traces >"$scratch/before"
zombies_before=$(zombies)
descriptors_before=$(ls "/proc/$$/fd" | wc -l)
wrong=
n=0
while [ "$n" -lt "$starts" ] && [ -z "$wrong" ]; do
  n=$((n + 1))
  signal=$([ $((n % 2)) -eq 0 ] && echo INT || echo TERM)
  TMPDIR=$scratch/tmp env --default-signal=INT,QUIT "$hello" --bind "unix:$socket" --workers 2 \
    2>"$log" &
  server=$!
  to_end=$server
  answer=$(curl --silent --max-time 20 --retry 200 --retry-connrefused --retry-all-errors \
    --retry-delay 0 --unix-socket "$socket" http://server/)
  [ "$answer" = "Hello, World!" ] || wrong="start $n is not answered"
  kill -"$signal" "$server"
  wait "$server" || wrong="start $n ends with exit code $? after $signal"
  [ ! -e "$socket" ] || wrong="start $n leaves its socket file"
done
claim "${wrong:-$n starts are answered and end with exit code 0, without the socket file}" \
  test -z "$wrong"

no_process() {
  [ -z "$(ours)" ]
}
claim "no process is left" no_process
claim "no zombie is left" test "$(zombies)" -le "$zombies_before"
claim "the shell that started them has no more descriptors than before" \
  test "$(ls "/proc/$$/fd" | wc -l)" -eq "$descriptors_before"
claim "nothing is left in the directory for temporary files" test -z "$(ls -A "$scratch/tmp")"
traces >"$scratch/after"
claim "no file, named socket or shared memory is left anywhere else" \
  cmp -s "$scratch/before" "$scratch/after"

# What it makes in the first place: seen by the system calls of all its processes.
if strace true 2>/dev/null; then
  strace -f -qq -z -e signal=none \
    -e trace=openat,open,creat,bind,mkdir,mkdirat,mknod,mknodat,link,linkat,symlink,symlinkat,rename,renameat2,shmget,semget,msgget,mq_open \
    -o "$scratch/strace" "$hello" --bind "unix:$socket" --workers 2 2>"$log" &
  tracer=$!
  to_end="$to_end $tracer"
  answers_at_socket() {
    [ "$(curl --silent --max-time 5 --unix-socket "$socket" http://server/)" = "Hello, World!" ]
  }
  claim "it answers under strace" eventually 20 answers_at_socket
  kill -TERM "$(cat "/proc/$tracer/task/$tracer/children")"
  wait "$tracer"
  made=$(grep -v -e 'open.*O_RDONLY' -e 'open.*"/dev/null"' "$scratch/strace" | sed 's/^[0-9]* *//')
  claim "all that it ever makes is its socket: $made" \
    test "$(printf '%s\n' "$made" | grep -c "^bind([0-9]*, {sa_family=AF_UNIX, sun_path=\"$socket\"}")" \
    -eq "$(printf '%s\n' "$made" | wc -l)"
  claim "which it removes" test ! -e "$socket"
else
  echo "$soak_name: skipped: strace may not trace here"
fi
finish
