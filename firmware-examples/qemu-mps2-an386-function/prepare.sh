#!/bin/sh
# Makes what `cargo run` needs: a device image of the function `smooth` of the app
# tests/apps/device, signed with a key of its own, and 1,000 readings of a machine as events.
# The first argument is the `holm` command; by default it is built.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
root=$here/../..
out=$here/target
mkdir -p "$out"
if [ $# -gt 0 ]; then holm=$1; else
    (cd "$root" && cargo build -p holm)
    holm=$root/target/debug/holm
fi
export HOLM_CONFIG="$out/holm/config.toml"
[ -e "$out/author.pub" ] || {
    "$holm" keys new
    "$holm" keys export default --out "$out/author.pub"
}
"$holm" build "$root/tests/apps/device" --target device --function smooth --out "$out/function.img"
awk -F, 'NR > 1 && NR <= 1001 {
    printf "sensors/m1 {\"device\":\"m1\",\"seq\":%d,\"value\":%s}\n", NR - 1, $2
}' "$root/tests/data/machine_temperature_excerpt.csv" > "$out/events.txt"
