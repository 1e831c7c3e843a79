//! DHCP servers of others. Our client takes, renews, declines and releases what they lend; a node, which trusts its key alone,
//! takes nothing from them.

use std::fs;

use serde_json::Value;

use super::{
    alone,
    lab::{Lab, formed},
};

/// The address in a line "bound ADDRESS/24 by 10.9.0.1" of [`alone`]'s client.
#[track_caller]
fn lent(line: &str) -> String {
    let address = line.strip_prefix("bound ").and_then(|rest| rest.strip_suffix("/24 by 10.9.0.1"));
    let number = address.and_then(|address| address.strip_prefix("10.9.0.")?.parse().ok());
    assert!(number.is_some_and(|number: u8| (100..=150).contains(&number)), "{line:?}");
    address.unwrap_or_default().to_owned()
}

/// A machine with dnsmasq on it that lends .100 to .150 of `network`, such as `10.9.0`, and has `own` there.
fn dnsmasq(lab: &mut Lab, network: &str, own: u8) -> usize {
    let host = lab.host();
    lab.on(host, &format!("ip address add {network}.{own}/24 dev eth0"));
    let at = lab.at(host, "").display().to_string();
    // Three seconds are the least that it takes.
    let options = format!(
        "--no-daemon --conf-file=/dev/null --log-dhcp --port=0 --no-ping \
         --interface=eth0 --bind-interfaces --dhcp-authoritative --dhcp-leasefile={at}leases \
         --dhcp-range={network}.100,{network}.150,255.255.255.0,2m --dhcp-option=option:T1,3"
    );
    lab.start(host, "dnsmasq", "", &format!("dnsmasq {options}"));
    // It speaks with the kernel about its interface by then.
    lab.until_line(host, "dnsmasq.log", "DHCP, IP range");
    host
}

/// Kea on a machine of its own, as [`dnsmasq`].
fn kea(lab: &mut Lab) -> usize {
    let host = lab.host();
    lab.on(host, "ip address add 10.9.0.1/24 dev eth0");
    let config = format!(
        r#"{{ "Dhcp4": {{
  "interfaces-config": {{ "interfaces": [ "eth0" ] }},
  "lease-database": {{ "type": "memfile", "name": "{}" }},
  "valid-lifetime": 120, "renew-timer": 2, "rebind-timer": 100,
  "subnet4": [ {{ "subnet": "10.9.0.0/24", "pools": [ {{ "pool": "10.9.0.100-10.9.0.150" }} ] }} ],
  "loggers": [ {{ "name": "kea-dhcp4", "severity": "DEBUG", "debuglevel": 50, "output_options": [ {{ "output": "stdout" }} ] }} ]
}} }}"#,
        lab.at(host, "leases").display()
    );
    let path = lab.at(host, "kea.json").display().to_string();
    fs::write(&path, config).unwrap();
    let prepare = "mkdir /run/kea\nexport KEA_LOCKFILE_DIR=/run/kea KEA_PIDFILE_DIR=/run/kea";
    lab.start(host, "kea", prepare, &format!("kea-dhcp4 -c {path}"));
    lab.until_line(host, "kea.log", "DHCP4_STARTED");
    host
}

/// What our client does with a server whose log says so of its messages.
fn take_renew_decline_release(lab: &mut Lab, server: usize, log: &str, [ack, decline, release]: [&str; 3]) {
    let client = lab.host();
    let told = |lab: &Lab, what: &str| lab.text(client, "told").matches(what).count();
    let logged = |lab: &Lab, what: &str| lab.text(server, log).matches(what).count();
    alone::start(lab, client, "client");
    let address = lent(&lab.until_line(client, "told", "bound"));
    lab.until_line(client, "told", "renewed");
    assert!(logged(lab, ack) >= 2, "{}", lab.text(server, log));
    assert_eq!((told(lab, "bound"), told(lab, "lost")), (1, 0), "{}", lab.text(client, "told"));

    // It comes back, the server gives it the same address, but somebody has taken that by hand.
    lab.sh(&format!("kill -9 $alone{client}; wait $alone{client} || true"));
    lab.on(client, "ip address flush dev eth0");
    fs::remove_file(lab.at(client, "told")).unwrap();
    let squatter = lab.host();
    lab.on(squatter, &format!("ip address add {address}/24 dev eth0"));
    assert_eq!(logged(lab, decline), 0);
    alone::start(lab, client, "client");
    lab.until_line(client, "told", &format!("declined {address}"));
    lab.until_line(server, log, decline);
    assert_ne!(lent(&lab.until_line(client, "told", "bound")), address);

    assert_eq!(logged(lab, release), 0);
    lab.sh(&format!("kill $alone{client}; wait $alone{client}"));
    assert!(lab.text(client, "told").ends_with("released\n"));
    lab.until_line(server, log, release);
}

#[test]
fn our_client_lives_with_dnsmasq() {
    let mut lab = Lab::new();
    let server = dnsmasq(&mut lab, "10.9.0", 1);
    take_renew_decline_release(&mut lab, server, "dnsmasq.log", ["DHCPACK(", "DHCPDECLINE(", "DHCPRELEASE("]);
}

#[test]
fn our_client_lives_with_kea() {
    let mut lab = Lab::new();
    let server = kea(&mut lab);
    take_renew_decline_release(&mut lab, server, "kea.log", ["DHCPACK (type 5)", "DHCP4_DECLINE", "DHCP4_RELEASE "]);
}

#[test]
fn a_node_takes_nothing_from_a_foreign_server() {
    let mut lab = Lab::new();
    let rogue = dnsmasq(&mut lab, "192.168.200", 9);
    let nodes = [lab.node("5a"), lab.node("5a")];
    let leader = formed(&lab, &nodes);
    let follower = if leader == nodes[0] { nodes[1] } else { nodes[0] };
    // It was offered an address, at once as this server does, and asked the leader for another one, which that server refuses.
    let mac = format!("02:00:00:00:00:{follower:02x}");
    let said = |lab: &Lab, what: &str| {
        let log = lab.text(rogue, "dnsmasq.log");
        log.lines().filter(|line| line.contains(what) && line.contains(&mac)).count()
    };
    let offer = lab.until_line(rogue, "dnsmasq.log", "DHCPOFFER(eth0)");
    assert!(offer.contains(&mac), "{offer}");
    lab.until_line(rogue, "dnsmasq.log", "DHCPNAK");
    let refused = said(&lab, "DHCPNAK");
    let status = lab.until(follower, |status| !status["lease"].is_null());
    assert_eq!(status["lease"]["server"], "192.168.200.1", "{status:#}");
    let address = status["address"].as_str().unwrap().to_owned();
    assert!(!offer.contains(&address), "{offer}");

    // When it comes back and asks for its address, that server says no again; it keeps what its leader gave it.
    lab.kill(follower);
    lab.on(follower, "ip address flush dev eth0");
    lab.run(follower);
    assert_eq!(formed(&lab, &nodes), leader);
    let status = lab.until(follower, |status| !status["lease"].is_null());
    let log = format!("cat {}", lab.at(rogue, "dnsmasq.log").display());
    lab.until_said(rogue, &log, |text| text.matches("DHCPNAK").count() > refused);
    assert_eq!(
        (status["address"].as_str(), status["lease"]["server"].as_str()),
        (Some(&*address), Some("192.168.200.1")),
        "{status:#}"
    );
    // What it says to everybody the leader hears too.
    lab.until_line(leader, "log", "another DHCP server answers here: 192.168.200.9");

    // Nor does it take anything where nobody else is left to ask. After its second question the first offer was surely left.
    let offered = said(&lab, "DHCPOFFER");
    for node in [leader, follower] {
        lab.kill(node);
        lab.on(node, "ip address flush dev eth0");
    }
    lab.run(follower);
    lab.until_said(rogue, &log, |text| text.matches("DHCPOFFER").count() > offered + 1);
    let status = lab.status(follower);
    assert_eq!((status["address"].as_str(), &status["lease"]), (Some(&*address), &Value::Null), "{status:#}");
    assert_eq!(said(&lab, "DHCPACK"), 0);
}
