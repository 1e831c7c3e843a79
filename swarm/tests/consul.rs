//! Our part of Consul against a real Consul 1.8.7 with the node program's own configuration, on addresses of the loopback interface.
//!
//! The judge is Debian's program, which `scripts/consul` fetches; without it these tests fail.

#![cfg(target_os = "linux")]

#[allow(dead_code, reason = "other tests need more of it")]
#[path = "../../firstboot/tests/consul/agent.rs"]
mod agent;

use std::{
    collections::BTreeMap,
    future::Future,
    net::SocketAddrV4,
    time::{Duration, Instant},
};

use agent::{Agent, LIMIT, Lab};
use hcl_swarm::consul::{Client, Error, Freshness, If, Instance, Service, State, TcpCheck, Token};
use tokio::time::{sleep, timeout};

/// With the right to do anything.
fn client(agent: &Agent, lab: &Lab) -> Client {
    let token = Token::new(lab.secrets.management.reveal()).unwrap();
    Client::new(&agent.setup.places.socket, Some(token))
}

/// With the right to tell of nodes and services, as on a node.
fn agents(agent: &Agent, lab: &Lab) -> Client {
    Client::new(&agent.setup.places.socket, Some(Token::new(lab.secrets.agent.reveal()).unwrap()))
}

fn founded(lab: &Lab) -> Agent {
    let agent = lab.start(&lab.founder());
    agent.wait_leader();
    lab.bootstrap(&agent);
    agent.wait_nodes("the founder, reached", |nodes| nodes.iter().find(|node| node.is_reached()).map(|_| ()));
    agent
}

/// Waits until `look` finds something.
async fn until<T, F: Future<Output = Option<T>>>(what: &str, mut look: impl FnMut() -> F) -> T {
    let end = Instant::now() + LIMIT;
    loop {
        if let Some(found) = look().await {
            return found;
        }
        assert!(Instant::now() < end, "waited for {what}");
        sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn keys_and_values() {
    let lab = Lab::new();
    let agent = founded(&lab);
    let consul = client(&agent, &lab);
    assert_eq!(consul.value("hcl/users/anna", Freshness::Default).await.unwrap(), None);
    assert_eq!(consul.entries("hcl/users/", Freshness::Stale).await.unwrap(), []);
    assert!(consul.put_if("hcl/users/anna", &b"\x00\xff"[..], If::Absent).await.unwrap());
    assert!(!consul.put_if("hcl/users/anna", "other", If::Absent).await.unwrap());
    let entry = consul.value("hcl/users/anna", Freshness::Consistent).await.unwrap().unwrap();
    assert_eq!((entry.key.as_str(), &entry.value[..], &entry.session), ("hcl/users/anna", &b"\x00\xff"[..], &None));
    assert!(consul.put_if("hcl/users/anna", "second", If::Unchanged(entry.modified)).await.unwrap());
    assert!(!consul.put_if("hcl/users/anna", "third", If::Unchanged(entry.modified)).await.unwrap());
    consul.put("hcl/users/b c?d", "").await.unwrap();
    consul.put("hcl/usersother", "x").await.unwrap();
    let entries = consul.entries("hcl/users/", Freshness::Consistent).await.unwrap();
    let entries: Vec<_> = entries.iter().map(|entry| (entry.key.as_str(), &entry.value[..])).collect();
    assert_eq!(entries, [("hcl/users/anna", &b"second"[..]), ("hcl/users/b c?d", b"")]);
    assert!(!consul.delete_if("hcl/users/anna", entry.modified).await.unwrap());
    consul.delete("hcl/users/anna").await.unwrap();
    consul.delete("hcl/users/anna").await.unwrap();
    assert_eq!(consul.value("hcl/users/anna", Freshness::Default).await.unwrap(), None);
    let denied = agents(&agent, &lab).put("hcl/users/x", "").await.unwrap_err();
    assert!(matches!(denied, Error::Refused { status, .. } if status == 403), "{denied}");
    let wrong = Client::new("/nowhere/consul.sock", None).put("x", "").await.unwrap_err();
    assert!(wrong.to_string().contains("/nowhere/consul.sock"), "{wrong}");
}

#[tokio::test]
async fn what_is_followed_is_kept_while_consul_is_away() {
    let lab = Lab::new();
    let mut agent = founded(&lab);
    let consul = client(&agent, &lab);
    let mut users = consul.follow_entries("hcl/users/");
    assert_eq!(*timeout(LIMIT, users.first()).await.unwrap(), []);
    consul.put("hcl/users/anna", "1").await.unwrap();
    let told = Instant::now();
    while users.latest().unwrap().len() != 1 {
        timeout(LIMIT, users.changed()).await.unwrap();
    }
    assert!(told.elapsed() < Duration::from_secs(5), "{:?}", told.elapsed());
    // Other keys wake nobody.
    consul.put("hcl/other", "1").await.unwrap();
    assert!(timeout(Duration::from_millis(500), users.changed()).await.is_err());
    agent.kill();
    timeout(LIMIT, users.changed()).await.unwrap();
    assert!(users.trouble().is_some());
    assert_eq!(users.latest().unwrap()[0].value, b"1");
    // One that comes back without its data has another answer, with smaller indexes.
    std::fs::remove_dir_all(&agent.setup.places.data).unwrap();
    let agent = founded(&lab);
    while users.trouble().is_some() || !users.latest().unwrap().is_empty() {
        timeout(LIMIT, users.changed()).await.unwrap();
    }
    client(&agent, &lab).put("hcl/users/bert", "2").await.unwrap();
    while users.latest().unwrap().len() != 1 {
        timeout(LIMIT, users.changed()).await.unwrap();
    }
}

#[tokio::test]
async fn services_and_their_health() {
    let lab = Lab::new();
    let agent = founded(&lab);
    let consul = agents(&agent, &lab);
    let listener = tokio::net::TcpListener::bind((agent.setup.address, 0)).await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let mut followed = consul.follow_service("web");
    assert_eq!(*timeout(LIMIT, followed.first()).await.unwrap(), []);
    let mut on_node = consul.follow_node("node-1");
    timeout(LIMIT, on_node.first()).await.unwrap();
    let check = TcpCheck { interval: Duration::from_secs(1), timeout: Duration::from_secs(1), passes: true };
    let service = Service {
        id: "node-1:web:80".into(),
        name: "web".into(),
        at: SocketAddrV4::new(agent.setup.address, port),
        tags: vec!["blue".into()],
        meta: BTreeMap::from([("container".to_owned(), "0123".to_owned())]),
        check: Some(check),
    };
    consul.register(&service).await.unwrap();
    consul.register(&service).await.unwrap();
    let known = consul.services().await.unwrap();
    let known = &known["node-1:web:80"];
    assert_eq!((known.name.as_str(), known.port, known.tags.as_slice()), ("web", port, &["blue".to_owned()][..]));
    assert_eq!((&known.meta, known.address.parse().unwrap()), (&service.meta, agent.setup.address));
    assert_eq!(consul.checks().await.unwrap()["service:node-1:web:80"].state, State::Passing);

    let of = |wanted: bool| move |all: &[Instance]| all.len() == 1 && all[0].is_well() == wanted;
    let well = until("the service, well", || async { Some(followed.latest()?).filter(|all| of(true)(all)) }).await;
    assert_eq!((well[0].ipv4(), well[0].port), (Some(agent.setup.address), port));
    assert_eq!((well[0].node.as_str(), well[0].id.as_str(), well[0].name.as_str()), ("node-1", "node-1:web:80", "web"));
    until("the node's list", || async { on_node.latest()?.contains(&service.id).then_some(()) }).await;
    drop(listener);
    let ill = until("the service, closed", || async { Some(followed.latest()?).filter(|all| of(false)(all)) }).await;
    assert_eq!(ill[0].trouble().unwrap().id, "service:node-1:web:80");
    consul.deregister(&service.id).await.unwrap();
    consul.deregister(&service.id).await.unwrap();
    until("nothing", || async { followed.latest()?.is_empty().then_some(()) }).await;
    assert_eq!(consul.service("web").await.unwrap(), []);
    until("the node's list without it", || async { (!on_node.latest()?.contains(&service.id)).then_some(()) }).await;
    timeout(LIMIT, followed.changed()).await.unwrap();

    // What the node program registers is what the cluster is found by.
    agent.client.with_token(&lab.secrets.agent).register_engine(Duration::from_secs(30)).unwrap();
    let engines =
        until("the engine", || async { consul.service(hcl_swarm::consul::ENGINE).await.ok().filter(|all| all.len() == 1) }).await;
    assert_eq!((engines[0].ipv4(), engines[0].is_well()), (Some(agent.setup.address), false));
}
