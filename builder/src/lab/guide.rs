//! Who leads, and whether the lab has formed: learned from the nodes' own pages.
//!
//! A thread asks `/api/cluster` (docs/page.md) through the router's forwards, without any login: all nodes until they have
//! formed, then the one that leads, and all again when that one no longer says that it does. The decisions are pure
//! functions over what was heard (`choose`, `formed`).

use std::{
    io::{ErrorKind, Read, Write},
    net::{Ipv4Addr, SocketAddr, TcpStream},
    sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel},
    time::{Duration, Instant},
};

use hcl_firstboot::view::{Gossip, Role, State, View};

/// The page's port on a node.
pub const PAGE: u16 = 8500;
/// The Swarm API's port on a node.
pub const SWARM: u16 = 2378;
/// Between two rounds of questions.
const PACE: Duration = Duration::from_secs(2);
/// A node under emulation may take this long for an answer.
const ANSWER: Duration = Duration::from_secs(5);
/// Figures older than this are of a node whose services hang (docs/page.md calls them old from here on).
const FRESH_MS: u64 = 15_000;
/// A lab has settled when it was formed in this many rounds one after the other.
const SETTLED: u32 = 5;
/// Servers in a cluster of three nodes and more (docs/services.md).
const SERVERS: usize = 3;

/// Something that was learned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Finding {
    /// The first page answers.
    Page,
    /// This node is the one to go to: it leads, or, where nobody does, its page answers.
    Here {
        /// Which, from 0.
        node: usize,
        /// Whether it leads.
        leads: bool,
    },
    /// Something answers on the Swarm API's port of the leader.
    Swarm,
    /// All nodes that there were at the start are in, well, and have been for a while.
    Formed,
}

/// Ports of this machine that lead to a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Doors {
    /// To its page.
    pub page: u16,
    /// To its Swarm API.
    pub swarm: u16,
}

/// The thread. Dropped, it ends after the round that it is in.
#[derive(Debug)]
pub struct Guide {
    news: Sender<(usize, Option<Doors>)>,
    findings: Receiver<Finding>,
}

impl Guide {
    /// Starts it for a lab that has formed with `nodes` nodes.
    ///
    /// # Errors
    ///
    /// The system starts no thread.
    pub fn start(nodes: usize) -> anyhow::Result<Self> {
        Self::paced(nodes, PACE)
    }

    fn paced(nodes: usize, pace: Duration) -> anyhow::Result<Self> {
        let (news, heard) = channel();
        let (sender, findings) = channel();
        let walk = Walk { nodes, doors: Vec::new(), here: None, page: false, swarm: false, well: 0, pace, sender };
        std::thread::Builder::new().name("guide".into()).spawn(move || walk.run(&heard))?;
        Ok(Self { news, findings })
    }

    /// A node is reached through `doors`.
    pub fn reached(&self, node: usize, doors: Doors) {
        // It runs as long as we hold the sender.
        let _ = self.news.send((node, Some(doors)));
    }

    /// A node has gone.
    pub fn gone(&self, node: usize) {
        let _ = self.news.send((node, None));
    }

    /// What was learned since the last time.
    pub fn next(&self) -> Option<Finding> {
        self.findings.try_recv().ok()
    }
}

struct Walk {
    nodes: usize,
    /// By node.
    doors: Vec<Option<Doors>>,
    /// Whom we pointed at, and whether it leads.
    here: Option<(usize, bool)>,
    page: bool,
    swarm: bool,
    /// Rounds in which all was well, one after the other.
    well: u32,
    pace: Duration,
    sender: Sender<Finding>,
}

impl Walk {
    fn run(mut self, news: &Receiver<(usize, Option<Doors>)>) {
        let mut due = Instant::now();
        loop {
            match news.recv_timeout(due.saturating_duration_since(Instant::now())) {
                Ok((node, doors)) => {
                    self.doors.resize(self.doors.len().max(node + 1), None);
                    self.doors[node] = doors;
                    if doors.is_none() && self.here.is_some_and(|(here, _)| here == node) {
                        self.here = None;
                    }
                }
                Err(RecvTimeoutError::Timeout) => {
                    if self.round().is_none() {
                        return;
                    }
                    due = Instant::now() + self.pace;
                }
                Err(RecvTimeoutError::Disconnected) => return,
            }
        }
    }

    /// `None` when nobody listens any more.
    fn round(&mut self) -> Option<()> {
        let forming = self.well < SETTLED;
        let mut views = Vec::new();
        if let Some((node, true)) = self.here.filter(|_| !forming) {
            views = self.ask(&[node]);
        }
        if !views.iter().any(|(_, view)| leads(view)) {
            let all: Vec<_> = (0..self.doors.len()).collect();
            views = self.ask(&all);
        }
        if !self.page && !views.is_empty() {
            self.page = true;
            self.sender.send(Finding::Page).ok()?;
        }
        let chosen = choose(self.here, &views);
        if chosen != self.here {
            self.here = chosen;
            if let Some((node, leads)) = chosen {
                self.sender.send(Finding::Here { node, leads }).ok()?;
            }
        }
        if let Some((node, true)) = self.here
            && !self.swarm
            && self.doors[node].is_some_and(|doors| speaks(doors.swarm))
        {
            self.swarm = true;
            self.sender.send(Finding::Swarm).ok()?;
        }
        if forming {
            self.well = if formed(&views, self.nodes) { self.well + 1 } else { 0 };
            if self.well == SETTLED {
                self.sender.send(Finding::Formed).ok()?;
            }
        }
        Some(())
    }

    /// The views of those of `nodes` that answer, asked at the same time.
    fn ask(&self, nodes: &[usize]) -> Vec<(usize, View)> {
        std::thread::scope(|scope| {
            let questions: Vec<_> = nodes
                .iter()
                .filter_map(|node| {
                    let port = (*self.doors.get(*node)?)?.page;
                    Some((*node, scope.spawn(move || view(port))))
                })
                .collect();
            questions.into_iter().filter_map(|(node, question)| Some((node, question.join().ok()??))).collect()
        })
    }
}

/// Whether the node that sent this leads, by its own and recent word.
fn leads(view: &View) -> bool {
    view.age_ms < FRESH_MS && view.leader.as_ref() == Some(&view.served_by)
}

/// Whom to go to: who leads; else who it was last, who may only be slow; else anybody who answers. With it whether it leads.
fn choose(here: Option<(usize, bool)>, views: &[(usize, View)]) -> Option<(usize, bool)> {
    let leaders: Vec<_> = views.iter().filter(|(_, view)| leads(view)).map(|(node, _)| *node).collect();
    let stays = here.filter(|(node, _)| leaders.contains(node));
    let leader = stays.or_else(|| leaders.first().map(|node| (*node, true)));
    leader.map(|(node, _)| (node, true)).or(here).or_else(|| views.first().map(|(node, _)| (*node, false)))
}

/// Whether all of `nodes` nodes answer, know each other, and have nothing to complain about.
fn formed(views: &[(usize, View)], nodes: usize) -> bool {
    let servers = if nodes < SERVERS { 1 } else { SERVERS };
    views.len() == nodes
        && views.iter().all(|(_, view)| {
            let serving = view.nodes.iter().filter(|node| node.role != Role::Member).count();
            view.age_ms < FRESH_MS
                && view.leader.is_some()
                && view.problems.is_empty()
                && view.nodes.len() == nodes
                && serving == servers
                && view
                    .nodes
                    .iter()
                    .all(|node| node.state == State::Ready && node.consul.state == Gossip::Alive && node.swarm.state == "ready")
        })
}

/// What the page at `port` shows; `None` where it does not answer, or not with that.
fn view(port: u16) -> Option<View> {
    let config = ureq::Agent::config_builder().proxy(None).timeout_global(Some(ANSWER)).max_idle_connections(0);
    let agent: ureq::Agent = config.build().into();
    let mut answer = agent.get(format!("http://127.0.0.1:{port}/api/cluster")).call().ok()?;
    serde_json::from_reader(answer.body_mut().as_reader()).ok()
}

/// Whether anything speaks at `port`. The router takes a connection before the node has, and closes it when the node refuses; so
/// only a word counts. Every server has one for a request that makes no sense to it, an alert of TLS included.
fn speaks(port: u16) -> bool {
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let Ok(mut stream) = TcpStream::connect_timeout(&address, ANSWER) else { return false };
    let asked = stream.set_read_timeout(Some(ANSWER)).and_then(|()| stream.write_all(b"GET /_ping HTTP/1.0\r\n\r\n"));
    let deadline = Instant::now() + ANSWER;
    loop {
        match stream.read(&mut [0; 1]) {
            Ok(count) => return asked.is_ok() && count > 0,
            Err(error) if error.kind() == ErrorKind::Interrupted && Instant::now() < deadline => {}
            Err(_) => return false,
        }
    }
}

#[cfg(test)]
#[path = "guide_tests.rs"]
mod tests;
