//! What a node must be for a container, written down a second time, plainly: from the body as the client sent it, with regular
//! expressions for everything, and without a word from the scheduler but its types.

use hcl_swarm::schedule::{Candidate, PlacedContainer, Protocol};
use regex_lite::Regex;
use serde_json::Value;

/// The expressions of a body that come behind `prefix`.
pub(super) fn expressions(body: &Value, prefix: &str) -> Vec<String> {
    let env = body["Env"].as_array().map_or(&[][..], Vec::as_slice);
    env.iter().filter_map(|entry| entry.as_str()?.strip_prefix(prefix).map(str::to_owned)).collect()
}

/// Key, whether it is an equality, whether it is soft, value.
fn split(expression: &str) -> (&str, bool, bool, &str) {
    let position = expression.find("==").or_else(|| expression.find("!=")).unwrap();
    let value = &expression[position + 2..];
    let equal = &expression[position..position + 2] == "==";
    (&expression[..position], equal, value.starts_with('~'), value.trim_start_matches('~'))
}

fn holds(equal: bool, value: &str, texts: &[String]) -> bool {
    let pattern = if value.len() > 1 && value.starts_with('/') && value.ends_with('/') {
        value[1..value.len() - 1].to_owned()
    } else {
        format!("(?s)^{}$", regex_lite::escape(value).replace("\\*", ".*"))
    };
    let regex = Regex::new(&pattern).unwrap();
    let mut matches = false;
    for text in texts {
        matches |= regex.is_match(text);
    }
    if equal { matches } else { !matches }
}

fn names(container: &PlacedContainer) -> Vec<String> {
    container.names.iter().map(|name| name.trim_start_matches('/').to_owned()).collect()
}

fn texts(affinity: bool, key: &str, node: &Candidate) -> Vec<String> {
    let mut texts = Vec::new();
    if affinity && key == "container" {
        for container in &node.containers {
            texts.extend(names(container));
            texts.extend([container.id.clone(), container.id.chars().take(12).collect()]);
        }
    } else if affinity && key == "image" {
        for image in &node.images {
            let bare = image.id.replace("sha256:", "");
            texts.extend([image.id.clone(), bare.chars().take(12).collect(), bare]);
            for tag in &image.tags {
                let colon = Regex::new(":[^:/]*$").unwrap();
                texts.extend([tag.clone(), colon.replace(tag, "").into_owned()]);
            }
        }
    } else if affinity {
        texts.extend(node.containers.iter().map(|container| container.labels.get(key).cloned().unwrap_or_default()));
    } else if key == "node" {
        texts.extend(node.names.iter().chain([&node.id]).cloned());
    } else {
        texts.push(node.labels.get(key).cloned().unwrap_or_default());
    }
    texts
}

/// Whether the node is all that the body asks for, the soft expressions included where `soft` says so. Resources apart.
pub(super) fn accepts(body: &Value, node: &Candidate, soft: bool) -> bool {
    let all = |affinity, prefix| {
        expressions(body, prefix).iter().all(|expression| {
            let (key, equal, is_soft, value) = split(expression);
            (is_soft && !soft) || holds(equal, value, &texts(affinity, key, node))
        })
    };
    let slots = node.labels.get("containerslots").and_then(|limit| limit.parse::<usize>().ok());
    node.healthy
        && slots.is_none_or(|limit| node.containers.len() < limit)
        && ports(body, node)
        && dependencies(body, node)
        && all(true, "affinity:")
        && all(false, "constraint:")
}

fn ports(body: &Value, node: &Candidate) -> bool {
    let host_config = &body["HostConfig"];
    if host_config["NetworkMode"] == "host" {
        let exposed = body["ExposedPorts"].as_object();
        let mut there = node.containers.iter().filter(|container| container.host_network).flat_map(|it| &it.exposed);
        return !there.any(|port| exposed.is_some_and(|exposed| exposed.contains_key(&port.to_string())));
    }
    for (port, bindings) in host_config["PortBindings"].as_object().into_iter().flatten() {
        let protocol = if port.ends_with("/udp") { Protocol::Udp } else { Protocol::Tcp };
        for binding in bindings.as_array().unwrap() {
            let (ip, wanted) = (binding["HostIp"].as_str().unwrap(), binding["HostPort"].as_str().unwrap());
            for taken in node.containers.iter().flat_map(|container| &container.ports) {
                let same = taken.port.to_string() == wanted && taken.protocol == protocol;
                let taken_ip = taken.ip.map(|ip| ip.to_string()).unwrap_or_default();
                if same && (ip.is_empty() || ip == "0.0.0.0" || taken_ip.is_empty() || taken_ip == ip) {
                    return false;
                }
            }
        }
    }
    true
}

fn dependencies(body: &Value, node: &Candidate) -> bool {
    let host_config = &body["HostConfig"];
    let mut wanted = Vec::new();
    for list in ["VolumesFrom", "Links"] {
        for value in host_config[list].as_array().into_iter().flatten() {
            wanted.push(value.as_str().unwrap().split(':').next().unwrap());
        }
    }
    wanted.extend(host_config["NetworkMode"].as_str().and_then(|mode| mode.strip_prefix("container:")));
    wanted.iter().all(|wanted| {
        let named = node.containers.iter().any(|it| it.id == **wanted || names(it).iter().any(|name| name == wanted));
        named || node.containers.iter().filter(|it| it.id.starts_with(wanted)).count() == 1
    })
}

/// How full the node would be, in whole per cent of CPUs and memory; `None` for too full.
pub(super) fn fullness(body: &Value, node: &Candidate) -> Option<u64> {
    let mut sum = 0;
    for (wanted, reserved, total) in [
        (&body["HostConfig"]["Memory"], node.reserved_memory, node.memory + node.memory * 5 / 100),
        (&body["HostConfig"]["NanoCpus"], node.reserved_nano_cpus, node.nano_cpus),
    ] {
        let wanted = wanted.as_u64().unwrap_or(0);
        let share = if wanted == 0 { 100 } else { (wanted + reserved) * 100 / total.max(1) };
        if share > 100 || wanted > total {
            return None;
        }
        sum += share;
    }
    Some(sum)
}
