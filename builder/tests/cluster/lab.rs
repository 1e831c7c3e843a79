//! A lab whose nodes are asked over SSH, and what can be said of all of them together.

use std::{
    collections::BTreeMap,
    net::{Ipv4Addr, TcpStream},
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use hcl_firstboot::{
    http::{Client, Stream},
    view::{Role, State, View},
};
use hcl_image::{
    image::disk::Disk,
    lab::{
        Lab, Spec, What,
        cloud::{IDENTITY, IDENTITY_FACTS},
        login::{self, Login, Wish},
        machine::Machine,
        node::Clock,
        ssh::Ssh,
        switch::Faults,
    },
    progress::{Mode, Reporter},
    units::Bytes,
};

/// Until all nodes of a lab are one cluster, or are one again: three times what it takes on two quiet cores.
pub const SETTLED: Duration = Duration::from_secs(1200);
/// For a node's end, containers and all.
const OFF: Duration = Duration::from_secs(300);
/// For one question.
const ANSWER: Duration = Duration::from_secs(180);

/// A running lab.
pub struct Cluster {
    pub lab: Lab,
    /// Who logs into each node.
    logins: Vec<Login>,
    /// Where each node is logged into, as far as known.
    ports: Vec<Option<u16>>,
    /// Where each node's page is, once it was asked for.
    pages: Vec<Option<u16>>,
    /// Nodes whose QEMU ended, and how.
    ended: BTreeMap<usize, Result<(), String>>,
    started: Instant,
}

/// The image under test.
pub fn image() -> PathBuf {
    PathBuf::from(std::env::var_os("HCL_IMAGE").expect("HCL_IMAGE names the built image"))
}

impl Cluster {
    /// Switches on `nodes` nodes of `image`; `spare` more can come later. Logs go into a folder named after the test, which stays.
    pub fn start(name: &str, image: &Path, nodes: usize, spare: usize, stations: &[&str]) -> Self {
        Self::start_with(name, image, nodes, spare, stations, "")
    }

    /// As [`Self::start`], with more words for the kernel's command line.
    pub fn start_with(name: &str, image: &Path, nodes: usize, spare: usize, stations: &[&str], kernel_words: &str) -> Self {
        let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("cluster-{name}"));
        // Of the run before, if there was one.
        let _ = std::fs::remove_dir_all(&folder);
        println!("{name}: consoles and capture in {}", folder.display());
        let reporter = Reporter::new(Mode::Quiet);
        let disk = Disk::open(image, &reporter).unwrap();
        let logins = vec![login::find(&disk, &Wish::default()).unwrap(); nodes + spare];
        let spec = Spec {
            image: image.to_owned(),
            nodes,
            spare,
            stations: stations.iter().map(|name| (*name).to_owned()).collect(),
            machine: Machine::Virt,
            memory: Bytes(768 * Bytes::MIB),
            disk: Bytes(4096 * Bytes::MIB),
            internet: false,
            seed: 1,
            clock: Clock::Host,
            kernel_words: kernel_words.to_owned(),
            faults: Faults::default(),
            folder,
            keep: false,
            capture_limit: 1 << 30,
        };
        let started = Instant::now();
        let lab = Lab::start(&spec, disk, &reporter).unwrap();
        let [ports, pages] = [(); 2].map(|()| vec![None; nodes + spare]);
        Self { lab, logins, ports, pages, ended: BTreeMap::new(), started }
    }

    /// Since the nodes were switched on.
    pub fn elapsed(&self) -> Duration {
        self.started.elapsed()
    }

    /// A line of the test's log, with the time since the lab's start.
    pub fn say(&self, words: &str) {
        println!("{:7.0} s  {words}", self.started.elapsed().as_secs_f64());
    }

    /// Takes in what happened meanwhile, for `wait` at most.
    pub fn look(&mut self, wait: Duration) {
        let deadline = Instant::now() + wait;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let Some(event) = self.lab.next(left.min(Duration::from_millis(500))).unwrap() else {
                if left.is_zero() {
                    return;
                }
                continue;
            };
            match (event.node, event.what) {
                (Some(node), What::Ssh(port)) => (self.ports[node], self.pages[node]) = (Some(port), None),
                (Some(node), What::Ended(end)) => drop(self.ended.insert(node, end)),
                (node, What::Broken(words)) => panic!("{node:?}: {words}"),
                (Some(node), What::Sight(sight)) if sight.is_fatal() => panic!("node-{}: {}", node + 1, sight.label()),
                _ => {}
            }
        }
    }

    /// Gives a spare node a card with another image; whoever logs in there has the key in the folder `keys`, or the usual one.
    pub fn other_card(&mut self, node: usize, image: &Path, keys: Option<&Path>) {
        let disk = Disk::open(image, &Reporter::new(Mode::Quiet)).unwrap();
        self.logins[node] = login::find(&disk, &Wish { keys: keys.map(Path::to_owned), ..Wish::default() }).unwrap();
        self.lab.other_card(node, image).unwrap();
    }

    pub fn power_on(&mut self, node: usize, clock: Clock) {
        self.say(&format!("node-{} is switched on", node + 1));
        self.ended.remove(&node);
        self.lab.power_on(node, clock).unwrap();
    }

    pub fn pull(&mut self, node: usize) {
        self.say(&format!("node-{} loses its power", node + 1));
        self.lab.pull(node).unwrap();
    }

    /// Runs `script` as root on a node; what it printed, or why not.
    pub fn try_ask(&mut self, node: usize, script: &str) -> Result<String, String> {
        self.look(Duration::ZERO);
        let port = self.ports[node].ok_or_else(|| "no address yet".to_owned())?;
        let mut printed = String::new();
        let ssh = Ssh { login: self.logins[node].clone(), port };
        let ended = ssh.run(script, ANSWER, |line| {
            printed.push_str(line);
            printed.push('\n');
        });
        match ended {
            Ok(ended) if ended.code == 0 => Ok(printed),
            Ok(ended) => Err(format!("exit code {}: {printed}{}", ended.code, ended.complaint)),
            Err(error) => Err(format!("{error:#}: {printed}")),
        }
    }

    /// As [`Self::try_ask`], tried again until `limit`.
    pub fn ask_within(&mut self, node: usize, script: &str, limit: Duration) -> String {
        let deadline = Instant::now() + limit;
        loop {
            match self.try_ask(node, script) {
                Ok(answer) => return answer,
                Err(why) if Instant::now() >= deadline => panic!("node-{}, `{}`: {why}", node + 1, script.trim()),
                Err(_) => self.look(Duration::from_secs(3)),
            }
        }
    }

    pub fn ask(&mut self, node: usize, script: &str) -> String {
        self.ask_within(node, script, Duration::from_secs(60))
    }

    /// What a node's page says, as anybody on the home network sees it: a login costs an emulated node seconds.
    pub fn view(&mut self, node: usize) -> Result<View, String> {
        self.look(Duration::ZERO);
        let port = match self.pages[node] {
            Some(port) => port,
            None => *self.pages[node].insert(self.lab.forward(node, 8500).map_err(|error| format!("{error:#}"))?),
        };
        let page = Client::over(&format!("node-{}'s page", node + 1), move |limit| {
            let stream = TcpStream::connect_timeout(&(Ipv4Addr::LOCALHOST, port).into(), limit)?;
            Ok(Box::new(stream) as Box<dyn Stream>)
        });
        let answer = page.request("GET", "/api/cluster", &[("Host", "localhost")], None, Duration::from_secs(20));
        let answer = answer.map_err(|error| error.to_string())?;
        serde_json::from_slice(&answer.body).map_err(|error| format!("{error}: {}", answer.text()))
    }

    /// Waits until every one of `nodes` says that exactly these many nodes are one cluster, all well; how long that took.
    pub fn settled(&mut self, nodes: &[usize]) -> Duration {
        let began = Instant::now();
        for node in nodes {
            loop {
                let wrong = match self.view(*node) {
                    Ok(view) => match wrong(&view, nodes.len()) {
                        None => break,
                        Some(wrong) => wrong,
                    },
                    Err(why) => why,
                };
                if began.elapsed() > SETTLED {
                    let logs = self
                        .try_ask(*node, "hcl status; hcl health; journalctl -b -n 40 --no-pager -u hcl-firstboot -u hcl-cluster");
                    panic!(
                        "node-{}: not settled after {} s: {wrong}\n{}",
                        node + 1,
                        SETTLED.as_secs(),
                        logs.unwrap_or_else(|why| why)
                    );
                }
                self.look(Duration::from_secs(10));
            }
        }
        self.say(&format!("settled: {} nodes, {:.0} s after the question", nodes.len(), began.elapsed().as_secs_f64()));
        began.elapsed()
    }

    /// Every line of `hcl health` on every node is a `[PASS]`.
    pub fn healthy(&mut self, nodes: &[usize]) {
        for node in nodes {
            // A reader of the line must not depend on when it was asked: some look back a minute.
            self.ask_within(*node, "hcl health", Duration::from_secs(180));
        }
    }

    /// The node that leads.
    pub fn leader(&mut self, nodes: &[usize]) -> usize {
        let leads =
            |cluster: &mut Self, node: usize| cluster.ask(node, "ip -4 -o addr show to 192.168.200.1").contains("192.168.200.1/");
        let leaders: Vec<usize> = nodes.iter().copied().filter(|node| leads(self, *node)).collect();
        assert_eq!(leaders.len(), 1, "nodes with the leader's address: {leaders:?}");
        leaders[0]
    }

    /// What must never change of a node.
    pub fn identity(&mut self, node: usize) -> Vec<String> {
        let facts: Vec<String> = self.ask(node, IDENTITY).lines().filter(|line| !line.is_empty()).map(str::to_owned).collect();
        assert_eq!(facts.len(), IDENTITY_FACTS, "node-{}: {facts:?}", node + 1);
        facts
    }

    /// `systemctl poweroff`, all at once, until all QEMUs have ended well.
    pub fn power_off(&mut self, nodes: &[usize]) {
        self.say(&format!("{} nodes are shut down", nodes.len()));
        for node in nodes {
            self.ask(*node, "systemctl --no-block poweroff");
        }
        self.until_off(nodes);
    }

    /// Whether a node's QEMU has ended.
    pub fn is_off(&self, node: usize) -> bool {
        self.ended.contains_key(&node)
    }

    /// Waits until all QEMUs have ended well.
    pub fn until_off(&mut self, nodes: &[usize]) {
        let deadline = Instant::now() + OFF;
        while nodes.iter().any(|node| !self.ended.contains_key(node)) {
            assert!(Instant::now() < deadline, "not off after {} s: {:?} of {nodes:?}", OFF.as_secs(), self.ended);
            self.look(Duration::from_secs(1));
        }
        for node in nodes {
            assert_eq!(self.ended[node], Ok(()), "node-{}", node + 1);
        }
    }

    /// Reboots a node, and waits until it was down.
    pub fn reboot(&mut self, node: usize) {
        let boot = "cat /proc/sys/kernel/random/boot_id";
        let before = self.ask(node, boot);
        self.say(&format!("node-{} reboots", node + 1));
        self.ask(node, "systemctl --no-block reboot");
        self.until(node, boot, |now| now != before);
    }

    /// Asks a node until it says what is wanted.
    pub fn until(&mut self, node: usize, script: &str, wanted: impl Fn(&str) -> bool) {
        let deadline = Instant::now() + SETTLED;
        while !self.try_ask(node, script).is_ok_and(|said| wanted(&said)) {
            assert!(Instant::now() < deadline, "node-{}: `{script}` never said what was wanted", node + 1);
            self.look(Duration::from_secs(2));
        }
    }

    /// The local port that leads to a node's SSH server.
    pub fn port(&self, node: usize) -> u16 {
        self.ports[node].unwrap()
    }
}

/// What is wrong with a view of `count` nodes.
fn wrong(view: &View, count: usize) -> Option<String> {
    let unwell: Vec<String> = view
        .nodes
        .iter()
        .filter(|node| node.state != State::Ready)
        .map(|node| format!("{} {:?}", node.name, node.state))
        .chain(view.problems.iter().map(|problem| format!("{problem:?}")))
        .collect();
    let leaders = view.nodes.iter().filter(|node| node.role == Role::Leader).count();
    let servers = view.nodes.iter().filter(|node| node.consul.server).count();
    let wanted = if count < 3 { 1 } else { 3 };
    if view.nodes.len() == count && unwell.is_empty() && leaders == 1 && servers == wanted {
        return None;
    }
    Some(format!(
        "{} of {count} nodes, {leaders} leaders, {servers} of {wanted} servers; {}",
        view.nodes.len(),
        unwell.join(", ")
    ))
}
