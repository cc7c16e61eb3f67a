# Shared by the services that consist of several daemons; sourced after ../lib.sh, not run.
# Each is named after its script, has its state in one folder, and logs to DAEMON.log there.
# shellcheck shell=bash disable=SC2154 # $root is of lib.sh
service=$(basename "$0")
note=$root/target/services/$service # holds the folder of the running one, if any
dir=$(cat "$note" 2>/dev/null || true)
export no_proxy="127.0.0.1${no_proxy:+,$no_proxy}" # everything here talks over loopback, whatever the way out is

listening() { (exec 3<>"/dev/tcp/127.0.0.1/$1") 2>/dev/null; }
answers() { curl -sf -m 5 -o /dev/null "http://127.0.0.1:$1"; }
secret() { od -An -N16 -tx1 /dev/urandom | tr -d ' \n'; }

# free_ports FIRST LAST COUNT: the first port of a block that is wholly free. Blocks are tried in random order, for two starting at once. They lie below
# 32768, so that no outgoing connection takes one while its daemon is stopped.
free_ports() {
    local first port
    for first in $(seq "$1" "$3" $(($2 - $3 + 1)) | shuf); do
        for port in $(seq "$first" $((first + $3 - 1))); do
            ! listening "$port" || continue 2
        done
        echo "$first"
        return
    done
    fail "no $3 free ports in a row between $1 and $2"
}

# An empty folder; what is left of an earlier start is removed.
new_folder() {
    down
    dir=$(mktemp -d "${TMPDIR:-/tmp}/registry-$service.XXXXXX")
    mkdir -p "$dir/pid" "$(dirname "$note")"
    echo "$dir" >"$note"
}

# Process ids are used again, and a process that has ended may be listed for a while; one of ours has our folder in its environment.
alive() { [ -s "$dir/pid/$1" ] && grep -qzxF "REGISTRY_SERVICE=$dir" "/proc/$(cat "$dir/pid/$1")/environ" 2>/dev/null; }

all_alive() {
    local name
    [ -n "$dir" ] || return 1
    for name; do alive "$name" || return 1; done
}

give_up() {
    [ ! -f "$dir/$1.log" ] || tail -n 20 "$dir/$1.log" >&2
    fail "$1 $2; its log is $dir/$1.log"
}

# start NAME COMMAND...: in a session of its own, so that an interrupted test does not take it along.
start() {
    local name=$1
    shift
    REGISTRY_SERVICE=$dir setsid "$@" >>"$dir/$name.log" 2>&1 </dev/null &
    echo $! >"$dir/pid/$name"
    # It is recognised only from its exec on.
    for _ in {1..100}; do ! alive "$name" || return 0; sleep 0.02; done
    give_up "$name" "does not start"
}

# await NAME COMMAND...: until the command succeeds, which tells that daemon NAME is ready.
await() {
    local name=$1 deadline=$((SECONDS + 120))
    shift
    until "$@" >/dev/null 2>&1; do
        alive "$name" || give_up "$name" "has ended"
        [ "$SECONDS" -lt "$deadline" ] || give_up "$name" "is not ready after 2 min"
        sleep 0.1
    done
}

# The hard way: as after a loss of power.
stop() {
    local name
    for name; do ! alive "$name" || kill -9 "$(cat "$dir/pid/$name")"; done
    for name; do while alive "$name"; do sleep 0.02; done; done
}

clean_up() { :; } # for what a service leaves outside its folder

# The data go as well, so nobody needs time to save any.
down() {
    [ -n "$dir" ] || return 0
    local pids=()
    mapfile -t pids < <(ls "$dir/pid" 2>/dev/null)
    stop "${pids[@]}"
    clean_up
    rm -rf "$dir" "$note"
    dir=
}
