//! What is lost, and what comes back.

use std::time::Instant;

use hcl_firstboot::{
    consul::{Setup, acl, kv::Freshness, raft},
    identity::NodeId,
};

use super::agent::*;

#[test]
fn a_server_whose_data_are_lost_comes_back_as_itself() {
    let lab = Lab::new();
    let mut servers = lab.servers(3);
    let three = servers.pop().unwrap().stop();
    let one = &servers[0];
    retry("a value", || one.client.put("hcl/test", b"kept"));
    let wanted = [1, 2, 3].map(|number| NodeId([number; 16]));
    // Nobody is taken out for being away.
    retry("nothing", || one.client.clear_peers(&wanted, |node| node != wanted[2], &[]));
    assert_eq!(one.client.peers().unwrap().len(), 3);
    // Else it would vote again as if it had not voted.
    retry("taking it out", || one.client.clear_peers(&wanted, |_| true, &wanted[2..]));
    assert_eq!(one.client.peers().unwrap().len(), 2);
    raft::wipe(&three.places.data).unwrap();
    let three = lab.start(&three);
    wait_voters(one, 3);
    let peers = three.client.peers().unwrap();
    assert!(peers.iter().any(|peer| peer.node == Some(NodeId([3; 16])) && peer.address == format!("{}:8300", lab.address(3))));
    // What it has itself, whatever the others say.
    let own =
        wait("its own data", || three.client.raw("GET", "/v1/kv/hcl/test?raw&stale", None).ok().filter(|own| own.is_success()));
    assert_eq!(own.body, b"kept");
}

/// The card of a server is replaced: the board's name, another id and another address.
#[test]
fn a_server_whose_card_was_written_anew_takes_its_own_place() {
    let lab = Lab::new();
    let mut servers = lab.servers(3);
    let three = servers.pop().unwrap().stop();
    let one = &servers[0];
    one.wait_nodes("the loss", |nodes| {
        nodes.iter().any(|node| node.id == Some(NodeId([3; 16])) && !node.is_reached()).then_some(())
    });
    let new = lab.start(&Setup { node_name: three.node_name.clone(), ..lab.server(4) });
    wait("it is one of them", || {
        one.client.peers().ok().filter(|peers| peers.iter().any(|peer| peer.node == Some(NodeId([4; 16]))))
    });
    assert_eq!(one.client.peers().unwrap().len(), 4, "the old one counts until somebody says otherwise");
    let wanted = [1, 2, 4].map(|number| NodeId([number; 16]));
    retry("taking the old one out", || one.client.clear_peers(&wanted, |node| wanted.contains(&node), &[]));
    wait_voters(one, 3);
    let ids = |agent: &Agent| agent.client.peers().unwrap().iter().filter_map(|peer| Some(peer.node?.0[0])).collect::<Vec<_>>();
    for agent in [one, &new] {
        let mut found = ids(agent);
        found.sort_unstable();
        assert_eq!(found, [1, 2, 4]);
    }
    let listed = wait("one entry of that name", || {
        let nodes = one.client.nodes().ok()?;
        let of_name: Vec<_> = nodes.into_iter().filter(|node| node.name == three.node_name).collect();
        (of_name.len() == 1 && of_name[0].id == Some(NodeId([4; 16])) && of_name[0].is_reached()).then_some(of_name)
    });
    assert_eq!(listed[0].address, lab.address(4).to_string());
}

#[test]
fn the_last_server_of_three_goes_on_alone_when_it_is_told() {
    let lab = Lab::new();
    let mut servers = lab.servers(3);
    let one = &servers[0];
    retry("a value", || one.client.put("hcl/test", b"kept"));
    servers[1].kill();
    servers[2].kill();
    let one = servers.swap_remove(0);
    wait("the loss of the majority", || one.client.leader().unwrap().is_none().then_some(()));
    let refused = one.client.put("hcl/test", b"lost").unwrap_err();
    let setup = one.stop();
    // Only a majority makes a leader, started again or not.
    let one = lab.start(&setup);
    one.wait_log("starting election");
    assert_eq!(one.client.leader().unwrap(), None, "{refused}");
    one.stop();

    let since = Instant::now();
    assert!(raft::go_on_alone(&setup.places.data, (NodeId([1; 16]), lab.address(1))).unwrap());
    let one = lab.start(&setup);
    one.wait_leader();
    println!("figure: a server that goes on alone leads after {:.1} s", since.elapsed().as_secs_f32());
    let entry = retry("the value", || one.client.value("hcl/test", Freshness::Consistent)).unwrap();
    assert_eq!(entry.value, b"kept");
    assert!(acl::is_ready(&one.client, &lab.secrets).unwrap());
    assert_eq!(one.client.peers().unwrap().len(), 1);
    assert!(!setup.places.data.join("raft/peers.json").exists());
    // And the lab grows again.
    let _four = lab.start(&lab.server(4));
    wait_voters(&one, 2);
}

#[test]
fn a_client_whose_only_server_is_gone_founds_anew() {
    let lab = Lab::new();
    let mut servers = lab.servers(1);
    retry("a value", || servers[0].client.put("hcl/test", b"lost"));
    let two = lab.start(&lab.setup(2));
    two.wait_leader();
    servers[0].kill();
    two.stop();
    assert!(!raft::go_on_alone(&lab.setup(2).places.data, (NodeId([2; 16]), lab.address(2))).unwrap());
    let two = lab.start(&Setup { server: true, bootstrap: true, retry_join: Vec::new(), ..lab.setup(2) });
    lab.bootstrap(&two);
    assert!(acl::is_ready(&two.client, &lab.secrets).unwrap());
    assert_eq!(two.client.leader().unwrap(), Some(lab.address(2)));
    assert!(retry("looking for the value", || two.client.value("hcl/test", Freshness::Consistent)).is_none());
}

#[test]
fn all_off_and_on_in_another_order() {
    let lab = Lab::new();
    let servers = lab.servers(3);
    let four = lab.start(&lab.setup(4));
    let reached = |agent: &Agent, wanted: &[u8]| {
        agent.wait_nodes("those that are reached", |nodes| {
            let ids = nodes.iter().filter(|node| node.is_reached()).filter_map(|node| node.id).map(|id| id.0[0]);
            ids.eq(wanted.iter().copied()).then_some(())
        });
    };
    reached(&servers[0], &[1, 2, 3, 4]);
    let mut setups: Vec<_> = servers.into_iter().chain([four]).map(Agent::stop).collect();
    // What the founder was told once is told to nobody again.
    setups[0].bootstrap = false;
    let _four = lab.start(&setups[3]);
    let three = lab.start(&setups[2]);
    three.wait_log("starting election");
    assert_eq!(three.client.leader().unwrap(), None);
    let _two = lab.start(&setups[1]);
    let since = Instant::now();
    three.wait_leader();
    println!("figure: with a majority back there is a leader after {:.1} s", since.elapsed().as_secs_f32());
    reached(&three, &[2, 3, 4]);
    // The one that is still off counts, and is no longer listed: who belongs to the cluster is not what the catalog says.
    assert_eq!(retry("the servers", || three.client.peers()).len(), 3);
    let listed = three.client.nodes().unwrap();
    println!("figure: listed while node-1 is off: {:?}", listed.iter().map(|node| &node.name).collect::<Vec<_>>());
    let _one = lab.start(&setups[0]);
    reached(&three, &[1, 2, 3, 4]);
    assert_eq!(three.client.peers().unwrap().iter().filter(|peer| peer.voter).count(), 3);
}
