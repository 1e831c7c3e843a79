//! Health of engine, swarm, Consul and page. The engine and Consul are asked themselves: a program that is wrong about them must not
//! pass for a node that is right.

use std::{
    net::{Ipv4Addr, SocketAddr, TcpStream},
    time::Duration,
};

use super::{Check, Found, endpoint};
use crate::{
    consul::{self, catalog::Gossip},
    driver::Options,
    engine::{Engine, SwarmState},
    http::{Client, Stream},
    page,
    services::state::ServicesStatus,
    status::{Status, duration},
    view::View,
};

/// How long each of them may take to answer.
const LIMIT: Duration = Duration::from_secs(10);
pub(super) const RESTART: &str = "`sudo systemctl restart hcl-cluster`";

/// What was seen. Errors are what the other side said, without what to do.
#[derive(Clone, Debug)]
pub struct Seen {
    /// What the program says; none while it does not run.
    pub program: Option<ServicesStatus>,
    /// The engine's version.
    pub engine: Result<String, String>,
    /// Its place in the swarm.
    pub swarm: SwarmState,
    /// The swarm's nodes that are ready, of how many; none on a worker, which does not know.
    pub swarm_nodes: Option<(usize, usize)>,
    /// The agents that Consul's gossip has alive, of how many.
    pub consul: Result<(usize, usize), String>,
    /// Where Consul's leader is, if it has one.
    pub consul_leader: Option<Ipv4Addr>,
    /// Whether the page answers.
    pub page: Result<(), String>,
    /// The cluster's Docker endpoint on this node.
    pub endpoint: endpoint::Seen,
}

impl Seen {
    /// Asks all of them, on the node that has this `status`.
    pub fn gather(options: &Options, status: Option<&Status>) -> Self {
        let engine = Engine::connect(Client::unix(crate::engine::SOCKET)).map_err(|error| error.to_string());
        let version = engine.as_ref().map_err(String::clone).and_then(|engine| match engine.version() {
            Ok(version) => Ok(version.version),
            Err(error) => Err(error.to_string()),
        });
        let swarm = engine.as_ref().ok().and_then(|engine| engine.swarm_state().ok()).unwrap_or(SwarmState::None);
        let nodes = engine.as_ref().ok().and_then(|engine| engine.nodes().ok());
        let asked = consul::Client::new(consul::SOCKET, None).within(LIMIT);
        let members = asked.members().map_err(|error| error.to_string());
        Self {
            program: ServicesStatus::read(&options.run_dir).ok().flatten().filter(ServicesStatus::is_alive),
            engine: version,
            swarm,
            swarm_nodes: nodes.map(|nodes| (nodes.iter().filter(|node| node.is_ready()).count(), nodes.len())),
            consul: members.map(|members| (members.iter().filter(|member| member.state == Gossip::Alive).count(), members.len())),
            consul_leader: asked.leader().ok().flatten(),
            page: page_answers(),
            endpoint: endpoint::Seen::gather(options, engine.as_ref().ok(), status),
        }
    }

    /// How many members the leader's ledger has; none where nobody leads, or nothing was heard of it.
    pub(super) fn members(&self) -> Option<usize> {
        let view = &self.program.as_ref()?.view;
        view.leader.as_ref().map(|_| view.nodes.len())
    }

    /// Whether what they do has just changed.
    pub(super) fn settles(&self, uptime_ms: u64, settling_ms: u64) -> bool {
        self.program.as_ref().is_some_and(|program| uptime_ms.saturating_sub(program.since_uptime_ms) < settling_ms)
    }
}

fn page_answers() -> Result<(), String> {
    let at = SocketAddr::from((Ipv4Addr::LOCALHOST, page::PORT));
    let connect = move |limit| Ok(Box::new(TcpStream::connect_timeout(&at, limit)?) as Box<dyn Stream>);
    let local = [("Host", "localhost")];
    let response = Client::over("the page", connect).request("GET", "/api/cluster", &local, None, LIMIT);
    match response.map_err(|error| error.to_string())? {
        response if response.is_success() => Ok(()),
        response => Err(response.text()),
    }
}

pub(super) type Judge = fn(&Seen, u64, usize) -> Found;

pub(super) const CHECKS: [(&str, Judge); 8] = [
    ("services", services),
    ("engine", engine),
    ("swarm", swarm),
    ("consul", consul),
    ("equal", equal),
    ("page", page),
    ("swarm_join", |seen, _, _| endpoint::join(&seen.endpoint)),
    ("swarm_manage", |seen, _, _| endpoint::manage(&seen.endpoint)),
];

/// Judges what was seen `uptime_ms` after the boot, on a node that knows so many `members`.
pub(super) fn checks(seen: &Seen, uptime_ms: u64, members: usize) -> impl Iterator<Item = Check> {
    CHECKS.iter().map(move |(name, judge)| Check::new(name, judge(seen, uptime_ms, members)))
}

fn services(seen: &Seen, uptime_ms: u64, _: usize) -> Found {
    let Some(program) = &seen.program else {
        return Err(
            "hcl-cluster is not running: `systemctl status hcl-cluster` says why, `sudo systemctl start hcl-cluster` starts it"
                .to_owned(),
        );
    };
    let lasting = duration(uptime_ms.saturating_sub(program.since_uptime_ms));
    match (&program.trouble, program.settled) {
        (Some(trouble), _) => Err(format!("{} for {lasting}: {trouble}; it is tried again", program.doing)),
        (None, false) => Err(format!("{} for {lasting}: after five minutes see `journalctl -u hcl-cluster`", program.doing)),
        (None, true) => Ok(format!("hcl-cluster runs, process {}: {}", program.pid, program.doing)),
    }
}

fn engine(seen: &Seen, _: u64, _: usize) -> Found {
    match &seen.engine {
        Ok(version) => Ok(format!("the engine answers, version {version}")),
        Err(error) => Err(format!("the engine does not answer ({error}): `sudo systemctl restart docker`")),
    }
}

fn swarm(seen: &Seen, _: u64, members: usize) -> Found {
    match (&seen.swarm, seen.swarm_nodes) {
        (SwarmState::Manager { trouble: Some(trouble), .. }, _) => {
            Err(format!("the swarm's managers are in trouble ({trouble}): check power and cable of the other boards"))
        }
        (SwarmState::Manager { .. }, Some((ready, all))) if ready < all => {
            Err(format!("{ready} of {all} nodes of the swarm are ready: check the others, `docker node ls` names them"))
        }
        (SwarmState::Manager { .. }, Some((ready, _))) if ready != members => Err(format!(
            "the swarm has {ready} nodes, the cluster {members} members: the others are on their way, or `hcl health` there says why not"
        )),
        (SwarmState::Manager { .. }, Some((ready, _))) => Ok(format!("the engine is a manager in a swarm of {ready}, all ready")),
        (SwarmState::Manager { .. }, None) => Err(format!("the engine is a manager, but does not know its nodes: {RESTART}")),
        (SwarmState::Worker { .. }, _) => Ok("the engine is a worker in the swarm".to_owned()),
        (SwarmState::None, _) => Err("the engine is in no swarm: that comes with the services".to_owned()),
        (SwarmState::Pending { .. }, _) => {
            Err("the engine looks for the swarm's managers: check that the other boards run".to_owned())
        }
        (SwarmState::Locked, _) => Err("the swarm is locked: `docker swarm unlock`".to_owned()),
        (SwarmState::Error(error), _) => Err(format!("the engine fails in the swarm ({error}): `sudo systemctl restart docker`")),
    }
}

fn consul(seen: &Seen, _: u64, members: usize) -> Found {
    match (&seen.consul, seen.consul_leader) {
        (Err(error), _) => {
            Err(format!("Consul does not answer ({error}): `docker logs hcl-consul` says why, {RESTART} starts it"))
        }
        (Ok(_), None) => Err("Consul has no leader: check power and cable of the boards with its servers".to_owned()),
        (Ok((alive, all)), Some(_)) if alive < all => {
            Err(format!("{alive} of {all} of Consul's nodes are alive: check the others, the page at port 8500 names them"))
        }
        // After all were off Consul knows only those that came back.
        (Ok((alive, _)), Some(_)) if *alive < members => Err(format!(
            "{alive} of {members} members have a Consul that is alive: check the others, the page at port 8500 names them"
        )),
        (Ok((alive, _)), Some(leader)) => Ok(format!("Consul answers, {alive} nodes alive, led from {leader}")),
    }
}

/// The paper's own check.
fn equal(seen: &Seen, _: u64, members: usize) -> Found {
    let of_view = |view: &View| view.nodes.iter().filter(|node| node.swarm.state == "ready").count();
    let swarm = seen.swarm_nodes.map(|(ready, _)| ready).or(seen.program.as_ref().map(|program| of_view(&program.view)));
    let gossip = |view: &View| view.nodes.iter().filter(|node| node.consul.state == Gossip::Alive).count();
    let consul =
        seen.consul.as_ref().ok().map(|(alive, _)| *alive).or(seen.program.as_ref().map(|program| gossip(&program.view)));
    match (swarm, consul) {
        (Some(swarm), Some(consul)) if swarm == consul && swarm == members => {
            Ok(format!("number of Swarm and Consul nodes is equal: {swarm}, as many as there are members"))
        }
        (Some(swarm), Some(consul)) => Err(format!(
            "{swarm} Swarm nodes, {consul} Consul nodes, {members} members: a node that lacks one of them says why in its own `hcl health`"
        )),
        _ => Err("the numbers of Swarm and Consul nodes are not known yet: they come with the services".to_owned()),
    }
}

fn page(seen: &Seen, _: u64, _: usize) -> Found {
    match &seen.page {
        Ok(()) => Ok(format!("the page answers on port {}", page::PORT)),
        Err(error) => Err(format!("the page does not answer on port {} ({error}): {RESTART} brings it back", page::PORT)),
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// A manager among two members on which all is well.
    pub(in crate::health) fn well() -> Seen {
        let program = ServicesStatus { pid: 7, settled: true, doing: "in, as it should be".into(), ..ServicesStatus::default() };
        Seen {
            program: Some(program),
            engine: Ok("26.1.5".into()),
            swarm: SwarmState::Manager { node_id: "a".into(), swarm_id: Some("b".into()), trouble: None },
            swarm_nodes: Some((2, 2)),
            consul: Ok((2, 2)),
            consul_leader: Some([192, 168, 200, 10].into()),
            page: Ok(()),
            endpoint: endpoint::Seen { image: true, server: true, join: Ok(()), manage: Ok(()) },
        }
    }

    fn failed(change: impl FnOnce(&mut Seen)) -> Vec<&'static str> {
        let mut seen = well();
        change(&mut seen);
        checks(&seen, 60_000, 2).filter(|check| !check.pass).map(|check| check.name).collect()
    }

    #[test]
    fn every_line_can_fail() {
        assert!(failed(|_| {}).is_empty());
        assert_eq!(failed(|seen| seen.program = None), ["services"]);
        let program = |seen: &mut Seen| seen.program.clone().unwrap();
        assert_eq!(failed(|seen| seen.program = Some(ServicesStatus { settled: false, ..program(seen) })), ["services"]);
        assert_eq!(
            failed(|seen| seen.program = Some(ServicesStatus { trouble: Some("x".into()), ..program(seen) })),
            ["services"]
        );
        assert_eq!(failed(|seen| seen.engine = Err("not there".into())), ["engine"]);
        for state in [SwarmState::None, SwarmState::Pending { manager: false }, SwarmState::Locked, SwarmState::Error("x".into())]
        {
            assert_eq!(failed(|seen| seen.swarm = state), ["swarm"]);
        }
        let trouble = SwarmState::Manager { node_id: "a".into(), swarm_id: None, trouble: Some("no majority".into()) };
        assert_eq!(failed(|seen| seen.swarm = trouble), ["swarm"]);
        assert_eq!(failed(|seen| seen.swarm_nodes = Some((1, 2))), ["swarm", "equal"]);
        assert_eq!(failed(|seen| seen.swarm_nodes = Some((3, 3))), ["swarm", "equal"]);
        assert_eq!(failed(|seen| seen.consul = Err("not there".into())), ["consul", "equal"]);
        assert_eq!(failed(|seen| seen.consul = Ok((2, 3))), ["consul"]);
        assert_eq!(failed(|seen| seen.consul = Ok((1, 1))), ["consul", "equal"]);
        assert_eq!(failed(|seen| seen.consul_leader = None), ["consul"]);
        assert_eq!(failed(|seen| seen.page = Err("not there".into())), ["page"]);
        assert_eq!(failed(|seen| seen.endpoint.join = Err("not there".into())), ["swarm_join"]);
        assert_eq!(failed(|seen| seen.endpoint.manage = Err("not there".into())), ["swarm_manage"]);
    }

    /// Neither is a fault: no server, and a card that was built without the image.
    #[test]
    fn an_endpoint_that_is_not_to_be_here() {
        let lines = |change: fn(&mut endpoint::Seen)| {
            let mut seen = well();
            (seen.endpoint.join, seen.endpoint.manage) = (Err("not there".into()), Err("not there".into()));
            change(&mut seen.endpoint);
            let judged = checks(&seen, 60_000, 2).filter(|check| check.name.starts_with("swarm_"));
            judged.map(|check| (check.pass, check.line)).collect::<Vec<_>>()
        };
        let no_server = lines(|seen| (seen.server, seen.join) = (false, Ok(())));
        assert!(no_server.iter().all(|(pass, _)| *pass) && no_server[1].1.contains("this node is none"), "{no_server:?}");
        let no_image = lines(|seen| seen.image = false);
        assert!(no_image.iter().all(|(pass, line)| *pass && line.contains("built without the image `swarm`")), "{no_image:?}");
    }

    #[test]
    fn a_worker_has_the_numbers_from_the_program() {
        let worker = |ready: usize| {
            let mut seen = well();
            seen.swarm = SwarmState::Worker { node_id: "a".into(), managers: Vec::new() };
            seen.swarm_nodes = None;
            let node = || {
                let mut node = crate::view::Node::default();
                node.swarm.state = "ready".into();
                node
            };
            seen.program.as_mut().unwrap().view.nodes = (0..ready).map(|_| node()).collect();
            seen
        };
        assert!(checks(&worker(2), 60_000, 2).all(|check| check.pass));
        let wrong: Vec<_> = checks(&worker(1), 60_000, 2).filter(|check| !check.pass).map(|check| check.line).collect();
        assert_eq!(wrong.len(), 1);
        assert!(wrong[0].starts_with("1 Swarm nodes, 2 Consul nodes, 2 members"), "{wrong:?}");
    }
}
