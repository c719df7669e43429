#!/usr/bin/env bash
# Instructions of one route lookup: those of 1,100 lookups less those of 100. `lookup.sh --bound` measures two cases in the
# profile of the tests, and fails if a lookup among 10 or 10,000 routes costs more than BOUND.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
source tests/bench/callgrind.sh
# The cost of the more expensive case in the profile of the tests, which varies by a tenth, plus a tenth.
BOUND=3400

one() {
    echo $((($(count "$1" "$2" 1100) - $(count "$1" "$2" 100)) / 1000))
}

prepare lookup "$@"
if [ -n "$bounded" ]; then
    for case in wildcard no-path; do
        for routes in 10 10000; do
            cost=$(one $case $routes)
            echo "a route lookup among $routes, $case: $cost instructions, at most $BOUND"
            [ "$cost" -le $BOUND ] || over="$over, $case among $routes $cost"
        done
    done
    judge "a route lookup costs more than $BOUND instructions"
    exit
fi
printf '%-16s %9s %9s %9s\n' "instructions" "10" "1000" "10000"
for case in first last wildcard paths no-host no-path; do
    printf '%-16s' "$case"
    for routes in 10 1000 10000; do
        printf ' %9d' "$(one $case $routes)"
    done
    printf '\n'
done
