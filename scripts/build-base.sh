#!/bin/sh
# Makes a minimal Debian image, as root: build-base.sh TAG SUITE ARCHITECTURE MIRROR RECIPE
#
# The packages are fetched and verified by debootstrap on this machine, so its own certificates and proxies
# apply. The image gets its apt source in the form that the published Debian image has.
set -eu

tag=$1 suite=$2 architecture=$3 mirror=$4 recipe=$5
keyring=/usr/share/keyrings/debian-archive-keyring.gpg
root=$(mktemp -d "${TMPDIR:-/tmp}/smallcluster-base.XXXXXX")
leave() {
    # debootstrap that is interrupted leaves its kernel file systems mounted.
    for place in proc sys; do
        if mountpoint -q "$root/$place"; then umount "$root/$place"; fi
    done
    rm -rf --one-file-system "$root"
}
trap leave EXIT
trap 'exit 130' INT TERM

debootstrap --variant=minbase --arch="$architecture" --keyring="$keyring" "$suite" "$root" "$mirror"

echo "tidying and importing $tag"
rm -rf "$root"/var/cache/apt/archives/*.deb "$root"/var/lib/apt/lists/* "$root"/var/log/*.log \
    "$root"/usr/share/doc "$root"/usr/share/man "$root"/usr/share/locale "$root"/etc/apt/sources.list
mkdir -p "$root/var/lib/apt/lists/partial" "$root/etc/apt/sources.list.d"
cat >"$root/etc/apt/sources.list.d/debian.sources" <<SOURCES
Types: deb
URIs: $mirror
Suites: $suite
Components: main
Signed-By: $keyring
SOURCES
# Documentation and translations of later packages stay out as well.
cat >"$root/etc/dpkg/dpkg.cfg.d/small" <<'DPKG'
path-exclude /usr/share/doc/*
path-exclude /usr/share/man/*
path-exclude /usr/share/locale/*
DPKG
# Nothing in a container build may start a daemon.
printf '#!/bin/sh\nexit 101\n' >"$root/usr/sbin/policy-rc.d"
chmod 0755 "$root/usr/sbin/policy-rc.d"
# dpkg's fsyncs protect against power cuts; a build that is cut short is begun again.
echo force-unsafe-io >"$root/etc/dpkg/dpkg.cfg.d/unsafe-io"

tar -C "$root" --numeric-owner -c . | docker import \
    --change 'CMD ["/bin/sh"]' \
    --change 'LABEL io.smallcluster.image=debian' \
    --change "LABEL io.smallcluster.recipe=$recipe" \
    - "$tag"
