//! An engine: its containers and images, in memory, in the JSON of the API (version 1.45).

use std::{
    collections::BTreeMap,
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::{SystemTime, UNIX_EPOCH},
};

use serde_json::{Map, Value, json};
use sha2::{Digest as _, Sha256};

use super::events::Events;

/// What time it is for one that never was.
const NEVER: &str = "0001-01-01T00:00:00Z";
/// When everything starts and ends here.
const EVER: &str = "2026-01-01T00:00:00Z";

/// What the engine did, as far as it matters to whoever asked.
pub enum Done {
    /// It is done; with what is to be said.
    Yes(Value),
    /// It was so already.
    Already,
    /// There is no such container or image; with the message.
    Missing(String),
    /// It cannot be; with the message.
    Conflict(String),
}

/// An engine.
pub struct Engine {
    name: String,
    containers: Mutex<BTreeMap<String, Container>>,
    images: Mutex<Vec<String>>,
    made: AtomicU64,
    /// What happens.
    pub events: Events,
}

struct Container {
    id: String,
    name: String,
    config: Map<String, Value>,
    made: u64,
    state: &'static str,
}

impl Engine {
    /// An empty engine with one image.
    pub fn new(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            containers: Mutex::default(),
            images: Mutex::new(vec!["busybox:latest".to_owned()]),
            made: AtomicU64::default(),
            events: Events::default(),
        }
    }

    /// Puts a container that runs on it.
    pub fn fill(&self, name: &str) {
        let config = json!({"Image": "busybox:latest", "Labels": {"fake": "yes"}});
        if let Done::Yes(answer) = self.create(name, config) {
            self.turn(answer["Id"].as_str().unwrap_or_default(), "start", "running");
        }
    }

    /// Makes a container.
    pub fn create(&self, name: &str, config: Value) -> Done {
        let Value::Object(config) = config else { return Done::Conflict("invalid JSON".to_owned()) };
        let image = text(&config, "Image");
        if !self.images().iter().any(|own| own == &tagged(&image)) {
            return Done::Missing(format!("No such image: {}", tagged(&image)));
        }
        let made = self.made.fetch_add(1, Ordering::Relaxed) + 1;
        let id = hex(&format!("{} {made}", self.name));
        let name = if name.is_empty() { format!("nameless-{}", &id[..8]) } else { name.to_owned() };
        let mut containers = self.containers();
        if let Some(other) = containers.values().find(|container| container.name == name) {
            let id = &other.id;
            return Done::Conflict(format!("Conflict. The container name \"/{name}\" is already in use by container \"{id}\"."));
        }
        let container = Container { id: id.clone(), name, config, made, state: "created" };
        self.tell(&container, "create");
        containers.insert(id.clone(), container);
        Done::Yes(json!({"Id": id, "Warnings": []}))
    }

    /// Changes a container's state, and tells of it as `action`.
    pub fn turn(&self, reference: &str, action: &str, state: &'static str) -> Done {
        self.change(reference, |container| {
            if container.state == state {
                return Done::Already;
            }
            container.state = state;
            if state == "exited" {
                self.tell(container, "die");
            }
            self.tell(container, action);
            Done::Yes(Value::Null)
        })
    }

    /// Gives a container another name.
    pub fn rename(&self, reference: &str, name: &str) -> Done {
        self.change(reference, |container| {
            container.name = name.trim_start_matches('/').to_owned();
            self.tell(container, "rename");
            Done::Yes(Value::Null)
        })
    }

    /// Removes a container; one that runs only with `force`.
    pub fn remove(&self, reference: &str, force: bool) -> Done {
        let mut containers = self.containers();
        let Some(id) = find(&containers, reference) else { return missing(reference) };
        let running = containers.get(&id).is_some_and(|container| container.state == "running");
        if running && !force {
            return Done::Conflict(format!(
                "cannot remove container \"{reference}\": container is running: stop the container before removing or force remove"
            ));
        }
        if let Some(container) = containers.remove(&id) {
            if running {
                self.tell(&container, "kill");
                self.tell(&container, "die");
            }
            self.tell(&container, "destroy");
        }
        Done::Yes(Value::Null)
    }

    /// Takes an image.
    pub fn pull(&self, image: &str) {
        let image = tagged(image);
        let mut images = self.images();
        if !images.contains(&image) {
            images.push(image.clone());
        }
        drop(images);
        let attributes = json!({"name": image});
        let mut event =
            json!({"Type": "image", "Action": "pull", "Actor": {"ID": image, "Attributes": attributes}, "scope": "local"});
        stamp(&mut event);
        self.events.tell(&event);
    }

    /// `GET /containers/ID/json`
    pub fn inspect(&self, reference: &str) -> Done {
        self.change(reference, |container| Done::Yes(container.inspected()))
    }

    /// `GET /containers/json`: the youngest first, those that do not run with `all`, and only those with one of `ids` where there are any.
    pub fn list(&self, all: bool, ids: &[String]) -> Value {
        let containers = self.containers();
        let mut wanted = containers.values().filter(|container| all || container.state == "running").collect::<Vec<_>>();
        wanted.retain(|container| ids.is_empty() || ids.iter().any(|id| container.id.starts_with(id.as_str())));
        wanted.sort_by_key(|container| std::cmp::Reverse(container.made));
        wanted.into_iter().map(Container::listed).collect()
    }

    /// `GET /images/json`
    pub fn list_images(&self) -> Value {
        let images = self.images();
        images
            .iter()
            .map(|image| {
                json!({"Id": image_id(image), "RepoTags": [image], "RepoDigests": [], "Created": 1_767_225_600,
            "Size": 4_000_000, "SharedSize": -1, "Containers": -1, "ParentId": "", "Labels": null})
            })
            .collect()
    }

    /// `GET /images/NAME/json`
    pub fn inspect_image(&self, name: &str) -> Done {
        let found = self.images().iter().find(|image| **image == tagged(name) || image_id(image) == name).cloned();
        found.map_or_else(
            || Done::Missing(format!("No such image: {name}")),
            |image| {
                Done::Yes(
                    json!({"Id": image_id(&image), "RepoTags": [image], "RepoDigests": [], "Created": EVER, "Size": 4_000_000,
                    "Os": "linux", "Architecture": "arm", "Config": {"Cmd": ["sh"], "Env": null, "Labels": null}}),
                )
            },
        )
    }

    /// `GET /info`
    pub fn info(&self) -> Value {
        let (containers, images) = (self.containers(), self.images().len());
        let running = containers.values().filter(|container| container.state == "running").count();
        json!({
            "ID": hex(&self.name)[..36], "Name": self.name, "Containers": containers.len(), "ContainersRunning": running,
            "ContainersPaused": 0, "ContainersStopped": containers.len() - running, "Images": images, "Driver": "overlay2",
            "DriverStatus": [], "NCPU": 4, "MemTotal": 1_u64 << 30, "KernelVersion": "6.12.0", "OperatingSystem": "Fake GNU/Linux",
            "OSType": "linux", "Architecture": "armv7l", "ServerVersion": "26.1.5", "Labels": [format!("fake={}", self.name)],
            "Plugins": {"Volume": ["local"], "Network": ["bridge", "host", "null"], "Authorization": null, "Log": ["json-file"]},
            "Swarm": {"NodeID": "", "NodeAddr": "", "LocalNodeState": "inactive", "ControlAvailable": false},
            "DockerRootDir": "/var/lib/docker", "SystemTime": EVER, "LoggingDriver": "json-file", "CgroupDriver": "systemd",
            "DefaultRuntime": "runc", "Runtimes": {"runc": {"path": "runc"}}, "SecurityOptions": [], "Warnings": null,
        })
    }

    fn change(&self, reference: &str, change: impl FnOnce(&mut Container) -> Done) -> Done {
        let mut containers = self.containers();
        let found = find(&containers, reference).and_then(|id| containers.get_mut(&id));
        found.map_or_else(|| missing(reference), change)
    }

    fn tell(&self, container: &Container, action: &str) {
        let mut attributes = container.labels();
        attributes.insert("image".to_owned(), text(&container.config, "Image").into());
        attributes.insert("name".to_owned(), container.name.clone().into());
        let mut event = json!({"Type": "container", "Action": action, "status": action, "id": container.id, "scope": "local",
            "from": text(&container.config, "Image"), "Actor": {"ID": container.id, "Attributes": attributes}});
        stamp(&mut event);
        self.events.tell(&event);
    }

    fn containers(&self) -> MutexGuard<'_, BTreeMap<String, Container>> {
        self.containers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn images(&self) -> MutexGuard<'_, Vec<String>> {
        self.images.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Container {
    fn labels(&self) -> Map<String, Value> {
        self.config.get("Labels").and_then(Value::as_object).cloned().unwrap_or_default()
    }

    fn host_config(&self) -> Value {
        self.config.get("HostConfig").cloned().unwrap_or_else(|| json!({}))
    }

    fn network_mode(&self) -> Value {
        self.host_config().get("NetworkMode").cloned().unwrap_or_else(|| "default".into())
    }

    fn listed(&self) -> Value {
        let status = if self.state == "running" { "Up 1 hour" } else { "Exited (0) 1 hour ago" };
        let status = if self.state == "created" { "Created" } else { status };
        let image = text(&self.config, "Image");
        json!({
            "Id": self.id, "Names": [format!("/{}", self.name)], "Image": image, "ImageID": image_id(&tagged(&image)), "Command": "sh",
            "Created": 1_767_225_600, "Ports": [], "Labels": self.labels(), "State": self.state, "Status": status,
            "HostConfig": {"NetworkMode": self.network_mode()}, "NetworkSettings": {"Networks": {}}, "Mounts": [],
        })
    }

    fn inspected(&self) -> Value {
        let running = self.state == "running";
        let ports = if running { self.host_config().get("PortBindings").cloned() } else { None };
        let mut config = self.config.clone();
        config.remove("HostConfig");
        config.remove("NetworkingConfig");
        json!({
            "Id": self.id, "Name": format!("/{}", self.name), "Created": EVER, "Path": "sh", "Args": [],
            "Image": image_id(&tagged(&text(&self.config, "Image"))), "RestartCount": 0, "Driver": "overlay2", "Platform": "linux",
            "State": {"Status": self.state, "Running": running, "Paused": false, "Restarting": false, "Dead": false, "OOMKilled": false,
                "Pid": u8::from(running), "ExitCode": 0, "Error": "", "StartedAt": if self.state == "created" { NEVER } else { EVER },
                "FinishedAt": if self.state == "exited" { EVER } else { NEVER }},
            "Config": config, "HostConfig": self.host_config(), "Mounts": [],
            "NetworkSettings": {"Ports": ports.unwrap_or_else(|| json!({})), "Networks": {}},
        })
    }
}

/// By id, name, or what an id begins with.
fn find(containers: &BTreeMap<String, Container>, reference: &str) -> Option<String> {
    let name = reference.trim_start_matches('/');
    if containers.contains_key(reference) {
        return Some(reference.to_owned());
    }
    let named = containers.values().find(|container| container.name == name);
    let begins = || containers.values().find(|container| !reference.is_empty() && container.id.starts_with(reference));
    named.or_else(begins).map(|container| container.id.clone())
}

fn missing(reference: &str) -> Done {
    Done::Missing(format!("No such container: {reference}"))
}

fn text(config: &Map<String, Value>, member: &str) -> String {
    config.get(member).and_then(Value::as_str).unwrap_or_default().to_owned()
}

fn tagged(image: &str) -> String {
    let last = image.rsplit('/').next().unwrap_or_default();
    if last.contains(':') { image.to_owned() } else { format!("{image}:latest") }
}

fn image_id(image: &str) -> String {
    format!("sha256:{}", hex(image))
}

fn hex(text: &str) -> String {
    Sha256::digest(text).iter().map(|byte| format!("{byte:02x}")).collect()
}

fn stamp(event: &mut Value) {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    event["time"] = now.as_secs().into();
    event["timeNano"] = u64::try_from(now.as_nanos()).unwrap_or_default().into();
}
