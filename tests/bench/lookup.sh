#!/usr/bin/env bash
# Instructions of one look for a route: those of 1,100 less those of 100. `lookup.sh --bound` looks at two cases in the
# profile of the tests, and fails where one among 10 or 10,000 costs more than BOUND.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
source tests/bench/callgrind.sh
# The dearer of the two, in the profile of the tests: what it is today, give or take its tenth, and a tenth more.
BOUND=3400

one() {
    echo $((($(count "$1" "$2" 1100) - $(count "$1" "$2" 100)) / 1000))
}

prepare lookup "$@"
if [ -n "$bounded" ]; then
    for case in wildcard no-path; do
        for routes in 10 10000; do
            cost=$(one $case $routes)
            echo "a look for a route among $routes, $case: $cost instructions, at most $BOUND"
            [ "$cost" -le $BOUND ] || over="$over, $case among $routes $cost"
        done
    done
    judge "a look for a route costs more than $BOUND instructions"
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
