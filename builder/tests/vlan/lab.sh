# What the test calls in the machine: a switch, machines in namespaces that are plugged into it, nodes that are powered on.
# All that a machine keeps is in $work/NAME.

work=/run/hcl-vlan/lab
program=/run/hcl-vlan/hcl-firstboot
mkdir -p $work

# switch OPTION...: a switch that knows VLANs; the host's network card hears all that stations send.
switch() {
    ip link add br0 type bridge vlan_filtering 1 "$@"
    ip link set br0 up
    capture=$(ls /sys/bus/virtio/drivers/virtio_net/virtio*/net)
    ip link set "$capture" name cap0
    sysctl -q -w net.ipv6.conf.cap0.disable_ipv6=1 net.ipv6.conf.br0.disable_ipv6=1
    ip link set cap0 up
}

# plug NAME MAC: a machine with a cable into the switch, which carries the home network untagged. A cable end of the switch
# speaks by itself only with its own (spanning tree).
plug() {
    mkdir -p $work/$1
    ip netns add $1
    ip link add v$1 type veth peer name eth0 address $2 netns $1
    sysctl -q -w net.ipv6.conf.v$1.disable_ipv6=1
    ip link set v$1 master br0
    tc qdisc add dev v$1 clsact
    tc filter add dev v$1 ingress matchall action mirred egress mirror dev cap0
    ip link set v$1 up
    ip -n $1 link set lo up
}

# node NAME MAC HOME VLAN KEY [LINE]: a card that was never switched on. HOME is its address on the home network.
node() {
    plug $1 $2
    bridge vlan add vid $4 dev v$1
    ip -n $1 address add $3/24 dev eth0
    mkdir -p $work/$1/etc
    echo hcl-node >$work/$1/etc/hostname
    printf '127.0.0.1\tlocalhost\n' >$work/$1/etc/hosts
    printf 'interface = "eth0"\nvlan = %s\n%s\n' $4 "$6" >$work/$1/node.toml
    echo $5 >$work/$1/key
    : >$work/$1/console
}

# power NAME...: these at once, none before all are at the gate; the uptime then. What runs is the program, or what a node has
# in `instead`.
power() {
    rm -f $work/gate
    mkfifo $work/gate
    exec 9<>$work/gate
    for name; do
        at=$work/$name
        rm -rf $at/ready $at/run
        if [ -e $at/instead ]; then run="$(cat $at/instead)"; else
            run="$program run --config $at/node.toml --run-dir $at/run --etc $at/etc --console $at/console --key $at/key --state $at/lib/state --root $at"
        fi
        ip netns exec $name unshare --uts sh -c "exec 8<$work/gate; : >$at/ready; read -r go <&8; exec $run 8<&-" >>$at/log 2>&1 9<&- &
        echo $! >$at/pid
    done
    for name; do
        left=600
        until [ -e $work/$name/ready ]; do
            left=$((left - 1))
            [ $left -gt 0 ] || return 1
            sleep 0.05
        done
    done
    read -r uptime rest </proc/uptime
    for name; do echo go >&9; done
    exec 9<&-
    echo $uptime
}

# original NAME...: these nodes will run what the original Cluster Lab did.
original() {
    for name; do
        printf '#!/bin/sh\n[ "$1" != bound ] || ip address add $ip/24 dev $interface\n' >$work/$name/lease
        chmod +x $work/$name/lease
        echo "perl /run/hcl-vlan/original.pl $work/$name" >$work/$name/instead
        : >$work/$name/told
    done
}

# told NAME...: what these told.
told() {
    for name; do
        echo "@told $name"
        cat $work/$name/told
    done
}

# signal SIGNAL NAME...
signal() {
    signal=$1
    shift
    for name; do kill -$signal $(cat $work/$name/pid); done
}

# off NAME...: power cut, unplugged, and what they kept is gone.
off() {
    for name; do
        # The program, and what it started.
        pids=$(ip netns pids $name)
        [ -z "$pids" ] || kill -9 $pids
        ip link delete v$name
        ip netns delete $name
        rm -r $work/$name
    done
}

# statuses NAME...: what each writes of itself.
statuses() {
    for name; do
        echo "@status $name"
        cat $work/$name/run/status.json 2>/dev/null || echo null
    done
}

# addresses NAME...: what the kernel holds.
addresses() {
    for name; do
        echo "@addresses $name"
        ip -n $name -4 -o address show
    done
}

# centis: the uptime in hundredths of a second.
centis() {
    read -r uptime rest </proc/uptime
    echo ${uptime%.*}${uptime#*.}
}

# gone NAME ADDRESS CENTIS: until the kernel of NAME has dropped ADDRESS, so many hundredths of a second at most; how many it took.
gone() {
    from=$(centis)
    while ip -n $1 -4 -o address show | grep -qF " $2/"; do
        [ $(($(centis) - from)) -le $3 ] || { echo "$1 still has $2"; return 1; }
        sleep 0.05
    done
    echo $(($(centis) - from))
}
