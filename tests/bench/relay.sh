#!/usr/bin/env bash
# Instructions that the proxy spends on one message there and back through TLS: what some and more messages cost, less
# what some cost. `relay.sh --bound` counts fewer, in the profile of the tests, and fails where the splice is above BOUND.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
source tests/bench/callgrind.sh
# Percent of a bare copy under all limits, in the profile of the tests: what it is today, and 4 more.
BOUND=113
counted='relay::counted*'

prepare relay "$@"
sizes="64 1024 65536" hows="defaults limits"
[ -z "$bounded" ] || sizes="64 1024" hows="limits"

# Of one message: how it is relayed, its size.
one() {
    local some=100 more=200
    [ "$2" -gt 4096 ] || more=1000
    echo $((($(count "$1" "$2" $((some + more))) - $(count "$1" "$2" $some)) / more))
}

printf '%-14s %9s' "instructions" "bare"
for how in $hows; do printf ' %9s %6s' "$how" ""; done
printf '\n'
for size in $sizes; do
    bare=$(one bare "$size")
    printf '%-14s %9d' "$size bytes" "$bare"
    for how in $hows; do
        cost=$(one "$how" "$size")
        percent=$((100 * cost / bare))
        printf ' %9d %5d%%' "$cost" $percent
        [ $percent -le $BOUND ] || over="$over, $size bytes with $how $percent %"
    done
    printf '\n'
done
judge "a message costs more than $BOUND % of a bare copy"
