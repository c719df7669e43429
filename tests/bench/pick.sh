#!/usr/bin/env bash
# Instructions of one pick of a backend, its key and its release included: those of 11,000 picks less those of 1,000.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
binary=$(cargo bench --no-run --bench pick 2>&1 | sed -n 's/.*(\(.*pick-[0-9a-f]*\)).*/\1/p')

count() {
    valgrind --tool=callgrind --callgrind-out-file=/dev/null "$binary" "$@" 2>&1 | sed -n 's/.*Collected : \([0-9]*\).*/\1/p'
}

printf '%-16s %9s %9s %9s\n' "instructions" "1" "10" "100"
for balance in least-sessions round-robin random-two hash hash-weighted; do
    printf '%-16s' "$balance"
    for backends in 1 10 100; do
        printf ' %9d' $((($(count $balance $backends 11000) - $(count $balance $backends 1000)) / 10000))
    done
    printf '\n'
done
