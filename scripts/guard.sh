#!/usr/bin/env bash
# Counts the instructions of the main paths (benches/counted) and compares them with those on record
# (benches/instructions.toml): fails when a path grew by more than 15 %, says so when one fell by as much.
#
#   scripts/guard.sh                   all paths
#   scripts/guard.sh send get          some of them
#   scripts/guard.sh --record          renews the record; say in the commit why it changed
#
# What is counted is the code of the development profile, which the gate has compiled anyway; a release build would
# cost minutes more. It wants valgrind, and passes over the comparison, loudly, where there is none.
set -euo pipefail
cd "$(dirname "$0")/.."

record=benches/instructions.toml
grown_percent_max=15
export CARGO_TERM_COLOR=never
export CARGO_INCREMENTAL=0   # an incremental build divides the code in other pieces, and its counts are others

renew=
if [ "${1:-}" = --record ]; then renew=yes; shift; fi

loudly() { printf '\n!!! %s\n!!! The instruction counts were NOT compared.\n' "$1" >&2; exit 0; }

command -v valgrind >/dev/null || loudly "valgrind is not here (apt-get install valgrind)."
toolchain="$(rustc --version)"
host="$(rustc -vV | sed -n 's/^host: //p')"
if [ -z "$renew" ] && ! grep -qxF "host = \"$host\"" "$record"; then
  loudly "$record is of another kind of machine than $host."
fi

# One piece for each of our crates: else which function is inlined where depends on how a crate was divided, and that on
# code that a path never runs.
whole=()
for package in $(sed -n '/^\[package\]/,/^$/s/^name = "\(.*\)"/\1/p' Cargo.toml actors/*/Cargo.toml); do
  whole+=(--config "profile.dev.package.$package.codegen-units=1")
done
program="$(cargo build "${whole[@]}" --workspace --bench counted --message-format=json-render-diagnostics |
  sed -n 's/.*"executable":"\([^"]*\/counted-[^"]*\)".*/\1/p' | tail -n 1)"
[ -x "$program" ] || { echo "cargo has not said where it put benches/counted" >&2; exit 1; }

work="$(mktemp -d)"
trap 'rm -rf "$work"' EXIT
export program work

# One path: instructions for each operation, within counted_section alone, so that neither set-up nor the loading of
# the program is in them.
count() {
  local name="$1" operations="$2" out="$work/$1"
  if ! valgrind --tool=callgrind --collect-atstart=no --toggle-collect='*counted_section*' \
    --callgrind-out-file="$out.callgrind" "$program" "$name" "$operations" >"$out.log" 2>&1; then
    cat "$out.log" >&2
    return 1
  fi
  local total
  total="$(sed -n 's/^totals: //p' "$out.callgrind" | head -n 1)"
  [ "${total:-0}" -gt "$operations" ] || { echo "$name: nothing was counted" >&2; return 1; }
  echo $((total / operations)) >"$out.count"
}
export -f count

"$program" >"$work/paths"
if [ $# -gt 0 ]; then
  for name in "$@"; do
    grep -q "^$name " "$work/paths" || { echo "no path is named $name: $(cut -d' ' -f1 "$work/paths" | xargs)" >&2; exit 2; }
  done
  grep -E "^($(IFS='|'; echo "$*")) " "$work/paths" >"$work/chosen"
else
  cp "$work/paths" "$work/chosen"
fi
xargs -P "$(nproc)" -L 1 bash -c 'count "$1" "$2"' _ <"$work/chosen"

if [ -n "$renew" ]; then
  [ $# -eq 0 ] || { echo "--record renews all of them" >&2; exit 2; }
  {
    echo "# Instructions of one operation of each path of benches/counted, in the development profile."
    echo "# Made by scripts/guard.sh --record; compared by scripts/guard.sh, which .ci/run calls."
    echo "toolchain = \"$toolchain\""
    echo "host = \"$host\""
    echo
    echo "[instructions]"
    while read -r name _; do echo "$name = $(cat "$work/$name.count")"; done <"$work/paths"
  } >"$record"
  cat "$record"
  exit 0
fi

grep -qxF "toolchain = \"$toolchain\"" "$record" ||
  echo "note: $record is of $(sed -n 's/^toolchain = //p' "$record"), this is \"$toolchain\""
worst=0
printf '%-16s %12s %12s %9s\n' path 'on record' now change
while read -r name _; do
  now="$(cat "$work/$name.count")"
  before="$(sed -n "s/^$name = //p" "$record")"
  if [ -z "$before" ]; then
    printf '%-16s %12s %12s            not on record: renew it\n' "$name" - "$now"
    worst=1
    continue
  fi
  change=$(((now - before) * 1000 / before))
  remark=
  if [ $((now * 100)) -gt $((before * (100 + grown_percent_max))) ]; then
    remark="GREW by more than $grown_percent_max %"
    worst=1
  elif [ $((now * 100)) -lt $((before * (100 - grown_percent_max))) ]; then
    remark="fell by as much: renew the record, or the gain can be lost again unseen"
  fi
  sign=+ size=$change
  if [ "$change" -lt 0 ]; then sign=- size=$((-change)); fi
  printf '%-16s %12s %12s %9s %% %s\n' "$name" "$before" "$now" "$sign$((size / 10)).$((size % 10))" "$remark"
done <"$work/chosen"
if [ "$worst" -ne 0 ]; then
  echo "Look with: callgrind_annotate on a run of benches/counted; docs/performance.md says how. Where it has to be," \
    "scripts/guard.sh --record renews the record."
fi
exit "$worst"
