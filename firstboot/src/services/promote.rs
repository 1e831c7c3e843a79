//! Who becomes a manager of the swarm, and when.
//!
//! From one manager to two is the dangerous step. The engine counts the second one as soon as it has asked, and one of two is no
//! majority: if the first one loses its power before the second one has its answer, both wait for each other for ever. So this step is
//! taken by itself, and the leader keeps on its card that it is being taken ([`Promotion::pairing`]): coming back to such a swarm it
//! makes it its own again ([`super::plan::Step::SwarmAlone`]). From two managers on there is always one that works besides the new one.

use crate::engine::{Node, NodeRole};

/// What to do now.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Promotion<'a> {
    /// Entries of the swarm, and what they shall be.
    pub(super) roles: Vec<(&'a str, NodeRole)>,
    /// Whether it is to be kept that the second manager is being made.
    pub(super) pairing: bool,
}

/// Whether two managers work, so that the step from one to two is over.
pub(super) fn works_as_pair(nodes: &[Node]) -> bool {
    !promotion(&[], nodes, true).pairing
}

/// What to do with `nodes`, of whom `wanted` shall be managers, where `pairing` is what is kept.
pub(super) fn promotion<'a>(wanted: &[&str], nodes: &'a [Node], pairing: bool) -> Promotion<'a> {
    let managers = nodes.iter().filter(|node| node.manager.is_some()).count();
    let work = |node: &&Node| node.manager.as_ref().is_some_and(|manager| manager.leader || manager.reachability == "reachable");
    let working = nodes.iter().filter(work).count();
    let of = |id: &&str| nodes.iter().find(|node| node.id == **id && node.role == NodeRole::Worker && node.is_ready());
    let mut promoted = wanted.iter().filter_map(of).map(|node| (node.id.as_str(), NodeRole::Manager));
    if managers > 1 {
        // That it is over is kept before there are three.
        let roles = if pairing { Vec::new() } else { promoted.collect() };
        return Promotion { roles, pairing: pairing && working < 2 };
    }
    // Promoted, and not counted yet.
    let on_its_way = |node: &&Node| node.role == NodeRole::Manager && node.manager.is_none();
    let (awaited, unwanted): (Vec<_>, Vec<_>) =
        nodes.iter().filter(on_its_way).partition(|node| wanted.contains(&node.id.as_str()));
    // One that is down can be made nothing else: the engine refuses it for a manager that it does not count.
    let unwanted = unwanted.into_iter().filter(|node| node.is_ready());
    let mut roles: Vec<_> = unwanted.map(|node| (node.id.as_str(), NodeRole::Worker)).collect();
    let next = promoted.next().filter(|_| awaited.is_empty() && roles.is_empty());
    if pairing {
        roles.extend(next);
    }
    Promotion { roles, pairing: pairing || next.is_some() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::{Availability, ManagerStatus};

    /// `worker`, `promoted`, `joined` (counted, and not heard), `manager` or `leader`.
    fn node(id: &str, what: &str) -> Node {
        let reachability = if what == "joined" { "unreachable" } else { "reachable" }.to_owned();
        let manager = ManagerStatus { leader: what == "leader", reachability, addr: String::new() };
        Node {
            id: id.to_owned(),
            host_name: id.to_owned(),
            address: String::new(),
            role: if what == "worker" { NodeRole::Worker } else { NodeRole::Manager },
            availability: Availability::Active,
            state: "ready".to_owned(),
            message: String::new(),
            manager: (!["worker", "promoted"].contains(&what)).then_some(manager),
            labels: std::collections::BTreeMap::new(),
            architecture: String::new(),
            engine: String::new(),
        }
    }

    /// A line `a=leader b=worker`, whether pairing is kept, and what comes of it: `+b` is promoted, `-b` is made a worker.
    fn promoted(line: &str, pairing: bool) -> (String, bool) {
        let nodes: Vec<_> = line.split(' ').map(|word| word.split_once('=').unwrap()).map(|(id, what)| node(id, what)).collect();
        let promotion = promotion(&["a", "b", "c"], &nodes, pairing);
        let sign = |(id, role): &(&str, NodeRole)| format!("{}{id}", if *role == NodeRole::Manager { '+' } else { '-' });
        (promotion.roles.iter().map(sign).collect::<Vec<_>>().join(" "), promotion.pairing)
    }

    #[test]
    fn one_by_one_up_to_two() {
        for (line, kept, roles, pairing) in [
            ("a=leader", false, "", false),
            // First it is kept, then it is done.
            ("a=leader b=worker c=worker", false, "", true),
            ("a=leader b=worker c=worker", true, "+b", true),
            ("a=leader b=promoted c=worker", true, "", true),
            ("a=leader b=joined c=worker", true, "", true),
            // It works: that is kept, and then the third one may come.
            ("a=leader b=manager c=worker", true, "", false),
            ("a=leader b=manager c=worker", false, "+c", false),
            ("a=leader b=manager c=manager", false, "", false),
            // One that does not answer is no reason to keep the third one waiting.
            ("a=leader b=manager c=joined d=worker", false, "", false),
            // Another one was to be a server before: it is not waited for.
            ("a=leader d=promoted b=worker", true, "-d", true),
            ("a=leader d=worker", false, "", false),
        ] {
            assert_eq!(promoted(line, kept), (roles.to_owned(), pairing), "{line}, {kept}");
        }
    }

    #[test]
    fn what_is_left_of_a_card_keeps_nobody_waiting() {
        let old = Node { state: "down".to_owned(), ..node("d", "promoted") };
        let nodes = [node("a", "leader"), old, node("b", "worker")];
        assert_eq!(promotion(&["a", "b"], &nodes, true).roles, [("b", NodeRole::Manager)]);
    }

    #[test]
    fn who_led_before_learns_what_came_of_it() {
        let work = |lines: &[(&str, &str)]| {
            let nodes: Vec<_> = lines.iter().map(|(id, what)| node(id, what)).collect();
            works_as_pair(&nodes)
        };
        assert!(!work(&[("a", "leader"), ("b", "promoted")]));
        assert!(!work(&[("a", "leader"), ("b", "joined")]));
        assert!(work(&[("a", "manager"), ("b", "leader")]));
        assert!(work(&[("a", "manager"), ("b", "leader"), ("c", "joined")]));
    }

    #[test]
    fn who_is_away_is_not_promoted() {
        let nodes = [node("a", "leader"), Node { state: "down".to_owned(), ..node("b", "worker") }, node("c", "worker")];
        assert_eq!(promotion(&["a", "b", "c"], &nodes, true).roles, [("c", NodeRole::Manager)]);
    }
}
