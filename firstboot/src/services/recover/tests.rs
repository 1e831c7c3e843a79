use super::*;
use crate::{
    identity::{Hardware, Incarnation},
    services::kept::Server,
    status::{LeaderStatus, MemberStatus},
};

const NOW: u64 = 1_000_000;
const OWN: NodeId = NodeId([2; 16]);
const SERVER: NodeId = NodeId([1; 16]);
const BEFORE: Incarnation = Incarnation([5; 16]);

fn worker() -> SwarmState {
    SwarmState::Worker { node_id: "b".into(), managers: Vec::new() }
}

fn manager() -> SwarmState {
    SwarmState::Manager { node_id: "b".into(), swarm_id: None, trouble: Some("no leader".into()) }
}

/// A member whose only server has been silent for long.
fn orphan() -> Facts {
    let member = |node: NodeId, last: u8, heard: Option<u64>| MemberStatus {
        name: format!("node-{last}"),
        address: [192, 168, 200, last].into(),
        node: node.to_string(),
        heard_uptime_ms: heard,
    };
    let membership = Membership {
        cluster: "0011".into(),
        incarnation: BEFORE,
        address: Some([192, 168, 200, 12].into()),
        provisional: true,
        ledger: None,
        granted: None,
        replaces: None,
    };
    let status = Status {
        state: "ready".into(),
        phase: "following".into(),
        role: "follower".into(),
        node: OWN.to_string(),
        leader: Some(LeaderStatus {
            name: "node-11".into(),
            address: [192, 168, 200, 1].into(),
            heard_uptime_ms: Some(NOW - 60_000),
        }),
        members: vec![
            member(SERVER, 11, Some(NOW - 60_000)),
            member(OWN, 12, None),
            member(NodeId([3; 16]), 13, Some(NOW - 9_000)),
        ],
        ..Status::default()
    };
    let servers = vec![Server { node: SERVER, address: [192, 168, 200, 11].into() }];
    Facts {
        record: Record { membership: Some(membership), ..Record::new(OWN, Hardware::default()) },
        status,
        uptime_ms: NOW,
        kept: Kept { progress: Progress::Joined { server: false }, servers, ..Kept::new(BEFORE, OWN) },
        swarm: Some(worker()),
        swarm_led: false,
        consul_state: false,
        consul_led: false,
    }
}

/// The only server, which has lost its part of the swarm.
fn bereft() -> Facts {
    let mut facts = orphan();
    facts.status.role = "leader".into();
    facts.kept.progress = Progress::Founding { swarm: true, consul: true };
    facts.kept.servers = vec![Server { node: OWN, address: [192, 168, 200, 12].into() }];
    (facts.swarm, facts.consul_state, facts.consul_led) = (Some(SwarmState::None), true, true);
    facts
}

#[test]
fn an_orphan_founds_anew() {
    let facts = orphan();
    let Recovery { membership, kept, lines } = plan(&facts, [9; 16]).unwrap();
    assert!(membership.incarnation > BEFORE && membership.leads_by_right() && !membership.provisional);
    assert_eq!((membership.replaces, membership.address), (Some(BEFORE), Some([192, 168, 200, 12].into())));
    // Itself and who is there keep their addresses; who is gone is not missed for ever.
    let names: Vec<_> = membership.ledger.unwrap().members.into_iter().map(|member| member.name).collect();
    assert_eq!(names, ["node-12", "node-13"]);
    assert_eq!(kept, Kept { progress: Progress::Recovering, alone: true, ..Kept::new(membership.incarnation, OWN) });
    assert!(lines[0].contains("LOST") && lines[1].contains("all its keys are LOST"), "{lines:?}");
}

#[test]
fn a_server_goes_on_with_what_it_has() {
    let mut facts = orphan();
    (facts.swarm, facts.consul_state) = (Some(manager()), true);
    facts.kept.progress = Progress::Joined { server: true };
    facts.kept.servers.push(Server { node: OWN, address: [192, 168, 200, 12].into() });
    let lines = plan(&facts, [9; 16]).unwrap().lines;
    assert!(lines[0].contains("stay, as this manager has them") && lines[1].contains("keys and tokens stay"), "{lines:?}");
    let lines = plan(&bereft(), [9; 16]).unwrap().lines;
    assert!(lines[0].contains("LOST") && lines[1].contains("keys and tokens stay"), "{lines:?}");
    // One that was cut short is done again.
    let mut again = bereft();
    (again.kept.progress, again.swarm, again.swarm_led) = (Progress::Recovering, Some(manager()), true);
    plan(&again, [9; 16]).unwrap();
}

#[test]
fn where_it_is_not_the_cure() {
    type Case = (fn() -> Facts, fn(&mut Facts), &'static str);
    let cases: [Case; 12] = [
        (orphan, |facts| facts.record.membership = None, "belongs to no cluster yet"),
        (orphan, |facts| facts.record.membership.as_mut().unwrap().address = None, "belongs to no cluster yet"),
        (orphan, |facts| facts.status.state = "searching".into(), "the network is not ready"),
        (orphan, |facts| facts.status.phase = "dormant".into(), "another cluster of the same key"),
        (
            orphan,
            |facts| facts.status.leader.as_mut().unwrap().heard_uptime_ms = Some(NOW - 59_000),
            "node-11 leads, and was heard in the last minute",
        ),
        (orphan, |facts| facts.swarm = None, "the engine does not answer"),
        (orphan, |facts| facts.status.phase_since_uptime_ms = NOW - 59_000, "only just begun"),
        (orphan, |facts| facts.consul_led = true, "Consul's servers are a majority"),
        (orphan, |facts| (facts.swarm, facts.swarm_led) = (Some(manager()), true), "the swarm's managers are a majority"),
        (
            orphan,
            |facts| facts.status.members[0].heard_uptime_ms = Some(NOW - 59_000),
            "the server at 192.168.200.11, which has the cluster's state, is there",
        ),
        (bereft, |facts| (facts.swarm, facts.swarm_led) = (Some(manager()), true), "nothing of the cluster is lost"),
        (
            bereft,
            |facts| facts.kept.servers.push(Server { node: SERVER, address: [192, 168, 200, 11].into() }),
            "other servers are there",
        ),
    ];
    for (facts, change, why) in cases {
        let mut facts = facts();
        plan(&facts, [9; 16]).unwrap();
        change(&mut facts);
        let refused = plan(&facts, [9; 16]).unwrap_err();
        assert!(refused.contains(why), "{why}: {refused}");
    }
}
