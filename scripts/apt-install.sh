#!/bin/sh
# Installs packages with apt, as root and without a question: apt-install.sh [--add DIR] PACKAGE...
#
# --add DIR   copy DIR/*.sources and DIR/*.pref (a newer suite, pinned so that nothing else moves) into
#             apt's configuration first. `invoke setup` derives both from the machine's own apt sources.
set -eu

export DEBIAN_FRONTEND=noninteractive
# Where no init runs, a package that starts its daemon would fail or start it twice: start-engine.sh does it.
export RUNLEVEL=1

if [ "${1-}" = "--add" ]; then
    install -m 0644 "$2"/*.sources /etc/apt/sources.list.d/
    install -m 0644 "$2"/*.pref /etc/apt/preferences.d/
    shift 2
fi

echo "apt-get update"
apt-get update -qq -o DPkg::Lock::Timeout=60 -o Acquire::Languages=none -o Acquire::Retries=3 -o APT::Update::Error-Mode=any

echo "apt-get install $*"
# From here on it runs to its end: packages that were cut short would stay half configured.
trap '' INT TERM HUP
exec apt-get install -y -q --no-install-recommends -o DPkg::Lock::Timeout=60 -o Dpkg::Use-Pty=0 -o Acquire::Retries=3 \
    -o Dpkg::Options::=--force-confold "$@"
