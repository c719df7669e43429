#!/usr/bin/env bash
# Instructions of the proxy for one message in each direction through TLS: the difference between two runs with different numbers
# of messages. `relay.sh --bound` measures fewer sizes, in the profile of the tests, and fails if the relay costs more than BOUND.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
source tests/bench/callgrind.sh
# The cost with all limits in percent of a bare copy, in the profile of the tests, plus 4.
BOUND=113
counted='relay::counted*'

prepare relay "$@"
sizes="64 1024 65536" hows="defaults limits"
[ -z "$bounded" ] || sizes="64 1024" hows="limits"

# Prints the instructions for one message; arguments: how it is relayed, its size.
one() {
    local base=100 more=200
    [ "$2" -gt 4096 ] || more=1000
    echo $((($(count "$1" "$2" $((base + more))) - $(count "$1" "$2" $base)) / more))
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
