#!/bin/bash
# Runs FOLDER/test.sh as root in a copy of this system that is thrown away afterwards, with systemd as
# process 1, namespaces of its own (files, processes, network, cgroups) and nothing of the kernel to
# write to; or FOLDER/test-openrc.sh, as process 1 itself. Prints what it printed; ends as it ended.
#
#   bash throwaway.sh FOLDER SECONDS systemd|openrc
set -eu

folder=$1
seconds=$2
init=$3

# A cgroup of its own: systemd must not see, let alone sort, the processes of this machine.
top=$(findmnt --noheadings --first-only --types cgroup2 --output TARGET) ||
	{ echo "throwaway: no cgroup2 is mounted" >&2; exit 1; }
before=$top$(sed -n 's/^0:://p' /proc/self/cgroup)
own=$top/holm-test-$$
mkdir "$own"
echo $$ >"$own/cgroup.procs"
leave() {
	echo $$ >"$before/cgroup.procs" 2>/dev/null || echo $$ >"$top/cgroup.procs"
	sleep 0.2
	find "$own" -depth -type d -exec rmdir {} \; 2>/dev/null || true
}
trap leave EXIT

out=$init.out.txt
log=$folder/$init.log
: >"$folder/$out"
mkdir -p "$folder/root"
code=0
# shellcheck disable=SC2016
timeout --kill-after=5 "$seconds" unshare --mount --pid --fork --kill-child --net --uts --ipc --cgroup \
	bash -euc '
	# Written to memory, read from the disk.
	mount -t tmpfs tmpfs "$0/root"
	cd "$0/root"
	mkdir up work m
	mount -t overlay overlay -o lowerdir=/,upperdir=up,workdir=work m
	cd m
	mount -t proc proc proc
	mount --bind proc/sys proc/sys
	mount -o remount,bind,ro proc/sys
	mount -t sysfs -o ro sysfs sys
	mount -t tmpfs tmpfs sys/fs/cgroup 2>/dev/null || true
	mount -t cgroup2 cgroup2 sys/fs/cgroup
	mount -t tmpfs -o mode=755 tmpfs run
	mount -t tmpfs tmpfs tmp
	mount -t tmpfs -o mode=755 tmpfs dev
	for node in null zero full random urandom tty console; do
		touch "dev/$node"
		mount --bind "/dev/$([ "$node" = console ] && echo null || echo "$node")" "dev/$node"
	done
	mkdir dev/pts dev/shm try
	mount -t devpts -o newinstance,ptmxmode=666 devpts dev/pts
	ln -s pts/ptmx dev/ptmx
	mount -t tmpfs tmpfs dev/shm
	mount --bind "$0" try
	ip link set lo up
	: >etc/fstab
	# In containers it forbids packages to start services.
	rm -f usr/sbin/policy-rc.d
	rm -f etc/machine-id
	echo 00000000000000000000000000000001 >etc/machine-id
	for unit in udevd udev-trigger sysctl modules-load timesyncd networkd resolved random-seed; do
		ln -sf /dev/null "etc/systemd/system/systemd-$unit.service"
	done
	cat >etc/systemd/system/holm-test.service <<X
[Service]
Type=oneshot
ExecStart=/bin/bash /try/test.sh
StandardOutput=file:/try/$1.out.txt
StandardError=inherit
ExecStopPost=/bin/sh -c "systemctl --no-block exit \$EXIT_STATUS"
X
	printf "[Unit]\nRequires=sysinit.target\nWants=holm-test.service\n" \
		>etc/systemd/system/holm-test.target
	export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
	if [ "$1" = openrc ]; then
		exec env -i PATH=$PATH chroot . /bin/bash /try/test-openrc.sh >try/$1.out.txt 2>&1
	fi
	exec env -i container=holm PATH=$PATH \
		chroot . /lib/systemd/systemd --unit=holm-test.target --log-target=console --show-status=no
	' "$(realpath "$folder")" "$init" >"$log" 2>&1 || code=$?
cat "$folder/$out"
if [ "$code" = 124 ]; then
	echo "throwaway: not done within $seconds s, see $log" >&2
fi
exit "$code"
