#!/usr/bin/perl
# How the original Cluster Lab found its leader, made again from its scripts for the comparison in docs/proof: VLAN, one of eleven
# temporary addresses that nobody probed, avahi restarted, two seconds of sleep, one browse; no answer: leader, with the service
# published and dnsmasq started; an answer: follower, by dhclient. Here avahi is the mDNS below, which does what avahi does on the
# wire: probes 750 ms before it answers, and gives a browse one second. dnsmasq and dhclient are busybox's udhcpd and udhcpc.
#
#   original.pl FOLDER     writes each step with the uptime to FOLDER/told
use strict;
use warnings;
use Socket qw(:DEFAULT IPPROTO_IP IP_ADD_MEMBERSHIP IP_MULTICAST_IF pack_ip_mreq);

use constant { GROUP => '224.0.0.251', PORT => 5353, PTR => 12, LEADER => '192.168.200.1' };
my $folder = shift or die "original.pl FOLDER\n";
my $type = name('_cluster', '_tcp', 'local');
my ($host) = split /\s/, `ip -o link show eth0 | sed 's/.*ether //; s/://g'`;

sub name { join('', map { chr(length) . $_ } @_) . "\0" }

sub uptime {
    open my $file, '<', '/proc/uptime' or die;
    return (split / /, <$file>)[0];
}

sub told {
    open my $out, '>>', "$folder/told" or die;
    print $out "$_[0] ", uptime(), " $_[1]\n";
    close $out or die;
}

sub run { system(@_) == 0 or die "@_ failed\n" }

# A socket of mDNS on the interface with this address.
sub multicast {
    my ($address, $port) = @_;
    socket my $socket, PF_INET, SOCK_DGRAM, 0 or die "socket: $!";
    setsockopt $socket, SOL_SOCKET, SO_REUSEADDR, 1 or die;
    my $at = inet_aton($address);
    bind $socket, sockaddr_in($port, $port ? INADDR_ANY : $at) or die "bind: $!";
    setsockopt $socket, IPPROTO_IP, IP_MULTICAST_IF, $at or die;
    setsockopt $socket, IPPROTO_IP, IP_ADD_MEMBERSHIP, pack_ip_mreq(inet_aton(GROUP), $at) or die if $port;
    return $socket;
}

sub browse {
    my ($address) = @_;
    my $socket = multicast($address, 0);
    my $question = pack('n6', 1, 0, 1, 0, 0, 0) . $type . pack('n2', PTR, 1);
    send $socket, $question, 0, sockaddr_in(PORT, inet_aton(GROUP)) or die "send: $!";
    my $end = uptime() + 1;
    while ((my $left = $end - uptime()) > 0) {
        vec(my $ready = '', fileno $socket, 1) = 1;
        next unless select $ready, undef, undef, $left;
        my $from = recv $socket, my $message, 9000, 0 or next;
        return inet_ntoa((sockaddr_in($from))[1]) if index($message, 'Cluster-Leader') >= 0;
    }
    return;
}

sub publish {
    my $socket = multicast(LEADER, PORT);
    select undef, undef, undef, 0.75;
    while (my $from = recv $socket, my $message, 9000, 0) {
        next if length $message < 12 or index($message, $type) < 0 or unpack('x2n', $message) & 0x8000;
        my $instance = "Cluster-Leader-$host";
        my $answer = pack('n6', unpack('n', $message), 0x8400, 0, 1, 0, 0);
        $answer .= $type . pack('n2Nn', PTR, 1, 120, 1 + length($instance) + length $type) . chr(length $instance) . $instance . $type;
        send $socket, $answer, 0, $from or die "send: $!";
    }
}

run(qw(ip link set eth0 up));
run(qw(ip link add link eth0 name eth0.200 type vlan id 200));
run(qw(ip link set eth0.200 up));
my $temporary = '192.168.200.' . (240 + int rand 11);
run(qw(ip address add), "$temporary/24", qw(dev eth0.200));
told('temporary', $temporary);
sleep 2;
my $leader = browse($temporary);
run(qw(ip address delete), "$temporary/24", qw(dev eth0.200));
if (defined $leader) {
    # dhclient had ten seconds. Where several lead, one's offer is refused by another in the same name.
    system(qw(busybox udhcpc -q -n -t 10 -T 1 -i eth0.200 -s), "$folder/lease");
    my ($address) = `ip -4 -o address show dev eth0.200` =~ /inet ([\d.]+)/;
    told(defined $address ? ('follower', $address) : ('stranded', 'none'));
    sleep 3600;
}
run(qw(ip address add), LEADER . '/24', qw(dev eth0.200));
told('leader', LEADER);
open my $conf, '>', "$folder/udhcpd.conf" or die;
print $conf "start 192.168.200.20\nend 192.168.200.50\ninterface eth0.200\nlease_file $folder/leases\npidfile $folder/udhcpd.pid\n",
    "option subnet 255.255.255.0\noption lease 3600\n";
close $conf or die;
my $pid = fork;
defined $pid or die;
if ($pid == 0) { exec qw(busybox udhcpd -f), "$folder/udhcpd.conf" or die }
publish();
