//! Agents of one cluster.

use std::{
    fmt::Debug,
    fs::{self, File},
    net::Ipv4Addr,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::{
        OnceLock,
        atomic::{AtomicU8, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use hcl_firstboot::{
    consul::{Client, Error, Places, Secrets, Setup, Version, acl},
    identity::NodeId,
    key::ClusterKey,
};

/// How long anything may take on a busy machine.
pub const LIMIT: Duration = Duration::from_secs(120);

/// The judge.
pub fn program() -> &'static Path {
    static PROGRAM: OnceLock<PathBuf> = OnceLock::new();
    PROGRAM.get_or_init(|| {
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/../scripts/consul");
        let output = Command::new(script).output().expect("scripts/consul cannot be run");
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "Debian's package consul is needed, run scripts/install-packages test: {said}");
        PathBuf::from(String::from_utf8(output.stdout).unwrap().trim())
    })
}

/// Looks until there is something to be seen; fails after [`LIMIT`].
#[track_caller]
pub fn wait<T>(what: &str, look: impl FnMut() -> Option<T>) -> T {
    wait_within(LIMIT, what, look)
}

#[track_caller]
pub fn wait_within<T>(limit: Duration, what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let until = Instant::now() + limit;
    loop {
        if let Some(seen) = look() {
            return seen;
        }
        assert!(Instant::now() < until, "waited {} s for {what}", limit.as_secs());
        thread::sleep(Duration::from_millis(50));
    }
}

/// Tries until it is done; fails with the last error after [`LIMIT`].
#[track_caller]
pub fn retry<T>(what: &str, mut attempt: impl FnMut() -> Result<T, Error>) -> T {
    let mut last;
    let until = Instant::now() + LIMIT;
    loop {
        match attempt() {
            Ok(done) => return done,
            Err(error) => last = error.to_string(),
        }
        assert!(Instant::now() < until, "{what}: {last}");
        thread::sleep(Duration::from_millis(50));
    }
}

/// A cluster key, a folder, and addresses that no other test has.
pub struct Lab {
    pub folder: tempfile::TempDir,
    pub secrets: Secrets,
    pub key: ClusterKey,
    network: [u8; 3],
}

impl Lab {
    pub fn new() -> Self {
        static LABS: AtomicU8 = AtomicU8::new(0);
        let lab = LABS.fetch_add(1, Ordering::Relaxed);
        let process = std::process::id();
        let network = [127, 1 + (process >> 8) as u8 % 200, process as u8 ^ lab.rotate_left(4)];
        let folder = tempfile::tempdir().unwrap();
        let key = ClusterKey::new([lab; 32]);
        Self { folder, secrets: Secrets::of(&key), key, network }
    }

    pub fn address(&self, number: u8) -> Ipv4Addr {
        let [a, b, c] = self.network;
        Ipv4Addr::new(a, b, c, number)
    }

    /// What agent `number` is told: a client that joins the first one.
    pub fn setup(&self, number: u8) -> Setup {
        let places = self.places(number);
        Setup {
            node_name: format!("node-{number}"),
            node_id: NodeId([number; 16]),
            address: self.address(number),
            server: false,
            bootstrap: false,
            retry_join: vec![self.address(1)],
            version: Version::new(1, 8, 7),
            places,
        }
    }

    pub fn founder(&self) -> Setup {
        Setup { server: true, bootstrap: true, ..self.setup(1) }
    }

    pub fn server(&self, number: u8) -> Setup {
        Setup { server: true, ..self.setup(number) }
    }

    fn places(&self, number: u8) -> Places {
        let folder = self.folder.path().join(number.to_string());
        Places { config: folder.join("config"), data: folder.join("data"), socket: folder.join("http.sock") }
    }

    /// The agent of this setup, running.
    pub fn start(&self, setup: &Setup) -> Agent {
        let Places { config, data, .. } = &setup.places;
        fs::create_dir_all(data).unwrap();
        setup.write(config, &self.secrets, &setup.pem(&self.key)).unwrap();
        // On a node there is one agent, whose names are asked for at 127.0.0.1.
        let own = format!("{{\"addresses\": {{\"dns\": \"{}\"}}, \"log_level\": \"INFO\"}}", setup.address);
        fs::write(config.join("test.json"), own).unwrap();
        self.run(setup.clone())
    }

    /// Starts the program with whatever is in the folder of the configuration.
    pub fn run(&self, setup: Setup) -> Agent {
        let log = setup.places.config.with_file_name("log");
        let file = File::options().append(true).create(true).open(&log).unwrap();
        let log_starts = file.metadata().unwrap().len() as usize;
        let child = Command::new(program())
            .arg("agent")
            .arg(format!("-config-dir={}", setup.places.config.display()))
            .stdin(Stdio::null())
            .stdout(file.try_clone().unwrap())
            .stderr(file)
            .spawn()
            .unwrap();
        let client = Client::new(&setup.places.socket, Some(self.secrets.management.clone()));
        Agent { setup, client, log, log_starts, child: Some(child) }
    }

    /// A lab of `count` servers that vote, with their tokens.
    pub fn servers(&self, count: u8) -> Vec<Agent> {
        let mut agents = vec![self.start(&self.founder())];
        self.bootstrap(&agents[0]);
        agents.extend((2..=count).map(|number| self.start(&self.server(number))));
        wait_voters(&agents[0], count);
        agents
    }

    pub fn bootstrap(&self, agent: &Agent) {
        retry("making the tokens", || acl::bootstrap(&agent.client, &self.secrets));
    }
}

/// An agent that runs until it is dropped.
pub struct Agent {
    pub setup: Setup,
    /// Asks it with the management token.
    pub client: Client,
    log: PathBuf,
    /// What is before comes from an earlier start.
    log_starts: usize,
    child: Option<Child>,
}

impl Agent {
    pub fn pid(&self) -> u32 {
        self.child.as_ref().unwrap().id()
    }

    /// As a power cut ends it.
    pub fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().unwrap();
            child.wait().unwrap();
        }
    }

    /// As the engine stops it.
    pub fn stop(mut self) -> Setup {
        let mut child = self.child.take().unwrap();
        let pid = rustix::process::Pid::from_child(&child);
        rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
        wait("the agent's end", || child.try_wait().unwrap());
        self.setup.clone()
    }

    pub fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap()[self.log_starts..].to_owned()
    }

    /// Waits for a line that has `text` in it.
    #[track_caller]
    pub fn wait_log(&self, text: &str) {
        wait(text, || self.log().contains(text).then_some(()));
    }

    /// Asks as whoever has no token.
    pub fn without_token(&self) -> Client {
        Client::new(&self.setup.places.socket, None)
    }

    #[track_caller]
    pub fn wait_leader(&self) -> Ipv4Addr {
        wait("a leader", || self.client.leader().ok().flatten())
    }

    /// Waits for what the catalog is to say, by what this agent sees.
    #[track_caller]
    pub fn wait_nodes<T: Debug>(&self, what: &str, look: impl Fn(&[hcl_firstboot::consul::catalog::Node]) -> Option<T>) -> T {
        wait(what, || self.client.nodes().ok().and_then(|nodes| look(&nodes)))
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        self.kill();
        if thread::panicking() {
            let log = self.log();
            let last: Vec<&str> = log.lines().rev().take(25).collect();
            let last: Vec<&str> = last.into_iter().rev().collect();
            eprintln!("--- {}\n{}", self.setup.node_name, last.join("\n"));
        }
    }
}

#[track_caller]
pub fn wait_voters(agent: &Agent, count: u8) {
    wait("voters", || {
        let peers = agent.client.peers().ok()?;
        (peers.len() == usize::from(count) && peers.iter().all(|peer| peer.voter)).then_some(())
    });
}
