use std::{
    io::{BufRead, BufReader},
    net::TcpListener,
    sync::{Arc, Mutex},
};

use hcl_firstboot::view::{Consul, Node, Problem, Swarm};

use super::*;

/// What node number `of` shows of a healthy cluster of `nodes` that number `leader` leads.
fn shown(of: usize, nodes: usize, leader: usize) -> View {
    let node = |number: usize| Node {
        name: format!("node-{number}"),
        role: match number {
            _ if number == leader => Role::Leader,
            _ if nodes >= SERVERS && number < SERVERS => Role::Server,
            _ => Role::Member,
        },
        state: State::Ready,
        consul: Consul { state: Gossip::Alive, ..Consul::default() },
        swarm: Swarm { state: "ready".into(), ..Swarm::default() },
        ..Node::default()
    };
    View {
        leader: Some(format!("node-{leader}")),
        served_by: format!("node-{of}"),
        nodes: (0..nodes).map(node).collect(),
        ..View::default()
    }
}

#[test]
fn who_is_gone_to() {
    let old = |mut view: View| {
        view.age_ms = FRESH_MS;
        view
    };
    let none = |mut view: View| {
        view.leader = None;
        view
    };
    type Here = Option<(usize, bool)>;
    type Row = (&'static str, Here, Vec<(usize, View)>, Here);
    let rows: [Row; 8] = [
        ("nobody answers", None, vec![], None),
        ("nobody leads yet", None, vec![(1, none(shown(1, 3, 0)))], Some((1, false))),
        ("one leads", Some((1, false)), vec![(1, shown(1, 3, 2)), (2, shown(2, 3, 2))], Some((2, true))),
        ("the leader is slow", Some((2, true)), vec![(0, shown(0, 3, 2)), (1, shown(1, 3, 2))], Some((2, true))),
        ("nobody answers any more", Some((2, true)), vec![], Some((2, true))),
        ("the role moved", Some((2, true)), vec![(0, shown(0, 3, 0)), (2, shown(2, 3, 0))], Some((0, true))),
        ("the former leader hangs", Some((2, true)), vec![(0, shown(0, 3, 0)), (2, old(shown(2, 3, 2)))], Some((0, true))),
        ("two say that they lead", Some((2, true)), vec![(0, shown(0, 3, 0)), (2, shown(2, 3, 2))], Some((2, true))),
    ];
    for (name, here, views, wanted) in rows {
        assert_eq!(choose(here, &views), wanted, "{name}");
    }
}

#[test]
fn what_counts_as_formed() {
    let all = |nodes: usize| (0..nodes).map(|node| (node, shown(node, nodes, 0))).collect::<Vec<_>>();
    for nodes in [1, 2, 3, 5] {
        assert!(formed(&all(nodes), nodes), "{nodes}");
        assert!(!formed(&all(nodes)[1..], nodes) && !formed(&all(nodes), nodes + 1), "one of {nodes} is missing");
    }
    let spoilers: [fn(&mut View); 7] = [
        |view| view.leader = None,
        |view| view.age_ms = FRESH_MS,
        |view| view.problems.push(Problem::default()),
        |view| view.nodes[2].state = State::Starting,
        |view| view.nodes[2].consul.state = Gossip::Failed,
        |view| view.nodes[2].swarm.state = String::new(),
        |view| view.nodes[2].role = Role::Member,
    ];
    for (index, spoil) in spoilers.iter().enumerate() {
        let mut views = all(3);
        spoil(&mut views[1].1);
        assert!(!formed(&views, 3), "spoiler {index}");
    }
}

/// A page on a real port, whose answer can be changed; `None` closes connections unanswered, as the router does.
fn page(view: &Arc<Mutex<Option<View>>>) -> u16 {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let port = listener.local_addr().unwrap().port();
    let view = view.clone();
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let Some(view) = view.lock().unwrap().clone() else { continue };
            let mut reader = BufReader::new(stream.try_clone().unwrap());
            let mut line = String::from("x");
            while !line.trim().is_empty() {
                line.clear();
                reader.read_line(&mut line).unwrap();
            }
            let body = serde_json::to_string(&view).unwrap();
            write!(stream, "HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len()).unwrap();
        }
    });
    port
}

/// The next finding; a minute without one fails the test.
fn next(guide: &Guide) -> Finding {
    guide.findings.recv_timeout(Duration::from_secs(60)).expect("a finding within a minute")
}

#[test]
fn the_role_is_followed_from_the_first_page_on() {
    let nodes: Vec<_> = (0..2).map(|_| Arc::new(Mutex::new(None))).collect();
    let set = |node: usize, view: Option<View>| *nodes[node].lock().unwrap() = view;
    let closed = Arc::new(Mutex::new(None));
    let guide = Guide::paced(2, Duration::from_millis(50)).unwrap();
    set(1, Some(View { leader: None, ..shown(1, 1, 1) }));
    for (index, node) in nodes.iter().enumerate() {
        guide.reached(index, Doors { page: page(node), swarm: page(&closed) });
    }
    assert_eq!([next(&guide), next(&guide)], [Finding::Page, Finding::Here { node: 1, leads: false }]);
    set(0, Some(shown(0, 2, 0)));
    set(1, Some(shown(1, 2, 0)));
    assert_eq!([next(&guide), next(&guide)], [Finding::Here { node: 0, leads: true }, Finding::Formed]);
    // The power of the leader fails, and the other takes over.
    set(0, None);
    set(1, Some(shown(1, 2, 1)));
    guide.gone(0);
    assert_eq!(next(&guide), Finding::Here { node: 1, leads: true });
    *closed.lock().unwrap() = Some(View::default());
    assert_eq!(next(&guide), Finding::Swarm);
}
