#!/bin/bash
# What a user of the Debian package goes through: install, run, a hang, upgrade, remove, install,
# purge; then one of the tarball. `cargo xtask packages --try` runs it by throwaway.sh, with systemd
# as process 1. Beside it lie old.deb, new.deb, counter.holm, author.key, and a release of tarballs.
set -eu

cd "$(dirname "$0")"

fail() {
	echo "FAILED: $*"
	systemctl status --no-pager --full edge-agent.service || true
	exit 1
}

holds() {
	[ "$(stat -c '%U:%G %a' "$1" 2>/dev/null)" = "$2" ] ||
		fail "$1 is $(stat -c '%U:%G %a' "$1" 2>&1), not $2"
}

enabled() {
	[ -L /etc/systemd/system/multi-user.target.wants/edge-agent.service ]
}

property() {
	systemctl show --property="$1" --value edge-agent.service
}

# Within 30 s.
until_so() {
	for _ in $(seq 300); do
		if "$@"; then
			return
		fi
		sleep 0.1
	done
	fail "waited 30 s for: $*"
}

active() {
	[ "$(property ActiveState)" = active ]
}

restarts_are() {
	[ "$(property NRestarts)" = "$1" ] && active
}

# A message of QoS 1 by MQTT 3.1.1, acked.
publish() {
	exec 3<>/dev/tcp/127.0.0.1/1883
	printf '\x10\x0f\x00\x04MQTT\x04\x02\x00\x00\x00\x03try' >&3
	[ "$(head -c 4 <&3 | od -An -tx1 | tr -d ' \n')" = 20020000 ] || fail "no CONNACK"
	printf '\x32\x13\x00\x0dsensors/press\x00\x01hi' >&3
	[ "$(head -c 4 <&3 | od -An -tx1 | tr -d ' \n')" = 40020001 ] || fail "no PUBACK"
	exec 3>&-
}

live() {
	edge-agent status --json | grep -Eq '"phase": "(probation|live)"'
}

counted() {
	edge-agent state counter/counter | grep -q "\"text\": \"$1\""
}

dpkg --install old.deb >/dev/null
getent passwd holm | grep -q ':/var/lib/holm:/usr/sbin/nologin$' || fail "no user holm"
holds /usr/bin/edge-agent 'root:root 755'
holds /etc/holm/agent.toml 'root:holm 640'
holds /var/lib/holm 'holm:holm 700'
enabled || fail "the unit is not enabled"
if dpkg --verify edge-agent | grep .; then fail "files differ from the package"; fi
# Type=notify: active only after READY=1.
[ "$(property Type)" = notify ] || fail "the unit is not of Type=notify"
active || fail "the gateway is not active after the installation"
[ "$(ps -o user= -p "$(property MainPID)")" = holm ] || fail "it does not run as holm"
echo "ok: installed, told that it is ready, runs as holm"

cat >>/etc/holm/agent.toml <<X
[anonymous]
publish = ["sensors/+"]
X
sed -i "s/gateway-1/mine/; 1i author_keys = [\"$(cat author.key)\"]" /etc/holm/agent.toml
mkdir -p /etc/systemd/system/edge-agent.service.d
printf '[Service]\nWatchdogSec=3\n' >/etc/systemd/system/edge-agent.service.d/watchdog.conf
systemctl daemon-reload
systemctl restart edge-agent.service
edge-agent deploy "$PWD/counter.holm" >/dev/null || fail "a function cannot be deployed"
until_so live
publish
until_so counted 1
echo "ok: a function was compiled and ran under all restrictions of the unit"

sleep 8
restarts_are 0 || fail "the watchdog ended a gateway that is well"
hung=$(property MainPID)
kill -STOP "$hung"
until_so restarts_are 1
[ "$(property MainPID)" != "$hung" ] || fail "it is still the process that hung"
publish
until_so counted 2
echo "ok: the watchdog lets a gateway at rest live, and starts one that hangs again; state kept"

before=$(property MainPID)
dpkg --install new.deb >/dev/null
[ "$(property MainPID)" != "$before" ] && active || fail "the upgrade did not start the new one"
grep -q '"mine"' /etc/holm/agent.toml || fail "the upgrade replaced the configuration"
holds /etc/holm/agent.toml 'root:holm 640'
publish
until_so counted 3
echo "ok: upgraded, configuration and state kept"

dpkg --remove edge-agent >/dev/null
[ ! -e /usr/bin/edge-agent ] || fail "the program is still there"
if active; then fail "it still runs"; fi
grep -q '"mine"' /etc/holm/agent.toml || fail "removing took the configuration"
[ -d /var/lib/holm/store ] || fail "removing took data"
echo "ok: removed, configuration and data kept"

dpkg --install new.deb >/dev/null
enabled || fail "the unit is not enabled again"
until_so counted 3
dpkg --purge edge-agent >/dev/null
[ ! -e /var/lib/holm ] || fail "data is still there"
[ ! -e /etc/holm ] || fail "configuration is still there"
if enabled; then fail "the unit is still enabled"; fi
if getent passwd holm; then fail "the user is still there"; fi
echo "ok: installed again where it was, then purged"

cd release
sh install.sh >/dev/null || fail "install.sh does not install a release that is signed"
until_so active
holds /usr/local/bin/edge-agent 'root:root 755'
holds /etc/holm/agent.toml 'root:holm 640'
[ "$(ps -o user= -p "$(property MainPID)")" = holm ] || fail "it does not run as holm"
sh install.sh >/dev/null || fail "install.sh does not install over itself"
until_so active
sh install.sh --remove >/dev/null
if active || enabled; then fail "install.sh --remove left it running"; fi
[ -d /var/lib/holm/store ] && [ -f /etc/holm/agent.toml ] || fail "it took data or configuration"
echo "ok: install.sh checked signature and sum, installed, and removed all but data"
