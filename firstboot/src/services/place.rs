//! The node's place in the network, from the status that `hcl-firstboot run` keeps.

use super::{plan::Place, report::Leader};
use crate::{
    identity::NodeId,
    record::MemberEntry,
    status::{MemberStatus, Status},
    view::{self, View},
};

/// The place; none while the node has no address in a cluster.
pub(super) fn of(status: &Status) -> Option<Place> {
    if !status.is_ready() {
        return None;
    }
    let leads = status.role == "leader";
    Some(Place {
        incarnation: status.incarnation.as_ref()?.parse().ok()?,
        node: status.node.parse().ok()?,
        address: status.address?,
        leads,
        leader: if leads { None } else { leader(status).map(|leader| leader.address) },
    })
}

/// Where the leader is asked: at its own address, which its certificate names, not at the role's.
pub(super) fn leader(status: &Status) -> Option<Leader> {
    let name = &status.leader.as_ref()?.name;
    let member = status.members.iter().find(|member| member.name == *name)?;
    Some(Leader { node: member.node.parse().ok()?, address: member.address })
}

/// The members as the ledger has them.
pub(super) fn members(status: &Status) -> Vec<MemberEntry> {
    let entry = |member: &MemberStatus| {
        let node: NodeId = member.node.parse().ok()?;
        Some(MemberEntry { node, address: member.address, name: member.name.clone() })
    };
    status.members.iter().filter_map(entry).collect()
}

/// All members that are known: those of the ledger or heard, and those of the leader's view.
pub(super) fn all_members(status: &Status, view: Option<&View>) -> Vec<MemberEntry> {
    let mut all = members(status);
    for node in view.iter().flat_map(|view| &view.nodes) {
        let (Ok(id), Ok(address)) = (node.id.parse(), node.address.parse()) else { continue };
        if all.iter().all(|member| member.node != id && member.address != address) {
            all.push(MemberEntry { node: id, address, name: node.name.clone() });
        }
    }
    all
}

/// This node's name: as the ledger has it, and before that its host name.
pub(crate) fn own_name(status: &Status) -> String {
    let own = status.members.iter().find(|member| member.node == status.node).map(|member| member.name.clone());
    own.unwrap_or_else(|| rustix::system::uname().nodename().to_string_lossy().into_owned())
}

/// Who leads, this node included.
pub(super) fn leading(status: &Status) -> Option<NodeId> {
    if status.role == "leader" { status.node.parse().ok() } else { leader(status).map(|leader| leader.node) }
}

/// What a node without a leader's view can say of the others: who they are, and when it heard them. `own` is itself.
pub(super) fn nodes(status: &Status, own: &view::Node, now_ms: u64) -> Vec<view::Node> {
    let node = |member: &MemberStatus| {
        if member.node == own.id {
            return own.clone();
        }
        view::Node {
            name: member.name.clone(),
            id: member.node.clone(),
            address: member.address.to_string(),
            // Of those that were heard Consul's gossip says more.
            state: if member.heard_uptime_ms.is_some() { view::State::Starting } else { view::State::Silent },
            heard_ms_ago: member.heard_uptime_ms.map(|heard| now_ms.saturating_sub(heard)),
            ..view::Node::default()
        }
    };
    let mut nodes: Vec<_> = status.members.iter().map(node).collect();
    if !status.members.iter().any(|member| member.node == own.id) {
        nodes.push(own.clone());
    }
    nodes.sort_by(|a, b| a.name.cmp(&b.name));
    nodes
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::status::LeaderStatus;

    fn status(role: &str) -> Status {
        let member = |last: u8, name: &str| MemberStatus {
            name: name.into(),
            address: [192, 168, 200, last].into(),
            node: format!("{last:032x}"),
            heard_uptime_ms: None,
        };
        Status {
            state: "ready".into(),
            node: format!("{:032x}", 10),
            role: role.into(),
            incarnation: Some(format!("{:032x}", 7)),
            address: Some([192, 168, 200, 10].into()),
            leader: Some(LeaderStatus { name: "node-b".into(), address: [192, 168, 200, 1].into(), heard_uptime_ms: None }),
            members: vec![member(10, "node-a"), member(11, "node-b")],
            ..Status::default()
        }
    }

    #[test]
    fn the_leader_is_asked_at_its_own_address() {
        let place = of(&status("follower")).unwrap();
        assert_eq!((place.leads, place.leader), (false, Some([192, 168, 200, 11].into())));
        assert_eq!(leader(&status("follower")).unwrap().node.to_string(), format!("{:032x}", 11));
        let place = of(&status("leader")).unwrap();
        assert_eq!((place.leads, place.leader), (true, None));
        assert_eq!(members(&status("leader")).len(), 2);
    }

    #[test]
    fn all_who_are_known() {
        let node = |last: u8, name: &str| crate::view::Node {
            name: name.into(),
            id: format!("{last:032x}"),
            address: format!("192.168.200.{last}"),
            ..crate::view::Node::default()
        };
        let view = View { nodes: vec![node(11, "node-b"), node(12, "node-c"), crate::view::Node::default()], ..View::default() };
        let names = |view| all_members(&status("follower"), view).into_iter().map(|member| member.name).collect::<Vec<_>>();
        assert_eq!(names(None), ["node-a", "node-b"]);
        assert_eq!(names(Some(&view)), ["node-a", "node-b", "node-c"]);
        let own = Status { node: format!("{:032x}", 10), ..status("leader") };
        assert_eq!(leading(&own).unwrap().to_string(), own.node);
        assert_eq!(leading(&status("follower")).unwrap().to_string(), format!("{:032x}", 11));
        assert_eq!(leading(&Status { leader: None, ..status("none") }), None);
    }

    #[test]
    fn who_belongs_without_a_leader() {
        let mut status = status("follower");
        let own =
            view::Node { name: "node-a".into(), id: format!("{:032x}", 10), state: view::State::Ready, ..view::Node::default() };
        let seen = |status: &Status| {
            nodes(status, &own, 50_000).into_iter().map(|node| (node.name, node.state, node.heard_ms_ago)).collect::<Vec<_>>()
        };
        let expected = |state, ago| [("node-a".to_owned(), view::State::Ready, None), ("node-b".to_owned(), state, ago)];
        assert_eq!(seen(&status), expected(view::State::Silent, None));
        status.members[1].heard_uptime_ms = Some(40_000);
        assert_eq!(seen(&status), expected(view::State::Starting, Some(10_000)));
        // Before it knows itself.
        assert_eq!(nodes(&Status::default(), &own, 0), std::slice::from_ref(&own));
    }

    #[test]
    fn no_place() {
        assert_eq!(of(&Status { state: "faulted".into(), ..status("leader") }), None);
        assert_eq!(of(&Status { incarnation: None, ..status("leader") }), None);
        assert_eq!(of(&Status { address: None, ..status("leader") }), None);
        let nobody = Status { leader: None, ..status("none") };
        assert_eq!(of(&nobody).unwrap().leader, None);
    }
}
