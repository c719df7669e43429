# Shell functions that replace the commands of a reader. The program is already built. What a reader runs in another
# terminal runs in the background until its successor starts or the script ends. Commands wait for the servers that they
# need. Unknown calls of cargo are errors.
set -euo pipefail
trap 'kill $(jobs -p) 2>/dev/null || true; wait' EXIT
terminal=

lockgate() {
    case ${1-} in
    run | demo)
        # The default port may belong to another test.
        case " $* " in
        *" --listen "* | *" --config "*) ;;
        *) set -- "$@" --listen "[::]:$HTTPS_PORT" ;;
        esac
        # Started with `&`.
        if [ "$BASHPID" != "$$" ]; then exec "$LOCKGATE" "$@"; fi
        if [ -n "$terminal" ]; then
            kill "$terminal"
            wait "$terminal"
        fi
        "$LOCKGATE" "$@" &
        terminal=$!
        wait_for "$LOCKGATE" health
        ;;
    status | health | sessions | reload | drain | kick | probe | tap)
        wait_for "$LOCKGATE" health
        "$LOCKGATE" "$@"
        ;;
    # It fails if the request would be refused.
    explain) "$LOCKGATE" "$@" || [ $? = 1 ] ;;
    *) "$LOCKGATE" "$@" ;;
    esac
}

cargo() {
    case "$*" in
    "run -- demo")
        "$LOCKGATE" demo --listen "127.0.0.1:$HTTPS_PORT" &
        local started=$!
        wait_for "$LOCKGATE" health
        kill $started
        wait $started
        ;;
    build | "install --path . --locked") ;;
    *)
        echo "unknown call: cargo $*" >&2
        exit 1
        ;;
    esac
}

pip() {
    [ "$*" = "install websockets" ] || { echo "unknown call: pip $*" >&2; exit 1; }
    "$PYTHON" -c "import websockets"
}

python3() {
    case ${1-} in
    -* | token_for.py) "$PYTHON" "$@" ;;
    server.py)
        if [ "$BASHPID" != "$$" ]; then exec "$PYTHON" "$@"; fi
        "$PYTHON" "$@" &
        wait_for_backend
        ;;
    *)
        wait_for "$LOCKGATE" health
        wait_for_backend
        "$PYTHON" "$@"
        ;;
    esac
}

wait_for_backend() {
    wait_for "$PYTHON" -c "import socket; socket.create_connection(('127.0.0.1', $BACKEND_PORT)).close()"
}

wait_for() {
    until "$@" >/dev/null 2>&1; do sleep 0.05; done
}

