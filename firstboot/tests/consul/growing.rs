//! More nodes: servers and others.

use std::time::{Duration, Instant};

use hcl_firstboot::{
    consul::{
        catalog::{Gossip, State},
        kv::If,
        servers::{Wanted, plan},
    },
    identity::NodeId,
};

use super::agent::*;

fn ids(numbers: &[u8]) -> Vec<NodeId> {
    numbers.iter().map(|number| NodeId([*number; 16])).collect()
}

#[test]
fn one_server_becomes_three_by_a_list_that_is_kept_first() {
    let lab = Lab::new();
    let one = lab.start(&lab.founder());
    lab.bootstrap(&one);
    let client = &one.client;
    assert_eq!(client.wanted_servers().unwrap(), Wanted { nodes: Vec::new(), condition: If::Absent });
    assert!(client.want_servers(&ids(&[1]), If::Absent).unwrap());
    assert!(!client.want_servers(&ids(&[1]), If::Absent).unwrap());

    // Two that only join.
    let (two, three) = (lab.start(&lab.setup(2)), lab.start(&lab.setup(3)));
    let healthy = one.wait_nodes("three that are reached", |nodes| {
        let reached: Vec<NodeId> = nodes.iter().filter(|node| node.is_reached()).filter_map(|node| node.id).collect();
        (reached.len() == 3).then_some(reached)
    });
    assert_eq!(client.peers().unwrap().len(), 1);
    let wanted = client.wanted_servers().unwrap();
    let next = plan(&wanted.nodes, 3, 3, &healthy).unwrap();
    assert_eq!(next, ids(&[1, 2, 3]));
    assert!(client.want_servers(&next, wanted.condition).unwrap());

    // The second one follows; the power goes before the third does, and for all of them.
    let stopped = two.stop();
    let two = lab.start(&lab.server(2));
    wait("a second server", || client.peers().ok().filter(|peers| peers.len() == 2));
    let mut all = [one, two, three];
    all.iter_mut().for_each(Agent::kill);
    assert!(!stopped.server);
    let one = lab.start(&lab.server(1));
    let two = lab.start(&lab.server(2));
    one.wait_leader();
    assert_eq!(retry("the list", || two.client.wanted_servers()).nodes, ids(&[1, 2, 3]));
    let three = lab.start(&lab.server(3));
    wait_voters(&one, 3);
    wait("all of them well", || two.client.health().ok().filter(|health| health.healthy && health.failure_tolerance == 1));
    assert_eq!(three.client.peers().unwrap().iter().filter(|peer| peer.leader).count(), 1);
}

#[test]
fn nodes_and_engines_come_and_go() {
    let lab = Lab::new();
    let servers = lab.servers(3);
    let mut four = lab.start(&lab.setup(4));
    let one = &servers[0];
    one.wait_nodes("four that are reached", |nodes| (nodes.iter().filter(|node| node.is_reached()).count() == 4).then_some(()));
    let members = four.client.members().unwrap();
    let members: Vec<_> =
        members.iter().map(|member| (member.id.unwrap().0[0], member.state == Gossip::Alive, member.server)).collect();
    assert_eq!(members, [(1, true, true), (2, true, true), (3, true, true), (4, true, false)]);

    // Its engine, told with the token of the agents.
    let telling = four.client.with_token(&lab.secrets.agent);
    assert!(telling.beat(State::Passing, "it answers").is_err(), "nothing was registered");
    telling.register_engine(Duration::from_secs(10)).unwrap();
    let engine = |state: State| {
        one.wait_nodes("the engine", |nodes| {
            let node = nodes.iter().find(|node| node.name == "node-4")?;
            node.engine().filter(|check| check.state == state).map(|check| check.output.clone())
        })
    };
    engine(State::Critical);
    telling.beat(State::Passing, "it answers").unwrap();
    assert_eq!(engine(State::Passing), "it answers");
    telling.beat(State::Warning, "it is slow").unwrap();
    engine(State::Warning);
    telling.register_engine(Duration::from_secs(10)).unwrap();
    telling.beat(State::Passing, "it answers").unwrap();
    engine(State::Passing);
    // Nobody tells any more.
    let since = Instant::now();
    engine(State::Critical);
    println!("figure: an engine of which nobody tells is critical after {:.1} s (10 s)", since.elapsed().as_secs_f32());

    let since = Instant::now();
    four.kill();
    one.wait_nodes("a node that went", |nodes| {
        nodes.iter().any(|node| node.name == "node-4" && !node.is_reached()).then_some(())
    });
    println!("figure: a node without power is shown as away after {:.1} s", since.elapsed().as_secs_f32());

    let since = Instant::now();
    let four = lab.start(&four.setup);
    one.wait_nodes("a node that came back", |nodes| {
        nodes.iter().any(|node| node.name == "node-4" && node.is_reached()).then_some(())
    });
    println!("figure: a node that came back is shown after {:.1} s", since.elapsed().as_secs_f32());

    // A person removes it.
    four.stop();
    retry("forgetting a node", || one.client.forget("node-4"));
    one.wait_nodes("three nodes", |nodes| (nodes.len() == 3).then_some(()));
    wait("three members", || one.client.members().ok().filter(|members| members.len() == 3));
}
