#!/usr/bin/env bash
# Instructions of tracking one frame: those of 1,100 frames less those of 100. `track.sh --bound` measures three cases in the
# profile of the tests, and fails if a frame costs more than its BOUND.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
source tests/bench/callgrind.sh
# The cost of a data frame and of a Ping in the profile of the tests, plus a tenth.
declare -A BOUND=([client]=205 [server]=200 [pings]=2140)

one() {
    echo $((($(count "$1" "$2" 11) - $(count "$1" "$2" 1)) / 1000))
}

prepare track "$@"
if [ -n "$bounded" ]; then
    for case in client server pings; do
        cost=$(one $case 64)
        echo "tracking a frame, $case: $cost instructions, at most ${BOUND[$case]}"
        [ "$cost" -le "${BOUND[$case]}" ] || over="$over, $case $cost"
    done
    judge "tracking a frame costs more than its bound"
    exit
fi
printf '%-16s %9s %9s %9s\n' "instructions" "64" "1024" "65536"
for case in client server; do
    printf '%-16s' "$case"
    for size in 64 1024 65536; do
        printf ' %9d' "$(one $case $size)"
    done
    printf '\n'
done
printf '%-16s %9d\n' pings "$(one pings 64)"
