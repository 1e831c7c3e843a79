use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;

fn node() -> Node {
    Node { name: "node-aabbcc".into(), address: Ipv4Addr::new(192, 168, 200, 77) }
}

fn container(change: impl FnOnce(&mut Value)) -> Container {
    let mut value = json!({
        "Id": "0123", "Name": "/web", "State": { "Running": true },
        "Config": { "Image": "hcl/busybox:1.37", "Env": ["PATH=/bin"], "Labels": {}, "ExposedPorts": null },
        "HostConfig": { "NetworkMode": "default" },
        "NetworkSettings": { "Ports": { "80/tcp": [{ "HostIp": "0.0.0.0", "HostPort": "32768" }, { "HostIp": "::", "HostPort": "32768" }] } },
    });
    change(&mut value);
    serde_json::from_value(value).unwrap()
}

/// Names and where they are.
fn names(change: impl FnOnce(&mut Value)) -> Vec<(String, String)> {
    let (services, complaints) = services(&node(), &container(change));
    assert_eq!(complaints, [""; 0]);
    services.into_iter().map(|service| (service.name, service.at.to_string())).collect()
}

fn named(labels: Value) -> Vec<String> {
    names(|container| container["Config"]["Labels"] = labels).into_iter().map(|(name, _)| name).collect()
}

#[test]
fn one_published_port() {
    let (services, _) = services(&node(), &container(|_| ()));
    let meta = BTreeMap::from([("registrar".to_owned(), "hcl-swarm".to_owned()), ("container".to_owned(), "0123".to_owned())]);
    let expected = Service {
        id: "node-aabbcc:web:80".into(),
        name: "busybox".into(),
        at: "192.168.200.77:32768".parse().unwrap(),
        tags: Vec::new(),
        meta,
        check: Some(CHECK),
    };
    assert_eq!(services, [expected]);
}

#[test]
fn where_names_come_from() {
    let compose = json!({ "com.docker.compose.service": "demo-hostname" });
    assert_eq!(named(compose.clone()), ["demo-hostname"]);
    assert_eq!(named(json!({ "com.docker.swarm.service.name": "shop_web" })), ["shop-web"]);
    let mut labels = compose;
    labels["SERVICE_NAME"] = json!("shop");
    assert_eq!(named(labels.clone()), ["shop"]);
    labels["SERVICE_80_NAME"] = json!("door");
    labels["SERVICE_81_NAME"] = json!("other");
    assert_eq!(named(labels), ["door"]);
    assert_eq!(named(json!({ "SERVICE_NAME": "" })), ["busybox"]);
}

#[test]
fn labels_count_before_variables() {
    let all = names(|container| {
        container["Config"]["Env"] = json!(["SERVICE_NAME=variable", "SERVICE_TAGS=a"]);
        container["Config"]["Labels"] = json!({ "SERVICE_NAME": "label" });
    });
    assert_eq!(all[0].0, "label");
    let all = names(|container| container["Config"]["Env"] = json!(["SERVICE_NAME=variable", "NOTHING", "=x"]));
    assert_eq!(all[0].0, "variable");
}

#[test]
fn images() {
    let table = [
        ("busybox", "busybox"),
        ("hcl/busybox:1.37", "busybox"),
        ("localhost:5000/a/b-c", "b-c"),
        ("localhost:5000/a/b_c:T.1@sha256:00ff", "b-c"),
        ("sha256:0011223344", "web"),
        ("", "web"),
        ("0011223344aa", "0011223344aa"),
    ];
    for (image, name) in table {
        let all = names(|container| container["Config"]["Image"] = json!(image));
        assert_eq!(all[0].0, name, "{image}");
    }
}

#[test]
fn several_ports() {
    let ports = json!({
        "80/tcp": [{ "HostIp": "0.0.0.0", "HostPort": "1080" }],
        "53/udp": [{ "HostIp": "", "HostPort": "1053" }],
        "9000/tcp": null,
        "7/sctp": [{ "HostIp": "0.0.0.0", "HostPort": "7" }],
    });
    let change = |container: &mut Value| {
        container["NetworkSettings"]["Ports"] = ports.clone();
        container["Config"]["Labels"] =
            json!({ "SERVICE_NAME": "shop", "SERVICE_80_NAME": "door", "SERVICE_TAGS": "a, b,,a", "SERVICE_80_TAGS": "c" });
    };
    let (services, _) = services(&node(), &container(change));
    let all: Vec<_> = services
        .iter()
        .map(|service| (service.id.as_str(), service.name.as_str(), service.tags.join(","), service.check.is_some()))
        .collect();
    assert_eq!(
        all,
        [
            ("node-aabbcc:web:53:udp", "shop-53", "a,b,udp".to_owned(), false),
            ("node-aabbcc:web:80", "door", "c".to_owned(), true)
        ]
    );
}

#[test]
fn who_is_ignored() {
    assert_eq!(named(json!({ "SERVICE_IGNORE": "no matter what" })), [""; 0]);
    assert_eq!(named(json!({ "SERVICE_80_IGNORE": "1" })), [""; 0]);
    assert_eq!(named(json!({ "SERVICE_81_IGNORE": "1" })), ["busybox"]);
    assert_eq!(named(json!({ "hcl.system": "1" })), [""; 0]);
}

#[test]
fn addresses() {
    let at = |bindings: Value| {
        names(|container| container["NetworkSettings"]["Ports"] = json!({ "80/tcp": bindings }))
            .into_iter()
            .map(|(_, at)| at)
            .collect::<Vec<_>>()
    };
    let place = |ip: &str, port: &str| json!({ "HostIp": ip, "HostPort": port });
    assert_eq!(at(json!([place("127.0.0.1", "80")])), [""; 0]);
    assert_eq!(at(json!([place("::", "80")])), [""; 0]);
    assert_eq!(at(json!([place("10.0.0.5", "80")])), ["10.0.0.5:80"]);
    assert_eq!(at(json!([place("10.0.0.5", "80"), place("0.0.0.0", "8080"), place("", "8081")])), ["192.168.200.77:8080"]);
    assert_eq!(at(json!([place("0.0.0.0", "0"), place("0.0.0.0", ""), place("0.0.0.0", "70000"), place("x", "1")])), [""; 0]);
    assert_eq!(at(json!(null)), [""; 0]);
}

#[test]
fn the_nodes_own_network() {
    let all = names(|container| {
        container["HostConfig"]["NetworkMode"] = json!("host");
        container["NetworkSettings"]["Ports"] = json!({});
        container["Config"]["ExposedPorts"] = json!({ "80/tcp": {}, "443/tcp": {}, "0/tcp": {}, "x": {} });
        container["Config"]["Image"] = json!("hcl/haproxy:3.0");
    });
    let expected = [("haproxy-80", "192.168.200.77:80"), ("haproxy-443", "192.168.200.77:443")];
    assert_eq!(all, expected.map(|(name, at)| (name.to_owned(), at.to_owned())));
}

#[test]
fn names_that_nobody_gets() {
    for name in ["consul", "CONSUL", "hcl-engine", "hcl_x", "---", "ü"] {
        let change = |container: &mut Value| container["Config"]["Labels"] = json!({ "SERVICE_NAME": name });
        let (services, complaints) = services(&node(), &container(change));
        assert_eq!(services, []);
        assert!(complaints[0].contains("port 80") && !complaints[0].contains('\n'), "{complaints:?}");
    }
}

proptest! {
    #[test]
    fn labels_are_labels(name: String, port: Option<u16>) {
        if let Some(label) = label(&name, port) {
            prop_assert!((1..=63).contains(&label.len()));
            prop_assert!(label.bytes().all(|byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'-')));
            prop_assert!(!label.starts_with('-') && !label.ends_with('-'));
            let end = port.map(|port| format!("-{port}")).unwrap_or_default();
            prop_assert!(label.ends_with(&end));
        }
    }
}
