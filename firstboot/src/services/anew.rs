//! Cards that came back as others: what the cluster still has of who they were.
//!
//! A card that was written anew is another node, on a board whose name the cluster knows. One that lost the engine's state is the same
//! node, with another entry in the swarm. Nobody but the leader can tell, and only once the card is in again: one that is merely off keeps
//! what it has.

use crate::{engine::Node, identity::NodeId, record::MemberEntry};

/// The label of a node in the swarm with the id of the card.
pub const CARD_LABEL: &str = "hcl.node";

/// A card that answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Card {
    /// Which node it is.
    pub node: NodeId,
    /// Its host name.
    pub name: String,
    /// Its entry in the swarm.
    pub swarm_id: Option<String>,
}

/// The entries of the swarm that `cards` had before: they are down, nobody says that they are its own, and a card with the same id or on the
/// same board has another one that is ready.
pub fn old_entries<'a>(nodes: &'a [Node], cards: &[Card]) -> Vec<&'a Node> {
    let is_ready = |id: &str| nodes.iter().any(|node| node.id == id && node.is_ready());
    let succeeded = |old: &&Node| {
        cards.iter().filter(|card| card.swarm_id.as_deref().is_some_and(is_ready)).any(|card| {
            let same_card = old.labels.get(CARD_LABEL).is_some_and(|label| *label == card.node.to_string());
            same_card || old.host_name == card.name && names_a_board(&old.host_name)
        })
    };
    let is_own = |old: &&Node| cards.iter().any(|card| card.swarm_id.as_ref() == Some(&old.id));
    nodes.iter().filter(|node| node.state == "down").filter(|old| !is_own(old)).filter(succeeded).collect()
}

/// The servers that shall be, with cards that are in and well in place of those that were on the same board before and do not answer.
pub fn replaced(
    wanted: &[NodeId],
    members: &[MemberEntry],
    well: &[NodeId],
    answers: impl Fn(NodeId) -> bool,
) -> Option<Vec<NodeId>> {
    let successor = |old: &NodeId| {
        let name = &members.iter().find(|member| member.node == *old)?.name;
        let same = |member: &&MemberEntry| member.node != *old && member.name == *name && well.contains(&member.node);
        let new = members.iter().filter(|_| names_a_board(name) && !answers(*old)).find(same)?.node;
        (!wanted.contains(&new)).then_some(new)
    };
    let next: Vec<_> = wanted.iter().map(|node| successor(node).unwrap_or(*node)).collect();
    (next != wanted).then_some(next)
}

/// Whether a host name is that of a board ([`crate::link::Mac::host_name`]), and not one that a person gave to all of them.
fn names_a_board(name: &str) -> bool {
    let digits = name.strip_prefix("node-").unwrap_or_default();
    digits.len() == 6 && digits.chars().all(|digit| digit.is_ascii_hexdigit())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::{Availability, NodeRole};

    fn entry(id: &str, name: &str, state: &str, card: Option<u8>) -> Node {
        let labels = card.map(|card| (CARD_LABEL.to_owned(), NodeId([card; 16]).to_string()));
        Node {
            id: id.into(),
            host_name: name.into(),
            address: String::new(),
            role: NodeRole::Worker,
            availability: Availability::Active,
            state: state.into(),
            message: String::new(),
            manager: None,
            labels: labels.into_iter().collect(),
            architecture: "aarch64".into(),
            engine: String::new(),
        }
    }

    fn card(node: u8, name: &str, swarm_id: &str) -> Card {
        Card { node: NodeId([node; 16]), name: name.into(), swarm_id: Some(swarm_id.into()) }
    }

    #[test]
    fn what_a_card_had_before() {
        let (a, b) = ("node-00000a", "node-00000b");
        // (entries, cards, old ones)
        let cases: [(&[Node], &[Card], &[&str]); 8] = [
            // Its swarm was lost: the same card, whatever it is called.
            (&[entry("1", "pi", "down", Some(7)), entry("2", "pi", "ready", None)], &[card(7, "pi", "2")], &["1"]),
            // Written anew: another card on the same board.
            (&[entry("1", a, "down", Some(7)), entry("2", a, "ready", None)], &[card(8, a, "2")], &["1"]),
            (&[entry("1", a, "down", None), entry("2", a, "ready", None)], &[card(8, a, "2")], &["1"]),
            // Twice.
            (
                &[entry("1", a, "down", None), entry("2", a, "down", None), entry("3", a, "ready", None)],
                &[card(8, a, "3")],
                &["1", "2"],
            ),
            // Another one that is off.
            (&[entry("1", b, "down", Some(7)), entry("2", a, "ready", None)], &[card(8, a, "2")], &[]),
            // A name that all have says nothing.
            (&[entry("1", "pi", "down", Some(7)), entry("2", "pi", "ready", None)], &[card(8, "pi", "2")], &[]),
            // It is not in again yet, or its own is the one that is down for a moment.
            (&[entry("1", a, "down", None), entry("2", a, "down", None)], &[card(8, a, "2")], &[]),
            (&[entry("1", a, "down", Some(8)), entry("2", a, "ready", None)], &[card(8, a, "1"), card(9, a, "2")], &[]),
        ];
        for (nodes, cards, expected) in cases {
            let found: Vec<_> = old_entries(nodes, cards).iter().map(|node| node.id.as_str()).collect();
            assert_eq!(found, expected, "{nodes:?} {cards:?}");
        }
    }

    #[test]
    fn a_server_whose_card_was_written_anew() {
        let ids = |numbers: &[u8]| numbers.iter().map(|number| NodeId([*number; 16])).collect::<Vec<_>>();
        let member =
            |node: u8, name: &str| MemberEntry { node: NodeId([node; 16]), address: [10, 0, 0, node].into(), name: name.into() };
        let members = [member(1, "node-000001"), member(2, "node-000002"), member(3, "node-000003"), member(4, "node-000003")];
        let next = |members: &[MemberEntry], wanted: &[u8], well: &[u8]| {
            replaced(&ids(wanted), members, &ids(well), |node| ids(well).contains(&node))
        };
        assert_eq!(next(&members, &[1, 2, 3], &[1, 2, 4]), Some(ids(&[1, 2, 4])), "in its place");
        assert_eq!(next(&members, &[1, 2, 3], &[1, 2]), None, "the new one is not in yet");
        assert_eq!(next(&members, &[1, 2, 3], &[1, 2, 3, 4]), None, "both are there: two boards");
        assert_eq!(next(&members, &[1, 2, 3], &[1, 4]), Some(ids(&[1, 2, 4])), "another one that is off stays");
        assert_eq!(next(&members, &[1, 2, 4], &[1, 2, 4]), None);
        let named = [member(1, "pi"), member(2, "pi"), member(3, "pi"), member(4, "pi")];
        assert_eq!(next(&named, &[1, 2, 3], &[1, 2, 4]), None, "a name that all have says nothing");
    }
}
