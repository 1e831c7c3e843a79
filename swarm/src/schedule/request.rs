//! What a container asks of its node, read from the body of `POST /containers/create`.

use std::{collections::BTreeMap, fmt};

use serde_json::{Map, Value};

use super::{
    BadExpression, ExposedPort, Expression, Family, Operator, Protocol, WantedPort,
    kept::{self, Kept},
};

/// What is shared with another container.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sharing {
    /// `--volumes-from`
    Volumes,
    /// `--link`
    Link,
    /// `--net=container:`
    Network,
    /// `--pid=container:`
    Processes,
    /// `--ipc=container:`
    Ipc,
}

/// Another container that must be on the same node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Dependency {
    /// What is shared with it.
    pub sharing: Sharing,
    /// The option's value as it was given: `db:ro`, `db:alias`, `container:db`.
    pub value: String,
}

impl Dependency {
    /// The other container's name or id.
    #[must_use]
    pub fn container(&self) -> &str {
        match self.sharing {
            Sharing::Volumes | Sharing::Link => self.value.split(':').next().unwrap_or_default(),
            Sharing::Network | Sharing::Processes | Sharing::Ipc => self.value.strip_prefix(CONTAINER).unwrap_or(&self.value),
        }
    }
}

impl fmt::Display for Dependency {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let option = match self.sharing {
            Sharing::Volumes => "volumes-from",
            Sharing::Link => "link",
            Sharing::Network => "net",
            Sharing::Processes => "pid",
            Sharing::Ipc => "ipc",
        };
        write!(f, "--{option}={}", self.value)
    }
}

const CONTAINER: &str = "container:";

/// What a container asks of its node. The default asks nothing.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Request {
    /// What the node must be.
    pub constraints: Vec<Expression>,
    /// What must be on the node.
    pub affinities: Vec<Expression>,
    /// Containers that must be on the node.
    pub dependencies: Vec<Dependency>,
    /// Whether the container uses the node's network.
    pub host_network: bool,
    /// Published ports; empty with `host_network`.
    pub ports: Vec<WantedPort>,
    /// Exposed ports; they count with `host_network`.
    pub exposed: Vec<ExposedPort>,
    /// Memory limit in bytes, 0 for none.
    pub memory: u64,
    /// CPU limit in billionths, 0 for none.
    pub nano_cpus: u64,
    /// The container's labels, those that keep the expressions among them.
    pub labels: BTreeMap<String, String>,
}

impl Request {
    /// Reads the body and takes `constraint:`, `affinity:` and `reschedule:` out of its `Env` into labels; expressions that are in
    /// these labels already count too and come first. A second call changes nothing and finds the same. What is malformed beyond
    /// that stays as it is: the engine refuses it in its own words.
    ///
    /// # Errors
    ///
    /// [`BadExpression`]; the body is as it was.
    pub fn take(body: &mut Value) -> Result<Self, BadExpression> {
        let Some(body) = body.as_object_mut() else { return Ok(Self::default()) };
        let mut kept = Kept::of_labels(field(body, "Labels"))?;
        let env = field(body, "Env").and_then(Value::as_array).into_iter().flatten();
        env.filter_map(Value::as_str).for_each(|entry| kept.take(entry));
        let mut request = Self::of_host_config(field(body, "HostConfig"));
        request.constraints = kept.parse(Family::Constraint)?;
        request.affinities = kept.parse(Family::Affinity)?;
        kept.check_policies()?;
        if kept.is_fresh() {
            kept.store(body)?;
            if let Value::Array(env) = field_mut(body, "Env") {
                env.retain(|entry| !entry.as_str().is_some_and(kept::is_ours));
            }
        }
        let exposed = field(body, "ExposedPorts").and_then(Value::as_object).into_iter().flatten();
        request.exposed = exposed.filter_map(|(port, _)| ExposedPort::parse(port)).collect();
        let labels = field(body, "Labels").and_then(Value::as_object).into_iter().flatten();
        request.labels = labels.filter_map(|(key, value)| Some((key.clone(), value.as_str()?.to_owned()))).collect();
        Ok(request)
    }

    /// The same for `docker build`: expressions among the build arguments (`--build-arg constraint:node==master`), which the CLI
    /// splits at the first equals sign into keys and values. They are taken out.
    ///
    /// # Errors
    ///
    /// [`BadExpression`]; the arguments are as they were.
    pub fn take_build_args(arguments: &mut Map<String, Value>) -> Result<Self, BadExpression> {
        let mut kept = Kept::default();
        for (key, value) in &*arguments {
            kept.take(&format!("{key}={}", value.as_str().unwrap_or_default()));
        }
        kept.check_policies()?;
        let request =
            Self { constraints: kept.parse(Family::Constraint)?, affinities: kept.parse(Family::Affinity)?, ..Self::default() };
        arguments.retain(|key, _| !kept::is_ours(key));
        Ok(request)
    }

    /// Whether it asks for one node by name and does not give up on that.
    #[must_use]
    pub fn names_node(&self) -> bool {
        self.constraints
            .iter()
            .any(|constraint| constraint.key() == "node" && constraint.operator() == Operator::Equal && !constraint.is_soft())
    }

    fn of_host_config(config: Option<&Value>) -> Self {
        let Some(config) = config.and_then(Value::as_object) else { return Self::default() };
        let number = |name| field(config, name).and_then(Value::as_u64).unwrap_or_default();
        let mode = |name| field(config, name).and_then(Value::as_str).unwrap_or_default();
        let list = |name, sharing| {
            let values = field(config, name).and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str);
            values.map(move |value| Dependency { sharing, value: value.to_owned() })
        };
        let modes = [("NetworkMode", Sharing::Network), ("PidMode", Sharing::Processes), ("IpcMode", Sharing::Ipc)];
        let modes = modes.into_iter().map(|(name, sharing)| (mode(name), sharing));
        let modes = modes.filter(|(value, _)| value.starts_with(CONTAINER));
        let modes = modes.map(|(value, sharing)| Dependency { sharing, value: value.to_owned() });
        let host_network = mode("NetworkMode") == "host";
        Self {
            dependencies: list("VolumesFrom", Sharing::Volumes).chain(list("Links", Sharing::Link)).chain(modes).collect(),
            host_network,
            // The engine ignores them there.
            ports: if host_network { Vec::new() } else { bindings(field(config, "PortBindings")) },
            memory: number("Memory"),
            nano_cpus: number("NanoCpus"),
            ..Self::default()
        }
    }
}

/// `{"80/tcp": [{"HostIp": "", "HostPort": "8080"}]}`
fn bindings(bindings: Option<&Value>) -> Vec<WantedPort> {
    let ports = bindings.and_then(Value::as_object).into_iter().flatten();
    let ports = ports.flat_map(|(port, bindings)| {
        let protocol = Protocol::parse(port.split_once('/').map_or("", |(_, protocol)| protocol));
        bindings.as_array().into_iter().flatten().filter_map(move |binding| {
            let text = |name| field(binding.as_object()?, name)?.as_str();
            WantedPort::parse(text("HostIp").unwrap_or_default(), text("HostPort").unwrap_or_default(), protocol?)
        })
    });
    ports.collect()
}

/// A member of an object as Go reads it: in any case, the exact one first.
pub(super) fn field<'a>(object: &'a Map<String, Value>, name: &str) -> Option<&'a Value> {
    let other = || object.iter().find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value);
    object.get(name).or_else(other)
}

/// The same to change it; one that is not there is made, null.
pub(super) fn field_mut<'a>(object: &'a mut Map<String, Value>, name: &str) -> &'a mut Value {
    let other = || object.keys().find(|key| key.eq_ignore_ascii_case(name)).cloned();
    let name = if object.contains_key(name) { None } else { other() }.unwrap_or_else(|| name.to_owned());
    object.entry(name).or_insert(Value::Null)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::{Request, Sharing};
    use crate::schedule::{ExposedPort, Protocol, PublishedPort};

    fn texts(expressions: &[crate::schedule::Expression]) -> Vec<String> {
        let soft = |soft| if soft { "~" } else { "" };
        expressions.iter().map(|it| format!("{}{}{}{}", it.key(), it.operator(), soft(it.is_soft()), it.value())).collect()
    }

    #[test]
    fn expressions_go_from_env_to_labels() {
        let mut body = json!({
            "Image": "nginx",
            "Env": ["A=1", "constraint:node==master", "affinity:image==~nginx", "constraint:region!=~us*", "reschedule:off",
                "B=constraint:c", "constraints:x==y", "Constraint:x==y"],
            "Labels": {"a": "b", "com.docker.swarm.constraints": r#"["storage==ssd"]"#},
        });
        let request = Request::take(&mut body).unwrap();
        assert_eq!(texts(&request.constraints), ["storage==ssd", "node==master", "region!=~us*"]);
        assert_eq!(texts(&request.affinities), ["image==~nginx"]);
        assert_eq!(request.labels.len(), 4);
        assert!(request.names_node());
        let expected = json!({
            "Image": "nginx",
            "Env": ["A=1", "B=constraint:c", "constraints:x==y", "Constraint:x==y"],
            "Labels": {
                "a": "b",
                "com.docker.swarm.constraints": r#"["storage==ssd","node==master","region!=~us*"]"#,
                "com.docker.swarm.affinities": r#"["image==~nginx"]"#,
                "com.docker.swarm.reschedule-policies": r#"["off"]"#,
            },
        });
        assert_eq!(body, expected);
        assert_eq!(Request::take(&mut body).unwrap(), request);
        assert_eq!(body, expected);
    }

    #[test]
    fn a_body_without_expressions_stays_as_it_is() {
        for body in [
            json!({}),
            json!(null),
            json!([1]),
            json!({"Env": null, "Labels": null, "HostConfig": null}),
            json!({"Env": ["A=1", 5, null], "Labels": {"a": 1}}),
            json!({"Env": "constraint:node==a", "Labels": ["x"]}),
            json!({"HostConfig": {"Memory": "much", "NanoCpus": -1, "PortBindings": {"80": 1, "x": [{}], "81": [{"HostPort": 3}]}}}),
        ] {
            let mut same = body.clone();
            let request = Request::take(&mut same).unwrap();
            assert_eq!(same, body);
            assert_eq!((request.constraints.len(), request.memory, request.nano_cpus), (0, 0, 0));
        }
    }

    #[test]
    fn members_are_found_in_any_case_as_the_engine_does() {
        let mut body = json!({"env": ["constraint:node==a"], "labels": null, "hostconfig": {"memory": 5}});
        let request = Request::take(&mut body).unwrap();
        assert_eq!((texts(&request.constraints), request.memory), (vec!["node==a".to_owned()], 5));
        assert_eq!(body["env"], json!([]));
        assert_eq!(body["labels"], json!({"com.docker.swarm.constraints": r#"["node==a"]"#}));
    }

    #[test]
    fn errors_leave_the_body_alone() {
        for (body, error) in [
            (json!({"Env": ["constraint:node=a"]}), "invalid constraint 'node=a': One of operator ==, != is expected"),
            (json!({"Env": ["constraint:node==a", "affinity:x==y"]}), "invalid affinity 'x==y': Key 'x' is invalid"),
            (json!({"Env": ["constraint:"]}), "invalid constraint '': One of operator"),
            (
                json!({"Labels": {"com.docker.swarm.constraints": "node==a"}}),
                "label com.docker.swarm.constraints is not a JSON list",
            ),
            (json!({"Labels": {"com.docker.swarm.affinities": "[1]"}}), "label com.docker.swarm.affinities is not a JSON list"),
            (json!({"Env": ["constraint:node==a"], "Labels": []}), "invalid constraint 'node==a': it cannot be kept"),
            (json!({"Env": ["reschedule:off", "reschedule:off"]}), "too many reschedule policies"),
            (json!({"Env": vec!["constraint:node==a"; 101]}), "invalid constraint 'node==a': it is one of more than 100"),
            (json!({"Env": ["reschedule:on"]}), "invalid reschedule 'on': invalid reschedule policy"),
        ] {
            let mut same = body.clone();
            let found = Request::take(&mut same).unwrap_err().to_string();
            assert!(found.contains(error), "{found}");
            assert_eq!(same, body);
        }
    }

    #[test]
    fn the_host_configuration_is_read() {
        let mut body = json!({
            "ExposedPorts": {"80/tcp": {}, "53/udp": {}, "odd": {}},
            "HostConfig": {
                "VolumesFrom": ["data:ro"], "Links": ["/db:alias"], "NetworkMode": "container:net", "PidMode": "container:pid",
                "IpcMode": "host", "Memory": 1048576, "NanoCpus": 500_000_000,
                "PortBindings": {"80/tcp": [{"HostIp": "127.0.0.1", "HostPort": "8080"}, {"HostIp": "", "HostPort": ""}],
                    "53/udp": [{"HostIp": "", "HostPort": "53"}], "9/icmp": [{"HostPort": "9"}], "7/tcp": null},
            },
        });
        let request = Request::take(&mut body).unwrap();
        let dependencies = request.dependencies.iter().map(|it| (it.sharing, it.container(), it.to_string()));
        assert_eq!(
            dependencies.collect::<Vec<_>>(),
            [
                (Sharing::Volumes, "data", "--volumes-from=data:ro".to_owned()),
                (Sharing::Link, "/db", "--link=/db:alias".to_owned()),
                (Sharing::Network, "net", "--net=container:net".to_owned()),
                (Sharing::Processes, "pid", "--pid=container:pid".to_owned()),
            ]
        );
        assert_eq!((request.memory, request.nano_cpus, request.host_network), (1_048_576, 500_000_000, false));
        let fixed = request.ports.iter().filter_map(|port| port.fixed()).collect::<Vec<_>>();
        let expected = [PublishedPort::new("", 53, Protocol::Udp), PublishedPort::new("127.0.0.1", 8080, Protocol::Tcp)];
        assert_eq!((request.ports.len(), fixed), (3, expected.to_vec()));
        let exposed = ["53/udp", "80/tcp"].map(|port| ExposedPort::parse(port).unwrap());
        assert_eq!(request.exposed, exposed);
        body["HostConfig"]["NetworkMode"] = "host".into();
        let request = Request::take(&mut body).unwrap();
        assert!(request.host_network && request.ports.is_empty());
    }

    #[test]
    fn build_arguments_are_split_at_the_first_equals_sign() {
        let mut arguments = json!({"constraint:node": "=master", "affinity:image!": "x*", "VERSION": "1", "EMPTY": null});
        let arguments = arguments.as_object_mut().unwrap();
        let request = Request::take_build_args(arguments).unwrap();
        assert_eq!(texts(&request.constraints), ["node==master"]);
        assert_eq!(texts(&request.affinities), ["image!=x*"]);
        assert_eq!(Value::Object(arguments.clone()), json!({"VERSION": "1", "EMPTY": null}));
        let mut bad = json!({"constraint:node": null});
        assert!(Request::take_build_args(bad.as_object_mut().unwrap()).is_err());
    }
}
