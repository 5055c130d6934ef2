#!/bin/bash
# Makes a small Debian of another machine in FOLDER with mmdebstrap, as root. The kernel runs that machine's
# programs by QEMU in a user namespace of its own (Linux 6.7): nothing is registered on this machine. All
# users are the same inside and outside, so that the files belong to whom they have to.
#
#   bash bootstrap.sh ARCH SUITE MIRROR BINFMT-LINE FOLDER PACKAGE...
set -eu

arch=$1 suite=$2 mirror=$3 line=$4 folder=$5
shift 5
talk=$(mktemp -d)
trap 'rm -rf "$talk"' EXIT
mkfifo "$talk/made" "$talk/mapped"
# The inner shell has a user, and with it its rights, only when it starts after the map was written.
# shellcheck disable=SC2016
unshare --user --mount --pid --fork --kill-child bash -euc '
	echo >"$0/made"
	read -r _ <"$0/mapped"
	exec bash -euc "
		mount -t proc proc /proc
		mount -t binfmt_misc binfmt_misc /proc/sys/fs/binfmt_misc
		printf %s \"\$0\" >/proc/sys/fs/binfmt_misc/register
		exec mmdebstrap \"\$@\"" "$@"' "$talk" "$line" \
	--mode=root --variant=essential --architectures="$arch" --skip=chroot/mount/sys \
	--include="$*" "$suite" "$folder" "$mirror" &
made=$!
read -r _ <"$talk/made"
echo '0 0 65536' >"/proc/$made/uid_map"
echo '0 0 65536' >"/proc/$made/gid_map"
echo >"$talk/mapped"
wait "$made"
