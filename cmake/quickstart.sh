#!/bin/sh
# SPDX-License-Identifier: BSD-3-Clause
#
# sh cmake/quickstart.sh [run | test | bench [--json] | soak]
#
#   run    installs what is missing, builds, and serves "Hello, World!" until Ctrl-C (the default)
#   test   the whole check: GCC with sanitizers, thread sanitizer, Clang, instruction counts
#   bench  all benchmarks; --json prints their rows as JSON and nothing else
#   soak   what takes long: each fuzz target for PULSAR_SOAK_SECONDS (120), seeds of the virtual clock
#          for as long (600), and tests/soak/*.sh
#
# All that is built goes to PULSAR_BUILD_DIR (build/ beside the sources), with PULSAR_JOBS compilers
# at a time (as many as there are processors and gigabytes).
set -eu

root=$(cd "$(dirname "$0")/.." && pwd)
build=${PULSAR_BUILD_DIR:-$root/build}
began=$(date +%s)
doing=

# ---- telling what happens

# One line a phase, behind the seconds since the start.
phase() {
  doing=$*
  printf '[%4d s] %s\n' "$(($(date +%s) - began))" "$*"
}

fail() {
  printf 'quickstart: %s\n' "$*" >&2
  doing=
  exit 1
}

report_failure() {
  status=$?
  if [ "$status" -ne 0 ] && [ -n "$doing" ]; then
    printf 'quickstart: failed after %d s, while: %s\n' "$(($(date +%s) - began))" "$doing" >&2
  fi
}
trap report_failure EXIT

# ---- what must be installed

# version_at_least <version> <least major> <least minor>
version_at_least() {
  major=${1%%.*}
  minor=${1#"$major"}
  minor=${minor#.}
  minor=${minor%%.*}
  [ "$major" -gt "$2" ] || { [ "$major" -eq "$2" ] && [ "${minor:-0}" -ge "$3" ]; }
}

# Prints the name of a Clang that is new enough.
find_clang() {
  for clang in clang++-16 clang++-17 clang++-18 clang++-19 clang++-20 clang++-21 clang++; do
    if command -v "$clang" >/dev/null &&
      version_at_least "$("$clang" -dumpversion)" 16 0; then
      echo "$clang"
      return 0
    fi
  done
  return 1
}

# links <compiler> <flags>: can a program be made so?
links() {
  echo 'extern "C" int LLVMFuzzerTestOneInput(const unsigned char*, decltype(sizeof 0)) { return 0; }
#ifndef FUZZ
int main() {}
#endif' | "$@" -x c++ - -o /dev/null 2>/dev/null
}

# is_there <what>
is_there() {
  case $1 in
    gcc) command -v g++ >/dev/null && version_at_least "$(g++ -dumpversion)" 12 0 ;;
    gcc_sanitizers)
      is_there gcc && links g++ -fsanitize=address,undefined && links g++ -fsanitize=thread
      ;;
    clang) find_clang >/dev/null ;;
    clang_fuzzer) is_there clang && links "$(find_clang)" -DFUZZ -fsanitize=fuzzer,address ;;
    cmake)
      command -v cmake >/dev/null &&
        version_at_least "$(cmake --version | sed -n '1s/.*version //p')" 3 25
      ;;
    ninja) command -v ninja >/dev/null || command -v make >/dev/null ;;
    *.hpp | *.h) [ -e "/usr/include/$1" ] || [ -e "/usr/local/include/$1" ] ;;
    *) command -v "$1" >/dev/null || [ -x "/usr/sbin/$1" ] ;;
  esac
}

# What each word needs, and the packages that have it on Debian, Fedora and Arch Linux.
requirements() {
  cat <<'END'
run test bench soak|cmake|cmake|cmake|cmake|CMake 3.25 or later
run test bench soak|ninja|ninja-build|ninja-build|ninja|Ninja or make
run test bench soak|gcc|g++|gcc-c++|gcc|GCC 12 or later
run test bench soak|asio/version.hpp|libasio-dev|asio-devel|asio|Asio 1.22 or later
run test bench soak|fmt/format.h|libfmt-dev|fmt-devel|fmt|fmt 9 or later
run test bench soak|CLI/CLI.hpp|libcli11-dev|cli11-devel|cli11|CLI11 2 or later
run test bench soak|openssl/ssl.h|libssl-dev|openssl-devel|openssl|OpenSSL 3 or later
test|openssl|openssl|openssl|openssl|the openssl command
run test bench soak|curl|curl|curl|curl|curl
test soak|doctest/doctest.h|doctest-dev|doctest-devel|doctest|doctest 2.4 or later
test soak|gcc_sanitizers|g++|libasan libubsan libtsan|gcc|the sanitizers of GCC
test soak|clang|clang-16|clang|clang|Clang 16 or later
test bench soak|valgrind|valgrind|valgrind|valgrind|valgrind, which counts instructions
bench soak|strace|strace|strace|strace|strace, which counts system calls
soak|gdb|gdb|gdb|gdb|gdb, to show that actors can be debugged
bench soak|wrk|wrk|wrk|wrk|wrk, the load generator
bench|nginx|nginx-light|nginx|nginx|nginx, the yardstick
soak|clang_fuzzer|clang-16 libclang-rt-16-dev|clang compiler-rt|clang compiler-rt|libFuzzer
END
}

# missing <word> <column>: that column of what the word needs and is not there.
missing() {
  requirements | while IFS='|' read -r words what debian fedora arch description; do
    case " $words " in *" $1 "*) ;; *) continue ;; esac
    is_there "$what" && continue
    case $2 in
      debian) echo "$debian" ;;
      fedora) echo "$fedora" ;;
      arch) echo "$arch" ;;
      all)
        printf '  %-26s %-30s %-24s %s\n' "$debian" "$fedora" "$arch" "$description"
        ;;
    esac
  done
}

as_root() {
  if [ "$(id -u)" -eq 0 ]; then
    "$@"
  else
    sudo "$@"
  fi
}

list_missing() {
  printf '  %-26s %-30s %-24s %s\n' 'Debian' 'Fedora' 'Arch' ''
  missing "$1" all
}

# install_for <word>
install_for() {
  packages=$(missing "$1" debian | tr ' ' '\n' | sort -u | tr '\n' ' ')
  [ -n "$packages" ] || return 0
  if ! command -v apt-get >/dev/null; then
    {
      echo "Some packages are missing, and there is no apt-get to install them with."
      list_missing "$1"
      if command -v dnf >/dev/null; then
        echo "Run: dnf install $(missing "$1" fedora | tr '\n' ' ')"
      elif command -v pacman >/dev/null; then
        echo "Run: pacman -S --needed $(missing "$1" arch | tr '\n' ' ')"
      fi
    } >&2
    fail "install what is listed above, then run this again"
  fi
  if [ "$(id -u)" -ne 0 ] && ! command -v sudo >/dev/null; then
    fail "packages are missing, and there is no sudo. Run as root: apt-get install $packages"
  fi
  phase "Installing with apt-get: $packages"
  as_root apt-get update -q || echo "apt-get update failed; trying with the lists that are there." >&2
  # shellcheck disable=SC2086 # a list of packages
  as_root env DEBIAN_FRONTEND=noninteractive \
    apt-get install -q -y --no-install-recommends $packages
  if [ -n "$(missing "$1" all)" ]; then
    list_missing "$1" >&2
    fail "this system's packages are too old: what is listed above is still missing"
  fi
}

# ---- building

default_jobs() {
  processors=$(nproc 2>/dev/null || echo 1)
  gigabytes=$(awk '/^MemAvailable:/ { print int($2 / 1048576) }' /proc/meminfo 2>/dev/null || echo 1)
  jobs=$processors
  [ "${gigabytes:-1}" -ge "$jobs" ] || jobs=$gigabytes
  [ "$jobs" -ge 1 ] || jobs=1
  echo "$jobs"
}
jobs=${PULSAR_JOBS:-$(default_jobs)}
# Tests that build something read it.
export CMAKE_BUILD_PARALLEL_LEVEL="$jobs"

# configure <preset> [<cmake option>...]
configure() {
  preset=$1
  shift
  if [ -z "${CMAKE_GENERATOR:-}" ] && command -v ninja >/dev/null; then
    export CMAKE_GENERATOR=Ninja
  fi
  (cd "$root" && cmake --preset "$preset" -B "$build/$preset" "$@" --log-level=NOTICE >/dev/null)
}

# compile <preset> [<target>...]
compile() {
  preset=$1
  shift
  if [ $# -gt 0 ]; then
    cmake --build "$build/$preset" --target "$@"
  else
    cmake --build "$build/$preset"
  fi
}

# ---- the words

port_is_taken() {
  hex=$(printf '%04X' "$1")
  cat /proc/net/tcp /proc/net/tcp6 2>/dev/null |
    awk -v port=":$hex\$" '$4 == "0A" && $2 ~ port { found = 1 } END { exit !found }'
}

# show_answer <address> <process>: waits until the server accepts, then shows what it answers.
show_answer() {
  tries=0
  until answer=$(curl --silent --fail --include --max-time 5 "http://$1/"); do
    # A server that ended has said why.
    kill -0 "$2" 2>/dev/null || return 1
    tries=$((tries + 1))
    if [ "$tries" -gt 150 ]; then
      echo "quickstart: no answer from http://$1/ within 30 s" >&2
      kill -TERM "$2"
      return 1
    fi
    sleep 0.2
  done
  printf '%s\n\n' "$answer"
  phase "Serving on http://$1/ with 2 process workers. Ctrl-C ends it."
}

word_run() {
  phase "Building examples/hello_world.cpp."
  configure release -DCMAKE_CXX_COMPILER=g++
  compile release example_hello_world

  port=${PULSAR_PORT:-8060}
  last=$((port + 100))
  while port_is_taken "$port"; do
    echo "Port $port is taken."
    port=$((port + 1))
    [ "$port" -lt "$last" ] || fail "a hundred ports are taken; name a free one with PULSAR_PORT"
  done
  phase "Starting the server, then asking it: curl http://127.0.0.1:$port/"
  # The server takes the place of this shell, so that signals and its exit code are its own. The
  # shell in between ends at once: whoever waits for the answer is no child of the server.
  (show_answer "127.0.0.1:$port" $$ &)
  trap - EXIT
  exec "$build/release/examples/hello_world" --bind "127.0.0.1:$port" --workers 2
}

word_test() {
  phase "Building everything with GCC, address and undefined behaviour sanitizers."
  configure dev -DCMAKE_CXX_COMPILER=g++
  compile dev
  phase "Building the tests of core, TLS and actors with GCC and the thread sanitizer."
  configure tsan -DCMAKE_CXX_COMPILER=g++
  compile tsan tests_of_the_floors tests_tls
  clang=$(find_clang)
  phase "Building everything with $clang."
  configure clang "-DCMAKE_CXX_COMPILER=$clang"
  compile clang
  phase "Building examples and benchmarks with GCC, optimised."
  configure release -DCMAKE_CXX_COMPILER=g++
  compile release

  # One ctest over all builds, so that there is one summary.
  phase "Running all tests, those of the applications only in the first build."
  mkdir -p "$build/test"
  for preset in dev tsan clang release; do
    echo "subdirs(\"$build/$preset\")"
  done >"$build/test/CTestTestfile.cmake"
  ctest --test-dir "$build/test" --parallel "$jobs" --output-on-failure --no-tests=error \
    --exclude-regex '^(tsan\.(apps|example|fuzz|odr|testing)|clang\.(apps|example)|release\.example)'
  phase "Everything passed."
}

# Standard output is for what the benchmarks print.
word_bench() {
  [ -x "$root/benchmarks/run.sh" ] || fail "there is no benchmarks/run.sh to run"
  phase "Building the benchmarks." >&2
  configure release -DCMAKE_CXX_COMPILER=g++ >&2
  compile release >&2
  phase "Running the benchmarks." >&2
  "$root/benchmarks/run.sh" "$build/release" "$@"
  phase "All benchmarks have run." >&2
}

# GCC's sanitizers cannot start where addresses are too random.
without_random_addresses() {
  if command -v setarch >/dev/null && setarch -R true 2>/dev/null; then
    setarch -R "$@"
  else
    "$@"
  fi
}

word_soak() {
  seconds=${PULSAR_SOAK_SECONDS:-120}
  seed_seconds=${PULSAR_SOAK_SECONDS:-600}
  export PULSAR_SOAK_SECONDS="$seconds"
  clang=$(find_clang)
  phase "Building the fuzz targets with $clang and libFuzzer."
  configure fuzz "-DCMAKE_CXX_COMPILER=$clang"
  compile fuzz
  phase "Building examples and benchmarks with GCC, optimised."
  configure release -DCMAKE_CXX_COMPILER=g++
  compile release

  phase "Building the tests of the virtual clock with GCC and sanitizers."
  configure dev -DCMAKE_CXX_COMPILER=g++
  compile dev tests_testing

  # Other seeds each time; one that fails is told.
  phase "Trying orders of coroutines for $seed_seconds s, from seed $(date +%s)000 on."
  PULSAR_SEED_SECONDS="$seed_seconds" PULSAR_FIRST_SEED="$(date +%s)000" \
    without_random_addresses "$build/dev/tests/tests_testing" \
    --source-file='*/seeded_world_test.cpp' ||
    fail "a world of coroutines broke a promise; PULSAR_SEED repeats it: see tests/testing/\
seeded_world_test.cpp"

  for source in "$root"/tests/fuzz/*_fuzz.cpp; do
    [ -e "$source" ] || continue
    name=$(basename "$source" _fuzz.cpp)
    phase "Fuzzing $name for $seconds s."
    # What it finds stays among the built things; the first corpus is only read.
    found=$build/fuzz/corpus/$name
    mkdir -p "$found"
    "$build/fuzz/tests/fuzz/fuzz_$name" -max_total_time="$seconds" -timeout=10 -rss_limit_mb=2048 \
      -artifact_prefix="$found-failure-" -print_final_stats=1 -verbosity=0 \
      "$found" "$root/tests/fuzz/corpus/$name" ||
      fail "$name failed; the input that did it is $found-failure-*: mend the fault and add the \
input to tests/fuzz/corpus/$name/"
  done
  for script in "$root"/tests/soak/*.sh; do
    [ -e "$script" ] || continue
    phase "Running tests/soak/$(basename "$script")."
    "$script" "$build/release"
  done
  phase "Everything passed."
}

word=${1:-run}
[ $# -eq 0 ] || shift
case $word in
  run | test | bench | soak)
    if [ "$word" = bench ]; then
      install_for bench >&2
    else
      install_for "$word"
    fi
    "word_$word" "$@"
    ;;
  -h | --help | help) sed -n '4,13s/^# \{0,1\}//p' "$0" ;;
  *)
    echo "quickstart: unknown word '$word'; it is one of: run test bench soak" >&2
    exit 2
    ;;
esac
