# Shared functions of `handshake.sh`, `lookup.sh`, `pick.sh`, `relay.sh` and `track.sh`, which source this file.

fail() {
    echo "$(basename "$0"): $*" >&2
    exit 1
}

command -v valgrind >/dev/null || fail "valgrind is missing; it counts the instructions: apt-get install valgrind"

# Builds the benchmark $2 in profile $1 and sets `binary`.
build() {
    local output
    output=$(cargo bench --profile "$1" --no-run --bench "$2" 2>&1) || fail "$output"
    binary=$(sed -n "s/.*(\\(.*$2-[0-9a-f]*\\)).*/\\1/p" <<<"$output")
}

# Builds the benchmark $1. The other arguments are those of the script: with `--bound` it sets `bounded` and uses the profile of
# the tests.
bounded=""
prepare() {
    local bench=$1
    shift
    case $#:${1:-} in
    0:) build bench "$bench" ;;
    1:--bound)
        bounded=yes
        build dev "$bench"
        ;;
    *) fail "usage: $(basename "$0") [--bound]" ;;
    esac
}

# Fails with the message $1 if a cost is `over` the bound.
over=""
judge() {
    [ -z "$bounded" ] || [ -z "$over" ] || fail "$1: ${over#, }"
}

# Prints the instructions of `binary` with these arguments: all of them, or those in the function `counted`. Prints no
# number if the program fails, so that the calculation fails too.
counted=""
count() {
    local only=()
    [ -z "$counted" ] || only=(--collect-atstart=no "--toggle-collect=$counted")
    local output
    output=$(valgrind --tool=callgrind --callgrind-out-file=/dev/null "${only[@]}" "$binary" "$@" 2>&1) ||
        fail "$binary $* failed: $output"
    sed -n 's/.*Collected : \([0-9]*\).*/\1/p' <<<"$output"
}
