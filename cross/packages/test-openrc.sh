#!/bin/bash
# What a user of the tarball goes through on a system with OpenRC: install, kill the agent and its launcher,
# update the agent, install again, remove. `cargo xtask packages --test` runs it as process 1 in a copy of its
# own system (throwaway.sh) that has Debian's OpenRC, whose packages lie in `openrc`. There is no
# other service: `localmount`, which Alpine has, stands here for mounts that were made already.
set -eu

cd "$(dirname "$0")"
. ./test-common.sh

why() {
	rc-service edge-agent status
	tail -n 30 /var/log/holm.log
}

started() {
	rc-service edge-agent status >/dev/null 2>&1 && edge-agent status >/dev/null 2>&1
}

launcher() {
	pgrep --full --uid holm 'edge-agent launch'
}

agent() {
	pgrep --parent "$(launcher || echo none)" 2>/dev/null
}

# The agent is another one, and answers.
another_than() {
	now=$(agent) && [ "$now" != "$1" ] && started
}

dpkg --install openrc/*.deb >/dev/null 2>&1 || fail "Debian's OpenRC cannot be installed"
mkdir -p /run/openrc
touch /run/openrc/softlevel
printf '#!/sbin/openrc-run\nstart() {\n\t:\n}\n' >/etc/init.d/localmount
chmod 0755 /etc/init.d/localmount

(cd release && sh install.sh) >/dev/null || fail "install.sh does not install a release that is signed"
until_so started
holds /usr/local/bin/edge-agent 'root:root 755'
holds /etc/holm/agent.toml 'root:holm 640'
holds /var/lib/holm 'holm:holm 700'
holds /var/log/holm.log 'holm:adm 640'
runs_from a || fail "the agent does not run from slot a"
[ -L /etc/runlevels/default/edge-agent ] || fail "it does not start with the system"
ok "installed, runs as holm, from slot a"

configure
rc-service edge-agent restart >/dev/null 2>&1 || fail "it cannot be restarted"
until_so started
runs_a_function
ok "a function was compiled and ran"

before=$(launcher)
ended=$(agent)
kill -KILL "$ended"
until_so another_than "$ended"
[ "$(launcher)" = "$before" ] || fail "it is another launcher"
ended=$(agent)
kill -KILL "$before"
until_so another_than "$ended"
[ "$(launcher)" != "$before" ] || fail "it is still the launcher that was killed"
publish
until_so counted 2
ok "an agent that ends is started again by the launcher, a launcher that ends by OpenRC; state kept"

updates_the_agent
publish
until_so counted 3
ok "the agent was updated by a deployment and kept"

(cd release && sh install.sh) >/dev/null || fail "install.sh does not install over itself"
until_so started
until_so counted 3
(cd release && sh install.sh --remove) >/dev/null
if pgrep --uid holm; then fail "a process of it still runs"; fi
left=$(find /usr/local /etc/init.d /etc/runlevels -name '*edge-agent*')
[ -z "$left" ] || fail "install.sh --remove left $left"
[ -d /var/lib/holm/store ] && [ -f /etc/holm/agent.toml ] || fail "it took data or configuration"
ok "installed over itself, and removed but for data"
