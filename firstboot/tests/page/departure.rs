//! Three nodes with real agents: the page shows them, one that goes away, the answers of Consul that are open, and a server that ends.

use std::{
    fs,
    path::Path,
    time::{Duration, Instant},
};

use hcl_firstboot::{
    consul,
    http::{Client, Stream},
    view::{Node, Role, State, View, consul::Seen, host, problems},
};
use serde_json::{Value, json};

use crate::{Feeder, PATIENCE, agents::Agents, assert_only_here, browser::Browser, example, serve, wait};

const NAMES: [&str; 3] = ["node-a", "node-b", "node-c"];

/// This machine three times over, as Consul sees it.
fn look(consul: &consul::Client, names: &[(String, String)], leader: Option<&str>) -> Result<View, String> {
    let nodes = names.iter().map(|(name, address)| {
        let role = if Some(name.as_str()) == leader { Role::Leader } else { Role::Server };
        let mut node = Node { name: name.clone(), address: address.clone(), role, state: State::Ready, ..Node::default() };
        host::describe(&mut node, Path::new("/"));
        node
    });
    let mut view = View {
        cluster: "lab".into(),
        id: "0a1b2c3d".into(),
        served_by: "node-a".into(),
        leader: leader.map(str::to_owned),
        nodes: nodes.collect(),
        ..View::default()
    };
    Seen::ask(consul).map_err(|error| error.to_string())?.merge(&mut view);
    view.problems = problems::problems(&view);
    Ok(view)
}

#[test]
fn one_of_three_goes_away_and_comes_back() {
    let mut browser = Browser::start();
    let mut agents = Agents::start(&NAMES);
    let (server, page) = serve(([127, 0, 0, 1], 0).into(), &agents.socket(0));
    let (consul, leader) = (consul::Client::new(agents.socket(0), None).within(Duration::from_secs(5)), agents.leader());
    let names: Vec<_> = agents.agents().iter().map(|agent| (agent.name.clone(), agent.address.clone())).collect();
    let _feeder = Feeder::start(page, move || look(&consul, &names, leader.as_deref()));
    browser.window(1100, 900, false, false);
    browser.open(&format!("http://{}/", server.address()));

    let state = |name: &str| {
        format!("[...document.querySelectorAll('.node')].find(n => n.querySelector('h3').innerText === '{name}')?.dataset.state")
    };
    browser.wait("document.querySelectorAll('.node').length === 3");
    for agent in agents.agents() {
        browser.wait(&format!("{} === 'ready'", state(&agent.name)));
        let all = browser.text("#nodes");
        assert!(all.contains(&agent.address), "{all}");
    }
    assert_eq!(browser.text(".role[data-role=leader]"), "leader");
    assert!(browser.text("#nodes").contains("alive, leads the servers"), "{}", browser.text("#nodes"));

    // Not the leader, and not the one that answers.
    let leader = agents.leader();
    let gone = (1..3).find(|at| leader.as_deref() != Some(NAMES[*at])).unwrap();
    agents.kill(gone);
    let took = browser.wait_for(Duration::from_secs(10), &format!("{} === 'silent'", state(NAMES[gone])));
    println!("killed to shown as not answering: {:.1} s", took.as_secs_f32());
    browser.wait("!document.getElementById('wrong').hidden");
    let problems = browser.text("#problems");
    assert!(problems.contains(&format!("{} does not answer", NAMES[gone])), "{problems}");
    assert!(browser.text("#headline").starts_with("2 of 3 nodes are ready"));
    let news = browser.value("document.getElementById('news').textContent");
    assert!(news.as_str().unwrap().contains(&format!("{} does not answer", NAMES[gone])), "those who listen hear it: {news}");
    browser.picture("one-away");

    agents.run(gone);
    browser.wait_for(PATIENCE * 2, &format!("{} === 'ready'", state(NAMES[gone])));
    browser.wait("document.getElementById('wrong').hidden");
    assert_eq!(browser.complaints(), [""; 0]);
    assert_only_here(&mut browser, &server.address().to_string());
}

/// One request over the network; status and body.
fn get(address: std::net::SocketAddr, method: &str, target: &str) -> (u16, String) {
    let connect = move |limit: Duration| {
        let stream = std::net::TcpStream::connect_timeout(&address, limit)?;
        Ok(Box::new(stream) as Box<dyn Stream>)
    };
    // The client calls everybody `hcl`; an absolute target says whom it means.
    let client = Client::over("the page", connect);
    let target = format!("http://{address}{target}");
    let response = client.request(method, &target, &[], None, Duration::from_secs(10)).unwrap();
    (response.status, String::from_utf8_lossy(&response.body).into_owned())
}

#[test]
fn what_is_open_of_a_real_consul() {
    let mut agents = Agents::start(&["node-a"]);
    let (server, _page) = serve(([127, 0, 0, 1], 0).into(), &agents.socket(0));
    let address = server.address();
    for path in [
        "/v1/catalog/datacenters",
        "/v1/catalog/nodes?pretty",
        "/v1/catalog/services",
        "/v1/catalog/service/consul",
        "/v1/catalog/node/node-a",
        "/v1/health/node/node-a",
        "/v1/health/checks/consul",
        "/v1/health/service/consul?passing&stale",
        "/v1/health/state/any",
        "/v1/status/leader",
        "/v1/status/peers",
        "/v1/agent/members",
        "/v1/internal/ui/nodes",
        "/v1/internal/ui/services",
        "/v1/internal/ui/node/node-a",
    ] {
        let (status, body) = get(address, "GET", path);
        assert_eq!(status, 200, "{path}: {body}");
        let value: Value = serde_json::from_str(&body).unwrap_or_else(|error| panic!("{path}: {error}: {body}"));
        // A lone agent's service has no check of its own.
        assert!(value != json!([]) || path.contains("/checks/"), "{path}");
        let (status, body) = get(address, "HEAD", path);
        assert_eq!((status, body.as_str()), (200, ""), "{path}");
    }
    for path in ["/v1/kv/hcl/secret", "/v1/kv/?recurse", "/v1/agent/self", "/v1/acl/tokens", "/v1/snapshot", "/v1/session/list"] {
        let (status, body) = get(address, "GET", path);
        assert_eq!(status, 403, "{path}: {body}");
        assert!(!body.contains("hunter2"), "{path}: {body}");
    }
    for (method, path) in
        [("PUT", "/v1/kv/hcl/secret"), ("PUT", "/v1/agent/leave"), ("DELETE", "/v1/kv/hcl/secret"), ("POST", "/v1/catalog/nodes")]
    {
        assert_eq!(get(address, method, path).0, 405, "{method} {path}");
    }
    assert_eq!(agents.ask(0, "GET", "/v1/kv/hcl/secret?raw", None), Some(json!("hunter2")), "what was there stays");

    // Debian's Consul has no interface of its own; given one, it is served.
    let (status, body) = get(address, "GET", "/ui/");
    assert_eq!(status, 404, "{body}");
    assert!(body.contains("without a web interface"), "{body}");
    fs::create_dir(agents.interface(0)).unwrap();
    fs::write(agents.interface(0).join("index.html"), "<title>of Consul</title>").unwrap();
    agents.kill(0);
    agents.run(0);
    wait(PATIENCE, "Consul serves its interface", || (get(address, "GET", "/ui/").0 == 200).then_some(()));
    assert!(get(address, "GET", "/ui/").1.contains("of Consul"));
}

/// A page whose node goes away says so and where else to look, and goes on when it is back.
#[test]
fn the_node_that_answers_goes_away_and_comes_back() {
    let socket = Path::new("/nonexistent/consul.sock");
    let (server, page) = serve(([127, 0, 0, 1], 0).into(), socket);
    let address = server.address();
    let feeder = Feeder::start(page, || Ok(example::well()));
    let mut browser = Browser::start();
    browser.window(360, 780, true, false);
    browser.open(&format!("http://{address}/"));
    browser.wait("document.getElementById('pulse').dataset.state === 'live'");
    assert_eq!(browser.complaints(), [""; 0]);
    drop((server, feeder));
    browser.wait_for(Duration::from_secs(15), "document.getElementById('away').innerText !== ''");
    let away = browser.text("#away");
    assert!(away.contains("node-1a2b3c does not answer") && away.contains("node-4d5e6f"), "{away}");
    browser.picture("away");
    // The browser itself says in its console that nobody answers; nothing else may.
    for complaint in browser.complaints() {
        assert!(complaint.contains("ERR_CONNECTION_REFUSED"), "{complaint}");
    }
    let (_server, page) = serve(address, socket);
    let _feeder = Feeder::start(page, || Ok(example::well()));
    browser.wait("document.getElementById('away').innerText === '' && document.getElementById('pulse').dataset.state === 'live'");
    browser.requests();

    // Nobody looks, nobody asks; who comes back sees fresh figures at once.
    browser.value("Object.defineProperty(document, 'hidden', { configurable: true, get: () => true })");
    let quiet = Instant::now() + Duration::from_secs(5);
    wait(PATIENCE, "the tab has slept", || (Instant::now() > quiet).then_some(()));
    let asked = browser.requests().len();
    assert!(asked <= 1, "{asked} requests from a tab that nobody sees");
    browser.value("delete document.hidden, document.dispatchEvent(new Event('visibilitychange'))");
    wait(PATIENCE, "it asks again", || (!browser.requests().is_empty()).then_some(()));
}

/// A supervisor that hangs: the page answers, and says that its figures are old.
#[test]
fn old_figures_are_called_old() {
    let mut browser = Browser::start();
    let (server, page) = serve(([127, 0, 0, 1], 0).into(), Path::new("/nonexistent/consul.sock"));
    page.show(example::well());
    browser.open(&format!("http://{}/", server.address()));
    browser.wait_for(Duration::from_secs(25), "document.getElementById('away').innerText.includes('its figures are old')");
    assert!(browser.text("#pulse").contains("s old"));
    page.show(example::well());
    browser.wait("document.getElementById('away').innerText === ''");
}
