//! The filters of `docker ps` for containers of a node that does not answer: an engine's rules over what was known last.

use serde::Deserialize;

use crate::{
    api::filters::Filters,
    cluster::{Container, Port},
};

/// Whether the container passes all of them. Keys that nothing is known of let nothing pass.
pub fn fits(filters: &Filters, container: &Container) -> bool {
    let names = || container.names.iter().map(|name| name.strip_prefix('/').unwrap_or(name));
    let fits = |key: &str| -> bool {
        match key {
            "name" => names().any(|name| filters.matches("name", name)),
            "id" => filters.all("id").any(|id| container.id.starts_with(id)),
            "status" => filters.exact("status", &container.state),
            "label" => filters.all("label").all(|wanted| has_label(container, wanted)),
            "is-task" => {
                let task = container.labels.contains_key("com.docker.swarm.task.id");
                filters.all("is-task").any(|wanted| matches!(wanted, "true" | "1") == task)
            }
            "exited" => {
                let code = container.details.exit_code.to_string();
                container.state == "exited" && filters.exact("exited", &code)
            }
            "health" => {
                let health = if container.details.health.is_empty() { "none" } else { &container.details.health };
                filters.exact("health", health)
            }
            "ancestor" => filters.all("ancestor").any(|image| is_image(container, image)),
            "publish" => {
                filters.all("publish").any(|wanted| container.ports.iter().any(|port| is_port(wanted, port.public_port, port)))
            }
            "expose" => {
                let open = |wanted: &str| container.ports.iter().any(|port| is_port(wanted, Some(port.private_port), port));
                filters.all("expose").any(open)
            }
            "network" => filters.all("network").any(|wanted| Attached::of(container).has_network(wanted)),
            "volume" => filters.all("volume").any(|wanted| Attached::of(container).has_volume(wanted)),
            _ => false,
        }
    };
    filters.keys().all(fits)
}

/// Whether the container is on the network of this id.
pub fn uses_network(container: &Container, id: &str) -> bool {
    Attached::of(container).has_network(id)
}

fn has_label(container: &Container, wanted: &str) -> bool {
    match wanted.split_once('=') {
        Some((name, value)) => container.labels.get(name).is_some_and(|own| own == value),
        None => container.labels.contains_key(wanted),
    }
}

fn is_image(container: &Container, image: &str) -> bool {
    let bare = container.image_id.strip_prefix("sha256:").unwrap_or(&container.image_id);
    let named = container.image == image || container.image.strip_suffix(":latest") == Some(image);
    named
        || container.image == format!("{image}:latest")
        || container.image_id == image
        || (image.len() >= 3 && bare.starts_with(image))
}

/// `80`, `80/udp`, `80-90` or `80-90/tcp`.
fn is_port(wanted: &str, number: Option<u16>, port: &Port) -> bool {
    let (range, protocol) = wanted.split_once('/').unwrap_or((wanted, "tcp"));
    let (first, last) = range.split_once('-').unwrap_or((range, range));
    let (Ok(first), Ok(last), Some(number)) = (first.parse::<u16>(), last.parse::<u16>(), number) else { return false };
    (first..=last).contains(&number) && port.protocol == protocol
}

/// What the entry tells of networks and volumes.
#[derive(Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct Attached {
    network_settings: Networks,
    mounts: Vec<Mount>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct Networks {
    networks: std::collections::BTreeMap<String, Endpoint>,
}

#[derive(Default, Deserialize)]
struct Endpoint {
    #[serde(rename = "NetworkID", default)]
    network_id: String,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct Mount {
    name: String,
    source: String,
    destination: String,
}

impl Attached {
    fn of(container: &Container) -> Self {
        serde_json::from_str(container.raw.get()).unwrap_or_default()
    }

    fn has_network(&self, wanted: &str) -> bool {
        let networks = &self.network_settings.networks;
        networks.contains_key(wanted) || networks.values().any(|endpoint| endpoint.network_id.starts_with(wanted))
    }

    fn has_volume(&self, wanted: &str) -> bool {
        self.mounts.iter().any(|mount| [&mount.name, &mount.source, &mount.destination].into_iter().any(|own| own == wanted))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{json, value::to_raw_value};

    use super::*;

    fn container() -> Container {
        let raw = json!({
            "NetworkSettings": {"Networks": {"demo": {"NetworkID": "abcdef"}}},
            "Mounts": [{"Name": "data", "Destination": "/data"}, {"Source": "/srv", "Destination": "/www"}]
        });
        Container {
            id: "1234567890".to_owned(),
            names: vec!["/web".to_owned()],
            image: "nginx:latest".to_owned(),
            image_id: "sha256:feed".to_owned(),
            created: 0,
            state: "exited".to_owned(),
            labels: [("a".to_owned(), "b".to_owned())].into(),
            ports: vec![Port { ip: String::new(), private_port: 80, public_port: Some(8080), protocol: "tcp".to_owned() }],
            network_mode: String::new(),
            details: crate::cluster::Details { exit_code: 3, ..Default::default() },
            raw: to_raw_value(&raw).expect("JSON"),
        }
    }

    #[test]
    fn table() {
        let container = container();
        for (key, yes, no) in [
            ("name", "^we", "^eb"),
            ("id", "1234", "234"),
            ("status", "exited", "running"),
            ("label", "a=b", "a=c"),
            ("label", "a", "b"),
            ("exited", "3", "0"),
            ("is-task", "false", "true"),
            ("health", "none", "healthy"),
            ("ancestor", "nginx", "redis"),
            ("ancestor", "feed", "beef"),
            ("publish", "8000-9000", "80"),
            ("expose", "80/tcp", "80/udp"),
            ("network", "demo", "other"),
            ("network", "abc", "bc"),
            ("volume", "data", "dat"),
            ("volume", "/srv", "/sr"),
        ] {
            for (value, expected) in [(yes, true), (no, false)] {
                let mut filters = Filters::default();
                filters.add(key, value);
                assert_eq!(fits(&filters, &container), expected, "{key}={value}");
            }
        }
        assert!(fits(&Filters::default(), &container));
        let mut unknown = Filters::default();
        unknown.add("isolation", "x");
        assert!(!fits(&unknown, &container));
    }
}
