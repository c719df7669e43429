#!/usr/bin/env bash
# Instructions of one pick of a backend, its key and its release included: those of 11,000 picks less those of 1,000.
# `pick.sh --bound` looks at one of them in the profile of the tests, and fails where it is more than BOUND.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
source tests/bench/callgrind.sh
# Least-sessions among 10, in the profile of the tests: what it is today, and a tenth more.
BOUND=1300

one() {
    echo $((($(count "$1" "$2" 11000) - $(count "$1" "$2" 1000)) / 10000))
}

case ${1:-} in
--bound)
    build dev pick
    cost=$(one least-sessions 10)
    echo "a pick among 10 backends by least-sessions: $cost instructions, at most $BOUND"
    [ "$cost" -le $BOUND ] || fail "a pick costs $cost instructions, more than $BOUND"
    exit
    ;;
"") build bench pick ;;
*) fail "usage: pick.sh [--bound]" ;;
esac
printf '%-16s %9s %9s %9s\n' "instructions" "1" "10" "100"
for balance in least-sessions round-robin random-two hash hash-weighted; do
    printf '%-16s' "$balance"
    for backends in 1 10 100; do
        printf ' %9d' "$(one $balance $backends)"
    done
    printf '\n'
done
