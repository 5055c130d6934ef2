#!/bin/sh
# Starts QEMU with this firmware: a Cortex-M4 (or MACHINE=mps2-an500, an M7). Called by `cargo run`; the options are
# those of ../boards/mps2/run-qemu.sh.
set -eu
export MACHINE="${MACHINE:-mps2-an386}"
exec "$(dirname "$0")/../boards/mps2/run-qemu.sh" "$@"
