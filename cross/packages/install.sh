#!/bin/sh
# Installs the Holm gateway from a release folder: this script, SHA256SUMS, SHA256SUMS.sig and the
# tarball of this machine.
#
#   sudo sh install.sh                   install or upgrade
#   sudo sh install.sh --remove          remove; settings, data, logs and the user holm stay, and it says how to delete them
#   sh install.sh --check                verify signature and checksum, change nothing
#   sh install.sh --unsigned ...         without a signature: only for releases that you built
#   sh install.sh --key FILE ...         against another public key (PEM)
#
# DESTDIR=FOLDER installs below FOLDER and starts nothing.
set -eu

# The public key of who made this release; filled in when it was made.
KEY='@KEY@'
VERSION='@VERSION@'

here=$(cd "$(dirname "$0")" && pwd)
root=${DESTDIR:-}
drop_ins=/etc/systemd/system/edge-agent.service.d
action=install
signed=yes

die() {
	echo "install.sh: $*" >&2
	exit 1
}

need() {
	command -v "$1" >/dev/null || die "$1 is needed: $2"
}

while [ $# -gt 0 ]; do
	case "$1" in
	--remove) action=remove ;;
	--check) action=check ;;
	--unsigned) signed=no ;;
	--key)
		[ $# -gt 1 ] || die "--key needs a file"
		KEY=$(cat "$2")
		shift
		;;
	--help | -h)
		sed -n '2,/^set -eu/{/^#/s/^# \{0,1\}//p;}' "$0"
		exit 0
		;;
	*) die "unknown option $1; there is --help" ;;
	esac
	shift
done

target() {
	case "$(uname -m)" in
	x86_64) echo x86_64-unknown-linux-musl ;;
	aarch64) echo aarch64-unknown-linux-musl ;;
	armv7l | armv8l) echo armv7-unknown-linux-gnueabihf ;;
	riscv64) echo riscv64gc-unknown-linux-gnu ;;
	*) die "there is no build for $(uname -m)" ;;
	esac
}

# What is checked is what is installed: a copy that nobody else can write to. The folder of the release
# may be anybody's.
take() {
	[ -f "$here/$1" ] || die "$1 is not in $here"
	cp "$here/$1" "$work/$1"
}

# The sums are signed, the tarball is in the sums.
verify() {
	take SHA256SUMS
	take "$tarball"
	if [ "$signed" = yes ]; then
		[ -n "$KEY" ] || die "this release is not signed; if you built it yourself: --unsigned"
		take SHA256SUMS.sig
		need openssl "it checks the signature"
		case "$(openssl version)" in
		"OpenSSL 0"* | "OpenSSL 1"* | LibreSSL*) die "OpenSSL 3 is needed to check the signature" ;;
		esac
		printf '%s\n' "$KEY" >"$work/key.pem"
		openssl pkeyutl -verify -pubin -inkey "$work/key.pem" -rawin \
			-in "$work/SHA256SUMS" -sigfile "$work/SHA256SUMS.sig" >/dev/null 2>&1 ||
			die "the signature of SHA256SUMS is wrong: do not install this"
	fi
	grep "  $tarball\$" "$work/SHA256SUMS" >"$work/sum" || die "$tarball is not in SHA256SUMS"
	(cd "$work" && sha256sum -c sum >/dev/null 2>&1) ||
		die "$tarball is damaged: do not install this"
	echo "$tarball: signature $([ "$signed" = yes ] && echo good || echo 'NOT CHECKED'), checksum good"
}

remove() {
	if [ -z "$root" ] && [ -d /run/systemd/system ]; then
		systemctl disable --now edge-agent.service || true
	elif [ -z "$root" ] && command -v rc-service >/dev/null; then
		rc-service edge-agent stop || true
		rc-update del edge-agent default || true
	fi
	rm -f "$root/usr/local/bin/edge-agent" "$root/etc/init.d/edge-agent" \
		"$root/etc/systemd/system/edge-agent.service"
	rm -rf "$root/usr/local/share/edge-agent"
	if [ -z "$root" ] && [ -d /run/systemd/system ]; then
		systemctl daemon-reload
	fi
	echo "removed"
	if [ -d "$root$drop_ins" ]; then
		echo "your drop-ins in $drop_ins stay"
	fi
	left
}

# What stays of a gateway: who it is, messages that wait, keys. Only people can know that nobody needs it.
left() {
	set --
	for path in /etc/holm /var/lib/holm /var/lib/holm-slots /var/log/holm /var/log/holm.log; do
		if [ -e "$root$path" ]; then set -- "$@" "$root$path"; fi
	done
	if [ $# -gt 0 ]; then
		echo "settings, data, programs of the slots and logs stay: $*"
		echo "to delete them, with messages that wait and the gateway's identity: rm -rf $*"
	fi
	if [ -z "$root" ] && grep -q '^holm:' /etc/passwd; then
		tool=$(command -v userdel || command -v deluser || echo userdel)
		echo "the user holm and its group stay; to delete them: ${tool##*/} holm"
	fi
}

make_user() {
	# A group with other members stays when its user goes.
	if ! grep -q '^holm:' /etc/group; then
		if command -v groupadd >/dev/null; then groupadd --system holm; else addgroup -S holm; fi
	fi
	if grep -q '^holm:' /etc/passwd; then
		return
	fi
	if command -v useradd >/dev/null; then
		useradd --system --gid holm --home-dir /var/lib/holm --no-create-home \
			--shell /usr/sbin/nologin holm
	else
		adduser -S -D -H -h /var/lib/holm -s /sbin/nologin -G holm holm
	fi
}

# A file in its place at once, and in place of a link too: a package that was removed leaves its unit masked.
place() { # FROM TO MODE
	sed 's|/usr/bin/edge-agent|/usr/local/bin/edge-agent|' "$1" >"$2.new"
	chmod "$3" "$2.new"
	mv "$2.new" "$2"
}

put_files() {
	from="$work/edge-agent-$VERSION"
	install -d "$root/usr/local/bin" "$root/etc/holm"
	# A new file in place of the old one: the running agent keeps its own.
	install -m 0755 "$from/edge-agent" "$root/usr/local/bin/edge-agent.new"
	mv "$root/usr/local/bin/edge-agent.new" "$root/usr/local/bin/edge-agent"
	if [ ! -e "$root/etc/holm/agent.toml" ]; then
		install -m 0640 "$from/agent.toml" "$root/etc/holm/agent.toml"
		# Where there is no journal the log has a bound of its own.
		if [ -z "$root" ] && ! [ -d /run/systemd/system ] && command -v openrc-run >/dev/null; then
			printf '\n[log]\nfile = "/var/log/holm/agent.log"\n' >>"$root/etc/holm/agent.toml"
		fi
	fi
	if [ -d /run/systemd/system ] || [ -n "$root" ]; then
		install -d "$root/etc/systemd/system"
		place "$from/edge-agent.service" "$root/etc/systemd/system/edge-agent.service" 0644
		install -d "$root/usr/local/share/edge-agent"
		install -m 0644 "$from/serial.conf" "$root/usr/local/share/edge-agent/serial.conf"
	fi
	if command -v openrc-run >/dev/null || [ -n "$root" ]; then
		install -d "$root/etc/init.d"
		place "$from/edge-agent.openrc" "$root/etc/init.d/edge-agent" 0755
	fi
}

start() {
	install -d -o holm -g holm -m 0700 /var/lib/holm /var/lib/holm-slots
	chown root:holm /etc/holm/agent.toml
	if [ -d /run/systemd/system ]; then
		systemctl daemon-reload
		systemctl enable edge-agent.service
		systemctl restart edge-agent.service
	elif command -v rc-service >/dev/null; then
		rc-update add edge-agent default
		rc-service edge-agent restart
	else
		echo "neither systemd nor OpenRC: let your init system start this as user holm, and again when it ends:"
		echo "  /usr/local/bin/edge-agent launch --slots /var/lib/holm-slots -- run --config /etc/holm/agent.toml"
	fi
}

if [ "$action" = remove ]; then
	remove
	exit 0
fi
tarball="edge-agent-$VERSION-$(target).tar.gz"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
verify
if [ "$action" = check ]; then
	exit 0
fi
if [ -z "$root" ]; then
	[ "$(id -u)" = 0 ] || die "only root installs: sudo sh install.sh"
	if command -v dpkg >/dev/null && dpkg -S /usr/bin/edge-agent >/dev/null 2>&1; then
		die "the package edge-agent is installed: upgrade that, or remove it first"
	fi
fi
tar -xzf "$work/$tarball" -C "$work"
put_files
if [ -z "$root" ]; then
	make_user
	start
fi
echo "installed edge-agent $VERSION"
