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
    DEBIAN_FRONTEND=noninteractive apt-get "${options[@]}" install -y --no-install-recommends "${missing[@]}" </dev/null
}
