//! Real Consul agents on loopback addresses, as the nodes run them: no access without a token but what the default one may read.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::Duration,
};

use hcl_firstboot::http::Client;
use serde_json::{Value, json};

use crate::{PATIENCE, wait};

const MANAGEMENT: &str = "11111111-2222-3333-4444-555555555555";
const READ: &str = "66666666-7777-8888-9999-aaaaaaaaaaaa";
const LIMIT: Duration = Duration::from_secs(10);

/// Agents, all of them servers, which elect a leader among them.
pub struct Agents {
    folder: tempfile::TempDir,
    program: PathBuf,
    /// Of the process: tests run side by side.
    network: (u8, u8),
    agents: Vec<Agent>,
}

pub struct Agent {
    pub name: String,
    pub address: String,
    child: Option<Child>,
}

impl Agents {
    /// Starts an agent for each name, and waits until all know each other and the default token reads.
    pub fn start(names: &[&str]) -> Self {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../scripts/consul");
        let output = Command::new(&script).output().expect("scripts/consul");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let program = String::from_utf8(output.stdout).unwrap().trim().into();
        let [.., high, low] = std::process::id().to_be_bytes();
        let mut all = Self { folder: tempfile::tempdir().unwrap(), program, network: (64 | high, low), agents: Vec::new() };
        for (at, name) in names.iter().enumerate() {
            let address = format!("127.{}.{}.{}", all.network.0, all.network.1, at + 1);
            all.agents.push(Agent { name: (*name).to_owned(), address, child: None });
        }
        for at in 0..names.len() {
            all.run(at);
        }
        all.grant();
        all
    }

    pub fn agents(&self) -> &[Agent] {
        &self.agents
    }

    /// The socket of an agent's HTTP interface.
    pub fn socket(&self, at: usize) -> PathBuf {
        self.folder.path().join(format!("{}.sock", self.agents[at].name))
    }

    /// Where the agent would find pages of Consul's own.
    pub fn interface(&self, at: usize) -> PathBuf {
        self.folder.path().join(format!("{}-ui", self.agents[at].name))
    }

    /// Starts an agent, again where it was killed.
    pub fn run(&mut self, at: usize) {
        let Agent { name, address, .. } = &self.agents[at];
        let others: Vec<_> = self.agents.iter().map(|agent| &agent.address).filter(|other| *other != address).collect();
        let mut config = json!({
            "node_name": name,
            "datacenter": "hcl",
            "data_dir": self.folder.path().join(name),
            "server": true,
            "bootstrap_expect": self.agents.len(),
            "bind_addr": address,
            "client_addr": address,
            "addresses": { "http": format!("unix://{}", self.socket(at).display()) },
            "ports": { "http": 8500, "dns": -1, "grpc": -1, "serf_wan": -1 },
            "retry_join": others,
            "retry_interval": "1s",
            "rejoin_after_leave": true,
            "log_level": "warn",
            "disable_update_check": true,
            "acl": {
                "enabled": true,
                "default_policy": "deny",
                "tokens": { "master": MANAGEMENT, "agent": MANAGEMENT, "default": READ },
            },
        });
        if fs::exists(self.interface(at)).unwrap() {
            config["ui_dir"] = json!(self.interface(at));
        }
        let path = self.folder.path().join(format!("{name}.json"));
        fs::write(&path, config.to_string()).unwrap();
        let log = fs::File::create(self.folder.path().join(format!("{name}.log"))).unwrap();
        let child = Command::new(&self.program)
            .args(["agent", "-config-file"])
            .arg(path)
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .stdin(Stdio::null())
            .spawn()
            .unwrap();
        self.agents[at].child = Some(child);
    }

    /// Ends an agent at once, as a power cut would.
    pub fn kill(&mut self, at: usize) {
        let mut child = self.agents[at].child.take().unwrap();
        child.kill().unwrap();
        child.wait().unwrap();
    }

    /// The name of the servers' leader.
    pub fn leader(&self) -> Option<String> {
        let leader = self.ask(0, "GET", "/v1/status/leader", None)?;
        let address = leader.as_str()?.split(':').next()?.to_owned();
        self.agents.iter().find(|agent| agent.address == address).map(|agent| agent.name.clone())
    }

    /// Asks an agent with the right to do everything.
    pub fn ask(&self, at: usize, method: &str, path: &str, body: Option<Value>) -> Option<Value> {
        let body = body.map(|body| body.to_string());
        let body = body.as_ref().map(|body| ("application/json", body.as_bytes()));
        let client = Client::unix(self.socket(at));
        let response = client.request(method, path, &[("X-Consul-Token", MANAGEMENT)], body, LIMIT).ok()?;
        response.is_success().then(|| serde_json::from_slice(&response.body).unwrap_or_default())
    }

    /// Makes the token that reads who is there, for those who have none.
    fn grant(&self) {
        let rules = "node_prefix \"\" { policy = \"read\" } service_prefix \"\" { policy = \"read\" }";
        let policy = json!({ "Name": "read", "Rules": rules });
        wait(PATIENCE * 2, "Consul elects a leader", || self.ask(0, "PUT", "/v1/acl/policy", Some(policy.clone())));
        let token = json!({ "SecretID": READ, "Policies": [{ "Name": "read" }] });
        self.ask(0, "PUT", "/v1/acl/token", Some(token)).expect("Consul makes a token");
        self.ask(0, "PUT", "/v1/kv/hcl/secret", Some(json!("hunter2"))).expect("Consul keeps a value");
        for at in 0..self.agents.len() {
            let client = Client::unix(self.socket(at));
            wait(PATIENCE * 2, "all agents know each other", || {
                let response = client.request("GET", "/v1/health/state/passing", &[], None, LIMIT).ok()?;
                let checks: Vec<Value> = serde_json::from_slice(&response.body).ok()?;
                (checks.len() == self.agents.len()).then_some(())
            });
        }
    }
}

impl Drop for Agents {
    fn drop(&mut self) {
        for agent in &mut self.agents {
            if let Some(mut child) = agent.child.take() {
                let _ = child.kill();
                let _ = child.wait();
            }
        }
    }
}
