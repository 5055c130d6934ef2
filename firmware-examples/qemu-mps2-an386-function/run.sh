#!/bin/sh
# Starts QEMU with a firmware, a function in its slot and the author's key beside it. Called by
# `cargo run`. The environment says what to run, by default what `prepare.sh` made:
#   HOLM_IMAGE   device image (`holm build --target device`)
#   HOLM_AUTHOR  public key of its author (`holm keys export`)
#   HOLM_EVENTS  events, a line TOPIC PAYLOAD each, as `holm invoke --event` takes them
#   HOLM_DEVICE  name of the device
#   HOLM_COMPONENT  digest of the component that the device was told to run (optional)
set -eu
here=$(cd "$(dirname "$0")" && pwd)
image=${HOLM_IMAGE:-$here/target/function.img}
author=${HOLM_AUTHOR:-$here/target/author.pub}
events=${HOLM_EVENTS:-$here/target/events.txt}
for file in "$image" "$author" "$events"; do
    [ -e "$file" ] || { echo "$file is not there: run ./prepare.sh first" >&2; exit 1; }
done
key=$(mktemp)
trap 'rm -f "$key"' EXIT
sed 's/^ed25519://' "$author" | tr -d '\n' | tr '_-' '/+' | sed 's/$/=/' | base64 -d > "$key"
# One instruction of the guest is one nanosecond of its clock: figures do not depend on the host.
qemu-system-arm -M mps2-an386 -display none -monitor none -serial stdio -nic none \
    -icount shift=0 \
    -device "loader,file=$image,addr=0x00200000,force-raw=on" \
    -device "loader,file=$key,addr=0x003ff000,force-raw=on" \
    -semihosting-config "enable=on,target=native,arg=fw,arg=$events,arg=${HOLM_DEVICE:-m1},arg=${HOLM_COMPONENT:-}" \
    -kernel "$1"
