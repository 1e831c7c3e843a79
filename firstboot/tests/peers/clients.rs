//! DHCP clients of others, without the key: each gets an address for strangers from our server, and more time for it.

use std::fs;

use super::lab::{Lab, leads};

/// The address in a line of [`Lab::script`]'s, which must be one for strangers, without a router.
#[track_caller]
fn strangers_address(line: &str) -> String {
    let word = line.split(' ').nth(1).unwrap_or_default();
    assert!(is_strangers(word), "{line:?}");
    assert_eq!(line.split(' ').nth(2), Some(""), "no router was to be told: {line:?}");
    word.to_owned()
}

fn is_strangers(address: &str) -> bool {
    let number = address.strip_prefix("192.168.200.").and_then(|number| number.parse().ok());
    number.is_some_and(|number: u8| (200..=254).contains(&number))
}

#[test]
fn udhcpc_and_dhclient_get_addresses_and_renew_them() {
    let mut lab = Lab::new();
    let node = lab.node("5a");
    lab.until(node, leads);
    let udhcpc = lab.host();
    let script = lab.script(udhcpc, "$1", "$ip");
    lab.start(udhcpc, "udhcpc", "", &format!("udhcpc -f -i eth0 -s {script}"));
    let bound = strangers_address(&lab.until_line(udhcpc, "told", "bound "));
    lab.sh(&format!("kill -USR1 $udhcpc{udhcpc}"));
    assert_eq!(strangers_address(&lab.until_line(udhcpc, "told", "renew ")), bound);

    let dhclient = lab.host();
    let script = lab.script(dhclient, "$reason", "$new_ip_address");
    let at = lab.at(dhclient, "").display().to_string();
    // It knows no signal for it: its own configuration makes ten minutes few seconds.
    fs::write(lab.at(dhclient, "conf"), "supersede dhcp-renewal-time 2;\n").unwrap();
    let command = format!("dhclient -1 -d -cf {at}conf -sf {script} -lf {at}leases -pf {at}pid eth0");
    lab.start(dhclient, "dhclient", "", &command);
    let other = strangers_address(&lab.until_line(dhclient, "told", "BOUND "));
    assert_ne!(other, bound);
    assert_eq!(strangers_address(&lab.until_line(dhclient, "told", "RENEW ")), other);
    lab.until(node, |status| status["strangers"] == 2);
}

#[test]
fn networkd_gets_an_address_and_renews_it() {
    let mut lab = Lab::new();
    let node = lab.node("5a");
    lab.until(node, leads);
    let host = lab.host();
    let bus = lab.bus(host);
    let at = lab.at(host, "").display().to_string();
    fs::create_dir(lab.at(host, "network")).unwrap();
    let network = "[Match]\nName=eth0\n\n[Network]\nDHCP=ipv4\nIPv6AcceptRA=no\nLinkLocalAddressing=no\n";
    fs::write(lab.at(host, "network/eth0.network"), network).unwrap();
    // A read-only /sys is how it knows that there is no udev to wait for.
    let prepare = format!(
        "{bus} SYSTEMD_LOG_LEVEL=debug
mkdir -p /run/systemd/netif/links /etc/systemd/network
mount --bind {at}network /etc/systemd/network
mount --rbind /sys /sys
mount -o remount,bind,ro /sys"
    );
    lab.start(host, "networkd", &prepare, "/lib/systemd/systemd-networkd");
    // It would name a gateway between the two.
    let line = lab.until_line(host, "networkd.log", "DHCPv4 address 192.168.200.");
    let (_, line) = line.split_once("DHCPv4 address ").unwrap_or_default();
    let address = line.strip_suffix("/24 acquired from 192.168.200.1").unwrap_or_default();
    assert!(is_strangers(address), "{line}");
    lab.until_said(host, "ip -4 -o address show dev eth0", |text| text.contains(&format!("{address}/24")));
    let log = format!("cat {at}networkd.log");
    let before = lab.on(host, &log);
    assert!(!before.contains("REQUEST (renewing)"), "{before}");
    lab.on(host, &format!("{bus}; networkctl renew eth0"));
    lab.until_said(host, &log, |text| {
        let renewing = text.split_once("REQUEST (renewing)");
        renewing.is_some_and(|(_, after)| after.contains(": ACK"))
    });
    lab.until(node, |status| status["strangers"] == 1);
}
