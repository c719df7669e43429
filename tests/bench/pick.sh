#!/usr/bin/env bash
# Instructions of one pick of a backend, with its key and its release: those of 11,000 picks less those of 1,000. "shared" is
# one backend in many pools. `pick.sh --bound` measures two cases in the profile of the tests, and fails if one costs more than
# BOUND.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
source tests/bench/callgrind.sh
# The cost of least-sessions among 10 backends in the profile of the tests, plus a tenth. Some 250 of it are the share of one
# client in the handshakes of each backend, which was added on 2026-11-30.
BOUND=1550

one() {
    echo $((($(count "$1" "$2" 11000) - $(count "$1" "$2" 1000)) / 10000))
}

prepare pick "$@"
if [ -n "$bounded" ]; then
    for of in "least-sessions 10" "shared 10000"; do
        # shellcheck disable=SC2086 # Two arguments.
        cost=$(one $of)
        echo "a pick, $of: $cost instructions, at most $BOUND"
        [ "$cost" -le $BOUND ] || over="$over, $of $cost"
    done
    judge "a pick costs more than $BOUND instructions"
    exit
fi
printf '%-16s %9s %9s %9s\n' "instructions" "1" "10" "100"
for balance in least-sessions round-robin random-two hash hash-weighted shared; do
    printf '%-16s' "$balance"
    for backends in 1 10 100; do
        printf ' %9d' "$(one $balance $backends)"
    done
    printf '\n'
done
