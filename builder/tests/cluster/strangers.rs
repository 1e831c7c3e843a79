//! What a machine without the key finds open: on the VLAN, on the home network, and routed from there.

use std::{collections::BTreeMap, net::Ipv4Addr, path::Path};

use hcl_image::lab::{frame::VlanId, switch::PortId};

use crate::{
    SERVICE,
    lab::{Cluster, image},
    stranger::{Scan, run, scans},
};

/// UDP ports that something of ours, of the engine's or of Consul's could have open, and those that a home network knows.
const UDP: &str = "53,67,68,69,123,137,161,500,1900,2377,2378,2399,4500,4789,5353,5355,7946,8300,8301,8302,8500,8600,8301,51820";

/// Who may look at the page in a browser, and what the same port must refuse: a line `METHOD PATH STATUS` each.
const PAGE: &str = r#"
    for request in "GET /" "GET /api/cluster" "GET /v1/catalog/nodes" "PUT /v1/kv/x" "DELETE /v1/kv/x" "POST /v1/txn" "PUT /v1/acl/bootstrap" \
        "PUT /v1/agent/leave" "GET /v1/kv/hcl?recurse" "GET /v1/acl/tokens" "GET /v1/agent/self" "PUT /v1/catalog/register" "PUT /v1/snapshot" "GET /v1/snapshot" \
        "POST /containers/create" "GET /containers/json" "POST /join" "GET /../../etc/hcl/cluster.key"; do
        echo "$request" $(curl -s -m 30 --path-as-is -o /dev/null -w '%{http_code}' -X ${request%% *} "http://$1:8500${request#* }")
    done"#;

struct Row {
    place: &'static str,
    target: String,
    scan: Scan,
}

#[test]
#[ignore = "needs a built image and thirty minutes: make proof"]
fn a_stranger_finds_closed_doors() {
    let nodes = [0, 1, 2];
    let mut cluster = Cluster::start("strangers", &image(), 3, 0, &["stranger"]);
    cluster.settled(&nodes);
    let leader = cluster.leader(&nodes);
    let follower = (leader + 1) % 3;
    cluster.ask(leader, SERVICE);
    let view = cluster.view(leader).unwrap();
    let (port, socket) = cluster.lab.port("stranger").unwrap();
    let names = [(leader, "leader"), (follower, "follower")];
    let home = names.map(|(node, name)| (cluster.lab.address(node).unwrap(), name));
    let own = names.map(|(node, name)| {
        let hostname = cluster.ask(node, "cat /proc/sys/kernel/hostname");
        let address: Ipv4Addr = view.nodes.iter().find(|node| node.name == hostname.trim()).unwrap().address.parse().unwrap();
        (address, name)
    });
    let link_local = names.map(|(node, name)| {
        let address = cluster.ask(node, "ip -6 -o addr show scope link dev eth0 | sed 's/.*inet6 \\([^/]*\\).*/\\1/'");
        (address.trim().to_owned(), name)
    });
    let mut rows = Vec::new();

    cluster.say("a stranger on the VLAN");
    cluster.lab.wire().switch().set_access(port, VlanId::new(200));
    let master = (Ipv4Addr::new(192, 168, 200, 1), "leader's .1");
    let targets = [own[0], own[1], master].map(|(address, name)| (address.to_string(), name));
    rows.extend(scan("VLAN", &socket, "ip addr add 192.168.200.250/24 dev wire", "", &targets));
    // Nobody has an IPv6 address there: whoever has one answers to all nodes (RFC 4291, 2.7.1).
    let heard = run(
        &socket,
        "sleep 3; ping -6 -n -c 3 -I wire ff02::1 | grep 'bytes from' | grep -v $(ip -6 -o addr show dev wire | sed 's/.*inet6 \\([^/]*\\).*/\\1/') || true",
    );
    assert_eq!(heard, "", "IPv6 on the VLAN");
    let join = run(
        &socket,
        &format!(
            "ip addr add 192.168.200.250/24 dev wire; sleep 1
             (printf 'POST /v1/join HTTP/1.1\\r\\nHost: x\\r\\nContent-Length: 0\\r\\n\\r\\n'; sleep 10) |
                 openssl s_client -connect {}:2399 -brief -ign_eof 2>&1 || true",
            own[0].0
        ),
    );
    println!("a handshake with the join port, without a certificate:\n{join}");
    // The client's half of the handshake is done before the server sees that there is no certificate (RFC 8446, section 4.4.2.4).
    assert!(join.contains("alert certificate required") && !join.contains("HTTP/"), "{join}");

    cluster.say("a stranger on the home network");
    open_all(&cluster, port);
    let targets = home.map(|(address, name)| (address.to_string(), name));
    let at_home = "ip addr add 192.168.77.240/24 dev wire";
    rows.extend(scan("home network", &socket, at_home, "", &targets));
    let targets = link_local.map(|(address, name)| (format!("{address}%wire"), name));
    rows.extend(scan("home network, IPv6", &socket, at_home, "-6", &targets));

    cluster.say("a stranger on the home network who takes a node for a router");
    let routed = format!("{at_home}; ip route add 192.168.200.0/24 via {}", home[0].0);
    let targets = [own[0], own[1], master].map(|(address, name)| (address.to_string(), name));
    rows.extend(scan("routed", &socket, &routed, "", &targets));

    let answers = run(&socket, &format!("{at_home}; set -- {}\nsleep 1{PAGE}", home[0].0));
    println!("{}{answers}", table(&rows));
    for line in answers.lines() {
        let good = match line.split_whitespace().collect::<Vec<_>>()[..] {
            ["GET", "/" | "/api/cluster" | "/v1/catalog/nodes", code] => code == "200",
            [_, _, code] => ["400", "403", "404", "405"].contains(&code),
            _ => false,
        };
        assert!(good, "{line}");
    }
    for row in &rows {
        let allowed: &[&str] = match row.place {
            // What anybody may ask for: a login with a key, the page, the users' own services, names and addresses; and what lets nobody in
            // without a certificate, joining and the Docker endpoint.
            "VLAN" => &["22/tcp", "2378/tcp", "2399/tcp", "8080/tcp", "8500/tcp", "67/udp", "5353/udp"],
            "routed" => &[],
            _ => &["22/tcp", "2378/tcp", "8080/tcp", "8500/tcp", "68/udp", "5353/udp"],
        };
        let more: Vec<_> =
            row.scan.ports.iter().filter(|(port, state)| *state == "open" && !allowed.contains(&port.as_str())).collect();
        assert!(more.is_empty(), "{}, {}: {more:?}", row.place, row.target);
        assert!(
            row.place == "routed" || row.scan.ports.contains_key("22/tcp"),
            "{}, {}: nothing was reached",
            row.place,
            row.target
        );
    }
}

fn open_all(cluster: &Cluster, port: PortId) {
    let mut switch = cluster.lab.wire().switch();
    switch.link_down(port);
    switch.set_access(port, None);
}

fn scan(place: &'static str, socket: &Path, setup: &str, family: &str, targets: &[(String, &'static str)]) -> Vec<Row> {
    let list: Vec<_> = targets.iter().map(|(address, _)| address.as_str()).collect();
    let list = list.join(" ");
    let script = format!(
        "{setup}\nsleep 3\nnmap {family} -n -Pn -sS -p- --min-rate 1500 --max-retries 2 -oG - {list}\n\
         nmap {family} -n -Pn -sU -p {UDP} --max-retries 2 -oG - {list}"
    );
    let printed = run(socket, &script);
    let mut found: BTreeMap<String, Scan> = scans(&printed);
    let take = |(address, name): &(String, &'static str)| {
        let address = address.split('%').next().unwrap();
        let scan = found.iter().find(|(host, _)| host.split('%').next() == Some(address)).map(|(host, _)| host.clone());
        let scan = found.remove(&scan.unwrap_or_else(|| panic!("nmap said nothing of {address}: {printed}"))).unwrap();
        Row { place, target: (*name).to_owned(), scan }
    };
    targets.iter().map(take).collect()
}

fn table(rows: &[Row]) -> String {
    let mut table = "| from | to | open | open or silent (UDP) | closed | no answer |\n|---|---|---|---|---|---|\n".to_owned();
    for Row { place, target, scan } in rows {
        let of = |wanted: &str| {
            let ports: Vec<_> = scan.ports.iter().filter(|(_, state)| *state == wanted).map(|(port, _)| port.as_str()).collect();
            if ports.is_empty() { "none".to_owned() } else { ports.join(", ") }
        };
        table +=
            &format!("| {place} | {target} | {} | {} | {} | {} |\n", of("open"), of("open|filtered"), scan.closed, scan.filtered);
    }
    table
}
