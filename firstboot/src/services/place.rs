//! The node's place in the network, from the status that `hcl-firstboot run` keeps.

use super::{plan::Place, report::Leader};
use crate::{
    identity::NodeId,
    record::MemberEntry,
    status::{MemberStatus, Status},
};

/// The place; none while the node has no address in a cluster.
pub(super) fn of(status: &Status) -> Option<Place> {
    if !status.is_ready() {
        return None;
    }
    let leads = status.role == "leader";
    Some(Place {
        incarnation: status.incarnation.as_ref()?.parse().ok()?,
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
    fn no_place() {
        assert_eq!(of(&Status { state: "faulted".into(), ..status("leader") }), None);
        assert_eq!(of(&Status { incarnation: None, ..status("leader") }), None);
        assert_eq!(of(&Status { address: None, ..status("leader") }), None);
        let nobody = Status { leader: None, ..status("none") };
        assert_eq!(of(&nobody).unwrap().leader, None);
    }
}
