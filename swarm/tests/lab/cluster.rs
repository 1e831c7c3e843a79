//! Three engines that are one cluster: swarm mode, `hcl-swarm join` on each, `hcl-swarm manage` on two; and a laptop on the same wire.

use std::{
    collections::BTreeMap,
    fs,
    net::Ipv4Addr,
    path::{Path, PathBuf},
    sync::{Mutex, MutexGuard},
    time::Duration,
};

use hcl_firstboot::{
    engine::{Engine, JoinSwarm},
    http,
    key::ClusterKey,
    trust::Trust,
};
use serde_json::{Value, json};

use super::{Client, certificates, look_within, programs, until, wire};

/// The port of the Swarm API.
pub const API: u16 = 2378;
/// The port at which a node carries its engine.
pub const CARRIER: u16 = 2376;

/// A machine on the wire.
#[derive(Clone, Debug)]
pub struct Machine {
    /// Its number on the wire.
    pub host: u8,
    /// Its host name.
    pub name: String,
    /// Its address.
    pub address: Ipv4Addr,
    /// A process in its namespaces, seen from outside.
    pid: u32,
    /// Its files.
    pub folder: PathBuf,
}

impl Machine {
    /// The start of a command that runs the rest on this machine.
    pub fn enter(&self) -> Vec<String> {
        let own = |kind: &str| format!("--{kind}=/proc/{}/ns/{kind}", self.pid);
        let mut words = vec!["nsenter".to_owned(), own("mount").replace("ns/mount", "ns/mnt"), own("net"), own("uts")];
        words.push("--".to_owned());
        words
    }

    /// The network that it is on.
    pub fn network(&self) -> fs::File {
        fs::File::open(format!("/proc/{}/ns/net", self.pid)).unwrap()
    }

    /// Its engine's socket.
    pub fn socket(&self) -> PathBuf {
        self.folder.join("docker.sock")
    }

    /// Asks its engine directly; status 0 when it does not answer.
    pub fn ask(&self, method: &str, path: &str, body: Option<&Value>) -> (u16, Value) {
        let text = body.map(Value::to_string);
        let body = text.as_ref().map(|text| ("application/json", text.as_bytes()));
        let client = http::Client::unix(self.socket());
        let Ok(answer) = client.request(method, path, &[], body, Duration::from_secs(60)) else { return (0, Value::Null) };
        (answer.status, serde_json::from_slice(&answer.body).unwrap_or(Value::Null))
    }
}

/// The whole lab.
pub struct Cluster {
    wire: Mutex<wire::Lab>,
    /// Those with engines: `node-1`, the leader, to `node-3`.
    pub nodes: Vec<Machine>,
    /// One without, where people sit.
    pub laptop: Machine,
    /// What everything secret comes from.
    pub key: ClusterKey,
    /// What certificates come from.
    pub trust: Trust,
    folder: PathBuf,
}

impl Cluster {
    /// Engines in swarm mode, all of them managers, with one image. Nothing of ours runs yet.
    pub fn new() -> Self {
        let mut wire = wire::Lab::new();
        let folder = wire.folder.path().to_owned();
        let hosts = [(); 3].map(|()| wire.machine());
        let laptop = wire.machine();
        let machines: Vec<_> = hosts.iter().chain([&laptop]).map(|host| machine(&mut wire, *host)).collect();
        let hosts_file = folder.join("hosts");
        let mut text = format!("127.0.0.1 localhost\n{} master master.local\n", machines[0].address);
        for machine in &machines {
            text += &format!("{} {name} {name}.local\n", machine.address, name = machine.name);
        }
        fs::write(&hosts_file, text).unwrap();
        wire.sh(&format!("mount --bind {} /etc/hosts", hosts_file.display()));
        for (machine, room) in machines.iter().zip(["attic", "cellar", "cellar"]) {
            // The key gives the engine its id: each node has its own.
            let key = machine.folder.join("key.json");
            let settings = json!({
                "labels": [format!("room={room}")],
                "insecure-registries": ["192.168.200.0/24"],
                "deprecated-key-path": key,
            });
            fs::write(machine.folder.join("daemon.json"), settings.to_string()).unwrap();
        }
        hosts.iter().for_each(|host| wire.launch(*host));
        for host in hosts {
            wire.until(host, "answers", || Engine::connect(http::Client::unix(wire.socket(host))).ok());
        }
        // One image with one id everywhere, as on cards of one kind.
        wire.import(hosts[0]);
        let archive = folder.join("saved.tar").display().to_string();
        wire.docker(hosts[0], &format!("save -o {archive} {}", wire::IMAGE));
        for host in &hosts[1..] {
            wire.docker(*host, &format!("load -q -i {archive}"));
        }
        let first = wire.connect(hosts[0]);
        first.init_swarm(&wire.founding(hosts[0])).unwrap();
        let token = first.join_tokens().unwrap().expect("it is a manager").manager;
        for host in &hosts[1..] {
            let managers = vec![wire.address(hosts[0])];
            let join = JoinSwarm { address: wire.address(*host), managers, token: token.clone() };
            wire.connect(*host).join_swarm(&join, wire::BOUND).unwrap();
        }
        let key = ClusterKey::new([7; 32]);
        let trust = Trust::new(&key);
        let laptop = machines[3].clone();
        let cluster = Self { wire: Mutex::new(wire), nodes: machines[..3].to_vec(), laptop, key, trust, folder };
        until("three managers", || {
            let nodes = cluster.connect(0).nodes().ok()?;
            let reachable = nodes.iter().filter(|node| node.manager.as_ref().is_some_and(|m| m.reachability == "reachable"));
            (reachable.count() == 3).then_some(())
        });
        for node in &cluster.nodes {
            certificates::of_node(&cluster, node, &node.folder.join("tls"));
        }
        cluster
    }

    /// The same with `join` everywhere and `manage` on the first two nodes, with fixed engines, once it answers.
    pub fn serving() -> Self {
        let cluster = Self::new();
        for node in &cluster.nodes {
            cluster.join(node);
        }
        for node in &cluster.nodes[..2] {
            cluster.manage(node, &cluster.fixed());
        }
        cluster.ready();
        cluster
    }

    /// Waits until both servers answer and know all three engines.
    #[track_caller]
    pub fn ready(&self) {
        for node in &self.nodes[..2] {
            self.answers(node);
            let client = self.client(programs::carried(), node);
            until("three engines", || {
                (client.run("docker info 2>/dev/null").out.matches("Status: Healthy").count() == 3).then_some(())
            });
        }
    }

    /// Options of `manage` that name the engines of this lab.
    pub fn fixed(&self) -> String {
        let engine = |node: &Machine| format!(" --engine {}=tls://{}:{CARRIER}", node.name, node.address);
        self.nodes.iter().map(engine).collect::<String>() + " --master node-1"
    }

    /// Starts `hcl-swarm join` on `node`.
    pub fn join(&self, node: &Machine) {
        let socket = node.socket().display().to_string();
        self.run(node, "join", CARRIER, &format!("--engine {socket}"));
    }

    /// Starts `hcl-swarm manage` on `node`.
    pub fn manage(&self, node: &Machine, options: &str) {
        self.run(node, "manage", API, &format!("--log-requests {options}"));
    }

    fn run(&self, node: &Machine, what: &str, port: u16, options: &str) {
        let Machine { host, name, address, folder, .. } = node;
        let folder = folder.display();
        let at = if port == API { Ipv4Addr::UNSPECIFIED } else { *address };
        let common = format!("--listen {at}:{port} --name {name} --address {address} --tls {folder}/tls");
        let consul = format!("--consul {folder}/consul.sock --token-file {folder}/tls/token");
        let program = programs::HCL_SWARM;
        self.sh(&format!(
            "nsenter -t $h{host} -n -u {program} {what} {common} {consul} {options} >>{folder}/{what}.log 2>&1 & {what}{host}=$!"
        ));
    }

    /// Waits until `manage` on `node` answers.
    #[track_caller]
    pub fn answers(&self, node: &Machine) {
        let client = self.client(programs::carried(), node);
        let log = || fs::read_to_string(node.folder.join("manage.log")).unwrap_or_default();
        until(&format!("the Swarm API of {}: {}", node.name, log()), || (client.run("docker ps").code == 0).then_some(()));
    }

    /// The process of `what` on `node`, seen from outside; none when it has ended.
    pub fn process(&self, what: &str, node: &Machine) -> Option<u32> {
        let inner = self.sh(&format!("echo ${what}{}", node.host)).trim().to_owned();
        // In its own view it is the last of these numbers.
        fs::read_dir("/proc").unwrap().find_map(|entry| {
            let pid: u32 = entry.ok()?.file_name().to_str()?.parse().ok()?;
            let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
            let numbers = status.lines().find_map(|line| line.strip_prefix("NSpid:"))?;
            let same_wire =
                fs::read_link(format!("/proc/{pid}/ns/pid")).ok()? == fs::read_link(format!("/proc/{}/ns/pid", node.pid)).ok()?;
            (same_wire && numbers.split_whitespace().last() == Some(inner.as_str()) && !status.contains("State:\tZ"))
                .then_some(pid)
        })
    }

    /// Ends `what` (`join`, `manage`, or `d` for the engine) on `node`, by this signal, and waits until it has ended.
    pub fn end(&self, what: &str, node: &Machine, signal: &str) {
        self.sh(&format!("kill -{signal} ${what}{host} && wait ${what}{host}; true", host = node.host));
    }

    /// The last lines of the log of `what` on `node`.
    pub fn log(&self, what: &str, node: &Machine) -> String {
        let text = fs::read_to_string(node.folder.join(format!("{what}.log"))).unwrap_or_default();
        let lines: Vec<_> = text.lines().filter(|line| !line.starts_with("request ")).collect();
        lines[lines.len().saturating_sub(20)..].join("\n")
    }

    /// What clients asked `manage` for, on all nodes: method, path, client.
    pub fn requests(&self) -> Vec<(String, String, String)> {
        let logs = self.nodes.iter().map(|node| fs::read_to_string(node.folder.join("manage.log")).unwrap_or_default());
        let request = |line: &str| {
            let mut words = line.strip_prefix("request ")?.splitn(5, ' ').skip(1).map(str::to_owned);
            let (method, path, _, client) = (words.next()?, words.next()?, words.next()?, words.next()?);
            Some((method, path, client))
        };
        logs.flat_map(|log| log.lines().filter_map(request).collect::<Vec<_>>()).collect()
    }

    /// The engine of node number `index`, asked directly.
    pub fn connect(&self, index: usize) -> Engine {
        Engine::connect(http::Client::unix(self.nodes[index].socket())).unwrap()
    }

    /// Starts the engine of `node` again.
    pub fn start_engine(&self, node: &Machine) {
        self.wire().start(node.host);
    }

    /// A command in the shell that all of the lab runs in.
    #[track_caller]
    pub fn sh(&self, command: &str) -> String {
        self.wire().sh(command)
    }

    fn wire(&self) -> MutexGuard<'_, wire::Lab> {
        self.wire.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    /// A user with this client on the laptop, asking `manage` of `node` over TLS.
    pub fn client(&self, program: &programs::Docker, node: &Machine) -> Client {
        let folder = self.user("maria");
        let host = if node.host == 1 { "master" } else { &node.name };
        Client::new(program, &self.laptop, &self.laptop.folder).asking(&format!("tcp://{host}:{API}"), &folder)
    }

    /// This client asking the engine of `node` itself, without anything of ours between them.
    pub fn direct(&self, program: &programs::Docker, node: &Machine) -> Client {
        let host = format!("unix://{}", node.socket().display());
        Client::new(program, &self.laptop, &self.laptop.folder).with("DOCKER_HOST", &host)
    }

    /// The folder with the certificate of a user of this name.
    pub fn user(&self, name: &str) -> PathBuf {
        let folder = self.laptop.folder.join(name);
        if !folder.exists() {
            certificates::of_user(&self.trust, &certificates::user(&self.trust, name), &folder);
        }
        folder
    }

    /// A folder for a test's own files.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Takes away what a test left: all that is not there from the start. Asks the engines directly.
    pub fn clean(&self) {
        for node in &self.nodes {
            let list = |path: &str| node.ask("GET", path, None).1.as_array().cloned().unwrap_or_default();
            let text = |object: &Value, name: &str| object[name].as_str().unwrap_or_default().to_owned();
            for service in list("/services") {
                node.ask("DELETE", &format!("/services/{}", text(&service, "ID")), None);
            }
            for container in list("/containers/json?all=1") {
                node.ask("DELETE", &format!("/containers/{}?force=1&v=1", text(&container, "Id")), None);
            }
            for secret in list("/secrets") {
                node.ask("DELETE", &format!("/secrets/{}", text(&secret, "ID")), None);
            }
            for config in list("/configs") {
                node.ask("DELETE", &format!("/configs/{}", text(&config, "ID")), None);
            }
        }
        for node in &self.nodes {
            let list = |path: &str| node.ask("GET", path, None).1;
            let images = list("/images/json");
            if images.is_array() && !images.to_string().contains(wire::IMAGE) {
                let archive = self.folder.join("saved.tar").display().to_string();
                self.wire().try_docker(node.host, &format!("load -q -i {archive}"));
            }
            for network in list("/networks").as_array().unwrap_or(&Vec::new()) {
                let name = network["Name"].as_str().unwrap_or_default();
                if !["bridge", "host", "none", "ingress", "docker_gwbridge"].contains(&name) {
                    // A container's endpoint on another node takes its time to go.
                    let path = format!("/networks/{name}");
                    let _ = look_within(Duration::from_secs(15), || {
                        ([204, 404].contains(&node.ask("DELETE", &path, None).0)).then_some(())
                    });
                }
            }
            for volume in list("/volumes")["Volumes"].as_array().unwrap_or(&Vec::new()) {
                node.ask("DELETE", &format!("/volumes/{}?force=1", volume["Name"].as_str().unwrap_or_default()), None);
            }
            for image in list("/images/json?all=0").as_array().unwrap_or(&Vec::new()) {
                let tags = image["RepoTags"].as_array().cloned().unwrap_or_default();
                if !tags.iter().any(|tag| tag == wire::IMAGE) {
                    node.ask("DELETE", &format!("/images/{}?force=1", image["Id"].as_str().unwrap_or_default()), None);
                }
                for tag in tags.iter().filter_map(Value::as_str).filter(|tag| *tag != wire::IMAGE) {
                    node.ask("DELETE", &format!("/images/{tag}"), None);
                }
            }
        }
    }

    /// Waits until what serves knows of nothing that is no more; for a time only, since a case that failed may have left anything.
    pub fn settle(&self) {
        let clients: Vec<_> = self.nodes[..2].iter().map(|node| self.client(programs::carried(), node)).collect();
        let line = "docker ps -aq; docker volume ls -q; docker images --format '{{.Repository}}:{{.Tag}}'; \
                    docker network ls -q --filter type=custom --filter driver=overlay";
        let known = |client: &Client| client.run(line).out.lines().count();
        // The image, and swarm mode's own network.
        let settled = look_within(Duration::from_secs(30), || clients.iter().all(|client| known(client) <= 2).then_some(()));
        if settled.is_none() {
            println!("    left over: {}", clients[0].run(line).out.replace('\n', " "));
        }
    }

    /// Which of the engines have what `look` finds in the answer to `path`, by node name.
    pub fn having(&self, path: &str, look: impl Fn(&Value) -> bool) -> Vec<String> {
        let has = |node: &&Machine| look(&node.ask("GET", path, None).1);
        self.nodes.iter().filter(has).map(|node| node.name.clone()).collect()
    }

    /// How many containers each node has, running or not.
    pub fn spread(&self) -> BTreeMap<String, usize> {
        let count = |node: &Machine| node.ask("GET", "/containers/json?all=1", None).1.as_array().map_or(0, Vec::len);
        self.nodes.iter().map(|node| (node.name.clone(), count(node))).collect()
    }
}

/// What is known of a machine on the wire, from outside.
fn machine(wire: &mut wire::Lab, host: u8) -> Machine {
    let network = wire.sh(&format!("readlink /proc/$h{host}/ns/net")).trim().to_owned();
    let pid = fs::read_dir("/proc").unwrap().find_map(|entry| {
        let pid: u32 = entry.ok()?.file_name().to_str()?.parse().ok()?;
        (fs::read_link(format!("/proc/{pid}/ns/net")).ok()?.to_str() == Some(&network)).then_some(pid)
    });
    let pid = pid.expect("a machine is a process in a network namespace");
    Machine { host, name: format!("node-{host}"), address: wire.address(host), pid, folder: wire.at(host, "") }
}
