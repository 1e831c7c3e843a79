#!/bin/sh
# First process of the machine in which the VLAN tests run: the image's kernel starts it from the image's initramfs, to
# which the test added this folder. It makes the image's own system usable without writing to it, and gives the test a shell
# on a virtio port. HCL_LIMIT is on the kernel command line: after so many seconds the machine ends by itself.
export PATH=/usr/sbin:/usr/bin:/sbin:/bin

fail() {
    echo "vlan: $*" >/dev/console
    echo o >/proc/sysrq-trigger
    sleep 60
}

if [ "$1" != inside ]; then
    mkdir -p /dev /proc /sys /hcl-root
    mount -t devtmpfs dev /dev
    mount -t proc proc /proc
    mount -t sysfs sys /sys
    modprobe -a virtio_mmio virtio_blk ext4 || fail "the initramfs lacks a module"
    left=300
    until [ -b /dev/vda2 ]; do
        left=$((left - 1))
        [ $left -gt 0 ] || fail "the image's root partition did not appear"
        sleep 0.1
    done
    mount -t ext4 -o ro /dev/vda2 /hcl-root || fail "the image's root partition cannot be mounted"
    mount -t tmpfs run /hcl-root/run
    cp -r /hcl-vlan /hcl-root/run/ || fail "no room for the test's files"
    for folder in dev proc sys; do mount --move /$folder /hcl-root/$folder; done
    exec chroot /hcl-root /run/hcl-vlan/init.sh inside
fi

modprobe -a virtio_net virtio_console virtio_rng 8021q bridge veth sch_ingress cls_matchall act_mirred ||
    fail "the image lacks a kernel module"
(sleep "${HCL_LIMIT:-600}"; fail "the test's time is over") &
port=
left=300
until [ -c "$port" ]; do
    port=$(echo /dev/vport*p*)
    left=$((left - 1))
    [ $left -gt 0 ] || fail "the port for the test did not appear"
    sleep 0.1
done
# It can be opened once.
sh <>"$port" >&0 2>&1
# The test has gone.
echo o >/proc/sysrq-trigger
sleep 60
