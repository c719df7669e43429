# To be sourced: what `handshake.sh`, `lookup.sh`, `pick.sh` and `relay.sh` have in common.

fail() {
    echo "$(basename "$0"): $*" >&2
    exit 1
}

command -v valgrind >/dev/null || fail "valgrind is missing, which counts instructions: apt-get install valgrind"

# The bench $2 in profile $1, which is `binary` from then on.
build() {
    local said
    said=$(cargo bench --profile "$1" --no-run --bench "$2" 2>&1) || fail "$said"
    binary=$(sed -n "s/.*(\\(.*$2-[0-9a-f]*\\)).*/\\1/p" <<<"$said")
}

# The bench $1, as the rest, the script's own arguments, has it: with `--bound` it is `bounded`, in the profile of the tests.
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

# Once everything is counted: fails where something is `over` the bound, and $1 says what that means.
over=""
judge() {
    [ -z "$bounded" ] || [ -z "$over" ] || fail "$1: ${over#, }"
}

# The instructions that `binary` takes with these arguments: all of them, or those in the function `counted`.
counted=""
count() {
    local only=()
    [ -z "$counted" ] || only=(--collect-atstart=no "--toggle-collect=$counted")
    valgrind --tool=callgrind --callgrind-out-file=/dev/null "${only[@]}" "$binary" "$@" 2>&1 |
        sed -n 's/.*Collected : \([0-9]*\).*/\1/p'
}
