//! Names of containers are unique in the cluster, also while one is being made.

use std::sync::{Arc, PoisonError};

use super::Cluster;

/// The name is not free.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("Conflict: The name {name} is already assigned{by}. You have to delete (or rename) that container to be able to assign {name} to a container again.", by = .id.as_ref().map(|id| format!(" to {id}")).unwrap_or_default())]
pub struct Taken {
    /// The name.
    pub name: String,
    /// Who has it; none for one that is still being made.
    pub id: Option<String>,
}

/// Keeps a name until it is dropped: until the container is made and known here ([`Cluster::refresh_container`]), or will not be.
pub struct NameGuard {
    cluster: Arc<Cluster>,
    name: String,
}

impl NameGuard {
    /// The name, without a slash.
    pub fn name(&self) -> &str {
        &self.name
    }
}

impl Drop for NameGuard {
    fn drop(&mut self) {
        self.cluster.reserved.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.name);
    }
}

impl Cluster {
    /// Keeps `name`, given with or without its slash, for a container that will be made. Other nodes' programs do not hear of it:
    /// they see the container once it is there.
    ///
    /// # Errors
    ///
    /// A container has it, or will have it.
    pub fn reserve_name(self: &Arc<Self>, name: &str) -> Result<NameGuard, Taken> {
        let name = name.strip_prefix('/').unwrap_or(name);
        // Locked first: a container that was just made is known before its guard is dropped.
        let mut reserved = self.reserved.lock().unwrap_or_else(PoisonError::into_inner);
        let taken = |id| Taken { name: name.to_owned(), id };
        if reserved.contains(name) {
            return Err(taken(None));
        }
        for engine in self.engines() {
            if let Some(container) = engine.snapshot().containers.iter().find(|container| container.is_named(name)) {
                return Err(taken(Some(container.id.clone())));
            }
        }
        reserved.insert(name.to_owned());
        Ok(NameGuard { cluster: Arc::clone(self), name: name.to_owned() })
    }
}
