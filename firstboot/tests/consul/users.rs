//! Users of the cluster's Docker endpoint, and the token of those that serve it.

use std::time::Duration;

use hcl_firstboot::consul::{keys, kv::If, users::Rule};

use super::agent::*;

#[test]
fn users_are_added_removed_and_watched() {
    let lab = Lab::new();
    let agent = lab.start(&lab.founder());
    lab.bootstrap(&agent);
    let ada = "ada".parse().unwrap();
    assert!(agent.client.users().unwrap().is_empty());
    assert!(!agent.client.has_user_keys().unwrap());
    assert!(agent.client.change_user(&ada, |rule| rule.add("aa")).unwrap().1);
    assert!(!agent.client.change_user(&ada, |rule| rule.add("aa")).unwrap().1, "it is there");
    assert!(agent.client.has_user_keys().unwrap(), "who may not come in is not to be forgotten");

    // What a server does: it waits for a change, with its own token.
    let serving = agent.client.with_token(&lab.secrets.swarm);
    let key = format!("{}ada", keys::USERS);
    let seen = serving.watch(&key, 0, Duration::ZERO).unwrap();
    let watcher = std::thread::spawn(move || serving.watch(&key, seen.index, Duration::from_secs(60)).unwrap());
    assert!(agent.client.change_user(&ada, Rule::remove).unwrap().1);
    let rule: Rule = serde_json::from_slice(&watcher.join().unwrap().entry.unwrap().value).unwrap();
    assert!(rule.is_out());
    // From a node without a server, with the token that every node derives.
    let member = lab.start(&lab.setup(2));
    retry("the change by a member", || member.client.change_user(&ada, |rule| rule.add("bb")));
    let users = agent.client.users().unwrap();
    assert_eq!((users[&ada].removed, users[&ada].kept.clone()), (true, vec!["bb".to_owned()]));
    assert!(agent.client.change_user(&"kim".parse().unwrap(), Rule::remove).unwrap().0.is_out(), "nobody need have been added");
    assert_eq!(agent.client.users().unwrap().len(), 2);

    // Two at once: both are in it.
    let others: Vec<_> = (0..4)
        .map(|number| {
            let (client, ada) = (agent.client.clone(), ada.clone());
            std::thread::spawn(move || client.change_user(&ada, |rule| rule.add(&format!("c{number}"))))
        })
        .collect();
    let done = others.into_iter().map(|other| other.join().unwrap()).filter(Result::is_ok).count();
    assert_eq!(agent.client.users().unwrap()[&ada].kept.len(), 1 + done, "nothing that was promised is lost");
    // Something else in its place is no reason to let anybody in unseen.
    agent.client.put(&format!("{}ada", keys::USERS), b"?").unwrap();
    assert!(agent.client.change_user(&ada, Rule::remove).is_err());
}

#[test]
fn what_the_endpoints_token_may() {
    let lab = Lab::new();
    let agent = lab.start(&lab.founder());
    lab.bootstrap(&agent);
    agent.wait_nodes("the founder", |nodes| nodes.iter().any(|node| node.is_reached()).then_some(()));
    agent.client.put(keys::LEADER, b"somebody").unwrap();
    agent.client.put(keys::LEDGER, b"addresses").unwrap();
    agent.client.put("hcl/users/ada", b"{}").unwrap();
    agent.client.put("mine", b"of a user's").unwrap();
    let serving = agent.client.with_token(&lab.secrets.swarm);
    let asked = |method: &str, path: &str, body: &str| {
        let answer = serving.raw(method, path, (method != "GET").then_some(body.as_bytes())).unwrap();
        (answer.is_success(), answer.text())
    };
    let service = r#"{"ID":"node-1:web:8080","Name":"web","Address":"192.168.200.77","Port":8080,"Check":{"TCP":"127.0.0.1:1","Interval":"10s"}}"#;
    for (method, path, body) in [
        ("GET", "/v1/health/service/hcl-engine", ""),
        ("GET", "/v1/catalog/nodes", ""),
        ("GET", "/v1/agent/services", ""),
        ("GET", "/v1/kv/hcl/leader", ""),
        ("GET", "/v1/kv/hcl/users/?recurse", ""),
        ("PUT", "/v1/agent/service/register", service),
        ("PUT", "/v1/agent/service/deregister/node-1:web:8080", ""),
    ] {
        let (done, text) = asked(method, path, body);
        assert!(done, "{method} {path}: {text}");
    }
    assert!(asked("GET", "/v1/catalog/nodes", "").1.contains("node-1"), "it sees nodes");
    for (method, path, body) in [
        ("PUT", "/v1/kv/hcl/users/ada", "{}"),
        ("PUT", "/v1/kv/hcl/leader", "me"),
        ("DELETE", "/v1/kv/hcl/users/ada", ""),
        ("GET", "/v1/kv/hcl/ledger", ""),
        ("GET", "/v1/kv/mine", ""),
        ("PUT", "/v1/session/create", "{}"),
        ("GET", "/v1/acl/tokens", ""),
        ("PUT", "/v1/agent/leave", ""),
        ("PUT", "/v1/catalog/deregister", r#"{"Node":"node-1"}"#),
    ] {
        let (done, text) = asked(method, path, body);
        assert!(!done, "{method} {path}: {text}");
    }
    let kept = agent.client.put_if("hcl/users/ada", b"{}", If::Absent).unwrap();
    assert!(!kept, "it is still there");
}
