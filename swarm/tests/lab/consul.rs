//! Consul on the three nodes, and the part of the node program that talks to it: engines that tell how they are, and who leads.

use std::{
    fs,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::Duration,
};

use hcl_firstboot::{
    consul::{Client, Places, Secrets, Setup, Version, acl, catalog::State, keys::LEADER, lock::Owner},
    engine::Engine,
    http,
    identity::NodeId,
};
use serde_json::Value;

use super::{Cluster, Machine, programs, until};

/// How long an engine counts as well after it was last heard of.
const TTL: Duration = Duration::from_secs(3);

/// Consul in the lab.
pub struct Consul<'a> {
    cluster: &'a Cluster,
    secrets: Secrets,
    /// Node programs that run.
    beating: Vec<Arc<AtomicBool>>,
    /// The session that has the leader's lock.
    holder: Mutex<Option<String>>,
}

impl<'a> Consul<'a> {
    /// Three servers, with tokens and engines; `node-1` leads.
    pub fn start(cluster: &'a Cluster) -> Self {
        let secrets = Secrets::of(&cluster.key);
        let mut consul = Self { cluster, secrets, beating: Vec::new(), holder: Mutex::new(None) };
        for node in &cluster.nodes {
            consul.agent(node);
            if node.host == 1 {
                until("Consul's tokens", || acl::bootstrap(&consul.client(node), &consul.secrets).ok());
            }
        }
        for node in &cluster.nodes {
            let client = consul.client(node);
            until("Consul's leader", || client.leader().ok().flatten());
            until("Consul's tokens on every node", || acl::is_ready(&client, &consul.secrets).ok().filter(|ready| *ready));
        }
        consul.lead(&cluster.nodes[0]);
        for node in &cluster.nodes {
            let on = consul.beat(node);
            consul.beating.push(on);
        }
        consul
    }

    /// Asks the agent of `node` with the management token.
    pub fn client(&self, node: &Machine) -> Client {
        Client::new(node.folder.join("consul.sock"), Some(self.secrets.management.clone()))
    }

    /// Starts the agent of `node`.
    pub fn agent(&self, node: &Machine) {
        let data = node.folder.join("consul");
        let (config, socket) = (node.folder.join("consul.d"), node.folder.join("consul.sock"));
        fs::create_dir_all(&data).unwrap();
        let setup = Setup {
            node_name: node.name.clone(),
            node_id: node.id(),
            address: node.address,
            server: true,
            bootstrap: node.host == 1,
            retry_join: vec![self.cluster.nodes[0].address],
            version: Version::new(1, 8, 7),
            places: Places { config: config.clone(), data, socket },
        };
        setup.write(&config, &self.secrets, &setup.pem(&self.cluster.key)).unwrap();
        let (program, config, log) = (programs::consul(), config.display().to_string(), node.folder.join("consul.log"));
        let host = node.host;
        self.cluster.sh(&format!(
            "nsenter -t $h{host} -n -u {} agent -config-dir={config} >>{} 2>&1 & consul{host}=$!",
            program.display(),
            log.display()
        ));
    }

    /// What the node program does for its engine: tells Consul of it as long as it answers.
    fn beat(&self, node: &Machine) -> Arc<AtomicBool> {
        let on = Arc::new(AtomicBool::new(true));
        let client = self.client(node).with_token(&self.secrets.agent);
        until("the engine's registration", || client.register_engine(TTL).ok());
        let (flag, socket) = (on.clone(), node.socket());
        thread::spawn(move || {
            while flag.load(Ordering::Relaxed) {
                let well = Engine::connect(http::Client::unix(&socket)).and_then(|engine| engine.ping()).is_ok();
                // An agent that was started anew has forgotten.
                let state = if well { State::Passing } else { State::Critical };
                if client.beat(state, "").is_err() {
                    let _ = client.register_engine(TTL);
                }
                thread::sleep(Duration::from_millis(500));
            }
        });
        on
    }

    /// Makes `node` lead: gives the lock back for whoever holds it, and takes it for `node`. Nothing of the lab ends the session by itself.
    pub fn lead(&self, node: &Machine) {
        let owner = serde_json::to_vec(&Owner { node: node.id(), address: node.address }).unwrap();
        let client = self.client(&self.cluster.nodes[0]);
        let mut holder = self.holder.lock().unwrap();
        if let Some(session) = holder.take() {
            until("the lock's release", || client.release(LEADER, &session, &owner).ok().filter(|done| *done));
        }
        let wanted = serde_json::json!({ "Name": LEADER, "NodeChecks": [], "LockDelay": "0s" }).to_string();
        let session = until("a session", || {
            let answer = client.raw("PUT", "/v1/session/create", Some(wanted.as_bytes())).ok()?;
            let made: Value = serde_json::from_slice(&answer.body).ok()?;
            made["ID"].as_str().map(str::to_owned)
        });
        until("the leader's lock", || client.acquire(LEADER, &session, &owner).ok().filter(|done| *done));
        *holder = Some(session);
    }

    /// Writes what is known of the user `name`.
    pub fn user(&self, name: &str, rule: &Value) {
        let key = format!("hcl/users/{name}");
        until("the user's key", || self.client(&self.cluster.nodes[0]).put(&key, rule.to_string().as_bytes()).ok());
    }

    /// What the catalog has of the service `name`: address, port, and how its checks are.
    pub fn service(&self, name: &str) -> Vec<Value> {
        let client = self.client(&self.cluster.nodes[0]);
        let answer = client.raw("GET", &format!("/v1/health/service/{name}"), None).unwrap();
        serde_json::from_slice(&answer.body).unwrap_or_default()
    }

    /// All names of services.
    pub fn services(&self) -> Vec<String> {
        let answer = self.client(&self.cluster.nodes[0]).raw("GET", "/v1/catalog/services", None).unwrap();
        let all: serde_json::Map<String, Value> = serde_json::from_slice(&answer.body).unwrap_or_default();
        all.into_iter().map(|(name, _)| name).collect()
    }
}

impl Drop for Consul<'_> {
    fn drop(&mut self) {
        self.beating.iter().for_each(|on| on.store(false, Ordering::Relaxed));
    }
}

impl Machine {
    /// Which node it is.
    pub fn id(&self) -> NodeId {
        NodeId([self.host; 16])
    }
}
