//! What the scheduler knows of a node. Whoever calls copies it out of its caches.

use std::collections::BTreeMap;

use super::{ExposedPort, PublishedPort, Request};

/// How many characters of an id the CLI prints.
pub(super) const SHORT_ID: usize = 12;

/// A node on which a container can be created.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Candidate {
    /// The engine's id.
    pub id: String,
    /// The node's name first, then the names that come and go, such as `master`.
    pub names: Vec<String>,
    /// Whether it answers.
    pub healthy: bool,
    /// The engine's labels, with `storagedriver`, `kernelversion`, `operatingsystem` and `ostype`.
    pub labels: BTreeMap<String, String>,
    /// CPUs of the node, in billionths.
    pub nano_cpus: u64,
    /// Memory of the node in bytes.
    pub memory: u64,
    /// CPUs that its containers asked for, the stopped ones too.
    pub reserved_nano_cpus: u64,
    /// Bytes that its containers asked for, the stopped ones too.
    pub reserved_memory: u64,
    /// All its containers, the stopped ones too.
    pub containers: Vec<PlacedContainer>,
    /// All its images.
    pub images: Vec<PlacedImage>,
}

/// A container on a node.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct PlacedContainer {
    /// Its full id; empty while it is being created.
    pub id: String,
    /// Its names, with or without the leading slash.
    pub names: Vec<String>,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
    /// Whether it runs. Nothing here asks: a stopped container keeps its place and its ports.
    pub running: bool,
    /// Ports of the node that it has (`NetworkSettings.Ports`) or, stopped, will want (`HostConfig.PortBindings`).
    pub ports: Vec<PublishedPort>,
    /// Whether it uses the node's network.
    pub host_network: bool,
    /// `Config.ExposedPorts`; looked at where `host_network` is set.
    pub exposed: Vec<ExposedPort>,
}

/// An image on a node.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct PlacedImage {
    /// Its id with `sha256:`.
    pub id: String,
    /// Its names with tags (`RepoTags`).
    pub tags: Vec<String>,
}

impl Candidate {
    /// Counts a container that is being created here, so that the next request sees its name, ports and resources before the
    /// engine lists it.
    pub fn add(&mut self, request: &Request, name: &str) {
        self.reserved_memory = self.reserved_memory.saturating_add(request.memory);
        self.reserved_nano_cpus = self.reserved_nano_cpus.saturating_add(request.nano_cpus);
        self.containers.push(PlacedContainer {
            names: if name.is_empty() { Vec::new() } else { vec![name.to_owned()] },
            labels: request.labels.clone(),
            ports: request.ports.iter().filter_map(|port| port.fixed()).collect(),
            host_network: request.host_network,
            exposed: request.exposed.clone(),
            ..PlacedContainer::default()
        });
    }

    /// The container meant by `reference`: its id, the id's first 12 characters, its name, `node/name`, or an unambiguous
    /// beginning of its id.
    #[must_use]
    pub fn container(&self, reference: &str) -> Option<&PlacedContainer> {
        let all = || self.containers.iter();
        if reference.is_empty() {
            return None;
        }
        if let Some(found) = all().find(|container| container.id == reference || container.short_id() == Some(reference)) {
            return Some(found);
        }
        let name = reference.strip_prefix('/').unwrap_or_else(|| self.without_node(reference));
        if let Some(found) = all().find(|container| container.plain_names().any(|own| own == name)) {
            return Some(found);
        }
        let mut beginning = all().filter(|container| container.id.starts_with(reference));
        beginning.next().filter(|_| beginning.next().is_none())
    }

    /// `node/name` without this node's name or id.
    fn without_node<'a>(&self, reference: &'a str) -> &'a str {
        let own = |node: &str| node == self.id || self.names.iter().any(|name| name == node);
        reference.split_once('/').filter(|(node, _)| own(node)).map_or(reference, |(_, name)| name)
    }
}

impl PlacedContainer {
    /// The first characters of the id, as the CLI prints them.
    pub(super) fn short_id(&self) -> Option<&str> {
        self.id.get(..SHORT_ID)
    }

    /// The names without the leading slash.
    pub(super) fn plain_names(&self) -> impl Iterator<Item = &str> {
        self.names.iter().map(|name| name.strip_prefix('/').unwrap_or(name))
    }
}

impl PlacedImage {
    /// Everything that an affinity to the image can name: id, id without `sha256:`, its beginning as printed, tag, repository.
    pub(super) fn references(&self) -> impl Iterator<Item = &str> {
        let bare = self.id.strip_prefix("sha256:").unwrap_or(&self.id);
        let tags = self.tags.iter().flat_map(|tag| [tag.as_str(), repository(tag)]);
        [self.id.as_str(), bare].into_iter().chain(bare.get(..SHORT_ID)).chain(tags)
    }
}

/// The name without tag or digest. A colon before a slash belongs to a registry's port.
fn repository(tag: &str) -> &str {
    if let Some((name, _)) = tag.split_once('@') {
        return name;
    }
    tag.rsplit_once(':').filter(|(_, tag)| !tag.contains('/')).map_or(tag, |(name, _)| name)
}
