//! Whoever has no right to an engine: refused at every endpoint, by every method, at both ports; and nothing has changed.

use std::{collections::BTreeMap, net::SocketAddr, time::Duration};

use hcl_firstboot::{
    key::ClusterKey,
    trust::{Trust, Validity},
};
use serde_json::{Value, json};

use super::{
    Stage,
    lab::{
        certificates::{LEADER, names, seed, user},
        cluster::{API, CARRIER},
        tls::{Came, Visitor, on},
        until, within,
    },
    sleeper,
};

const METHODS: [&str; 7] = ["GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "PATCH"];

/// Endpoints by path, each with the methods that it has.
fn endpoints() -> BTreeMap<&'static str, Vec<&'static str>> {
    let mut all: BTreeMap<_, Vec<_>> = BTreeMap::new();
    for line in include_str!("endpoints.txt").lines().filter(|line| !line.starts_with('#')) {
        let (method, path) = line.split_once(' ').expect("METHOD PATH");
        all.entry(path).or_default().push(method);
    }
    all
}

/// All that a stranger could have changed.
fn state(stage: &Stage) -> Vec<Value> {
    let paths = [
        "/containers/json?all=1",
        "/images/json",
        "/networks",
        "/volumes",
        "/services",
        "/secrets",
        "/configs",
        "/swarm",
        "/nodes",
    ];
    let plain = |mut value: Value| {
        // What changes by itself.
        for object in value.as_array_mut().into_iter().flatten() {
            for name in ["Status", "UpdatedAt", "Version", "ManagerStatus"] {
                object.as_object_mut().map(|object| object.remove(name));
            }
        }
        value.as_object_mut().map(|object| object.remove("UpdatedAt"));
        if let Some(volumes) = value.get_mut("Volumes").and_then(Value::as_array_mut) {
            volumes.sort_by_key(|volume| volume["Name"].to_string());
        }
        // Lists come in any order.
        if let Some(list) = value.as_array_mut() {
            list.sort_by_key(Value::to_string);
        }
        value
    };
    stage.cluster.nodes.iter().flat_map(|node| paths.map(|path| plain(node.ask("GET", path, None).1))).collect()
}

pub fn every_endpoint(stage: &Stage) {
    let cluster = stage.cluster;
    let own = &cluster.trust;
    let other = Trust::new(&ClusterKey::new([8; 32]));
    sleeper(stage, "victim", "node-2", "-v victim:/data");
    let (maria, removed, foreign_user) = (user(own, "maria"), user(own, "lost"), user(&other, "maria"));
    let (laptop, target) = (names(&cluster.laptop), stage.node(2));
    let node = own.nodes.issue(&laptop, Validity::LIFE, &seed());
    let foreign_node = other.nodes.issue(&laptop, Validity::LIFE, &seed());
    let server = own.users.issue_server(&laptop, LEADER, &seed());
    let (users, nodes) = (own.users.certificate(), own.nodes.certificate());
    stage.consul.user("lost", &json!({ "removed": true, "kept": [], "added": [] }));

    let api = SocketAddr::from((target.address, API));
    let carrier = SocketAddr::from((target.address, CARRIER));
    let at_api = |own| Visitor::new(users, own);
    let at_carrier = |own| Visitor::new(nodes, own);
    let strangers = [
        ("in the clear", api, Visitor::Plain),
        ("without a certificate", api, at_api(None)),
        ("a node", api, at_api(Some(&node))),
        ("another cluster's user", api, at_api(Some(&foreign_user))),
        ("another cluster's node", api, at_api(Some(&foreign_node))),
        ("a server's certificate", api, at_api(Some(&server))),
        ("a removed user", api, at_api(Some(&removed))),
        ("in the clear", carrier, Visitor::Plain),
        ("without a certificate", carrier, at_carrier(None)),
        ("a user", carrier, at_carrier(Some(&maria))),
        ("another cluster's node", carrier, at_carrier(Some(&foreign_node))),
        ("another cluster's user", carrier, at_carrier(Some(&foreign_user))),
        ("a server's certificate", carrier, at_carrier(Some(&server))),
    ];
    let (name, endpoints) = (target.name.as_str(), endpoints());
    assert!(endpoints.len() > 90, "{}", endpoints.len());
    on(&cluster.laptop, || {
        // The judge can say yes.
        for (who, at, visitor) in [("a user", api, at_api(Some(&maria))), ("a node", carrier, at_carrier(Some(&node)))] {
            let came = visitor.ask(at, name, "GET", "/_ping");
            assert!(matches!(&came, Came::Answered(200, text) if text.ends_with("OK")), "{who} at {at}: {came:?}");
            let came = visitor.ask(at, name, "GET", "/containers/victim/json");
            assert!(matches!(&came, Came::Answered(200, _)), "{who} at {at}: {came:?}");
        }
        within(Duration::from_secs(5), "the removal", || match at_api(Some(&removed)).ask(api, name, "GET", "/_ping") {
            Came::Answered(200, _) => None,
            _ => Some(()),
        });
        let before = state(stage);
        let mut asked = 0;
        for (who, at, visitor) in &strangers {
            for (path, own) in &endpoints {
                for method in &METHODS {
                    // With a version too where the endpoint has this method.
                    for prefix in ["", "/v1.41"].iter().take(1 + usize::from(own.contains(method))) {
                        asked += 1;
                        match visitor.ask(*at, name, method, &format!("{prefix}{path}")) {
                            Came::Refused(_) => {}
                            // Said in words, and nothing else.
                            Came::Answered(status, text) => {
                                assert!([400, 401, 403].contains(&status), "{who} at {at}: {method} {path}: {text}");
                                assert!(text.len() < 600, "{who} at {at}: {method} {path}: {text}");
                            }
                        }
                    }
                }
            }
        }
        println!("    {asked} requests of strangers");
        let changed = state(stage);
        assert!(before == changed, "strangers changed something:\n{before:?}\n{changed:?}");
    });
    until("a user after that", || (stage.docker.run("docker exec victim true").code == 0).then_some(()));
}
