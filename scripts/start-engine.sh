#!/bin/sh
# Starts the Docker engine, as root, and returns when it answers or has given up: through systemd where that
# runs, by hand elsewhere (containers, chroots, machines with another init).
#
# DOCKER_HOST               the unix socket to listen on, if not the usual one
# SMALLCLUSTER_DOCKERD_ARGS more dockerd flags, split at blanks: --data-root, --exec-root, --pidfile, --bridge=none …
# SMALLCLUSTER_DOCKERD_LOG  where the engine writes what it does (default /var/log/dockerd.log)
# SMALLCLUSTER_DOCKERD_WAIT seconds until the engine must answer (default 30)
set -eu

args=${SMALLCLUSTER_DOCKERD_ARGS-}
host=${DOCKER_HOST:-unix:///var/run/docker.sock}
log=${SMALLCLUSTER_DOCKERD_LOG:-/var/log/dockerd.log}
patience=${SMALLCLUSTER_DOCKERD_WAIT:-30}

flag() { # flag NAME DEFAULT: the value that a dockerd flag will have
    value=$2
    for word in $args; do
        case $word in "--$1="*) value=${word#*=} ;; esac
    done
    echo "$value"
}

runs() { # runs PID NAME: is this process that program, and does it see our root?
    [ "$(cat "/proc/$1/comm" 2>/dev/null)" = "$2" ] && [ "/proc/$1/root" -ef / ]
}

any() { # any NAME: does such a process run under our root?
    for process in /proc/[0-9]*; do
        runs "${process#/proc/}" "$1" && return 0
    done
    return 1
}

answers() { docker --host "$host" version --format '{{.Server.Version}}' 2>/dev/null; }

forget() { # forget PIDFILE NAME: a pid file whose process is gone, or is another program by now, stops a new one
    if [ -e "$1" ] && ! runs "$(cat "$1")" "$2"; then
        echo "removing $1: its $2 is gone"
        rm -f "$1"
    fi
}

clean_up() {
    forget "$(flag pidfile /var/run/docker.pid)" dockerd
    forget "$(flag exec-root /var/run/docker)/containerd/containerd.pid" containerd
    # An engine that finds this socket takes a containerd for granted and waits for it in vain.
    if [ -e /run/containerd/containerd.sock ] && ! any containerd; then
        echo "removing /run/containerd/containerd.sock: no containerd runs"
        rm -f /run/containerd/containerd.sock
    fi
}

case $host in
    unix://*) ;;
    *) echo "DOCKER_HOST=$host is not an engine of this machine: it has to be started where it is" >&2; exit 1 ;;
esac
if version=$(answers); then
    echo "engine $version already answers at $host"
    exit 0
fi
if [ -d /run/systemd/system ] && [ -z "$args" ]; then
    echo "systemctl start docker"
    exec systemctl enable --now docker
fi

clean_up
echo "dockerd --host $host $args"
launch='exec dockerd "$@"'
if ! mountpoint -q /; then
    # A plain chroot. The engine remounts its root when it unpacks an image, so it gets one that is a mount: from
    # /usr/.. the kernel steps into the mount that was just put over the root, from / it would not.
    launch='exec unshare --mount --propagation unchanged sh -c "mount --rbind / / && exec chroot /usr/.. dockerd \"\$@\"" sh "$@"'
fi
# A session of its own: it outlives the shell, the terminal and the process group that asked for it.
# shellcheck disable=SC2086  # the flags are split at blanks on purpose
setsid sh -c "$launch" sh --host "$host" $args >>"$log" 2>&1 </dev/null &
engine=$!
tenths=$((patience * 10))
while [ "$tenths" -gt 0 ]; do
    if version=$(answers); then
        echo "engine $version answers at $host; its log is $log"
        exit 0
    fi
    kill -0 "$engine" 2>/dev/null || break
    tenths=$((tenths - 2))
    sleep 0.2
done
echo "the engine does not answer at $host; the end of $log:" >&2
tail -n 15 "$log" >&2
exit 1
