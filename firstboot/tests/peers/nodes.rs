//! Nodes among themselves, and a foreign machine that is in their way.

use serde_json::Value;

use super::lab::{Lab, formed, leads};

#[test]
fn nodes_that_start_together_are_one_cluster_and_come_back_as_it() {
    let mut lab = Lab::new();
    let nodes: Vec<_> = (0..4).map(|_| lab.node("5a")).collect();
    let leader = formed(&lab, &nodes);
    let before: Vec<_> = nodes.iter().map(|node| lab.status(*node)["address"].clone()).collect();
    let mut distinct: Vec<_> = before.iter().map(Value::to_string).collect();
    distinct.sort();
    distinct.dedup();
    assert_eq!(distinct.len(), nodes.len());
    lab.until_said(leader, "ip -4 -o address show dev eth0", |shown| shown.contains("192.168.200.1/"));
    // Power off, without a word.
    for node in &nodes {
        lab.kill(*node);
        lab.on(*node, "ip address flush dev eth0");
        lab.run(*node);
    }
    assert_eq!(formed(&lab, &nodes), leader);
    let after: Vec<_> = nodes.iter().map(|node| lab.status(*node)["address"].clone()).collect();
    assert_eq!(after, before);
}

#[test]
fn of_two_keys_one_runs_and_the_other_explains() {
    let mut lab = Lab::new();
    let first = lab.node("5a");
    lab.until(first, leads);
    let second = lab.node("7b");
    let status = lab.until(second, |status| status["complaints"].as_array().is_some_and(|all| !all.is_empty()));
    assert_eq!(status["role"], "none", "{status:#}");
    let complaint = status["complaints"][0].as_str().unwrap_or_default();
    assert!(
        complaint.contains("with another key leads at 192.168.200.1") && complaint.contains("--set node.vlan=201"),
        "{complaint}"
    );
    assert!(leads(&lab.status(first)));
}

#[test]
fn a_foreign_host_at_the_leaders_address_is_respected() {
    let mut lab = Lab::new();
    let foreign = lab.host();
    lab.on(foreign, "ip address add 192.168.200.1/24 dev eth0");
    let node = lab.node("5a");
    let status = lab.until(node, |status| status["complaints"].as_array().is_some_and(|all| !all.is_empty()));
    let complaint = status["complaints"][0].as_str().unwrap_or_default();
    assert!(
        complaint.contains("192.168.200.1 belongs to a machine that is no node of this lab (02:00:00:00:00:01)"),
        "{complaint}"
    );
    assert!(!lab.on(node, "ip -4 -o address show dev eth0").contains("192.168.200.1/"));
}
