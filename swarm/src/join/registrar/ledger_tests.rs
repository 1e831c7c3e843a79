use super::*;

const START: Duration = Duration::from_secs(1000);

fn listed(id: &str, state: &str, port: u16) -> Listed {
    let port = ListedPort { ip: "0.0.0.0".into(), private_port: 80, public_port: port, protocol: "tcp".into() };
    Listed { id: id.into(), names: vec![format!("/{id}")], state: state.into(), ports: [port].into() }
}

fn service(container: &str, port: u16) -> Service {
    let meta = [(REGISTRAR.0.to_owned(), REGISTRAR.1.to_owned()), ("container".to_owned(), container.to_owned())];
    Service {
        id: format!("node-1:{container}:80"),
        name: "web".into(),
        at: format!("192.168.200.10:{port}").parse().unwrap(),
        tags: Vec::new(),
        meta: meta.into(),
        check: None,
    }
}

/// As the agent gives it back.
fn known(service: &Service) -> (String, Registered) {
    let known = Registered {
        id: service.id.clone(),
        name: service.name.clone(),
        address: service.at.ip().to_string(),
        port: service.at.port(),
        tags: service.tags.clone(),
        meta: service.meta.clone(),
    };
    (service.id.clone(), known)
}

/// Takes in a list and looks at whatever has to be looked at.
fn take(ledger: &mut Ledger, all: &[Listed], now: Duration) -> usize {
    let looks = ledger.listed(all, now);
    for listed in &looks {
        let port = listed.ports.first().unwrap().public_port;
        ledger.looked_at(listed.clone(), vec![service(&listed.id, port)]);
    }
    looks.len()
}

fn missing(ledger: &Ledger) -> Vec<String> {
    ledger.difference(&BTreeMap::new()).missing.into_iter().map(|service| service.id).collect()
}

#[test]
fn only_what_changed_is_looked_at() {
    let mut ledger = Ledger::default();
    let all = [listed("a", "running", 1), listed("b", "running", 2), listed("p", "paused", 3)];
    assert_eq!(take(&mut ledger, &all, START), 2);
    assert_eq!(take(&mut ledger, &all, START), 0);
    assert_eq!(missing(&ledger), ["node-1:a:80", "node-1:b:80"]);
    let all = [listed("a", "running", 9), listed("p", "running", 3)];
    assert_eq!(take(&mut ledger, &all, START), 2);
    assert_eq!(missing(&ledger), ["node-1:a:80", "node-1:p:80"]);
    assert_eq!(ledger.wanted("node-1:a:80").unwrap().at.port(), 9);
    let renamed = Listed { names: vec!["/other".into()], ..listed("a", "running", 9) };
    assert_eq!(take(&mut ledger, &[renamed], START), 1);
}

#[test]
fn who_was_told_to_end_goes_before_it_ends() {
    let mut ledger = Ledger::default();
    let all = [listed("a", "running", 1)];
    take(&mut ledger, &all, START);
    assert_eq!(ledger.told("a", START), [service("a", 1)]);
    assert_eq!(ledger.told("a", START), []);
    // It still runs.
    assert_eq!(take(&mut ledger, &all, START + OBEYS_WITHIN / 2), 0);
    assert_eq!(missing(&ledger), [""; 0]);
    // And does not care.
    assert_eq!(take(&mut ledger, &all, START + OBEYS_WITHIN), 1);
    assert_eq!(missing(&ledger), ["node-1:a:80"]);
    // One that ended and was started again was not told anything.
    ledger.told("a", START);
    assert_eq!(ledger.went("a"), []);
    ledger.came("a");
    assert_eq!(take(&mut ledger, &all, START), 1);
}

#[test]
fn what_others_registered_is_left_alone() {
    let mut ledger = Ledger::default();
    take(&mut ledger, &[listed("a", "running", 1), listed("b", "running", 2), listed("c", "running", 3)], START);
    let engine = Service { id: "hcl-engine".into(), meta: BTreeMap::new(), ..service("x", 1) };
    let theirs = Service { meta: BTreeMap::new(), ..service("b", 77) };
    let moved = service("c", 99);
    let there: BTreeMap<_, _> = [engine, theirs, moved, service("gone", 5), service("a", 1)].iter().map(known).collect();
    let difference = ledger.difference(&there);
    assert_eq!(difference.missing, [service("c", 3)]);
    assert_eq!(difference.surplus, ["node-1:gone:80"]);
    let there = [service("a", 1), service("b", 2), service("c", 3)].iter().map(known).collect();
    assert_eq!(ledger.difference(&there), Difference::default());
}
