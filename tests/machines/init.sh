#!/bin/busybox sh
# The first program of a guest, on the host's root. Its variables come from guest.py.

# By its path: a bare name would run /proc/self/exe, which before /proc is mounted is the host's, and
# in User-Mode Linux that is the kernel itself. The memory below /proc is for tests that unmount it.
bb=/bin/busybox
$bb mount -t tmpfs -o ro none /proc
$bb mount -t proc proc /proc
export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin

mount -t sysfs sys /sys
grep -q '^[^ ]* /dev devtmpfs' /proc/mounts || mount -t devtmpfs dev /dev
mkdir -p /dev/pts /dev/shm
mount -t devpts -o mode=620,ptmxmode=666 devpts /dev/pts
mount -t tmpfs shm /dev/shm
mount -t tmpfs run /run
[ -e /dev/fd ] || ln -s /proc/self/fd /dev/fd
mount -t tmpfs cgroups /sys/fs/cgroup
mkdir /sys/fs/cgroup/unified /sys/fs/cgroup/named
mount -t cgroup2 unified /sys/fs/cgroup/unified
mount -t cgroup -o none,name=taskstats named /sys/fs/cgroup/named
ip link set lo up

mount -t tmpfs scratch "$SCRATCH"
eval "$WRITABLE"
export HOME="$SCRATCH" TMPDIR="$SCRATCH" HYPOTHESIS_STORAGE_DIRECTORY="$SCRATCH/hypothesis"
export PYTHONDONTWRITEBYTECODE=1 PYTHONPATH="$ROOT/tests" TASKSTATS_REQUIRE_KERNEL=1
cd "$ROOT" || exit
# shellcheck disable=SC2086 # folders, without spaces
"$PYTHON" -m machines.inside "$TOLD/result.json" $TESTS 2>&1
poweroff -f
