//! Volumes: each is on one node, and a container goes where its volumes are.

use super::{IMAGE, Rows, Stage};

pub const ROWS: Rows = &[("create", create), ("use_them", use_them), ("remove", remove), ("prune", prune)];

fn create(stage: &Stage) {
    let docker = &stage.docker;
    docker.prints("docker volume create --label kind=a data", "data");
    // Everywhere, as classic Swarm made them: a container with it can run on any node.
    docker.prints("docker volume inspect -f '{{.Driver}} {{index .Labels \"kind\"}}' data", "local a");
    assert!(docker.ok("docker volume ls -q").lines().any(|name| name.ends_with("data")));
    assert!(!docker.ok("docker volume ls -q --filter label=kind=a").is_empty());
    docker.prints("docker volume ls -q --filter label=kind=b", "");
    let name = docker.ok("docker volume create");
    assert_eq!(name.len(), 64, "{name}");
    // On one node alone.
    docker.ok("docker volume create node-2/only");
    assert_eq!(stage.cluster.having("/volumes", |list| list.to_string().contains("\"only\"")), ["node-2"]);
    docker.prints("docker volume inspect -f '{{.Driver}}' node-2/only", "local");
    stage.refused_alike("docker volume inspect nothing");
}

fn use_them(stage: &Stage) {
    let docker = &stage.docker;
    docker.ok("docker volume create node-3/notes");
    docker.ok(&format!("docker run --rm -v notes:/data -e constraint:node==node-3 {IMAGE} sh -c 'echo kept >/data/note'"));
    docker.prints(&format!("docker run --rm -v notes:/data -e constraint:node==node-3 {IMAGE} cat /data/note"), "kept");
    docker.ok(&format!("docker create --name holder -v notes:/data -e constraint:node==node-3 {IMAGE}"));
    for _ in 0..3 {
        docker.prints(&format!("docker run --rm --volumes-from holder {IMAGE} cat /data/note"), "kept");
    }
    let error = docker.fails(125, &format!("docker run --rm --volumes-from holder -e constraint:node==node-1 {IMAGE} true"));
    assert!(error.contains("Unable to find a node that satisfies"), "{error}");
}

fn remove(stage: &Stage) {
    let docker = &stage.docker;
    docker.ok("docker volume create one && docker volume create node-2/two");
    docker.ok("docker volume rm one node-2/two");
    docker.prints("docker volume ls -q", "");
    stage.refused_alike("docker volume rm nothing");
    docker.ok(&format!("docker volume create used && docker create --name one -v used:/data {IMAGE}"));
    let error = docker.fails(1, "docker volume rm used");
    assert!(error.contains("volume is in use"), "{error}");
}

fn prune(stage: &Stage) {
    let docker = &stage.docker;
    docker.ok("docker volume create node-1/first && docker volume create node-2/second && docker volume create node-3/third");
    docker.ok(&format!("docker create --name one -v third:/data -e constraint:node==node-3 {IMAGE}"));
    // From 23 on, only unnamed ones go without --all; the engines here take all.
    let said = docker.ok("docker volume prune -f");
    assert!(said.contains("Total reclaimed space"), "{said}");
    assert!(docker.ok("docker volume ls -q").lines().any(|name| name.ends_with("third")));
}
