//! Which services a container is, by Registrator's rules.
//!
//! A service for each port that is published at an address that others reach, or that a container on the node's own network says it
//! has. Its name is the first of these that there is:
//!
//! 1. `SERVICE_<port>_NAME`, where `<port>` is the one in the container;
//! 2. `SERVICE_NAME`;
//! 3. the service of Compose or of swarm mode that the container belongs to;
//! 4. the last part of the image's name, without its tag.
//!
//! All but the first get `-<port>` behind them where several ports are published. `SERVICE_TAGS` and `SERVICE_<port>_TAGS` are lists with commas;
//! UDP ports get the tag `udp`. With `SERVICE_IGNORE` or `SERVICE_<port>_IGNORE`, whatever its value, there is no service. All of
//! these are looked for among labels, then among variables.
//!
//! Names become DNS labels: small letters, what is neither letter nor digit a hyphen. `consul` and names that begin with `hcl-` are
//! the cluster's own, and nobody else gets them.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{Ipv4Addr, SocketAddrV4},
    time::Duration,
};

use super::{
    Node,
    container::{Binding, Container},
};
use crate::consul::{Service, TcpCheck};

/// Containers that the node program runs have this label; they are no services of users.
const SYSTEM: &str = "hcl.system";
/// Who belongs to what, in this order.
const GROUPS: [&str; 2] = ["com.docker.compose.service", "com.docker.swarm.service.name"];
/// How often Consul's agent looks at a TCP port, and how long it may take.
const CHECK: TcpCheck = TcpCheck { interval: Duration::from_secs(2), timeout: Duration::from_secs(1), passes: false };
/// Says of a service that it was registered here; nothing without it is ever touched.
pub const REGISTRAR: (&str, &str) = ("registrar", "hcl-swarm");
/// Says which container a service is.
pub const CONTAINER: &str = "container";
/// The longest DNS label, in bytes (RFC 1035 section 2.3.4).
const LONGEST_LABEL: usize = 63;

/// The services of a container on `node`, by id. What cannot be one is told as text.
pub fn services(node: &Node, container: &Container) -> (Vec<Service>, Vec<String>) {
    let labels = &container.config.labels;
    let (mut services, mut complaints) = (Vec::new(), Vec::new());
    if labels.contains_key(SYSTEM) {
        return (services, complaints);
    }
    let ports = ports(node, container);
    let several = ports.len() > 1;
    let name = container.name.trim_start_matches('/');
    for (Port { number, udp }, at) in ports {
        let wishes = Wishes::of(container, number);
        if wishes.value("ignore").is_some() {
            continue;
        }
        let (wanted, add_port) = match (&wishes.name_of_port, wishes.value("name")) {
            (Some(name), _) => (name.clone(), false),
            (None, Some(name)) => (name.clone(), several),
            (None, None) => (default_name(container), several),
        };
        let Some(label) = label(&wanted, add_port.then_some(number)) else {
            complaints.push(format!("container {name}: port {number} is not registered: {wanted:?} gives no name of a service"));
            continue;
        };
        let mut tags: BTreeSet<String> = wishes.value("tags").map(|tags| list(tags)).unwrap_or_default();
        if udp {
            tags.insert("udp".to_owned());
        }
        services.push(Service {
            id: format!("{}:{name}:{number}{}", node.name, if udp { ":udp" } else { "" }),
            name: label,
            at,
            tags: tags.into_iter().collect(),
            meta: [REGISTRAR, (CONTAINER, &container.id)].map(|(key, value)| (key.to_owned(), value.to_owned())).into(),
            check: (!udp).then_some(CHECK),
        });
    }
    (services, complaints)
}

/// A port in a container.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Port {
    number: u16,
    udp: bool,
}

impl Port {
    /// Of such as `80/tcp`; none for other protocols.
    fn of(text: &str) -> Option<Self> {
        let (number, protocol) = text.split_once('/').unwrap_or((text, "tcp"));
        let udp = match protocol {
            "tcp" => false,
            "udp" => true,
            _ => return None,
        };
        number.parse().ok().filter(|number| *number > 0).map(|number| Self { number, udp })
    }
}

/// Where each port is reached.
fn ports(node: &Node, container: &Container) -> BTreeMap<Port, SocketAddrV4> {
    if container.host_config.network_mode == "host" {
        let exposed = container.config.exposed_ports.keys().filter_map(|text| Port::of(text));
        return exposed.map(|port| (port, SocketAddrV4::new(node.address, port.number))).collect();
    }
    let published = container.network_settings.ports.iter().filter_map(|(text, bindings)| {
        let bindings = bindings.iter().flatten();
        let at = bindings.filter_map(|binding| reached(node, binding)).min_by_key(|at| (*at.ip() != node.address, at.port()))?;
        Some((Port::of(text)?, at))
    });
    published.collect()
}

/// Where others reach it; none where they do not.
fn reached(node: &Node, binding: &Binding) -> Option<SocketAddrV4> {
    let port = binding.host_port.parse().ok().filter(|port| *port > 0)?;
    let address = match binding.host_ip.as_str() {
        "" | "0.0.0.0" => node.address,
        // An address of IPv6 is none of the cluster's; the port is published for IPv4 beside it, unless somebody did not want that.
        address => address.parse().ok().filter(|address: &Ipv4Addr| !address.is_loopback())?,
    };
    Some(SocketAddrV4::new(address, port))
}

/// What labels and variables say of one port.
struct Wishes {
    name_of_port: Option<String>,
    values: BTreeMap<String, String>,
}

impl Wishes {
    fn of(container: &Container, port: u16) -> Self {
        let config = &container.config;
        let variables = config.env.iter().filter_map(|variable| variable.split_once('='));
        // What comes later counts.
        let all = variables.chain(config.labels.iter().map(|(name, value)| (name.as_str(), value.as_str())));
        let (mut general, mut own) = (BTreeMap::new(), BTreeMap::new());
        for (name, value) in all.filter(|(_, value)| !value.is_empty()) {
            let Some(key) = name.strip_prefix("SERVICE_") else { continue };
            match key.split_once('_') {
                Some((number, key)) if number.parse() == Ok(port) => own.insert(key.to_lowercase(), value.to_owned()),
                Some((number, _)) if number.parse::<u16>().is_ok() => None,
                _ => general.insert(key.to_lowercase(), value.to_owned()),
            };
        }
        let name_of_port = own.get("name").cloned();
        general.append(&mut own);
        Self { name_of_port, values: general }
    }

    fn value(&self, key: &str) -> Option<&String> {
        self.values.get(key)
    }
}

fn default_name(container: &Container) -> String {
    let labels = &container.config.labels;
    if let Some(group) = GROUPS.iter().find_map(|label| labels.get(*label)) {
        return group.clone();
    }
    let image = container.config.image.as_str();
    let named = !image.is_empty() && !image.starts_with("sha256:");
    let base = image.split('@').next().unwrap_or(image).rsplit('/').next().unwrap_or(image);
    let base = base.split(':').next().unwrap_or(base);
    if named { base.to_owned() } else { container.name.trim_start_matches('/').to_owned() }
}

/// `name` as a DNS label, with a port behind it; none where nothing is left of it or it is the cluster's own.
fn label(name: &str, port: Option<u16>) -> Option<String> {
    let fit = |c: char| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '-' };
    let end = port.map(|port| format!("-{port}")).unwrap_or_default();
    let begin: String = name.chars().map(fit).collect();
    let begin = begin.trim_matches('-');
    let begin = begin[..begin.len().min(LONGEST_LABEL - end.len())].trim_end_matches('-');
    let label = format!("{begin}{end}");
    (!begin.is_empty() && label != "consul" && !label.starts_with("hcl-")).then_some(label)
}

fn list(text: &str) -> BTreeSet<String> {
    text.split(',').map(str::trim).filter(|tag| !tag.is_empty()).map(str::to_owned).collect()
}

#[cfg(test)]
#[path = "naming_tests.rs"]
mod tests;
