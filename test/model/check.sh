#!/bin/sh
# Checks lease.pml and division.pml with spin: each protocol as it is must hold in every state
# within the bounds, and every variant with one protection taken away must fail. It needs
# spin and a C compiler, works in a temporary directory, and leaves nothing behind.
set -eu
for program in spin gcc; do
	command -v "$program" >/dev/null || { echo "$program is not installed (apt-get install spin gcc)"; exit 1; }
done
models=$(cd "$(dirname "$0")" && pwd)
model=$models/lease.pml
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"

# explore runs spin's verifier with some -D settings; its output is in "said".
explore() {
	# shellcheck disable=SC2086
	spin -a $1 "$model" >/dev/null
	gcc -O2 -w -DSAFETY -DCOLLAPSE -DMEMLIM=1500 -o pan pan.c
	timeout 120 ./pan -m200000 >said 2>&1 || { cat said; exit 1; }
	rm -f ./*.trail
}

holds() {
	explore "$1"
	states=$(awk '/states, stored/ {print $1}' said)
	if ! grep -q 'errors: 0$' said || grep -q 'too small\|not completed' said; then
		echo "FAILED: the model does not hold with ${1:-its defaults}"
		cat said
		exit 1
	fi
	echo "holds in all $states states: ${1:-defaults}"
}

breaks() {
	explore "$1"
	if ! grep -q 'assertion violated' said; then
		echo "FAILED: nothing noticed $1"
		exit 1
	fi
	echo "breaks $(sed -n 's/.*assertion violated (*\([a-z_]*\).*/\1/p' said | head -1), as it must: $1"
}

holds ""
holds "-DPARTS=2 -DPAGES=1"
holds "-DPAGES=3 -DLOST=1"
holds "-DREFUSE"
holds "-DLATE"
holds "-DLIVES=3 -DCRASHES=1 -DLOST=1 -DRESTART"
holds "-DGIVE"
breaks "-DNO_FENCE"
breaks "-DNO_CONDITION"
breaks "-DNO_ORDER"
breaks "-DNO_COUNT_CAS"
breaks "-DNO_CLOSE_CAS"
breaks "-DNO_CLOSE_LOOK -DPARTS=2 -DPAGES=1"
breaks "-DNO_EPOCH -DREFUSE"
breaks "-DGIVE -DNO_GIVE_FENCE"

model=$models/division.pml
holds ""
holds "-DRUNS=2 -DCHANGES=10"
breaks "-DNO_WAIT"
breaks "-DNO_STOP"
breaks "-DNO_LAPSE"
breaks "-DNO_CONDITION"
breaks "-DIDLE_COUNTED"
