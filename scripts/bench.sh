#!/usr/bin/env bash
# Measures everything that quality has a bar for, beside a bare echo server, in one run of under 15 minutes on two
# cores, and writes the table into docs/performance.md with machine and commit. On a machine that does something else
# meanwhile the figures mean little.
#
#   scripts/bench.sh                       all of it
#   scripts/bench.sh --only three          one part, shown and not written
#   scripts/bench.sh --rounds 20           steadier ratios
#   scripts/bench.sh --help                the parts, and where data goes
set -euo pipefail
cd "$(dirname "$0")/.."

commit="$(git rev-parse --short HEAD 2>/dev/null || echo 'a tree without a commit')"
git diff --quiet HEAD -- . ':!docs' 2>/dev/null || commit="$commit with changes"

build() { cargo build --release "$@" --message-format=json-render-diagnostics; }
built="$(build --bin ringwork --bench echo --bench transfer --bench suite)"
# Where cargo put the program of that name.
program() {
  local path
  path="$(sed -n "s/.*\"executable\":\"\([^\"]*\/$1\(-[0-9a-f]*\)\{0,1\}\)\".*/\1/p" <<<"$built" | tail -n 1)"
  [ -x "$path" ] || { echo "cargo has not said where it put $1" >&2; exit 1; }
  echo "$path"
}

exec "$(program suite)" --ringwork "$(program ringwork)" --echo "$(program echo)" --transfer "$(program transfer)" \
  --commit "$commit" --write docs/performance.md "$@"
