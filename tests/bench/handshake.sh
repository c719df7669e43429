#!/usr/bin/env bash
# Instructions that the whole server spends on one session of one message: TLS, the upgrade, the backend's connection, an echo
# of 64 bytes, the Close and all that is written down. What some and more of them cost, less what some cost.
# `handshake.sh --bound` counts in the profile of the tests, and fails above BOUND thousands.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
source tests/bench/callgrind.sh
BOUND=1410
counted='handshake::counted*'

prepare handshake "$@"

# Thousands of one handshake: full or resumed.
one() {
    local some=20 more=100
    echo $((($(count "$1" $((some + more))) - $(count "$1" $some)) / more / 1000))
}

for how in full resumed; do
    cost=$(one $how)
    printf '%-8s %5d thousand instructions\n' $how "$cost"
    [ "$cost" -le $BOUND ] || over="$over, $how $cost"
done
judge "a handshake costs more than $BOUND thousand instructions"
