# SPDX-License-Identifier: BSD-3-Clause
# shellcheck shell=sh
#
# What the scripts of this folder have in common. Each is called with a release build and begins so:
#
#   . "$(dirname "$0")/support/soak.sh"
#   begin "$@"
#   start_server --workers 2          # sets server and port
#   claim "it answers" answers
#   finish
#
# A claim is one line of output, "ok" or "FAILED". Whatever a script leaves by mistake, a process or
# a file, is removed when it ends.
set -u

# begin <build directory>
begin() {
  soak_name=$(basename "$0" .sh)
  if [ $# -ne 1 ] || [ ! -x "$1/examples/hello_world" ]; then
    echo "usage: $0 <build directory with examples/hello_world>, such as build/release" >&2
    exit 2
  fi
  # For the scripts.
  # shellcheck disable=SC2034
  examples=$(cd "$1/examples" && pwd)
  hello=$examples/hello_world
  under=
  scratch=$(mktemp -d "${TMPDIR:-/tmp}/pulsar_soak.XXXXXX")
  log=$scratch/server.log
  failures=0
  to_end=
  trap clean_up EXIT
  trap 'exit 130' INT
  trap 'exit 143' TERM HUP
}

# What must be installed, by the name of its package.
need() {
  for tool in "$@"; do
    command -v "$tool" >/dev/null && continue
    echo "$soak_name: $tool is missing: apt-get install $tool" >&2
    exit 2
  done
}

clean_up() {
  for each in $to_end; do
    kill -CONT "$each" 2>/dev/null
    kill -KILL "$each" 2>/dev/null
  done
  rm -rf "$scratch"
}

# finish: the exit code says whether all claims hold.
finish() {
  [ "$failures" -eq 0 ] || exit 1
  exit 0
}

# passed <sentence>; failed <sentence>
passed() {
  printf '%s: ok: %s\n' "$soak_name" "$1"
}
failed() {
  failures=$((failures + 1))
  printf '%s: FAILED: %s\n' "$soak_name" "$1"
  if [ -s "$log" ]; then
    tail -n 10 "$log" | sed 's/^/    /'
  fi
}

# claim <sentence> <command>...
claim() {
  sentence=$1
  shift
  if "$@"; then
    passed "$sentence"
  else
    failed "$sentence"
  fi
}

# eventually <seconds> <command>...: asks again and again, for that long at most.
eventually() {
  until_then=$(($(date +%s) + $1))
  shift
  until "$@"; do
    [ "$(date +%s)" -le "$until_then" ] || return 1
    sleep 0.02
  done
}

# ---- servers

# start_server <option>...: hello_world at a free port; sets server (its pid) and port. Signals have
# their default action: a shell lets what it starts in the background ignore INT and QUIT. The words
# of under go before it.
start_server() {
  : >"$log"
  # shellcheck disable=SC2086
  env --default-signal=INT,QUIT $under "$hello" --bind 127.0.0.1:0 "$@" 2>"$log" &
  server=$!
  to_end="$to_end $server"
  if ! eventually 20 find_port; then
    failed "the server starts"
    exit 1
  fi
}

find_port() {
  port=$(sed -n 's/.* listens at 127\.0\.0\.1:\([0-9]*\) .*/\1/p' "$log")
  [ -n "$port" ]
}

answers() {
  [ "$(curl --silent --max-time 5 "http://127.0.0.1:$port/")" = "Hello, World!" ]
}

# ends_with <code>: the server ends by itself within ten seconds.
ends_with() {
  eventually 10 ended "$server" || return 1
  wait "$server"
  [ $? -eq "$1" ]
}

stop_server() {
  kill -TERM "$server"
  claim "TERM ends it with exit code 0" ends_with 0
}

# ---- processes

# The workers of the server that live.
workers() {
  for each in $(cat "/proc/$server/task/$server/children" 2>/dev/null); do
    ended "$each" || printf '%s ' "$each"
  done
}
worker_count() {
  workers | wc -w
}
has_workers() {
  [ "$(worker_count)" -eq "$1" ]
}

# ended <pid>: it is gone, or waits for its parent to take notice.
ended() {
  case $(sed -n 's/.*) \(.\) .*/\1/p' "/proc/$1/stat" 2>/dev/null) in
    '' | Z | X) return 0 ;;
  esac
  return 1
}

# all_ended <pid>...
all_ended() {
  for each in "$@"; do
    ended "$each" || return 1
  done
}

is_stopped() {
  [ "$(sed -n 's/.*) \(.\) .*/\1/p' "/proc/$1/stat")" = T ]
}

# cpu_ms <pid>: the processor time it has had.
cpu_ms() {
  sed 's/.*) //' "/proc/$1/stat" | awk -v hz="$(getconf CLK_TCK)" '{ print int(($12 + $13) * 1000 / hz) }'
}

# ---- what a process has open

# inodes_of <pid>: the inodes of its sockets.
inodes_of() {
  for each in "/proc/$1/fd"/*; do
    readlink "$each" 2>/dev/null
  done | sed -n 's/^socket:\[\([0-9]*\)\]$/\1/p'
}

# connections_of <pid>: how many connections to the port it holds.
connections_of() {
  inodes_of "$1" >"$scratch/inodes"
  awk -v port="$(printf ':%04X' "$port")" '
    NR == FNR { mine[$1] = 1; next }
    $4 != "0A" && index($2, port) && $10 in mine { n++ }
    END { print n + 0 }' "$scratch/inodes" /proc/net/tcp
}

# somebody_listens: at the port.
somebody_listens() {
  awk -v port="$(printf ':%04X' "$port")" '
    $4 == "0A" && index($2, port) { found = 1 }
    END { exit !found }' /proc/net/tcp /proc/net/tcp6
}
nobody_listens() {
  ! somebody_listens
}
