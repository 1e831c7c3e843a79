//! Three engines become a swarm, and one leaves it.

use std::{
    fs,
    time::{Duration, Instant},
};

use hcl_firstboot::{
    engine::{Availability, Engine, JoinSwarm, Node, NodeRole, Swarm, SwarmState},
    identity::NodeId,
    services::{
        anew::{CARD_LABEL, Card, old_entries},
        recover,
    },
};

use super::lab::{BOUND, Lab, refusal};

fn join(lab: &Lab, host: u8, managers: &[u8], token: &str) -> JoinSwarm {
    let managers = managers.iter().map(|manager| lab.address(*manager)).collect();
    JoinSwarm { address: lab.address(host), managers, token: token.to_owned() }
}

fn find(engine: &Engine, host: u8) -> Option<Node> {
    engine.nodes().unwrap().into_iter().find(|node| node.host_name == format!("node-{host}"))
}

/// The node of `host`, once `what` holds of it.
#[track_caller]
fn until(lab: &Lab, engine: &Engine, host: u8, what: impl Fn(&Node) -> bool) -> Node {
    lab.until(host, "was as the managers should see it", || find(engine, host).filter(&what))
}

/// The swarm, once its founder has a long certificate.
#[track_caller]
fn founded(lab: &Lab, host: u8, engine: &Engine) -> Swarm {
    let before = engine.swarm().unwrap().join_tokens;
    assert!(!engine.lengthen_certificate().unwrap(), "it was for ninety days");
    lab.until(host, "had a long certificate", || engine.lengthen_certificate().unwrap().then_some(()));
    let after = engine.swarm().unwrap();
    assert!(engine.join_tokens().unwrap().as_ref() == Some(&after.join_tokens) && after.join_tokens != before);
    after
}

fn is_manager(node: &Node) -> bool {
    node.is_ready() && node.manager.as_ref().is_some_and(|manager| manager.reachability == "reachable")
}

#[test]
fn three_become_one_and_part() {
    let mut lab = Lab::new();
    let [a, b, c] = [(); 3].map(|()| lab.engine());
    let [first, second, third] = [a, b, c].map(|host| lab.connect(host));

    let line = refusal(first.swarm());
    assert!(line.starts_with("looking at the swarm: the engine says: This node is not a swarm manager"), "{line}");
    first.leave_swarm().unwrap();
    let id = first.init_swarm(&lab.founding(a)).unwrap();
    let SwarmState::Manager { node_id, swarm_id: Some(swarm_id), trouble: None } = first.swarm_state().unwrap() else { panic!() };
    assert_eq!(node_id, id);
    let swarm = founded(&lab, a, &first);
    assert_eq!(swarm.id, swarm_id);
    let line = refusal(first.init_swarm(&lab.founding(a)));
    assert!(line.starts_with("founding a swarm: the engine says: This node is already part of a swarm"), "{line}");

    // A token with one character another one.
    let last = swarm.join_tokens.worker.len() - 1;
    let wrong = swarm.join_tokens.worker[..last].to_owned() + if swarm.join_tokens.worker.ends_with('0') { "1" } else { "0" };
    let line = refusal(second.join_swarm(&join(&lab, b, &[a], &wrong), BOUND));
    assert!(line.starts_with("joining a swarm: the engine says: ") && line.contains("join token"), "{line}");
    assert_eq!(second.swarm_state().unwrap(), SwarmState::None);

    let state = second.join_swarm(&join(&lab, b, &[a], &swarm.join_tokens.worker), BOUND).unwrap();
    let SwarmState::Worker { managers, node_id } = &state else { panic!("{state:?}") };
    assert_eq!((managers, second.swarm_state().unwrap()), (&vec![format!("{}:2377", lab.address(a))], state.clone()));
    assert_eq!(until(&lab, &first, b, Node::is_ready).id, *node_id);
    let state = third.join_swarm(&join(&lab, c, &[a], &swarm.join_tokens.manager), BOUND).unwrap();
    assert!(matches!(state, SwarmState::Manager { .. }), "{state:?}");
    until(&lab, &first, c, is_manager);
    let nodes = first.nodes().unwrap();
    let mut seen: Vec<_> = nodes.iter().map(|node| (node.host_name.as_str(), node.address.clone(), node.is_ready())).collect();
    seen.sort();
    let wanted = [(a, "node-1"), (b, "node-2"), (c, "node-3")].map(|(host, name)| (name, lab.address(host).to_string(), true));
    assert_eq!(seen, wanted);

    // Certificates for ten years, less the hour by which they are backdated.
    for host in [a, b, c] {
        let file = lab.at(host, "root/swarm/certificates/swarm-node.crt").display().to_string();
        let years = |count: u32| format!("openssl x509 -in {file} -noout -checkend {}", u64::from(count) * 31_536_000 - 86_400);
        lab.sh(&format!("! {} && {}", years(11), years(10)));
    }

    // A worker becomes a manager, and another one a worker again.
    assert!(first.set_role(node_id, NodeRole::Manager).unwrap());
    until(&lab, &first, b, is_manager);
    assert!(!first.set_role(node_id, NodeRole::Manager).unwrap(), "it is one");
    lab.until(b, "knew that it is a manager", || second.swarm().ok());
    let of_third = until(&lab, &first, c, is_manager).id;
    assert!(second.set_role(&of_third, NodeRole::Worker).unwrap());
    lab.until(c, "became a worker", || matches!(third.swarm_state().unwrap(), SwarmState::Worker { .. }).then_some(()));
    until(&lab, &first, c, |node| node.is_ready() && node.manager.is_none());

    assert!(first.set_labels(node_id, &[("hcl.role", "server"), ("hcl.arch", "armhf")]).unwrap());
    assert!(first.set_labels(node_id, &[("hcl.role", "follower")]).unwrap());
    assert!(!first.set_labels(node_id, &[("hcl.role", "follower")]).unwrap(), "it has it");
    let labels = find(&first, b).unwrap().labels.into_iter().map(|(name, value)| format!("{name}={value}"));
    assert_eq!(labels.collect::<Vec<_>>(), ["hcl.arch=armhf", "hcl.role=follower"]);
    assert_eq!(lab.docker(a, "node ls -q --filter node.label=hcl.role=follower"), *node_id);
    assert!(first.set_availability(node_id, Availability::Drain).unwrap());
    assert_eq!(find(&first, b).unwrap().availability, Availability::Drain);

    // One leaves, and is removed.
    third.leave_swarm().unwrap();
    third.leave_swarm().unwrap();
    assert_eq!(third.swarm_state().unwrap(), SwarmState::None);
    let line = refusal(first.remove_node(node_id));
    assert!(line.contains("is a cluster manager and is a member of the raft cluster"), "{line}");
    first.remove_node(&of_third).unwrap();
    first.remove_node(&of_third).unwrap();
    assert!(find(&first, c).is_none());

    // Whoever has the old tokens stays out.
    let rotated = first.rotate_tokens().unwrap();
    assert!(rotated.worker != swarm.join_tokens.worker && rotated.manager != swarm.join_tokens.manager);
    refusal(third.join_swarm(&join(&lab, c, &[a], &swarm.join_tokens.worker), BOUND));
    assert!(first.update_swarm(|spec| spec["Dispatcher"]["HeartbeatPeriod"] = 10_000_000_000_u64.into()).unwrap());
    assert!(!first.update_swarm(|spec| spec["Dispatcher"]["HeartbeatPeriod"] = 10_000_000_000_u64.into()).unwrap());

    // Half of two managers are no majority.
    lab.stop(b);
    let trouble = lab.until(a, "missed its majority", || match first.swarm_state().unwrap() {
        // At first it only notices that nobody answers.
        SwarmState::Manager { swarm_id: None, trouble, .. } => trouble.filter(|text| text.contains("does not have a leader")),
        _ => None,
    });
    assert!(!trouble.contains('\n'), "{trouble}");
    first.users_objects().unwrap_err();
    // A person decides that the other one is lost.
    // The engine gives itself twenty seconds for that, which a busy machine may miss.
    let kept = lab.until(a, "becomes a swarm of one", || recover::swarm(&first, &lab.founding(a)).ok());
    let SwarmState::Manager { swarm_id: same, trouble: None, .. } = first.swarm_state().unwrap() else { panic!() };
    assert_eq!((kept, same.as_ref()), (true, Some(&swarm_id)));
    // The power went before that was kept, and it is done again.
    assert!(lab.until(a, "is that once more", || recover::swarm(&first, &lab.founding(a)).ok()));
    let SwarmState::Manager { swarm_id: same, trouble: None, .. } = first.swarm_state().unwrap() else { panic!() };
    assert_eq!(same, Some(swarm_id));
    // Who is in none has nothing to go on with, and may found.
    assert!(!recover::swarm(&third, &lab.founding(c)).unwrap());
}

/// A card that lost the engine's state joins anew: the leader takes its entry of before out, a manager's too.
#[test]
fn the_entry_of_a_card_that_came_back_as_another_goes() {
    let mut lab = Lab::new();
    let [a, b, c] = [(); 3].map(|()| lab.engine());
    let [first, second, third] = [a, b, c].map(|host| lab.connect(host));
    first.init_swarm(&lab.founding(a)).unwrap();
    let tokens = founded(&lab, a, &first).join_tokens;
    for (host, engine) in [(b, &second), (c, &third)] {
        engine.join_swarm(&join(&lab, host, &[a], &tokens.manager), BOUND).unwrap();
        until(&lab, &first, host, is_manager);
    }
    let old = until(&lab, &first, c, is_manager).id;
    let node = NodeId([3; 16]);
    first.set_labels(&old, &[(CARD_LABEL, &node.to_string())]).unwrap();
    lab.stop(c);
    lab.sh(&format!("rm -r {}", lab.at(c, "root/swarm").display()));
    lab.start(c);
    let card = |swarm_id: Option<&str>| Card { node, name: "pi".into(), swarm_id: swarm_id.map(str::to_owned) };
    let old_ones = |card: Card| old_entries(&first.nodes().unwrap(), &[card]).into_iter().cloned().collect::<Vec<Node>>();
    lab.until(a, "misses it", || first.nodes().unwrap().iter().any(|node| node.id == old && node.state == "down").then_some(()));
    assert_eq!(old_ones(card(None)), [], "it is not in again");
    lab.connect(c).join_swarm(&join(&lab, c, &[a], &tokens.worker), BOUND).unwrap();
    let SwarmState::Worker { node_id: new, .. } = lab.connect(c).swarm_state().unwrap() else { panic!() };
    lab.until(a, "sees it", || first.nodes().unwrap().iter().any(|node| node.id == new && node.is_ready()).then_some(()));
    assert_eq!(old_ones(card(Some(&new))).iter().map(|node| node.id.as_str()).collect::<Vec<_>>(), [old.as_str()]);
    lab.until(a, "takes the old one out", || {
        let gone = old_ones(card(Some(&new))).iter().map(|node| first.forget_node(node)).collect::<Result<Vec<_>, _>>();
        gone.is_ok_and(|gone| gone.is_empty()).then_some(())
    });
    let mut left: Vec<_> = first.nodes().unwrap().into_iter().map(|node| (node.host_name, node.state)).collect();
    left.sort();
    assert_eq!(left, ["node-1", "node-2", "node-3"].map(|name| (name.to_owned(), "ready".to_owned())));
    assert!(first.set_role(&new, NodeRole::Manager).unwrap());
    until(&lab, &first, c, is_manager);
}

/// The second manager is counted, and never learned it: neither comes back by itself. The first one goes on, and the second one comes in.
#[test]
fn a_cut_while_the_second_manager_was_made() {
    let mut lab = Lab::new();
    let [a, b] = [(); 2].map(|()| lab.engine());
    let [first, second] = [a, b].map(|host| lab.connect(host));
    first.init_swarm(&lab.founding(a)).unwrap();
    let token = founded(&lab, a, &first).join_tokens.worker;
    second.join_swarm(&join(&lab, b, &[a], &token), BOUND).unwrap();
    lab.docker(a, "secret create kept /etc/hostname");
    let id = until(&lab, &first, b, Node::is_ready).id;
    assert!(first.set_role(&id, NodeRole::Manager).unwrap());
    until(&lab, &first, b, is_manager);
    lab.stop(b);
    lab.stop(a);
    lab.sh(&format!("rm -r {}", lab.at(b, "root/swarm/raft").display()));
    lab.start(a);
    lab.start(b);
    let [first, second] = [a, b].map(|host| lab.connect(host));
    let stranded = SwarmState::Pending { manager: true };
    let refused = |state: &SwarmState| matches!(state, SwarmState::Error(text) if text.contains("does not have a leader"));
    lab.until(b, "was refused", || Some(second.swarm_state().unwrap()).filter(refused));
    assert_eq!(first.swarm_state().unwrap(), stranded);
    lab.until(a, "goes on alone", || recover::swarm(&first, &lab.founding(a)).ok());
    assert!(matches!(first.swarm_state().unwrap(), SwarmState::Manager { swarm_id: Some(_), .. }));
    assert_eq!(lab.docker(a, "secret ls --format {{.Name}}"), "kept");
    // An engine that was refused as it started does not ask again.
    lab.stop(b);
    lab.start(b);
    let second = lab.connect(b);
    until(&lab, &first, b, is_manager);
    lab.until(b, "knew that it is a manager", || second.swarm().ok());
}

#[test]
fn joining_takes_its_time() {
    let mut lab = Lab::new();
    let [a, b] = [(); 2].map(|()| lab.engine());
    let [first, second] = [a, b].map(|host| lab.connect(host));
    first.init_swarm(&lab.founding(a)).unwrap();
    let token = first.swarm().unwrap().join_tokens.worker;
    // The manager goes away for the while.
    lab.on(a, "ip link set eth0 down");
    let start = Instant::now();
    let state = second.join_swarm(&join(&lab, b, &[a], &token), Duration::from_secs(1)).unwrap();
    assert_eq!(state, SwarmState::Pending { manager: false }, "after {:?}", start.elapsed());
    assert!(start.elapsed() < BOUND);
    lab.on(a, "ip link set eth0 up");
    let state = lab.until(b, "went on joining", || Some(second.swarm_state().unwrap()).filter(SwarmState::is_active));
    assert!(matches!(state, SwarmState::Worker { .. }));
    assert!(fs::exists(lab.at(b, "root/swarm/certificates/swarm-node.crt")).unwrap());
    until(&lab, &first, b, Node::is_ready);
    // A worker whose only manager is gone for good leaves, and founds.
    lab.stop(a);
    assert!(!recover::swarm(&second, &lab.founding(b)).unwrap());
    assert_eq!(second.swarm_state().unwrap(), SwarmState::None);
    second.init_swarm(&lab.founding(b)).unwrap();
    assert!(matches!(second.swarm_state().unwrap(), SwarmState::Manager { .. }));
}
