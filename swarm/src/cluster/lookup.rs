//! Which container is meant.

use std::sync::Arc;

use super::{Cluster, Container, Engine};

/// Why no one container is meant.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Lookup {
    /// There is none.
    #[error("No such container: {0}")]
    NotFound(String),
    /// There are several whose ids begin so.
    #[error("multiple IDs found with provided prefix: {0}")]
    Prefix(String),
    /// There are several of this name, made without this program.
    #[error("Container name {name} is ambiguous: say {choices}", choices = .nodes.iter().map(|node| format!("{node}/{name}")).collect::<Vec<_>>().join(" or "))]
    Name {
        /// The name.
        name: String,
        /// The nodes that have one.
        nodes: Vec<String>,
    },
}

impl Lookup {
    /// Whether there is none.
    pub fn is_not_found(&self) -> bool {
        matches!(self, Self::NotFound(_))
    }
}

type Found = (Arc<Engine>, Arc<Container>);

impl Cluster {
    /// The container that `reference` means, and where it is: a full id, a name with or without its slash, `node/name`, or the
    /// beginning of one id. Containers of engines that do not answer count; where a name is on several nodes, one that answers is
    /// meant.
    ///
    /// # Errors
    ///
    /// No container is meant, or more than one.
    pub fn container(&self, reference: &str) -> Result<(Arc<Engine>, String), Lookup> {
        self.find_container(reference).map(|(engine, container)| (engine, container.id.clone()))
    }

    /// As [`Cluster::container`], with what is known of it.
    ///
    /// # Errors
    ///
    /// As [`Cluster::container`].
    pub fn find_container(&self, reference: &str) -> Result<(Arc<Engine>, Arc<Container>), Lookup> {
        let not_found = || Lookup::NotFound(reference.to_owned());
        let plain = reference.strip_prefix('/').unwrap_or(reference);
        if plain.is_empty() {
            return Err(not_found());
        }
        let full = plain.len() == 64;
        if full {
            if let Some(found) = self.containers_where(|container| container.id == plain).into_iter().next() {
                return Ok(found);
            }
        }
        let named = self.containers_where(|container| container.is_named(plain));
        if let Some(found) = one_named(plain, named)? {
            return Ok(found);
        }
        if let Some((node, name)) = plain.split_once('/') {
            let engine = self.engine(node).ok_or_else(not_found)?;
            let snapshot = engine.snapshot();
            return one_of(&snapshot.containers, name, reference).map(|container| (engine, container));
        }
        let hex = plain.bytes().all(|byte| byte.is_ascii_hexdigit());
        let mut prefixed =
            if hex && !full { self.containers_where(|container| container.id.starts_with(plain)) } else { Vec::new() };
        match prefixed.len() {
            0 => Err(not_found()),
            1 => prefixed.pop().ok_or_else(not_found),
            _ => Err(Lookup::Prefix(reference.to_owned())),
        }
    }

    fn containers_where(&self, is: impl Fn(&Container) -> bool) -> Vec<Found> {
        let mut found = Vec::new();
        for engine in self.engines() {
            let snapshot = engine.snapshot();
            let here = snapshot.containers.iter().filter(|container| is(container));
            found.extend(here.map(|container| (Arc::clone(&engine), Arc::clone(container))));
        }
        found
    }
}

/// The one of these containers of one name; none for none.
fn one_named(name: &str, mut found: Vec<Found>) -> Result<Option<Found>, Lookup> {
    if found.len() > 1 {
        let answers = |(engine, _): &Found| engine.snapshot().is_healthy();
        if found.iter().any(answers) {
            found.retain(answers);
        }
    }
    if found.len() > 1 {
        let nodes = found.iter().map(|(engine, _)| engine.name.clone()).collect();
        return Err(Lookup::Name { name: name.to_owned(), nodes });
    }
    Ok(found.pop())
}

/// The container of one engine that `name` means: its name, its id, or the beginning of that.
fn one_of(containers: &[Arc<Container>], name: &str, reference: &str) -> Result<Arc<Container>, Lookup> {
    if let Some(found) = containers.iter().find(|container| container.is_named(name) || container.id == name) {
        return Ok(Arc::clone(found));
    }
    let mut prefixed = containers.iter().filter(|container| !name.is_empty() && container.id.starts_with(name));
    match (prefixed.next(), prefixed.next()) {
        (Some(found), None) => Ok(Arc::clone(found)),
        (None, _) => Err(Lookup::NotFound(reference.to_owned())),
        _ => Err(Lookup::Prefix(reference.to_owned())),
    }
}
