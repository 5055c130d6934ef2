#!/bin/sh
# Starts an MPS2 machine of QEMU: run-qemu.sh FIRMWARE [ARGUMENT...]
# `cargo run` calls it; `cargo run --release -- port=1883` passes arguments to the firmware.
#
# Options, by environment:
#   MACHINE     mps2-an385 (default, Cortex-M3), mps2-an386 (M4), mps2-an500 (M7)
#   MAC         hardware address of the network card; default 52:54:00:12:34:56
#   SERIAL      where the console goes; default stdio
#   QMP         path of a socket for QMP commands (sensor value, link, reset); default none
#   PSRAM       file of 16 MiB that keeps the flash; made if missing; default: forgotten at the end
#   QEMU_EXTRA  further options of qemu-system-arm
set -eu

if [ $# -eq 0 ]; then
    sed -n '2,11s/^# \{0,1\}//p' "$0"
    exit 2
fi
if ! command -v qemu-system-arm >/dev/null; then
    echo "qemu-system-arm is missing. On Debian: apt-get install qemu-system-arm qemu-utils" >&2
    exit 127
fi

firmware=$1
shift
semihosting=enable=on,target=native,arg=firmware
for argument in "$@"; do
    semihosting=$semihosting,arg=$argument
done

machine=${MACHINE:-mps2-an385}
set --
if [ -n "${PSRAM:-}" ]; then
    [ -e "$PSRAM" ] || truncate -s 16M "$PSRAM"
    machine=$machine,memory-backend=psram
    set -- -object "memory-backend-file,id=psram,size=16M,mem-path=$PSRAM,share=on"
fi
if [ -n "${QMP:-}" ]; then
    set -- "$@" -qmp "unix:$QMP,server=on,wait=off"
fi

# shellcheck disable=SC2086 # options are separated by spaces
exec qemu-system-arm -machine "$machine" -display none -monitor none -serial "${SERIAL:-stdio}" \
    -nic "user,id=net0,mac=${MAC:-52:54:00:12:34:56}" -device tmp105,id=sensor,address=0x48 \
    -semihosting-config "$semihosting" "$@" ${QEMU_EXTRA:-} -kernel "$firmware"
