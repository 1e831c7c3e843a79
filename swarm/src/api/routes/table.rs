//! The table itself, in the order of Docker's own reference. Within a method the first that fits counts.

use super::{Call, Route, Verb};

const fn get(pattern: &'static str, call: Call, what: &'static str) -> Route {
    Route { method: Verb::Get, pattern, call, what }
}

const fn head(pattern: &'static str, call: Call, what: &'static str) -> Route {
    Route { method: Verb::Head, pattern, call, what }
}

const fn post(pattern: &'static str, call: Call, what: &'static str) -> Route {
    Route { method: Verb::Post, pattern, call, what }
}

const fn put(pattern: &'static str, call: Call, what: &'static str) -> Route {
    Route { method: Verb::Put, pattern, call, what }
}

const fn delete(pattern: &'static str, call: Call, what: &'static str) -> Route {
    Route { method: Verb::Delete, pattern, call, what }
}

const CONTAINER: &str = "passed to the container's engine";
const CHANGE: &str = "passed to the container's engine; the next `ps` knows";
const MANAGER: &str = "passed to a swarm manager, unchanged";
const OWN: &str = "501: the cluster forms its swarm by itself";
const REFUSED: &str = "501: not supported in clustering mode";

/// Every endpoint that is served.
pub const TABLE: &[Route] = &[
    get("/_ping", Call::Ping, "answered here: the lowest version of the healthy engines; builder version 1"),
    head("/_ping", Call::Ping, "as GET, without a body"),
    get("/version", Call::Version, "answered here: the lowest version, and each node's"),
    get("/info", Call::Info, "sums over all nodes, classic Swarm's table of nodes, and a manager's swarm section"),
    get("/system/df", Call::DiskUsage, "all nodes, images once"),
    get("/events", Call::Events, "events of all nodes as they come, with `node.name`, `node.id`, `node.ip`"),
    post("/auth", Call::AnyEngine, "passed to a healthy engine"),
    // Containers
    get("/containers/json", Call::ContainerList, "all nodes; names are `/node/name`, ports are the node's"),
    get("/containers/ps", Call::ContainerList, "the same"),
    post(
        "/containers/create",
        Call::ContainerCreate,
        "placed by constraints, affinities and strategy; the name is unique in the cluster",
    ),
    post("/containers/prune", Call::ContainerPrune, "all nodes"),
    get("/containers/{name}/json", Call::ContainerInspect, "with `Node`; ports are the node's"),
    get("/containers/{name}/top", Call::ContainerPass, CONTAINER),
    get("/containers/{name}/logs", Call::ContainerPass, CONTAINER),
    get("/containers/{name}/changes", Call::ContainerPass, CONTAINER),
    get("/containers/{name}/export", Call::ContainerPass, CONTAINER),
    get("/containers/{name}/stats", Call::ContainerPass, CONTAINER),
    get("/containers/{name}/attach/ws", Call::Refused, REFUSED),
    get("/containers/{name}/checkpoints", Call::ContainerPass, CONTAINER),
    post("/containers/{name}/checkpoints", Call::ContainerPass, CONTAINER),
    delete("/containers/{name}/checkpoints/{id}", Call::ContainerPass, CONTAINER),
    post("/containers/{name}/resize", Call::ContainerPass, CONTAINER),
    post(
        "/containers/{name}/start",
        Call::ContainerStart,
        "passed to the container's engine; waits until an overlay network is known there",
    ),
    post("/containers/{name}/stop", Call::ContainerChange, CHANGE),
    post("/containers/{name}/restart", Call::ContainerChange, CHANGE),
    post("/containers/{name}/kill", Call::ContainerChange, CHANGE),
    post("/containers/{name}/update", Call::ContainerChange, CHANGE),
    post("/containers/{name}/rename", Call::ContainerRename, "the new name is unique in the cluster"),
    post("/containers/{name}/pause", Call::ContainerChange, CHANGE),
    post("/containers/{name}/unpause", Call::ContainerChange, CHANGE),
    post("/containers/{name}/attach", Call::ContainerAttach, "joined with the container's engine"),
    post("/containers/{name}/wait", Call::ContainerPass, CONTAINER),
    post("/containers/{name}/exec", Call::ExecCreate, CONTAINER),
    head("/containers/{name}/archive", Call::ContainerPass, CONTAINER),
    get("/containers/{name}/archive", Call::ContainerPass, CONTAINER),
    put("/containers/{name}/archive", Call::ContainerPass, CONTAINER),
    delete("/containers/{name}", Call::ContainerRemove, "passed to the container's engine; its name is free at once"),
    post("/exec/{id}/start", Call::ExecStart, "joined with the exec's engine"),
    post("/exec/{id}/resize", Call::ExecPass, "passed to the exec's engine"),
    get("/exec/{id}/json", Call::ExecPass, "passed to the exec's engine"),
    post("/commit", Call::Commit, "on the container's node"),
    // Images
    get("/images/json", Call::ImageList, "all nodes; one entry an image, with the tags of all"),
    get("/images/search", Call::AnyEngine, "passed to a healthy engine"),
    get("/images/get", Call::ImageSave, "from a node that has all of them"),
    post("/images/create", Call::ImageCreate, "every node pulls or imports; one stream of progress, each line with its node"),
    post("/images/load", Call::ImageLoad, "every node loads, at the pace of the slowest"),
    post("/images/prune", Call::ImagePrune, "all nodes"),
    get("/images/{name}/json", Call::ImagePass, "from a node that has it, the master first"),
    get("/images/{name}/history", Call::ImagePass, "from a node that has it, the master first"),
    get("/images/{name}/get", Call::ImageSave, "from a node that has it"),
    post("/images/{name}/push", Call::ImagePush, "a node that has it pushes"),
    post("/images/{name}/tag", Call::ImageTag, "every node that has it"),
    delete("/images/{name}", Call::ImageRemove, "every node that has it"),
    get("/distribution/{name}/json", Call::AnyEngine, "passed to a healthy engine"),
    post("/build", Call::Build, "one node builds, by `--build-arg constraint:…`; then the others load the result"),
    post("/build/cancel", Call::BuildCancel, "passed to the engine that builds"),
    post("/build/prune", Call::BuildPrune, "all nodes"),
    post("/session", Call::BuildKit, "joined with the engine that builds"),
    post("/grpc", Call::BuildKit, "joined with the master's engine; then the other nodes load what was built"),
    // Volumes
    get("/volumes", Call::VolumeList, "all nodes; names are `node/name`"),
    post("/volumes/create", Call::VolumeCreate, "on every node; `node/name` on one"),
    post("/volumes/prune", Call::VolumePrune, "all nodes"),
    get("/volumes/{name}", Call::VolumeInspect, "by name where it is the same everywhere, or `node/name`"),
    put("/volumes/{name}", Call::Manager, MANAGER),
    delete("/volumes/{name}", Call::VolumeRemove, "on every node; `node/name` on one"),
    // Networks
    get("/networks", Call::NetworkList, "all nodes; cluster-wide ones once, local ones as `node/name`"),
    get("/networks/", Call::NetworkList, "the same"),
    post("/networks/create", Call::NetworkCreate, "overlay and attachable, on a manager; `node/name` is local to that node"),
    post("/networks/prune", Call::NetworkPrune, "all nodes"),
    get("/networks/{name}", Call::NetworkInspect, "with the containers of all nodes"),
    post("/networks/{name}/connect", Call::NetworkConnect, "on the container's node"),
    post("/networks/{name}/disconnect", Call::NetworkDisconnect, "on the container's node"),
    delete("/networks/{name}", Call::NetworkRemove, "where it is"),
    // Swarm mode
    get("/swarm", Call::Manager, MANAGER),
    post("/swarm/init", Call::ClusterOwn, OWN),
    post("/swarm/join", Call::ClusterOwn, OWN),
    post("/swarm/leave", Call::ClusterOwn, OWN),
    post("/swarm/unlock", Call::ClusterOwn, OWN),
    post("/swarm/update", Call::Manager, MANAGER),
    get("/swarm/unlockkey", Call::Manager, MANAGER),
    get("/nodes", Call::Manager, MANAGER),
    get("/nodes/{id}", Call::Manager, MANAGER),
    delete("/nodes/{id}", Call::Manager, MANAGER),
    post("/nodes/{id}/update", Call::Manager, MANAGER),
    get("/services", Call::Manager, MANAGER),
    post("/services/create", Call::Manager, MANAGER),
    get("/services/{id}/logs", Call::Manager, MANAGER),
    get("/services/{id}", Call::Manager, MANAGER),
    delete("/services/{id}", Call::Manager, MANAGER),
    post("/services/{id}/update", Call::Manager, MANAGER),
    get("/tasks", Call::Manager, MANAGER),
    get("/tasks/{id}/logs", Call::Manager, MANAGER),
    get("/tasks/{id}", Call::Manager, MANAGER),
    get("/secrets", Call::Manager, MANAGER),
    post("/secrets/create", Call::Manager, MANAGER),
    get("/secrets/{id}", Call::Manager, MANAGER),
    delete("/secrets/{id}", Call::Manager, MANAGER),
    post("/secrets/{id}/update", Call::Manager, MANAGER),
    get("/configs", Call::Manager, MANAGER),
    post("/configs/create", Call::Manager, MANAGER),
    get("/configs/{id}", Call::Manager, MANAGER),
    delete("/configs/{id}", Call::Manager, MANAGER),
    post("/configs/{id}/update", Call::Manager, MANAGER),
    // Plugins: an engine's own matter.
    get("/plugins", Call::Manager, MANAGER),
    get("/plugins/privileges", Call::Manager, MANAGER),
    get("/plugins/{name}/json", Call::Manager, MANAGER),
    post("/plugins/pull", Call::Refused, REFUSED),
    post("/plugins/create", Call::Refused, REFUSED),
    post("/plugins/{name}/enable", Call::Refused, REFUSED),
    post("/plugins/{name}/disable", Call::Refused, REFUSED),
    post("/plugins/{name}/upgrade", Call::Refused, REFUSED),
    post("/plugins/{name}/push", Call::Refused, REFUSED),
    post("/plugins/{name}/set", Call::Refused, REFUSED),
    delete("/plugins/{name}", Call::Refused, REFUSED),
];
