#!/bin/sh
# SPDX-License-Identifier: BSD-3-Clause
#
# sh benchmarks/check_instructions.sh <build directory> [--update] [<subject> ...]
#
# Counts the instructions (callgrind) and system calls (strace) that one operation of each subject
# costs in a release build, and compares them with instructions.json, which keeps them by compiler.
# Fails if a count has grown by over 10 % (and by more than 2 instructions, or 0.05 system calls):
# who has a good reason runs this with --update and says why in the commit. What the file does not
# know for this compiler is reported only.
#
# An operation costs what 3n more of them add to a run of n: start and end of the program cancel.
set -eu

kept=$(dirname "$0")/instructions.json

fail() {
  echo "check_instructions.sh: $*" >&2
  exit 1
}

usage() {
  echo "usage: sh benchmarks/check_instructions.sh <build directory> [--update] [<subject> ...]" >&2
  exit 2
}

build=
update=
wanted=
for argument in "$@"; do
  case $argument in
    --update) update=yes ;;
    -*) usage ;;
    *)
      if [ -z "$build" ]; then build=$argument; else wanted="$wanted $argument"; fi
      ;;
  esac
done
[ -n "$build" ] || usage

folder=$build/benchmarks
set -- "$folder"/bench_*
[ -x "$1" ] || fail "no benchmarks in $folder: build them with \
cmake --preset release && cmake --build --preset release"
command -v valgrind >/dev/null || fail "valgrind is missing (Debian: apt-get install valgrind)"
strace=yes
if ! strace -o /dev/null true 2>/dev/null; then
  [ -z "$update" ] || fail "--update needs strace (Debian: apt-get install strace), and the right to trace"
  echo "check_instructions.sh: strace is missing or may not trace: system calls are not counted" >&2
  strace=
fi

compiler=$("$1" --compiler)
case $compiler in
  *' '*) fail "$1 is built by $compiler: configure with --preset release" ;;
esac

scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

# ---- counting

# instructions <program> <subject> <operations>: of all processes and threads of the run.
instructions() {
  timeout 120 valgrind --tool=callgrind --callgrind-out-file=/dev/null --trace-children=yes \
    "$1" --once "$2" --iterations "$3" >"$scratch/log" 2>&1 || {
    cat "$scratch/log" >&2
    fail "$1 --once $2 --iterations $3 failed under valgrind"
  }
  awk '/ Collected : / { sum += $4 } END { printf "%.0f\n", sum }' "$scratch/log"
}

# system_calls <program> <subject> <operations>
system_calls() {
  timeout 120 strace -f -c -o "$scratch/calls" "$1" --once "$2" --iterations "$3" \
    >"$scratch/log" 2>&1 || {
    cat "$scratch/log" >&2
    fail "$1 --once $2 --iterations $3 failed under strace"
  }
  awk '$NF == "total" { print $4 }' "$scratch/calls"
}

is_wanted() {
  [ -n "$wanted" ] || return 0
  case " $wanted " in *" $1 "*) ;; *) return 1 ;; esac
}

: >"$scratch/now"
for program in "$@"; do
  "$program" --countable >"$scratch/subjects" || fail "$program --countable failed"
  while read -r subject most; do
    is_wanted "$subject" || continue
    least=$((most / 4))
    # Plain assignments, so that a failure inside ends this script.
    few=$(instructions "$program" "$subject" "$least" </dev/null)
    many=$(instructions "$program" "$subject" "$most" </dev/null)
    calls_few=0
    calls_many=-
    if [ -n "$strace" ]; then
      calls_few=$(system_calls "$program" "$subject" "$least" </dev/null)
      calls_many=$(system_calls "$program" "$subject" "$most" </dev/null)
    fi
    echo "$subject $few $many $calls_few $calls_many $((most - least))" | awk '{
      calls = $5 == "-" ? "-" : sprintf("%.3f", ($5 - $4) / $6)
      if (calls == "-0.000") calls = "0.000"
      printf "%s %.1f %s\n", $1, ($3 - $2) / $6, calls
    }' >>"$scratch/now"
  done <"$scratch/subjects"
done
for subject in $wanted; do
  grep -q "^$subject " "$scratch/now" || fail "no subject $subject in $folder: see --countable"
done

# ---- what is kept

# Lines "<compiler> <subject> <instructions> <system calls>" of instructions.json. One subject
# stands on one line, as --update writes it.
: >"$scratch/kept"
if [ -e "$kept" ]; then
  awk '
    { gsub(/^[ \t]+|[ \t\r]+$/, "") }
    /^[{}],?$/ || /^$/ || /^},$/ { next }
    /^"[^"]+": \{$/ { split($0, part, "\""); compiler = part[2]; next }
    /^"[^"]+": \{"instructions": [0-9.]+, "system_calls": [0-9.]+\},?$/ && compiler != "" {
      split($0, part, "\"")
      count = part[5]; calls = part[7]
      gsub(/[^0-9.]/, "", count); gsub(/[^0-9.]/, "", calls)
      print compiler, part[2], count, calls
      next
    }
    { printf "line %d is not as --update writes it: %s\n", NR, $0 > "/dev/stderr"; exit 1 }
  ' "$kept" >"$scratch/kept" || fail "cannot read $kept: mend the line"
fi

if [ -n "$update" ]; then
  awk -v compiler="$compiler" -v wanted="$wanted" '
    FILENAME == ARGV[1] { kept[$1 SUBSEP $2] = $3 " " $4; next }
    {
      if (wanted == "" && !cleared++) {
        for (key in kept) { split(key, part, SUBSEP); if (part[1] == compiler) delete kept[key] }
      }
      kept[compiler SUBSEP $1] = $2 " " $3
    }
    END { for (key in kept) { split(key, part, SUBSEP); print part[1], part[2], kept[key] } }
  ' "$scratch/kept" "$scratch/now" | LC_ALL=C sort | awk '
    BEGIN { print "{" }
    $1 != compiler {
      if (compiler != "") printf "\n  },\n"
      compiler = $1
      printf "  \"%s\": {\n", compiler
      first = 1
    }
    {
      if (!first) printf ",\n"
      first = 0
      printf "    \"%s\": {\"instructions\": %s, \"system_calls\": %s}", $2, $3, $4
    }
    END { print (compiler == "" ? "}" : "\n  }\n}") }
  ' >"$scratch/json"
  cp "$scratch/json" "$kept"
  echo "Wrote the counts of $compiler to $kept."
fi

# ---- comparing

awk -v compiler="$compiler" -v update="$update" '
  function limit(count, least) { return count * 1.1 > count + least ? count * 1.1 : count + least }
  function verdict(name, now, before, least) {
    if (now == "-") return ""
    if (now > limit(before, least)) { grown = 1; return "  MORE " name }
    if (limit(now, least) < before) return "  fewer " name ": keep it with --update"
    return ""
  }
  BEGIN {
    printf "%-26s %14s %10s %14s %10s   %s\n", compiler, "instructions", "kept", "system calls",
      "kept", ""
  }
  FILENAME == ARGV[1] { if ($1 == compiler) { count[$2] = $3; calls[$2] = $4 }; next }
  !($1 in count) {
    printf "%-26s %14s %10s %14s %10s   not kept yet\n", $1, $2, "-", $3, "-"
    next
  }
  {
    text = update ? "" : verdict("instructions", $2, count[$1], 2) verdict("system calls", $3, calls[$1], 0.05)
    printf "%-26s %14s %10s %14s %10s %s\n", $1, $2, count[$1], $3, calls[$1], text
  }
  END { exit grown }
' "$scratch/kept" "$scratch/now" || fail "an operation costs over 10 % more than instructions.json \
allows: find out why, or run this with --update and give the reason in the commit"
