//! The first server of a cluster.

use std::fs;

use hcl_firstboot::{
    consul::{
        Setup, acl,
        kv::{Freshness, If},
        raft, uuid,
    },
    identity::NodeId,
};

use super::agent::*;

#[test]
fn a_founder_bootstraps_once_and_comes_back_as_itself() {
    let lab = Lab::new();
    let agent = lab.start(&lab.founder());
    assert_eq!(agent.wait_leader(), agent.setup.address);
    let ready = || acl::is_ready(&agent.client, &lab.secrets).unwrap();
    wait("the management token", || agent.client.peers().ok());
    assert!(!ready());
    lab.bootstrap(&agent);
    assert!(ready());
    let policies = || agent.client.raw("GET", "/v1/acl/policies", None).unwrap().text();
    let before = policies();
    acl::bootstrap(&agent.client, &lab.secrets).unwrap();
    assert_eq!(policies(), before);
    let own = agent.client.own().unwrap();
    assert_eq!((own.name.as_str(), own.id, own.server, own.version.as_str()), ("node-1", Some(NodeId([1; 16])), true, "1.8.7"));
    agent.client.put("hcl/test", b"\x00\xff kept").unwrap();
    // With its own token an agent tells the catalog about itself.
    agent.wait_nodes("the founder, reached", |nodes| nodes.iter().find(|node| node.is_reached()).map(|_| ()));

    let setup = Setup { bootstrap: false, ..agent.stop() };
    let agent = lab.start(&setup);
    agent.wait_leader();
    let peers = retry("the servers", || agent.client.peers());
    let peers: Vec<_> = peers.iter().map(|peer| (peer.node, peer.leader, peer.voter, peer.address.clone())).collect();
    assert_eq!(peers, [(Some(NodeId([1; 16])), true, true, format!("{}:8300", lab.address(1)))]);
    let entry = retry("the value", || agent.client.value("hcl/test", Freshness::Consistent)).unwrap();
    assert_eq!(entry.value, b"\x00\xff kept");
    let nodes = agent.client.nodes().unwrap();
    assert_eq!(nodes.iter().map(|node| (node.name.as_str(), node.id)).collect::<Vec<_>>(), [("node-1", Some(NodeId([1; 16])))]);
    assert!(raft::has_state(&setup.places.data));

    // Its data are lost: never a second cluster by itself.
    agent.stop();
    raft::wipe(&setup.places.data).unwrap();
    assert!(!raft::has_state(&setup.places.data));
    let agent = lab.start(&setup);
    agent.wait_log("no known peers, aborting election");
    assert_eq!(agent.client.leader().unwrap(), None);
    // By the word of a person it founds anew, still as the same node.
    agent.stop();
    raft::wipe(&setup.places.data).unwrap();
    let agent = lab.start(&lab.founder());
    agent.wait_leader();
    lab.bootstrap(&agent);
    assert_eq!(agent.client.peers().unwrap()[0].id, uuid([1; 16]));
    assert_eq!(agent.client.value("hcl/test", Freshness::Consistent).unwrap(), None);
}

#[test]
fn bootstrapping_goes_on_where_it_was_cut_and_mends_what_differs() {
    let lab = Lab::new();
    let agent = lab.start(&lab.founder());
    let put = |path: &str, body: &str| {
        let done = agent.client.raw("PUT", path, Some(body.as_bytes())).unwrap();
        assert!(done.is_success(), "{}", done.text());
    };
    retry("a policy of another run", || {
        let policy = br#"{"Name": "hcl-read", "Rules": "node_prefix \"\" { policy = \"write\" }"}"#;
        let done = agent.client.raw("PUT", "/v1/acl/policy", Some(policy))?;
        let text = done.text();
        let no = |status| hcl_firstboot::consul::Error::Refused { what: "the policy".into(), status, text };
        if done.is_success() { Ok(()) } else { Err(no(done.status)) }
    });
    // A token of ours that may do everything.
    let read = lab.secrets.read.reveal();
    put("/v1/acl/token", &format!(r#"{{"SecretID": "{read}", "Policies": [{{"Name": "global-management"}}]}}"#));
    assert!(agent.without_token().put("user", b"").is_ok(), "the judge: so far anyone writes");
    acl::bootstrap(&agent.client, &lab.secrets).unwrap();
    let denied = wait("nobody writes", || agent.without_token().put("user", b"").err());
    assert!(denied.is_denied(), "{denied}");
    let denied =
        agent.without_token().raw("PUT", "/v1/catalog/register", Some(br#"{"Node": "a", "Address": "127.0.0.1"}"#)).unwrap();
    assert_eq!(denied.status, 403, "{}", denied.text());
}

#[test]
fn keys_and_values() {
    let lab = Lab::new();
    let agent = lab.start(&lab.founder());
    let client = &agent.client;
    let key = "hcl/a b/\u{e9}?%";
    retry("a value", || client.put(key, b"one"));
    assert!(!client.put_if(key, b"two", If::Absent).unwrap());
    let first = client.value(key, Freshness::Consistent).unwrap().unwrap();
    assert_eq!((first.key.as_str(), &first.value[..], &first.session), (key, &b"one"[..], &None));
    assert!(client.put_if(key, b"two", If::Unchanged(first.modified)).unwrap());
    assert!(!client.put_if(key, b"three", If::Unchanged(first.modified)).unwrap());
    client.put("hcl/z", b"").unwrap();
    assert_eq!(client.value("hcl/z", Freshness::Default).unwrap().unwrap().value, b"");
    assert_eq!(client.keys("hcl/").unwrap(), [key, "hcl/z"]);
    assert_eq!(client.keys("none/").unwrap(), Vec::<String>::new());

    assert!(!client.has_user_keys().unwrap());
    for user in ["user", "user/key"] {
        client.put(user, b"").unwrap();
        assert!(client.has_user_keys().unwrap(), "{user}");
        client.delete(user).unwrap();
        assert!(!client.has_user_keys().unwrap());
    }

    // A question that waits is answered when something changes, and for a key that is not there, too.
    let seen = client.watch("hcl/new", 0, LIMIT).unwrap();
    assert_eq!(seen.entry, None);
    let asking = client.clone();
    let waiting = std::thread::spawn(move || asking.watch("hcl/new", seen.index, LIMIT));
    client.put("hcl/new", b"came").unwrap();
    let came = waiting.join().unwrap().unwrap();
    assert_eq!(came.entry.map(|entry| entry.value), Some(b"came".to_vec()));
    assert!(came.index > seen.index);
    let unchanged = client.watch("hcl/new", came.index, std::time::Duration::from_millis(100)).unwrap();
    assert_eq!(unchanged.index, came.index);

    client.delete(key).unwrap();
    client.delete(key).unwrap();
    assert_eq!(client.value(key, Freshness::Default).unwrap(), None);
}

#[test]
fn it_listens_where_it_should() {
    let lab = Lab::new();
    let agent = lab.start(&lab.founder());
    agent.wait_leader();
    let output = std::process::Command::new("ss").args(["-Hlntup"]).output().expect("ss is needed: apt-get install iproute2");
    let text = String::from_utf8(output.stdout).unwrap();
    let ours = format!("pid={},", agent.pid());
    let mut found: Vec<(&str, &str)> = text
        .lines()
        .filter(|line| line.contains(&ours))
        .map(|line| line.split_whitespace().collect::<Vec<_>>())
        .map(|words| (words[0], words[4]))
        .collect();
    found.sort();
    let at = |port: u16| format!("{}:{port}", agent.setup.address);
    let (rpc, gossip, names) = (at(8300), at(8301), at(8600));
    let wanted: [(&str, &str); 5] = [("tcp", &rpc), ("tcp", &gossip), ("tcp", &names), ("udp", &gossip), ("udp", &names)];
    assert_eq!(found, wanted);
    use std::os::unix::fs::PermissionsExt;
    let mode = fs::metadata(&agent.setup.places.socket).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
}
