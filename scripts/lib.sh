# Shared by the scripts here; sourced, not run.
# shellcheck shell=bash
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)

fail() { echo "$(basename "$0"): $*" >&2; exit 1; }

# step NAME COMMAND...: runs it, says how long it took.
step() {
    local name=$1 began=$SECONDS
    shift
    echo "==> $name"
    "$@" || { echo "==> $name: FAILED after $((SECONDS - began)) s" >&2; return 1; }
    echo "==> $name: ok, $((SECONDS - began)) s"
}

# need COMMAND=PACKAGE...: installs the Debian packages whose commands are not there. A command may be a pattern of paths.
need() {
    local pair missing=()
    for pair in "$@"; do
        command -v "${pair%%=*}" >/dev/null || compgen -G "${pair%%=*}" >/dev/null || missing+=("${pair#*=}")
    done
    [ ${#missing[@]} -gt 0 ] || return 0
    command -v apt-get >/dev/null || fail "missing, and there is no apt-get to install them with: ${missing[*]}"
    [ "$(id -u)" = 0 ] || fail "missing; install them or run this as root: apt-get install ${missing[*]}"
    echo "installing ${missing[*]}"
    local options=(-q -o DPkg::Lock::Timeout=600 -o Acquire::Retries=3 -o Dpkg::Use-Pty=0) try
    # The lock of the package lists has no time-out of its own.
    for try in 1 2 3 4 5 6; do
        apt-get "${options[@]}" update </dev/null && break
        [ "$try" -lt 6 ] || fail "apt-get update does not succeed"
        sleep 5
    done
    without_services env DEBIAN_FRONTEND=noninteractive apt-get "${options[@]}" install -y --no-install-recommends "${missing[@]}" </dev/null
}

# without_services COMMAND...: what it installs does not start services of the machine's own; we want the programs only.
without_services() (
    policy=/usr/sbin/policy-rc.d # Debian's own way of saying so; whatever says something there already is left alone
    # One at a time, or the first to end would take the file away from the others. With the lock held, one of ours is left from a run that was killed.
    exec {lock}</usr/sbin
    flock "$lock"
    if [ ! -e "$policy" ] || grep -q '^# of scripts/lib.sh' "$policy"; then
        trap 'rm -f "$policy"' EXIT
        printf '#!/bin/sh\n# of scripts/lib.sh, for the time of an installation\nexit 101\n' >"$policy"
        chmod 755 "$policy"
    fi
    "$@"
)
