//! What Consul adds to the view: who is there.
//!
//! The members come from the agent's own memory of the gossip (`/v1/agent/members`), so that they are right without a leader, sooner
//! than the catalog, and at no cost to raft. Failed checks come from the catalog, whichever server has it (`stale`).

use std::net::Ipv4Addr;

use super::{Check, Consul, Gossip, State, View};
use crate::consul::{
    Client, Error,
    catalog::{self, Member, REACHED},
};

/// A node that was heard by other means within this, in milliseconds, is there, whatever the gossip says.
const FRESH_MS: u64 = 10_000;

/// What an agent said.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Seen {
    members: Vec<Member>,
    /// Where Consul's leader is.
    leader: Option<Ipv4Addr>,
    /// Checks that fail, by node.
    failed: Vec<(String, Check)>,
}

impl Seen {
    /// Asks the agent.
    ///
    /// # Errors
    ///
    /// It does not say who its members are. Leader and checks may be missing without that.
    pub fn ask(client: &Client) -> Result<Self, Error> {
        let members = client.members()?;
        let leader = client.leader().unwrap_or_default();
        // The members say better who is reached.
        let failed = client.failing().unwrap_or_default().into_iter().filter(|(_, check)| check.id != REACHED);
        Ok(Self { members, leader, failed: failed.map(|(node, check)| (node, shown(check))).collect() })
    }

    /// Adds it to the nodes of `view`: agents, failed checks, and who is away. Who belongs to the cluster says the ledger and not the gossip,
    /// which forgets who was off when all others were. Its leader is not ours either: that is whoever holds the lock.
    pub fn merge(&self, view: &mut View) {
        for Member { name, address, state, server, .. } in &self.members {
            let Some(node) = view.nodes.iter_mut().find(|node| node.name == *name) else { continue };
            let leads = self.leader.is_some_and(|leader| leader.to_string() == *address);
            node.consul = Consul { state: *state, server: *server, leader: *server && leads };
            let fresh = node.heard_ms_ago.is_some_and(|ago| ago <= FRESH_MS);
            match state {
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
    }
}

fn shown(check: catalog::Check) -> Check {
    let line = check.output.split_whitespace().collect::<Vec<_>>().join(" ");
    let line = if line.is_empty() { format!("Consul's check {} fails", check.id) } else { line };
    Check { name: check.id, pass: false, line: line.chars().take(400).collect() }
}

#[cfg(test)]
mod tests {
    use super::{super::Node, *};

    fn seen(name: &str, state: Gossip) -> Seen {
        let member = Member { name: name.into(), id: None, address: "10.0.0.1".into(), state, server: true };
        Seen { members: vec![member], leader: Some([10, 0, 0, 1].into()), failed: Vec::new() }
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
    fn agents_and_failed_checks_are_added_and_no_members() {
        let node = |name: &str| Node { name: name.into(), ..Node::default() };
        let mut view = View { nodes: vec![node("a"), node("b"), node("off")], ..View::default() };
        let mut seen = seen("a", Gossip::Alive);
        let check = Check { name: "engine".into(), pass: false, line: "it is down".into() };
        seen.failed = vec![("b".into(), check.clone()), ("b".into(), check.clone()), ("nobody".into(), check.clone())];
        seen.members.push(Member { name: "nobody".into(), ..seen.members[0].clone() });
        seen.merge(&mut view);
        seen.merge(&mut view);
        let names: Vec<_> = view.nodes.iter().map(|node| node.name.as_str()).collect();
        assert_eq!(names, ["a", "b", "off"], "those of the ledger, also who was off when Consul started");
        let Node { state, consul, .. } = &view.nodes[0];
        assert_eq!((*state, consul.leader, view.nodes[1].consul.leader), (State::Starting, true, false));
        assert_eq!(view.nodes[1].checks, [check]);
        assert_eq!(view.leader, None);
    }

    #[test]
    fn a_check_in_one_line() {
        let check = |output: &str| catalog::Check {
            state: catalog::State::Critical,
            id: "service:hcl-engine".into(),
            name: String::new(),
            service: None,
            output: output.into(),
        };
        assert_eq!(shown(check("it is\n  down\n")).line, "it is down");
        assert_eq!(shown(check(" ")).line, "Consul's check service:hcl-engine fails");
        assert_eq!(shown(check(&"x".repeat(500))).line.len(), 400);
    }
}
