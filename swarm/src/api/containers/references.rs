//! What a new container says of other things by their names in the cluster, turned into what its engine knows them by.
//!
//! `node/web`, `node/data`, `node/net` are names of this program's making. An engine knows `web`, `data`, `net`; and that they are on
//! one node means that the container must be there too.

use std::collections::BTreeSet;

use serde_json::{Map, Value};

/// What the cluster knows of names.
pub trait Names {
    /// The id of the container that `reference` means.
    fn container(&self, reference: &str) -> Option<String>;
    /// The name of the node that is called so.
    fn node(&self, name: &str) -> Option<String>;
    /// The nodes that a local network of this name or id is on; none for one that is everywhere, and for one that nobody knows.
    fn local_network(&self, reference: &str) -> Option<BTreeSet<String>>;
}

/// Changes the body of a create. The nodes that come into question after it; none for all.
pub fn settle(body: &mut Value, names: &impl Names) -> Option<BTreeSet<String>> {
    let mut only = Only(None);
    if let Some(Value::Object(config)) = body.get_mut("HostConfig") {
        for key in ["NetworkMode", "IpcMode", "PidMode"] {
            if let Some(Value::String(mode)) = config.get_mut(key) {
                if let Some(id) = mode.strip_prefix("container:").and_then(|reference| on_node(reference, names)) {
                    *mode = format!("container:{id}");
                }
            }
        }
        for value in texts(config, "VolumesFrom") {
            let (reference, mode) = value.split_once(':').map_or((value.as_str(), ""), |(reference, mode)| (reference, mode));
            if let Some(id) = on_node(reference, names) {
                *value = if mode.is_empty() { id } else { format!("{id}:{mode}") };
            }
        }
        for value in texts(config, "Links") {
            let (reference, alias) = value.split_once(':').unwrap_or((value, ""));
            if let Some(id) = on_node(reference, names) {
                let alias = if alias.is_empty() { reference.rsplit('/').next().unwrap_or(reference) } else { alias };
                *value = format!("{id}:{alias}");
            }
        }
        for value in texts(config, "Binds") {
            only.strip(value, names);
        }
        for mount in config.get_mut("Mounts").and_then(Value::as_array_mut).into_iter().flatten() {
            let volume = mount.get("Type").and_then(Value::as_str) == Some("volume");
            if let (true, Some(Value::String(source))) = (volume, mount.get_mut("Source")) {
                only.strip(source, names);
            }
        }
        if let Some(Value::String(mode)) = config.get_mut("NetworkMode") {
            only.network(mode, names);
        }
    }
    if let Some(Value::Object(endpoints)) = body.pointer_mut("/NetworkingConfig/EndpointsConfig") {
        *endpoints = std::mem::take(endpoints)
            .into_iter()
            .map(|(mut name, endpoint)| {
                only.network(&mut name, names);
                (name, endpoint)
            })
            .collect::<Map<_, _>>();
    }
    only.0
}

/// The id of a container that is named with its node; others are left to the engine.
fn on_node(reference: &str, names: &impl Names) -> Option<String> {
    let plain = reference.strip_prefix('/').unwrap_or(reference);
    plain.contains('/').then(|| names.container(plain)).flatten()
}

fn texts<'a>(config: &'a mut Map<String, Value>, key: &str) -> impl Iterator<Item = &'a mut String> + use<'a> {
    let values = config.get_mut(key).and_then(Value::as_array_mut).into_iter().flatten();
    values.filter_map(|value| match value {
        Value::String(text) => Some(text),
        _ => None,
    })
}

/// The nodes that come into question.
struct Only(Option<BTreeSet<String>>);

impl Only {
    fn also(&mut self, nodes: BTreeSet<String>) {
        self.0 = Some(match self.0.take() {
            Some(own) => own.intersection(&nodes).cloned().collect(),
            None => nodes,
        });
    }

    /// Takes a node's name off the front, and means that node from now on.
    fn strip(&mut self, text: &mut String, names: &impl Names) {
        if text.starts_with('/') {
            return;
        }
        let Some((node, rest)) = text.split_once('/') else { return };
        if let Some(node) = names.node(node) {
            *text = rest.to_owned();
            self.also([node].into());
        }
    }

    fn network(&mut self, name: &mut String, names: &impl Names) {
        self.strip(name, names);
        if let Some(nodes) = names.local_network(name) {
            self.also(nodes);
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    struct Known;

    impl Names for Known {
        fn container(&self, reference: &str) -> Option<String> {
            (reference == "n1/db").then(|| "dbid".to_owned())
        }

        fn node(&self, name: &str) -> Option<String> {
            match name {
                "n1" | "master" => Some("n1".to_owned()),
                "n2" => Some("n2".to_owned()),
                _ => None,
            }
        }

        fn local_network(&self, reference: &str) -> Option<BTreeSet<String>> {
            match reference {
                "lan" => Some(["n1".to_owned(), "n2".to_owned()].into()),
                _ => None,
            }
        }
    }

    fn settled(mut body: Value) -> (Value, Option<Vec<String>>) {
        let only = settle(&mut body, &Known);
        (body, only.map(|nodes| nodes.into_iter().collect()))
    }

    #[test]
    fn containers_of_a_node() {
        let (body, only) = settled(json!({"HostConfig": {
            "NetworkMode": "container:n1/db", "IpcMode": "container:db", "PidMode": "host",
            "VolumesFrom": ["n1/db:ro", "n1/db", "db"], "Links": ["n1/db:store", "n1/db", "/n1/db:x", "n2/x:y"]
        }}));
        assert_eq!(
            body,
            json!({"HostConfig": {
                "NetworkMode": "container:dbid", "IpcMode": "container:db", "PidMode": "host",
                "VolumesFrom": ["dbid:ro", "dbid", "db"], "Links": ["dbid:store", "dbid:db", "dbid:x", "n2/x:y"]
            }})
        );
        // That they must be on one node is the dependency filter's.
        assert_eq!(only, None);
    }

    #[test]
    fn volumes_and_networks_of_a_node() {
        let (body, only) = settled(json!({
            "HostConfig": {
                "Binds": ["n2/data:/data:ro", "/srv:/srv", "x/y:/z"],
                "Mounts": [{"Type": "volume", "Source": "n2/logs"}, {"Type": "bind", "Source": "n2/x"}],
                "NetworkMode": "lan"
            },
            "NetworkingConfig": {"EndpointsConfig": {"lan": {"Aliases": ["a"]}, "n2/other": null}}
        }));
        assert_eq!(
            body,
            json!({
                "HostConfig": {
                    "Binds": ["data:/data:ro", "/srv:/srv", "x/y:/z"],
                    "Mounts": [{"Type": "volume", "Source": "logs"}, {"Type": "bind", "Source": "n2/x"}],
                    "NetworkMode": "lan"
                },
                "NetworkingConfig": {"EndpointsConfig": {"lan": {"Aliases": ["a"]}, "other": null}}
            })
        );
        assert_eq!(only, Some(vec!["n2".to_owned()]));
        assert_eq!(settled(json!({"HostConfig": {"Binds": ["n1/a:/a", "n2/b:/b"]}})).1, Some(vec![]));
        assert_eq!(settled(json!({"HostConfig": {"NetworkMode": "demo"}})).1, None);
    }

    #[test]
    fn odd_bodies_stay() {
        for body in [
            json!(null),
            json!([]),
            json!({"HostConfig": []}),
            json!({"HostConfig": {"Binds": 1, "Links": [1, null], "Mounts": [1], "NetworkMode": {}}, "NetworkingConfig": 1}),
        ] {
            assert_eq!(settled(body.clone()), (body, None));
        }
    }
}
