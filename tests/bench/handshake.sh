#!/usr/bin/env bash
# Instructions of the server for one session of one message: TLS, the upgrade, the connection to the backend, an echo of 64 bytes,
# the Close and the logs. The result is the difference between two runs with different numbers of sessions.
# `handshake.sh --bound` uses the profile of the tests and fails above BOUND thousand instructions.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
source tests/bench/callgrind.sh
BOUND=1410
counted='handshake::counted*'

prepare handshake "$@"

# Prints the thousands of instructions for one session, full or resumed.
one() {
    local base=20 more=100
    echo $((($(count "$1" $((base + more))) - $(count "$1" $base)) / more / 1000))
}

for how in full resumed; do
    cost=$(one $how)
    printf '%-8s %5d thousand instructions\n' $how "$cost"
    [ "$cost" -le $BOUND ] || over="$over, $how $cost"
done
judge "a handshake costs more than $BOUND thousand instructions"
