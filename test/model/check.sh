#!/bin/sh
# Checks lease.pml and division.pml with spin. All properties of each model must hold in every
# state within the bounds, and a property must fail in every variant without one protection. The
# script needs spin and a C compiler. It works in a temporary directory, which it deletes.
set -eu
for program in spin gcc; do
	command -v "$program" >/dev/null || { echo "$program is not installed (apt-get install spin gcc)"; exit 1; }
done
models=$(cd "$(dirname "$0")" && pwd)
model=$models/lease.pml
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"

# explore runs the verifier of spin with -D settings. It writes the output to the file "output".
explore() {
	# shellcheck disable=SC2086
	spin -a $1 "$model" >/dev/null
	gcc -O2 -w -DSAFETY -DCOLLAPSE -DMEMLIM=1500 -o pan pan.c
	timeout 120 ./pan -m200000 >output 2>&1 || { cat output; exit 1; }
	rm -f ./*.trail
}

holds() {
	explore "$1"
	states=$(awk '/states, stored/ {print $1}' output)
	if ! grep -q 'errors: 0$' output || grep -q 'too small\|not completed' output; then
		echo "FAILED: the model does not hold with ${1:-the defaults}"
		cat output
		exit 1
	fi
	echo "holds in all $states states: ${1:-defaults}"
}

violates() {
	explore "$1"
	if ! grep -q 'assertion violated' output; then
		echo "FAILED: no property fails with $1"
		exit 1
	fi
	echo "violates $(sed -n 's/.*assertion violated (*\([a-z_]*\).*/\1/p' output | head -1), as expected: $1"
}

holds ""
holds "-DPARTS=2 -DPAGES=1"
holds "-DPAGES=3 -DLOST=1"
holds "-DREFUSE"
holds "-DLATE"
holds "-DLIVES=3 -DCRASHES=1 -DLOST=1 -DRESTART"
holds "-DGIVE"
violates "-DNO_FENCE"
violates "-DNO_CONDITION"
violates "-DNO_ORDER"
violates "-DNO_COUNT_CAS"
violates "-DNO_CLOSE_CAS"
violates "-DNO_CLOSE_LOOK -DPARTS=2 -DPAGES=1"
violates "-DNO_EPOCH -DREFUSE"
violates "-DGIVE -DNO_GIVE_FENCE"

model=$models/division.pml
holds ""
holds "-DRUNS=2 -DCHANGES=10"
violates "-DNO_WAIT"
violates "-DNO_STOP"
violates "-DNO_LAPSE"
violates "-DNO_CONDITION"
violates "-DIDLE_COUNTED"
