#!/bin/bash
# What a user of the Debian package goes through: install, run, hang, update the agent, upgrade the package,
# remove, install, purge; then one of the tarball. `cargo xtask packages --test` runs it with systemd as
# process 1: in a copy of its own system (throwaway.sh), or in a machine that QEMU emulates. Beside it
# lie old.deb, new.deb, counter.holm, good.holm, bad.holm, author.key, a release of tarballs, and
# `settings` with the times.
set -eu

cd "$(dirname "$0")"
. ./test-common.sh

why() {
	systemctl status --no-pager --full edge-agent.service
}

enabled() {
	[ -L /etc/systemd/system/multi-user.target.wants/edge-agent.service ]
}

property() {
	systemctl show --property="$1" --value edge-agent.service
}

active() {
	[ "$(property ActiveState)" = active ]
}

# The launcher is the main process, the agent its child.
launcher() {
	property MainPID
}

agent() {
	pgrep --parent "$(launcher)"
}

restarts_are() {
	[ "$(property NRestarts)" = "$1" ] && active
}

run_as_holm() {
	[ "$(ps -o user= -p "$(launcher)")" = holm ] || fail "the launcher does not run as holm"
	[ "$(ps -o user= -p "$(agent)")" = holm ] || fail "the agent does not run as holm"
}

dpkg --install old.deb >/dev/null
# Type=notify: dpkg waited until the agent said READY=1, so devices can connect at once.
[ "$(property Type)" = notify ] || fail "the unit is not of Type=notify"
active || fail "the gateway is not active after the installation"
(exec 3<>/dev/tcp/127.0.0.1/1883) 2>/dev/null || fail "it is said to be ready, and nobody can connect"
getent passwd holm | grep -q ':/var/lib/holm:/usr/sbin/nologin$' || fail "no user holm"
holds /usr/bin/edge-agent 'root:root 755'
holds /etc/holm/agent.toml 'root:holm 640'
holds /var/lib/holm 'holm:holm 700'
enabled || fail "the unit is not enabled"
if dpkg --verify edge-agent | grep .; then fail "files differ from the package"; fi
run_as_holm
runs_from a || fail "the agent does not run from slot a"
ok "installed, told that it is ready, runs as holm, from slot a"

configure
sed -i "s/gateway-1/mine/" /etc/holm/agent.toml
mkdir -p /etc/systemd/system/edge-agent.service.d
cat >/etc/systemd/system/edge-agent.service.d/test.conf <<END
[Service]
WatchdogSec=$HANG
ExecStart=
ExecStart=/usr/bin/edge-agent launch --slots /var/lib/holm-slots --hang-after "$HANG s" --stop-within "$STOP s" \\
	-- run --config /etc/holm/agent.toml
END
systemctl daemon-reload
systemctl restart edge-agent.service
runs_a_function
ok "a function was compiled and ran under all restrictions of the unit"

sleep $((2 * HANG))
restarts_are 0 || fail "the watchdog ended a gateway that is well"
hung=$(launcher)
kill -STOP "$(agent)"
until_so restarts_are 1
[ "$(launcher)" != "$hung" ] || fail "it is still the launcher whose agent hung"
publish
until_so counted 2
ok "a gateway at rest lives on; an agent that hangs is ended by the launcher and started again by systemd"

hung=$(launcher)
kill -STOP "$hung"
until_so restarts_are 2
[ "$(launcher)" != "$hung" ] || fail "it is still the launcher that hung"
publish
until_so counted 3
ok "a launcher that hangs is ended by systemd's watchdog and started again; state kept"

updates_the_agent
[ "$(readlink /var/lib/holm-slots/current)" = b ] || fail "current does not lead to slot b"
publish
until_so counted 4
restarts_are 2 || fail "systemd took the update for an end of the service"
ok "the agent was updated by a deployment and kept; to systemd the service never stopped"

deploy bad
until_so says 'taken back: '
until_so says 'in slot b, confirmed'
[ "$(launcher)" = "$before" ] || fail "a bad update ended the launcher"
publish
until_so counted 5
restarts_are 2 || fail "systemd took a try of the update for an end of the service"
ok "an agent that ends as soon as it starts was tried and taken back"

dpkg --install new.deb >/dev/null
[ "$(launcher)" != "$before" ] && active || fail "the upgrade did not start the new one"
grep -q '"mine"' /etc/holm/agent.toml || fail "the upgrade replaced the configuration"
holds /etc/holm/agent.toml 'root:holm 640'
until_so says ', confirmed'
publish
until_so counted 6
ok "upgraded, configuration and state kept"

dpkg --remove edge-agent >/dev/null
[ ! -e /usr/bin/edge-agent ] || fail "the program is still there"
if active; then fail "it still runs"; fi
if pgrep --uid holm; then fail "a process of it still runs"; fi
grep -q '"mine"' /etc/holm/agent.toml || fail "removing took the configuration"
[ -d /var/lib/holm/store ] || fail "removing took data"
ok "removed, configuration and data kept"

dpkg --install new.deb >/dev/null
enabled || fail "the unit is not enabled again"
until_so counted 6
dpkg --purge edge-agent >/dev/null
[ ! -e /var/lib/holm ] && [ ! -e /var/lib/holm-slots ] || fail "data is still there"
[ ! -e /etc/holm ] || fail "configuration is still there"
if enabled; then fail "the unit is still enabled"; fi
if getent passwd holm; then fail "the user is still there"; fi
ok "installed again where it was, then purged"

for folder in /var/lib/holm /var/lib/holm-slots; do
	mkdir $folder
	mount -t tmpfs tmpfs $folder
done
dpkg --install new.deb >/dev/null
active || fail "it does not run with its data on another disk"
usermod --append --groups holm nobody
touch /etc/holm/server.key
said=$(dpkg --purge edge-agent 2>&1) || fail "it cannot be purged where its folders are mount points: $said"
[[ $said == *server.key* ]] || fail "purging does not say that a key stays: $said"
for folder in /var/lib/holm /var/lib/holm-slots; do
	[ -z "$(ls -A $folder)" ] || fail "something is still in $folder"
	umount $folder
	rmdir $folder
done
rm -r /etc/holm
getent group holm >/dev/null || fail "the group is gone though it has a member"
ok "installed with both folders on disks of their own, and purged: they are empty"

dpkg --install new.deb >/dev/null || fail "it cannot be installed where the group was left"
gpasswd --delete nobody holm >/dev/null
dpkg --remove edge-agent >/dev/null
rm -r /etc/systemd/system/edge-agent.service.d
(cd release && sh install.sh) >/dev/null || fail "install.sh cannot come after a package that was removed"
until_so active
dpkg --purge edge-agent >/dev/null 2>&1 || fail "the package that was removed cannot be purged"
active && [ -d /var/lib/holm/store ] && [ -f /etc/holm/agent.toml ] ||
	fail "purging the package took the gateway of install.sh"
if dpkg --install new.deb >/dev/null 2>&1; then fail "it is installed over a gateway of install.sh"; fi
active || fail "a package that was refused ended the gateway of install.sh"
(cd release && sh install.sh --remove) >/dev/null
rm -rf /etc/holm /var/lib/holm /var/lib/holm-slots
ok "install.sh took the place of the package that was removed, and the package cannot take its data"

cd release
sh install.sh >/dev/null || fail "install.sh does not install a release that is signed"
until_so active
holds /usr/local/bin/edge-agent 'root:root 755'
holds /etc/holm/agent.toml 'root:holm 640'
run_as_holm
sh install.sh >/dev/null || fail "install.sh does not install over itself"
until_so active
sh install.sh --remove >/dev/null
if active || enabled; then fail "install.sh --remove left it running"; fi
[ -d /var/lib/holm/store ] && [ -f /etc/holm/agent.toml ] || fail "it took data or configuration"
left=$(find /usr/local /etc/systemd /etc/init.d -name '*edge-agent*')
[ -z "$left" ] || fail "install.sh --remove left $left"
ok "install.sh checked signature and sum, installed, and removed all but data"
