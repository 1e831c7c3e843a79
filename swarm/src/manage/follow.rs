//! What Consul knows: engines, who leads, who was removed.

use std::{collections::BTreeMap, net::SocketAddrV4, sync::Arc};

use serde::Deserialize;

use crate::{
    cluster::{Cluster, Member},
    consul::{Client, ENGINE, Entry, Instance, LEADER, USERS},
    transport::Endpoint,
    users::{Rule, Users},
};

/// Where nodes carry their engines, unless the catalog says otherwise.
const CARRIER: u16 = 2376;

/// Tells `cluster` and `users` what changes, for ever.
pub(super) async fn follow(consul: &Client, cluster: &Arc<Cluster>, users: &Users) {
    let mut engines = consul.follow_service(ENGINE);
    let mut leader = consul.follow_value(LEADER);
    let mut rules = consul.follow_entries(USERS);
    let mut silent = false;
    loop {
        let trouble = tokio::select! {
            () = engines.changed() => {
                if let Some(instances) = engines.latest() {
                    cluster.set_members(members(&instances));
                }
                engines.trouble()
            }
            () = leader.changed() => {
                if let Some(entry) = leader.latest() {
                    cluster.set_master(master(entry.as_ref().as_ref()));
                }
                leader.trouble()
            }
            () = rules.changed() => {
                if let Some(entries) = rules.latest() {
                    users.set_rules(by_name(&entries));
                }
                rules.trouble()
            }
        };
        match trouble {
            Some(why) if !std::mem::replace(&mut silent, true) => eprintln!("{why}; what was known before holds"),
            None if std::mem::replace(&mut silent, false) => eprintln!("Consul answers again"),
            _ => {}
        }
    }
}

/// The engines of the catalog. What Consul says about one is told as it is.
fn members(instances: &[Instance]) -> Vec<Member> {
    let member = |instance: &Instance| {
        let port = if instance.port == 0 { CARRIER } else { instance.port };
        let endpoint = Endpoint::Tls(SocketAddrV4::new(instance.ipv4()?, port));
        let trouble = instance.trouble().map(|check| {
            let first = check.output.lines().next().unwrap_or_default().trim();
            if first.is_empty() { check.id.clone() } else { first.to_owned() }
        });
        Some(Member { name: instance.node.clone(), endpoint, trouble })
    };
    instances.iter().filter_map(member).collect()
}

/// The address of whoever holds the lock.
fn master(entry: Option<&Entry>) -> Option<String> {
    #[derive(Deserialize)]
    struct Owner {
        address: String,
    }
    let held = entry.filter(|entry| entry.session.is_some())?;
    serde_json::from_slice::<Owner>(&held.value).ok().map(|owner| owner.address)
}

/// The rules by name. What cannot be read counts as removed: better to keep somebody out than to let a removed one in.
fn by_name(entries: &[Entry]) -> BTreeMap<String, Rule> {
    let rule = |entry: &Entry| {
        let name = entry.key.strip_prefix(USERS)?;
        let rule = serde_json::from_slice(&entry.value).unwrap_or(Rule { removed: true, kept: Vec::new() });
        Some((name.to_owned(), rule))
    };
    entries.iter().filter_map(rule).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::consul::{Check, State};

    fn entry(key: &str, value: &str, session: Option<&str>) -> Entry {
        Entry { key: key.to_owned(), value: value.into(), session: session.map(str::to_owned), modified: 7 }
    }

    #[test]
    fn engines_of_the_catalog() {
        let instance = |node: &str, address: &str, port, checks: Vec<Check>| Instance {
            node: node.to_owned(),
            id: ENGINE.to_owned(),
            name: ENGINE.to_owned(),
            address: address.to_owned(),
            port,
            tags: Vec::new(),
            meta: BTreeMap::new(),
            checks,
        };
        let check = |state, output: &str| Check { id: "serfHealth".to_owned(), state, output: output.to_owned() };
        let found = members(&[
            instance("node-1", "192.168.200.77", 0, vec![check(State::Passing, "")]),
            instance("node-2", "192.168.200.78", 2476, vec![check(State::Critical, "Agent not live or unreachable\n")]),
            instance("node-3", "192.168.200.79", 0, vec![check(State::Critical, "")]),
            instance("node-4", "node-4.local", 0, Vec::new()),
        ]);
        let shown: Vec<_> =
            found.iter().map(|member| format!("{} {} {:?}", member.name, member.endpoint, member.trouble)).collect();
        assert_eq!(
            shown,
            [
                "node-1 192.168.200.77:2376 None",
                "node-2 192.168.200.78:2476 Some(\"Agent not live or unreachable\")",
                "node-3 192.168.200.79:2376 Some(\"serfHealth\")",
            ]
        );
    }

    #[test]
    fn whoever_holds_the_lock_leads() {
        let value = r#"{"node":"00112233445566778899aabbccddeeff","address":"192.168.200.77"}"#;
        assert_eq!(master(Some(&entry(LEADER, value, Some("s")))).as_deref(), Some("192.168.200.77"));
        assert_eq!(master(Some(&entry(LEADER, value, None))), None, "it was given back");
        assert_eq!(master(Some(&entry(LEADER, "x", Some("s")))), None);
        assert_eq!(master(None), None);
    }

    #[test]
    fn rules_by_name() {
        let rules = by_name(&[
            entry("hcl/users/ada", r#"{"removed":false,"kept":[],"added":[{"fingerprint":"00"}]}"#, None),
            entry("hcl/users/gordon", r#"{"removed":true,"kept":["01"]}"#, None),
            entry("hcl/users/odd", "what", None),
        ]);
        let expected = [("ada", false, 0), ("gordon", true, 1), ("odd", true, 0)];
        let shown: Vec<_> = rules.iter().map(|(name, rule)| (name.as_str(), rule.removed, rule.kept.len())).collect();
        assert_eq!(shown, expected);
    }
}
