//! How a container of one node is shown in the cluster: its names with the node before them, its ports at the node's address.

use std::net::{IpAddr, Ipv4Addr};

use serde_json::Value;

use crate::api::entry::Entry;

/// What classic Swarm said of a container whose node does not answer.
pub const HOST_DOWN: &str = "Host Down";

/// `/web` on `node-1` is `/node-1/web`.
pub fn name(node: &str, name: &str) -> String {
    format!("/{node}/{}", name.strip_prefix('/').unwrap_or(name))
}

/// Changes an entry of `GET /containers/json`.
pub fn summary(entry: &mut Entry, node: &str, address: Ipv4Addr) {
    let names: Vec<String> = entry.list::<String>("Names").iter().map(|own| name(node, own)).collect();
    entry.set("Names", &names);
    let mut ports = entry.list("Ports");
    for port in &mut ports {
        place(port, "IP", address);
    }
    entry.set("Ports", &once(ports));
}

/// Changes the ports of an inspected container: `{"80/tcp": [{"HostIp": "0.0.0.0", "HostPort": "80"}]}`.
pub fn bindings(ports: &mut Value, address: Ipv4Addr) {
    let ports = ports.as_object_mut().into_iter().flatten();
    for list in ports.filter_map(|(_, list)| list.as_array_mut()) {
        for binding in &mut *list {
            place(binding, "HostIp", address);
        }
        *list = once(std::mem::take(list));
    }
}

/// A port on all addresses is one at the node's.
fn place(port: &mut Value, key: &str, address: Ipv4Addr) {
    let Some(ip) = port.get_mut(key) else { return };
    let all = ip.as_str().is_some_and(|text| match text.parse::<IpAddr>() {
        Ok(ip) => ip.is_unspecified(),
        Err(_) => text.is_empty() && key == "HostIp",
    });
    if all {
        *ip = Value::String(address.to_string());
    }
}

/// Engines list a port that is open for IPv4 and IPv6 twice; at the node's address it is one.
fn once(ports: Vec<Value>) -> Vec<Value> {
    let mut kept = Vec::with_capacity(ports.len());
    for port in ports {
        if !kept.contains(&port) {
            kept.push(port);
        }
    }
    kept
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const ADDRESS: Ipv4Addr = Ipv4Addr::new(192, 168, 200, 10);

    #[test]
    fn in_a_list() {
        let text = json!({
            "Id": "1", "Names": ["/web", "/other/alias"],
            "Ports": [
                {"IP": "0.0.0.0", "PrivatePort": 80, "PublicPort": 8080, "Type": "tcp"},
                {"IP": "::", "PrivatePort": 80, "PublicPort": 8080, "Type": "tcp"},
                {"IP": "127.0.0.1", "PrivatePort": 81, "PublicPort": 81, "Type": "tcp"},
                {"PrivatePort": 443, "Type": "tcp"}
            ]
        });
        let mut entry = Entry::parse(&text.to_string()).expect("an object");
        summary(&mut entry, "node-1", ADDRESS);
        assert_eq!(entry.list::<String>("Names"), ["/node-1/web", "/node-1/other/alias"]);
        assert_eq!(
            Value::Array(entry.list("Ports")),
            json!([
                {"IP": "192.168.200.10", "PrivatePort": 80, "PublicPort": 8080, "Type": "tcp"},
                {"IP": "127.0.0.1", "PrivatePort": 81, "PublicPort": 81, "Type": "tcp"},
                {"PrivatePort": 443, "Type": "tcp"}
            ])
        );
    }

    #[test]
    fn inspected() {
        let mut ports = json!({
            "80/tcp": [{"HostIp": "0.0.0.0", "HostPort": "80"}, {"HostIp": "::", "HostPort": "80"}],
            "81/tcp": [{"HostIp": "10.0.0.1", "HostPort": "81"}, {"HostIp": "", "HostPort": "82"}],
            "443/tcp": null
        });
        bindings(&mut ports, ADDRESS);
        assert_eq!(
            ports,
            json!({
                "80/tcp": [{"HostIp": "192.168.200.10", "HostPort": "80"}],
                "81/tcp": [{"HostIp": "10.0.0.1", "HostPort": "81"}, {"HostIp": "192.168.200.10", "HostPort": "82"}],
                "443/tcp": null
            })
        );
        for mut odd in [json!(null), json!([]), json!({"x": 1}), json!({"x": [1, null, {"HostIp": 1}]})] {
            bindings(&mut odd, ADDRESS);
        }
    }
}
