#!/bin/bash
# Runs inside the chroot that test_fresh_machine.py makes, as the init of its own process namespace: what a person
# types on a fresh machine, and what is asserted about it afterwards, written to /results.
set -euo pipefail

results=/results
cd /root/checkout

timed() { # timed NAME COMMAND...: standard output to NAME.out, the seconds to NAME.seconds
    local name=$1 began
    shift
    began=$(date +%s.%N)
    echo "== $name: $*" >&2
    "$@" >"$results/$name.out" || echo $? >"$results/$name.status"
    python3 -c "import time; print(f'{time.time() - $began:.2f}')" >"$results/$name.seconds"
    echo "== $name took $(cat "$results/$name.seconds") s" >&2
}

packages() { dpkg-query --show --showformat '${Package} ${Version}\n' | sort; }

packages >"$results/before.packages"
timed venv python3 -m venv .venv
# shellcheck disable=SC1091
. .venv/bin/activate
timed install pip install --quiet -e .
timed doctor-before invoke doctor --json
timed setup invoke setup --json
packages >"$results/after.packages"
timed upgrade apt-get --simulate dist-upgrade
timed again invoke setup --json

# What a machine is left with whose processes were all killed: sockets, and pid files that name others by now.
run=$(dirname "$FRESH_PIDFILE")
kill -KILL "$(cat "$FRESH_PIDFILE")" "$(cat "$run/exec/containerd/containerd.pid")"
while docker version >/dev/null 2>&1; do :; done
echo $$ >"$FRESH_PIDFILE"
echo $$ >"$run/exec/containerd/containerd.pid"
mkdir -p /run/containerd
python3 -c "import socket; socket.socket(socket.AF_UNIX).bind('/run/containerd/containerd.sock')"
timed doctor-killed invoke doctor --json
timed after-kill invoke setup --json
timed status git status --porcelain
