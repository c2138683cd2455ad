#!/bin/sh
# SPDX-License-Identifier: BSD-3-Clause
#
# quickstart_without_apt.sh <quickstart.sh> <scratch folder>
#
# On a system with neither apt-get nor a compiler, quickstart.sh must name what is missing, exit 1
# and build nothing. Such a system is a PATH with the few tools a shell script needs.
set -eu
quickstart=$1
scratch=$2

rm -rf "$scratch"
mkdir -p "$scratch/bin"
for tool in sh dirname date sed awk nproc tr sort id cat printf grep; do
  ln -s "$(command -v "$tool")" "$scratch/bin/$tool" 2>/dev/null || true
done

status=0
PATH=$scratch/bin PULSAR_BUILD_DIR=$scratch/build sh "$quickstart" test >"$scratch/out" 2>&1 ||
  status=$?
cat "$scratch/out"
[ "$status" -eq 1 ] || { echo "exit status $status, not 1"; exit 1; }
[ ! -e "$scratch/build" ] || { echo "something was built"; exit 1; }
for package in cmake g++ gcc-c++ clang-16 valgrind; do
  grep -q -- "$package" "$scratch/out" || { echo "$package is not named"; exit 1; }
done
