#!/usr/bin/env bash
# Instructions that the proxy spends on one message there and back through TLS: what SOME + MORE messages cost less what
# SOME cost. `relay.sh --ci` counts fewer, in the profile of the tests, and fails where the splice costs more than BOUND.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
command -v valgrind >/dev/null || {
    echo "relay.sh: valgrind is missing, which counts instructions: apt-get install valgrind" >&2
    exit 1
}
# Percent of a bare copy, in the profile of the tests: what it is today, and a little for noise.
BOUND=155

case ${1:-} in
--ci) profile=dev sizes="64 1024" hows="limits" ;;
"") profile=bench sizes="64 1024 65536" hows="defaults limits" ;;
*) echo "usage: relay.sh [--ci]" >&2 && exit 2 ;;
esac
binary=$(cargo bench --profile $profile --no-run --bench relay 2>&1 | sed -n 's/.*(\(.*relay-[0-9a-f]*\)).*/\1/p')
[ -n "$binary" ] || cargo bench --profile $profile --no-run --bench relay

count() {
    valgrind --tool=callgrind --callgrind-out-file=/dev/null --collect-atstart=no --toggle-collect='relay::counted*' \
        "$binary" "$@" 2>&1 | sed -n 's/.*Collected : \([0-9]*\).*/\1/p'
}

# Of one message: how it is relayed, its size.
one() {
    local some=100 more=200
    [ "$2" -gt 4096 ] || more=1000
    echo $((($(count "$1" "$2" $((some + more))) - $(count "$1" "$2" $some)) / more))
}

printf '%-14s %9s' "instructions" "bare"
for how in $hows; do printf ' %9s %6s' "$how" ""; done
printf '\n'
over=""
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
if [ $profile = dev ] && [ -n "$over" ]; then
    echo "relay.sh: a message costs more than $BOUND % of a bare copy's instructions: ${over#, }" >&2
    exit 1
fi
