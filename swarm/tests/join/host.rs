//! A node: a network namespace, an engine, a Consul, and what joins them.

use std::{
    fs::{self, File},
    future::Future,
    net::{Ipv4Addr, SocketAddrV4},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use hcl_firstboot::{
    consul::Setup,
    identity::NodeId,
    trust::{NodeNames, Trust, Validity},
};
use hcl_swarm::join::{self, Options};
use rustix::process::{Pid, Signal, kill_process};
use tokio::{
    runtime::{Builder, Runtime},
    task::JoinHandle,
};

use super::agent::{Agent, LIMIT, Lab};

/// The image that the engine has; on a card it is Debian's.
pub const IMAGE: &str = "hcl/busybox:1.37";
/// This machine's busybox, and what it needs.
const BUSYBOX: &str = "mkdir bin tmp; cp $(command -v busybox) bin/busybox
    for file in $(ldd bin/busybox 2>&1 | grep -o '/[^ ]*'); do mkdir -p .${file%/*}; cp -L $file .$file; done
    for name in sh sleep cat dd wget httpd sha256sum mkdir; do ln -s busybox bin/$name; done";
/// Programs that are needed, and the Debian package of each.
const PACKAGES: [(&str, &str); 5] =
    [("dockerd", "docker.io"), ("busybox", "busybox"), ("ip", "iproute2"), ("ldd", "libc-bin"), ("setpriv", "util-linux")];

/// Moves this thread, and what it starts from now on, into a network of its own; the runtime's threads are there too.
pub fn enter() -> Runtime {
    assert!(rustix::process::geteuid().is_root(), "a real engine needs root: run this test with sudo -E");
    for (program, package) in PACKAGES {
        let found = ["/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin"]
            .iter()
            .any(|folder| Path::new(folder).join(program).exists());
        assert!(found, "{program} is needed: apt-get install {package}");
    }
    // SAFETY: only the network is another one; files and descriptors stay shared.
    unsafe { rustix::thread::unshare_unsafe(rustix::thread::UnshareFlags::NEWNET) }.unwrap();
    run("ip", &["link", "set", "lo", "up"]);
    Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap()
}

/// Runs a program that must succeed; what it said.
#[track_caller]
pub fn run(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program).args(arguments).stdin(Stdio::null()).output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{program} {arguments:?}\n{text}");
    text.trim().to_owned()
}

/// Waits until `look` finds something; how long that took.
#[track_caller]
pub fn until<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> (T, Duration) {
    let begin = Instant::now();
    loop {
        if let Some(found) = look() {
            return (found, begin.elapsed());
        }
        assert!(begin.elapsed() < LIMIT, "waited {LIMIT:?} for {what}");
        thread::sleep(Duration::from_millis(20));
    }
}

/// A program that runs until this is dropped, or the test's thread ends.
pub struct Running(Child);

impl Running {
    pub fn start(program: &Path, arguments: &[&str], log: &Path) -> Self {
        let log = File::options().create(true).append(true).open(log).unwrap();
        let child = Command::new("setpriv")
            .args(["--pdeathsig", "TERM", "--"])
            .arg(program)
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .unwrap();
        Self(child)
    }

    pub fn pid(&self) -> u32 {
        self.0.id()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // An engine that is killed leaves control groups behind.
        let _ = kill_process(Pid::from_child(&self.0), Signal::TERM);
        let end = Instant::now() + Duration::from_secs(60);
        while matches!(self.0.try_wait(), Ok(None)) && Instant::now() < end {
            thread::sleep(Duration::from_millis(20));
        }
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A node named `node-1`.
pub struct Host {
    join: Option<JoinHandle<()>>,
    engine: Option<Running>,
    pub consul: Option<Agent>,
    pub folder: PathBuf,
    // Last: the others' files go with it.
    pub lab: Lab,
}

impl Host {
    /// One without anything that runs.
    pub fn new() -> Self {
        let lab = Lab::new();
        let folder = lab.folder.path().join("host");
        fs::create_dir(&folder).unwrap();
        let host = Self { folder, lab, consul: None, engine: None, join: None };
        let trust = Trust::new(&host.lab.key);
        let names = NodeNames::new(NodeId([1; 16]), host.address(), "node-1").unwrap();
        host.certificates("tls", &trust, &names);
        host
    }

    pub fn address(&self) -> Ipv4Addr {
        self.lab.address(1)
    }

    pub fn at(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    /// Writes the certificates of the node of these names into a folder.
    pub fn certificates(&self, folder: &str, trust: &Trust, names: &NodeNames) -> PathBuf {
        let issued = trust.nodes.issue(names, Validity::LIFE, &[7; 32]);
        let folder = self.at(folder);
        fs::create_dir_all(&folder).unwrap();
        fs::write(folder.join("nodes-ca.pem"), trust.nodes.certificate_pem()).unwrap();
        fs::write(folder.join("node.pem"), issued.certificate_pem()).unwrap();
        fs::write(folder.join("node-key.pem"), issued.key_pem()).unwrap();
        folder
    }

    /// A Consul of one server, with the tokens, and names at 127.0.0.1:8600 as on a node; in a state that is new.
    pub fn start_consul(&mut self) {
        let setup = Setup { ..self.lab.founder() };
        let _ = fs::remove_dir_all(&setup.places.data);
        fs::create_dir_all(&setup.places.data).unwrap();
        setup.write(&setup.places.config, &self.lab.secrets, &setup.pem(&self.lab.key)).unwrap();
        let agent = self.lab.run(setup);
        agent.wait_leader();
        self.lab.bootstrap(&agent);
        agent.wait_nodes("the founder, reached", |nodes| nodes.iter().find(|node| node.is_reached()).map(|_| ()));
        self.consul = Some(agent);
    }

    /// As a power cut ends it.
    pub fn kill_consul(&mut self) {
        self.consul = None;
    }

    pub fn socket(&self) -> PathBuf {
        self.at("docker.sock")
    }

    /// An engine with a bridge of its own, whose ports are published by a proxy; `mounts` is done before it starts, and seen by it alone.
    pub fn start_engine(&mut self, mounts: &str) {
        let at = self.folder.display().to_string();
        let folders = format!("--data-root {at}/root --exec-root {at}/exec -p {at}/pid -H unix://{at}/docker.sock");
        let options = "--iptables=false --ip6tables=false --ip-masq=false --storage-driver overlay2 --shutdown-timeout 5";
        // Another than the one of whoever runs an engine on this machine.
        let command = format!("{mounts} exec dockerd --config-file {at}/daemon.json {folders} {options}");
        fs::write(self.at("daemon.json"), "{}").unwrap();
        let engine = Running::start(Path::new("unshare"), &["--mount", "sh", "-ec", &command], &self.at("engine.log"));
        self.engine = Some(engine);
        let log = self.at("engine.log");
        until(&format!("the engine, see {}", log.display()), || self.try_docker(&["version"]).ok());
        if self.try_docker(&["image", "inspect", IMAGE]).is_err() {
            self.image(IMAGE, BUSYBOX, &[]);
        }
    }

    pub fn stop_engine(&mut self) {
        self.engine = None;
    }

    /// Makes an image of what `fill`, a piece of shell, lays into its folder.
    pub fn image(&self, name: &str, fill: &str, changes: &[&str]) {
        let at = self.at("image").display().to_string();
        run("sh", &["-ec", &format!("rm -rf {at}; mkdir {at}; cd {at}; {fill}\ntar -cf {at}.tar .")]);
        let tar = format!("{at}.tar");
        let changes = changes.iter().flat_map(|change| ["-c", *change]);
        self.docker(&[&["import"][..], &changes.collect::<Vec<_>>(), &[&tar, name]].concat());
    }

    /// Docker's own command line on the engine.
    #[track_caller]
    pub fn docker(&self, arguments: &[&str]) -> String {
        self.try_docker(arguments).unwrap_or_else(|text| panic!("docker {arguments:?}\n{text}"))
    }

    pub fn try_docker(&self, arguments: &[&str]) -> Result<String, String> {
        let socket = format!("unix://{}", self.socket().display());
        let mut command = Command::new("docker");
        for variable in ["DOCKER_TLS_VERIFY", "DOCKER_CERT_PATH", "DOCKER_CONTEXT", "DOCKER_HOST"] {
            command.env_remove(variable);
        }
        let output = command.arg("-H").arg(socket).args(arguments).stdin(Stdio::null()).output().unwrap();
        let text = String::from_utf8_lossy(&output.stdout).trim().to_owned();
        if output.status.success() { Ok(text) } else { Err(text + &String::from_utf8_lossy(&output.stderr)) }
    }

    pub fn options(&self) -> Options {
        let token_file = self.at("token");
        fs::write(&token_file, format!("{}\n", self.lab.secrets.swarm.reveal())).unwrap();
        Options {
            listen: SocketAddrV4::new(self.address(), 2376),
            name: "node-1".into(),
            address: self.address(),
            tls: self.at("tls"),
            engine: self.socket(),
            consul: self.lab.founder().places.socket,
            token_file,
        }
    }

    /// A folder with a node's certificates, as Docker's command line wants them.
    pub fn docker_certificates(&self) -> PathBuf {
        let folder = self.at("docker");
        fs::create_dir_all(&folder).unwrap();
        for (from, to) in [("nodes-ca.pem", "ca.pem"), ("node.pem", "cert.pem"), ("node-key.pem", "key.pem")] {
            fs::copy(self.at("tls").join(from), folder.join(to)).unwrap();
        }
        folder
    }

    /// What this is all about.
    pub fn start_join(&mut self, runtime: &Runtime) {
        let options = self.options();
        self.join = Some(runtime.spawn(async move { join::run(options, std::future::pending()).await.unwrap() }));
    }

    pub fn stop_join(&mut self, runtime: &Runtime) {
        if let Some(join) = self.join.take() {
            join.abort();
            let _ = runtime.block_on(join);
        }
    }

    /// A runtime's answer, of what asks Consul with all rights.
    pub fn ask<T, F: Future<Output = T>>(&self, runtime: &Runtime, ask: impl FnOnce(hcl_swarm::consul::Client) -> F) -> T {
        let token = hcl_swarm::consul::Token::new(self.lab.secrets.management.reveal()).unwrap();
        runtime.block_on(ask(hcl_swarm::consul::Client::new(self.lab.founder().places.socket, Some(token))))
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        if thread::panicking() {
            let log = fs::read_to_string(self.at("engine.log")).unwrap_or_default();
            let lines: Vec<_> = log.lines().filter(|line| !line.contains("level=info")).collect();
            eprintln!("--- engine\n{}", lines[lines.len().saturating_sub(20)..].join("\n"));
            eprintln!("{}", self.try_docker(&["ps", "-a"]).unwrap_or_default());
        }
        let containers = self.try_docker(&["ps", "-aq"]).unwrap_or_default();
        let containers: Vec<&str> = containers.split_whitespace().collect();
        for container in containers.iter().filter(|_| thread::panicking()) {
            let socket = format!("unix://{}", self.socket().display());
            eprintln!("--- {container}");
            let _ = Command::new("docker")
                .args(["-H", &socket, "logs", "--tail", "20", container])
                .stdout(std::io::stderr())
                .status();
        }
        if !containers.is_empty() {
            let _ = self.try_docker(&[&["rm", "-f"], &containers[..]].concat());
        }
    }
}
