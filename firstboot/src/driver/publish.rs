//! From the node's summary to the status file: instants become times since the boot.

use std::time::{Duration, Instant};

use crate::{
    config::{NodeConfig, Vlan},
    node::{Role, Summary},
    status::{self, GrantStatus, LeaderStatus, LeaseStatus, MemberStatus, Status},
    trouble::{Kind, Trouble},
};

/// The status of a node with `summary`; `complaints` are the driver's own.
pub(super) fn status(config: &NodeConfig, summary: Summary, complaints: impl IntoIterator<Item = String>) -> Status {
    let complaints: Vec<String> = complaints.into_iter().collect();
    // The driver knows better what is wrong with a key.
    let trouble = summary.trouble.map(|trouble| match (trouble.kind, complaints.first()) {
        (Kind::Key, Some(reason)) => Trouble::new(Kind::Key, reason.clone()),
        _ => trouble,
    });
    let clock = Clock { now: Instant::now(), uptime: Duration::from_millis(status::uptime_ms()) };
    let at = |instant| clock.uptime_ms(instant);
    Status {
        version: crate::VERSION.to_owned(),
        pid: std::process::id(),
        cluster: config.cluster.to_string(),
        state: summary.link.state.to_owned(),
        reason: summary.link.reason,
        since_uptime_ms: at(summary.link.since),
        interface: summary.link.interface,
        vlan: match config.vlan {
            Vlan::Off => None,
            Vlan::Id(id) => Some(id.number()),
        },
        cluster_interface: summary.link.cluster_interface,
        node: summary.node.to_string(),
        cluster_id: summary.cluster.map(|cluster| cluster.to_string()),
        phase: summary.phase.to_owned(),
        phase_reason: summary.reason,
        phase_since_uptime_ms: at(summary.since),
        role: match summary.role {
            Role::None => "none",
            Role::Follower => "follower",
            Role::Leader => "leader",
        }
        .to_owned(),
        incarnation: summary.incarnation.map(|incarnation| incarnation.to_string()),
        provisional: summary.provisional,
        address: summary.address,
        leader: summary.leader.map(|leader| LeaderStatus {
            name: leader.name,
            address: leader.address,
            heard_uptime_ms: leader.heard.map(at),
        }),
        grant: summary.grant.map(|grant| GrantStatus { index: grant.index, until_uptime_ms: at(grant.until) }),
        waits_for_grant: summary.waits_for_grant,
        lease: summary.lease.map(|lease| LeaseStatus {
            server: lease.server,
            renew_uptime_ms: at(lease.renew_at),
            rebind_uptime_ms: at(lease.rebind_at),
            ends_uptime_ms: at(lease.ends_at),
        }),
        members: summary
            .members
            .into_iter()
            .map(|member| MemberStatus {
                name: member.name,
                address: member.address,
                node: member.node.to_string(),
                heard_uptime_ms: member.heard.map(at),
            })
            .collect(),
        strangers: summary.strangers,
        complaints: summary.complaints.into_iter().chain(complaints).collect(),
        trouble,
    }
}

/// One moment on both clocks.
struct Clock {
    now: Instant,
    uptime: Duration,
}

impl Clock {
    fn uptime_ms(&self, at: Instant) -> u64 {
        let ahead = at.saturating_duration_since(self.now);
        let behind = self.now.saturating_duration_since(at);
        (self.uptime + ahead).saturating_sub(behind).as_millis() as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn instants_before_and_after() {
        let now = Instant::now() + Duration::from_secs(60);
        let clock = Clock { now, uptime: Duration::from_secs(9) };
        assert_eq!(clock.uptime_ms(now), 9_000);
        assert_eq!(clock.uptime_ms(now + Duration::from_millis(1500)), 10_500);
        assert_eq!(clock.uptime_ms(now - Duration::from_millis(1500)), 7_500);
        assert_eq!(clock.uptime_ms(now - Duration::from_secs(20)), 0);
    }
}
