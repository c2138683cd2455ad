#!/bin/sh
# SPDX-License-Identifier: BSD-3-Clause
#
# sh benchmarks/run.sh <build directory> [--json] [--quick]
#
# Runs every benchmark of a release build and prints one table, or one JSON array of rows:
# subject, value, unit, spread, yardstick, yardstick_value, ratio, target, met. Takes under ten
# minutes; --quick only shows that all of them run. Fails if a program fails, not if a target is
# missed: that is a mark in the table.
set -eu

usage() {
  echo "usage: sh benchmarks/run.sh <build directory> [--json] [--quick]" >&2
  exit 2
}

build=
json=
quick=
for argument in "$@"; do
  case $argument in
    --json) json=--json ;;
    --quick) quick=--quick ;;
    -*) usage ;;
    *)
      [ -z "$build" ] || usage
      build=$argument
      ;;
  esac
done
[ -n "$build" ] || usage

folder=$build/benchmarks
set -- "$folder"/bench_*
if [ ! -x "$1" ]; then
  echo "run.sh: no benchmarks in $folder: build them with" >&2
  echo "  cmake --preset release && cmake --build --preset release" >&2
  exit 1
fi

scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

header=
status=0
: >"$scratch/rows"
for program in "$@"; do
  # A program that hangs must not hold up the others for ever.
  if timeout --foreground 400 "$program" $json $quick $header >"$scratch/out"; then
    if [ -n "$json" ]; then
      # One row a line between the brackets; commas are set when all are together.
      sed -e '/^[][]$/d' -e 's/,$//' "$scratch/out" >>"$scratch/rows"
    else
      cat "$scratch/out"
      header=--no-header
    fi
  else
    code=$?
    [ "$code" -ne 124 ] || echo "run.sh: $program did not end within 400 s" >&2
    echo "run.sh: $program failed with exit code $code" >&2
    status=1
  fi
done
if [ -n "$json" ]; then
  echo '['
  sed '$!s/$/,/' "$scratch/rows"
  echo ']'
fi
exit "$status"
