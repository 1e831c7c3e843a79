//! What Consul adds to the view: who is there.
//!
//! The members come from the agent's own memory of the gossip (`/v1/agent/members`), so that they are right without a leader, sooner
//! than the catalog, and at no cost to raft. Failed checks come from the catalog, whichever server has it (`stale`).

use std::{collections::HashMap, time::Duration};

use serde::{Deserialize, de::DeserializeOwned};

use super::{Check, Consul, Gossip, Node, State, View};
use crate::http::Client;

/// A node that was heard by other means within this, in milliseconds, is there, whatever the gossip says.
const FRESH_MS: u64 = 10_000;
/// Consul's own check by gossip, which the members say better.
const GOSSIP_CHECK: &str = "serfHealth";

/// What an agent said.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Seen {
    members: Vec<Member>,
    /// Checks that fail, by node.
    failed: Vec<(String, Check)>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Member {
    name: String,
    address: String,
    consul: Consul,
}

/// An entry of `/v1/agent/members`.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Entry {
    name: String,
    addr: String,
    #[serde(default)]
    tags: HashMap<String, String>,
    status: u8,
}

/// An entry of `/v1/health/state/critical`.
#[derive(Deserialize)]
struct Critical {
    #[serde(rename = "Node")]
    node: String,
    #[serde(rename = "CheckID")]
    id: String,
    #[serde(rename = "Output")]
    output: String,
}

impl Seen {
    /// Asks the agent, for `limit` at most an answer.
    ///
    /// # Errors
    ///
    /// It does not say who its members are: one line. Leader and checks may be missing without that.
    pub fn ask(client: &Client, limit: Duration) -> Result<Self, String> {
        let entries: Vec<Entry> = ask(client, "/v1/agent/members", limit)?;
        // The address of a leader is that of its raft port.
        let leader = ask::<String>(client, "/v1/status/leader", limit).unwrap_or_default();
        let leader = leader.rsplit_once(':').map(|(address, _)| address.trim_matches(['[', ']']));
        let failed: Vec<Critical> = ask(client, "/v1/health/state/critical?stale", limit).unwrap_or_default();
        let members = entries.into_iter().map(|Entry { name, addr, tags, status }| {
            let server = tags.get("role").is_some_and(|role| role == "consul");
            let consul = Consul { state: gossip(status), server, leader: server && leader == Some(&addr) };
            Member { name, address: addr, consul }
        });
        let failed = failed.into_iter().filter(|check| check.id != GOSSIP_CHECK).map(|check| {
            let line = check.output.split_whitespace().collect::<Vec<_>>().join(" ");
            let line = if line.is_empty() { format!("Consul's check {} fails", check.id) } else { line };
            (check.node, Check { name: check.id, pass: false, line: line.chars().take(400).collect() })
        });
        Ok(Self { members: members.collect(), failed: failed.collect() })
    }

    /// Adds it to `view`: members that it did not know, agents, failed checks, and who is away. Its leader is not ours: that is
    /// whoever holds the lock.
    pub fn merge(&self, view: &mut View) {
        for Member { name, address, consul } in &self.members {
            let at = view.nodes.iter().position(|node| node.name == *name).unwrap_or_else(|| {
                view.nodes.push(Node { name: name.clone(), address: address.clone(), ..Node::default() });
                view.nodes.len() - 1
            });
            let node = &mut view.nodes[at];
            node.consul = consul.clone();
            let fresh = node.heard_ms_ago.is_some_and(|ago| ago <= FRESH_MS);
            match consul.state {
                Gossip::Failed if !fresh => node.state = State::Silent,
                Gossip::Left if !fresh => node.state = State::Gone,
                _ => {}
            }
        }
        for (name, check) in &self.failed {
            if let Some(node) = view.nodes.iter_mut().find(|node| node.name == *name) {
                node.checks.retain(|known| known.name != check.name);
                node.checks.push(check.clone());
            }
        }
        view.nodes.sort_by(|one, other| one.name.cmp(&other.name));
    }
}

/// serf's member status.
fn gossip(status: u8) -> Gossip {
    match status {
        1 => Gossip::Alive,
        2 => Gossip::Leaving,
        3 => Gossip::Left,
        4 => Gossip::Failed,
        _ => Gossip::Unknown,
    }
}

fn ask<T: DeserializeOwned>(client: &Client, path: &str, limit: Duration) -> Result<T, String> {
    let response = client.request("GET", path, &[], None, limit).map_err(|error| error.to_string())?;
    if !response.is_success() {
        return Err(format!("Consul answers {path} with {}: {}", response.status, response.text()));
    }
    serde_json::from_slice(&response.body).map_err(|error| format!("Consul answers {path} with what cannot be read: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(name: &str, state: Gossip) -> Seen {
        let consul = Consul { state, server: true, leader: true };
        Seen { members: vec![Member { name: name.into(), address: "10.0.0.1".into(), consul }], failed: Vec::new() }
    }

    #[test]
    fn who_is_away() {
        let cases = [
            (Gossip::Alive, None, State::Ready),
            (Gossip::Failed, None, State::Silent),
            (Gossip::Failed, Some(30_000), State::Silent),
            // Its agent is away, it is not.
            (Gossip::Failed, Some(800), State::Ready),
            (Gossip::Leaving, None, State::Ready),
            (Gossip::Left, None, State::Gone),
            (Gossip::Left, Some(0), State::Ready),
            (Gossip::Unknown, None, State::Ready),
        ];
        for (gossip, heard_ms_ago, expected) in cases {
            let node = Node { name: "a".into(), state: State::Ready, heard_ms_ago, ..Node::default() };
            let mut view = View { nodes: vec![node], ..View::default() };
            seen("a", gossip).merge(&mut view);
            assert_eq!(view.nodes.len(), 1);
            assert_eq!((view.nodes[0].state, view.nodes[0].consul.state), (expected, gossip), "{gossip:?} {heard_ms_ago:?}");
        }
    }

    #[test]
    fn members_and_failed_checks_are_added() {
        let mut view = View { nodes: vec![Node { name: "b".into(), ..Node::default() }], ..View::default() };
        let mut seen = seen("a", Gossip::Alive);
        let check = Check { name: "engine".into(), pass: false, line: "it is down".into() };
        seen.failed = vec![("b".into(), check.clone()), ("b".into(), check.clone()), ("nobody".into(), check.clone())];
        seen.merge(&mut view);
        seen.merge(&mut view);
        let names: Vec<_> = view.nodes.iter().map(|node| node.name.as_str()).collect();
        assert_eq!(names, ["a", "b"]);
        let Node { address, state, consul, .. } = &view.nodes[0];
        assert_eq!((address.as_str(), *state, consul.leader), ("10.0.0.1", State::Starting, true));
        assert_eq!(view.nodes[1].checks, [check]);
        assert_eq!(view.leader, None);
    }
}
