//! What is wrong with a cluster, in plain words, and what a person can do.

use super::{Gossip, Node, Problem, Role, State, View};
use crate::status::duration;

/// A Pi slows itself down from here on, in degrees Celsius.
const HOT_C: f32 = 80.0;
/// So much of memory or card must be free, in percent.
const LITTLE: u64 = 5;

/// What is wrong and what to do, where something is.
type Rule = fn(&Node) -> Option<(String, String)>;

/// All that `view` shows to be wrong, the worst first. Of a node that is away only that counts: what it said last is old.
pub fn problems(view: &View) -> Vec<Problem> {
    let mut all = cluster(view);
    let (there, away): (Vec<_>, Vec<_>) = view.nodes.iter().partition(|node| is_there(node));
    all.extend(away.into_iter().map(absent));
    let rules: [Rule; 7] = [engine, swarm, consul, memory, card, heat, restarts];
    for rule in rules {
        all.extend(
            there.iter().filter_map(|node| rule(node).map(|(text, fix)| Problem { node: Some(node.name.clone()), text, fix })),
        );
    }
    for service in view.services.iter().filter(|service| service.running < service.wanted) {
        let text = format!("{} runs {} of {} times.", service.name, service.running, service.wanted);
        let fix = format!("`docker service ps {}` on a server says why.", service.name);
        all.push(Problem { node: None, text, fix });
    }
    for node in there {
        // Such a line says what to do by itself.
        let failed = node.checks.iter().filter(|check| !check.pass);
        all.extend(failed.map(|check| Problem { node: Some(node.name.clone()), text: check.line.clone(), fix: String::new() }));
    }
    all
}

fn is_there(node: &Node) -> bool {
    matches!(node.state, State::Ready | State::Starting)
}

/// Servers that are away, then the leader.
fn cluster(view: &View) -> Vec<Problem> {
    let is_server = |node: &&Node| node.role != Role::Member || node.consul.server;
    let servers: Vec<_> = view.nodes.iter().filter(is_server).collect();
    let away: Vec<_> = servers.iter().filter(|node| !is_there(node)).map(|node| node.name.as_str()).collect();
    let needed = servers.len() / 2 + 1;
    if servers.len() - away.len() < needed && !servers.is_empty() {
        return vec![Problem {
            node: None,
            text: format!(
                "{} of {} servers answer, {needed} are needed: containers go on running, and nothing can be changed.",
                servers.len() - away.len(),
                servers.len()
            ),
            fix: format!("Switch {} on again, or see to power and cable.", or(&away)),
        }];
    }
    if view.leader.is_none() && !view.nodes.is_empty() {
        return vec![Problem {
            node: None,
            text: "Nobody leads the cluster at the moment.".to_owned(),
            fix: "Wait a minute; if it stays, `sudo hcl health` on a node says why.".to_owned(),
        }];
    }
    Vec::new()
}

fn or(names: &[&str]) -> String {
    match names {
        [] => String::new(),
        [one] => (*one).to_owned(),
        [all @ .., last] => format!("{} or {last}", all.join(", ")),
    }
}

fn absent(node: &Node) -> Problem {
    let name = &node.name;
    let (text, fix) = match (node.state, node.heard_ms_ago) {
        (State::Gone, _) => {
            (format!("{name} has left the cluster."), "`sudo hcl start` there, or switching it on, brings it back.".to_owned())
        }
        (_, heard) => {
            let heard = heard.map(|ago| format!("; it was last heard {} ago", duration(ago))).unwrap_or_default();
            let fix = "See to its power and its network cable; if it is on, its LED blinks what is wrong.".to_owned();
            (format!("{name} does not answer{heard}."), fix)
        }
    };
    Problem { node: Some(name.clone()), text, fix }
}

fn engine(node: &Node) -> Option<(String, String)> {
    let down = node.engine.state == "down";
    down.then(|| ("The container engine does not run.".to_owned(), "`sudo systemctl status docker` there says why.".to_owned()))
}

fn swarm(node: &Node) -> Option<(String, String)> {
    let away = matches!(node.swarm.state.as_str(), "down" | "disconnected") && node.engine.state != "down";
    away.then(|| {
        let text = "The swarm does not reach its engine, and gives its work to others.".to_owned();
        (text, "`sudo hcl health` there says why.".to_owned())
    })
}

fn consul(node: &Node) -> Option<(String, String)> {
    let failed = matches!(node.consul.state, Gossip::Failed | Gossip::Left);
    failed.then(|| ("Consul does not run on it.".to_owned(), "`docker logs hcl-consul` there says why.".to_owned()))
}

fn memory(node: &Node) -> Option<(String, String)> {
    let memory = node.memory.filter(|memory| scarce(memory.available, memory.total))?;
    let text = format!("It has {} of memory left.", megabytes(memory.available));
    Some((text, "Stop something there; `docker stats` shows what needs most.".to_owned()))
}

fn card(node: &Node) -> Option<(String, String)> {
    let card = node.card.filter(|card| scarce(card.free, card.total))?;
    let text = format!("Its card has {} left.", megabytes(card.free));
    Some((text, "`docker system prune` there frees what no container uses.".to_owned()))
}

fn scarce(left: u64, total: u64) -> bool {
    total > 0 && u128::from(left) * 100 < u128::from(total) * u128::from(LITTLE)
}

fn megabytes(bytes: u64) -> String {
    format!("{} MB", bytes / 1_000_000)
}

fn heat(node: &Node) -> Option<(String, String)> {
    let celsius = node.temperature_c.filter(|celsius| *celsius >= HOT_C)?;
    Some((format!("It is {celsius:.0} °C hot and slows itself down."), "Give it air, or a heat sink.".to_owned()))
}

fn restarts(node: &Node) -> Option<(String, String)> {
    let again = node.engine.containers.iter().find(|container| container.state == "restarting")?;
    let fix = format!("`docker logs {}` there says why.", again.name);
    Some((format!("The container {} ends and is started again, over and over.", again.name), fix))
}

#[cfg(test)]
mod tests {
    use super::{
        super::{Card, Check, Container, Memory, Service},
        *,
    };

    fn lab() -> View {
        let node = |name: &str, role| Node {
            name: name.into(),
            role,
            state: State::Ready,
            heard_ms_ago: Some(500),
            memory: Some(Memory { total: 1_000_000_000, available: 500_000_000 }),
            card: Some(Card { total: 32_000_000_000, free: 30_000_000_000 }),
            temperature_c: Some(50.0),
            ..Node::default()
        };
        View {
            leader: Some("a".into()),
            nodes: vec![node("a", Role::Leader), node("b", Role::Server), node("c", Role::Server), node("d", Role::Member)],
            ..View::default()
        }
    }

    type Break = fn(&mut View);

    #[test]
    fn each_fault_is_told_and_no_other() {
        assert_eq!(problems(&lab()), []);
        assert_eq!(problems(&View::default()), []);
        let cases: [(Break, &str); 15] = [
            (|lab| lab.leader = None, "Nobody leads"),
            (|lab| lab.nodes[3].state = State::Silent, "d does not answer; it was last heard 0 s ago."),
            (|lab| (lab.nodes[3].state, lab.nodes[3].heard_ms_ago) = (State::Silent, None), "d does not answer."),
            (|lab| (lab.nodes[3].state, lab.nodes[3].temperature_c) = (State::Gone, Some(99.0)), "d has left"),
            (|lab| lab.nodes[1].state = State::Silent, "b does not answer"),
            (|lab| lab.nodes[1].engine.state = "down".into(), "engine does not run"),
            (|lab| (lab.nodes[1].engine.state, lab.nodes[1].swarm.state) = ("down".into(), "down".into()), "engine does not run"),
            (|lab| lab.nodes[1].swarm.state = "down".into(), "The swarm does not reach"),
            (|lab| lab.nodes[1].consul.state = Gossip::Failed, "Consul does not run"),
            (|lab| lab.nodes[1].memory = Some(Memory { total: 1_000_000_000, available: 49_000_000 }), "49 MB of memory left"),
            (|lab| lab.nodes[1].card = Some(Card { total: u64::MAX, free: 900_000_000 }), "card has 900 MB left"),
            (|lab| lab.nodes[1].temperature_c = Some(82.4), "82 °C"),
            (
                |lab| {
                    let container = Container { name: "x".into(), state: "restarting".into(), ..Container::default() };
                    lab.nodes[1].engine.containers.push(container);
                },
                "container x ends",
            ),
            (
                |lab| lab.services.push(Service { name: "web".into(), running: 2, wanted: 3, ..Service::default() }),
                "web runs 2 of 3 times.",
            ),
            (
                |lab| lab.nodes[1].checks.push(Check { name: "lease".into(), pass: false, line: "no lease: do this".into() }),
                "no lease: do this",
            ),
        ];
        for (fault, expected) in cases {
            let mut lab = lab();
            fault(&mut lab);
            let found = problems(&lab);
            assert_eq!(found.len(), 1, "{expected}: {found:?}");
            assert!(found[0].text.contains(expected), "{expected}: {found:?}");
        }
    }

    #[test]
    fn too_few_servers_come_first_and_are_named() {
        let mut lab = lab();
        lab.leader = None;
        for node in &mut lab.nodes[1..3] {
            node.state = State::Silent;
        }
        let found = problems(&lab);
        assert!(found[0].text.starts_with("1 of 3 servers answer, 2 are needed"), "{found:?}");
        assert!(found[0].fix.contains("b or c"), "{found:?}");
        assert_eq!(found.len(), 3);
    }
}
