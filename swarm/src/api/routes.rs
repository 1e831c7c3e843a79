//! Which request is what: every endpoint of Docker's API, as data.
//!
//! [`TABLE`] is the one list. [`find`] reads it for each request, `docs/swarm-api.md` is written from it, and the tests that walk
//! every endpoint walk it.

mod document;
mod pattern;
mod table;

use http::Method;

pub use self::{document::document, pattern::Names, table::TABLE};

/// An endpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Route {
    /// The method.
    pub method: Verb,
    /// The path without the version; `{name}` stands for anything, slashes included, in the last place `{name}` too.
    pub pattern: &'static str,
    /// What serves it.
    pub call: Call,
    /// What happens, in a few words, for the docs.
    pub what: &'static str,
}

/// The methods that endpoints have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verb {
    /// GET
    Get,
    /// HEAD
    Head,
    /// POST
    Post,
    /// PUT
    Put,
    /// DELETE
    Delete,
}

impl Verb {
    /// As HTTP writes it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Get => "GET",
            Self::Head => "HEAD",
            Self::Post => "POST",
            Self::Put => "PUT",
            Self::Delete => "DELETE",
        }
    }
}

/// What serves an endpoint. One variant for each thing that is done differently.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Call {
    /// Says that the cluster is here, and which version it speaks.
    Ping,
    /// The versions.
    Version,
    /// Classic Swarm's table.
    Info,
    /// Disk usage of all nodes.
    DiskUsage,
    /// Events of all nodes.
    Events,
    /// Any healthy engine answers, unchanged.
    AnyEngine,
    /// A swarm manager answers, unchanged.
    Manager,
    /// BuildKit's connections, to the master's engine.
    BuildKit,
    /// Refused, as classic Swarm did.
    Refused,
    /// Refused, since the cluster does it by itself.
    ClusterOwn,

    /// Containers of all nodes.
    ContainerList,
    /// Places a container.
    ContainerCreate,
    /// One container with its node.
    ContainerInspect,
    /// Starts it; waits for an overlay network to arrive on its node.
    ContainerStart,
    /// Its engine answers, and what changed is known at once.
    ContainerChange,
    /// Its engine answers.
    ContainerPass,
    /// Its engine answers; the connection is joined.
    ContainerAttach,
    /// A name that is unique in the cluster.
    ContainerRename,
    /// Takes it away.
    ContainerRemove,
    /// An image of it, on its node.
    Commit,
    /// Takes stopped containers of all nodes away.
    ContainerPrune,
    /// Makes an exec and remembers where.
    ExecCreate,
    /// Starts an exec on its node; the connection is joined.
    ExecStart,
    /// An exec's engine answers.
    ExecPass,

    /// Images of all nodes, once each.
    ImageList,
    /// An engine that has the image answers.
    ImagePass,
    /// An engine that has all of the images answers.
    ImageSave,
    /// Every node pulls or imports.
    ImageCreate,
    /// Every node loads.
    ImageLoad,
    /// An engine that has it pushes.
    ImagePush,
    /// Every node that has it tags.
    ImageTag,
    /// Every node that has it removes it.
    ImageRemove,
    /// Every node prunes.
    ImagePrune,
    /// One node builds, the others get the result.
    Build,
    /// Ends a build where it runs.
    BuildCancel,
    /// Every node prunes its build cache.
    BuildPrune,

    /// Volumes of all nodes.
    VolumeList,
    /// A volume on every node, or on one.
    VolumeCreate,
    /// One volume.
    VolumeInspect,
    /// Everywhere, or on one node.
    VolumeRemove,
    /// Every node prunes.
    VolumePrune,

    /// Networks of all nodes, cluster-wide ones once.
    NetworkList,
    /// Overlay networks on a manager, local ones on one node.
    NetworkCreate,
    /// One network, with the containers of all nodes.
    NetworkInspect,
    /// Where it is.
    NetworkRemove,
    /// On the container's node.
    NetworkConnect,
    /// On the container's node.
    NetworkDisconnect,
    /// Every node prunes.
    NetworkPrune,
}

/// A route that fits, with what stands for its placeholders.
pub type Found = (&'static Route, Names);

/// The route of a request; `path` is decoded and has no version.
pub fn find(method: &Method, path: &str) -> Option<Found> {
    let own = TABLE.iter().filter(|route| route.method.name() == method.as_str());
    own.filter_map(|route| Some((route, pattern::names(route.pattern, path)?))).next()
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn every_endpoint_is_found_by_its_own_pattern() {
        let mut seen = HashSet::new();
        for route in TABLE {
            assert!(seen.insert((route.method.name(), route.pattern)), "twice: {route:?}");
            let path = route.pattern.replace("{name}", "a/b").replace("{id}", "x1");
            let method = Method::from_bytes(route.method.name().as_bytes()).expect("a method");
            let (found, _) = find(&method, &path).unwrap_or_else(|| panic!("{path} is not found"));
            assert_eq!(found, route, "{path}");
        }
    }

    #[test]
    fn names_of_all_kinds() {
        for (method, path, call, name) in [
            ("GET", "/containers/json", Call::ContainerList, ""),
            ("GET", "/containers/node-1/web/json", Call::ContainerInspect, "node-1/web"),
            ("GET", "/containers/json/json", Call::ContainerInspect, "json"),
            ("DELETE", "/containers/node-1/web", Call::ContainerRemove, "node-1/web"),
            ("POST", "/containers/prune", Call::ContainerPrune, ""),
            ("POST", "/containers/x/start", Call::ContainerStart, "x"),
            ("GET", "/images/library/nginx:1/json", Call::ImagePass, "library/nginx:1"),
            ("GET", "/images/json", Call::ImageList, ""),
            ("GET", "/images/get", Call::ImageSave, ""),
            ("DELETE", "/images/a/b/c@sha256:0", Call::ImageRemove, "a/b/c@sha256:0"),
            ("GET", "/networks", Call::NetworkList, ""),
            ("GET", "/networks/", Call::NetworkList, ""),
            ("GET", "/networks/node-1/bridge", Call::NetworkInspect, "node-1/bridge"),
            ("HEAD", "/_ping", Call::Ping, ""),
            ("GET", "/volumes/node-1/data", Call::VolumeInspect, "node-1/data"),
            ("GET", "/services/x/logs", Call::Manager, "x"),
        ] {
            let method = Method::from_bytes(method.as_bytes()).expect("a method");
            let (route, names) = find(&method, path).unwrap_or_else(|| panic!("{path} is not found"));
            assert_eq!((route.call, names.first()), (call, name), "{path}");
        }
    }

    #[test]
    fn nothing_else_is_there() {
        for (method, path) in [
            (Method::GET, "/"),
            (Method::GET, ""),
            (Method::GET, "/containers"),
            (Method::GET, "/containers//json"),
            (Method::POST, "/containers/json"),
            (Method::PATCH, "/info"),
            (Method::GET, "/debug/vars"),
            (Method::GET, "//info"),
        ] {
            assert_eq!(find(&method, path), None, "{method} {path}");
        }
    }
}
