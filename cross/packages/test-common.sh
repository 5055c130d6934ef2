# What both tests of packages share: sourced by test.sh and test-openrc.sh, in the folder that they test in.

# In seconds. PATIENCE: longest wait for anything; HANG: silence after which something hangs; STOP:
# longest that the agent may take to stop.
. ./settings

ok() {
	echo "ok: $* ($SECONDS s)"
}

fail() {
	echo "FAILED: $*"
	why || true
	edge-agent status || true
	exit 1
}

holds() {
	[ "$(stat -c '%U:%G %a' "$1" 2>/dev/null)" = "$2" ] ||
		fail "$1 is $(stat -c '%U:%G %a' "$1" 2>&1), not $2"
}

until_so() {
	end=$((SECONDS + PATIENCE))
	while [ "$SECONDS" -lt "$end" ]; do
		if "$@"; then
			return
		fi
		sleep 0.2
	done
	fail "waited $PATIENCE s for: $*"
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

# The agent is the program in this slot.
runs_from() {
	ps -o args= -p "$(agent)" | grep -q "^/var/lib/holm-slots/$1/edge-agent run "
}

# What the status says of the agent's slot.
says() {
	edge-agent status 2>/dev/null | grep -q "$1"
}

# Anybody may publish, the author's apps are taken, and updates are judged soon.
configure() {
	cat >>/etc/holm/agent.toml <<END
[anonymous]
publish = ["sensors/+"]
[update]
settle = "3 s"
grace = "$PATIENCE s"
END
	sed -i "1i author_keys = [\"$(cat author.key)\"]" /etc/holm/agent.toml
}

deploy() {
	edge-agent deploy "$PWD/$1.holm" >/dev/null || fail "$1.holm cannot be deployed"
}

runs_a_function() {
	deploy counter
	until_so live
	publish
	until_so counted 1
}

# By a deployment; it is kept, and the launcher goes on.
updates_the_agent() {
	before=$(launcher)
	deploy good
	until_so says 'in slot b, confirmed'
	runs_from b || fail "the agent does not run from slot b"
	[ "$(launcher)" = "$before" ] || fail "the update ended the launcher"
}
