//! Networks: overlays that reach every node, and those of one node.

use super::{IMAGE, Rows, Stage, lab::until};

pub const ROWS: Rows =
    &[("overlay", overlay), ("options", options), ("local", local), ("connect", connect), ("list", list), ("remove", remove)];

/// The paper's way: no driver option, no `--attachable`.
fn overlay(stage: &Stage) {
    let docker = &stage.docker;
    let id = docker.ok("docker network create -d overlay demo");
    docker.prints(
        "docker network inspect -f '{{.Id}} {{.Driver}} {{.Scope}} {{.Attachable}}' demo",
        &format!("{id} overlay swarm true"),
    );
    docker.ok(&format!("docker run -d --name web --net demo -e constraint:node==node-1 {IMAGE} sh -c 'echo page >/tmp/index.html; exec httpd -f -h /tmp'"));
    for node in ["node-2", "node-3"] {
        let fetch = format!("docker run --rm --net demo -e constraint:node=={node} {IMAGE} wget -qO- http://web/index.html");
        until("the page", || (docker.run(&fetch).out == "page").then_some(()));
    }
    // Every node's containers stand in it.
    docker.ok(&format!("docker run -d --name far --net demo -e constraint:node==node-3 {IMAGE} sleep 1000"));
    let inside = docker.ok("docker network inspect -f '{{range .Containers}}{{.Name}} {{end}}' demo");
    assert!(inside.contains("web") && inside.contains("far"), "{inside}");
    docker.ok("docker rm -f web far");
    until("the network's removal", || (docker.run("docker network rm demo").code == 0).then_some(()));
    // Other managers hear of it a moment later.
    until("all nodes to forget it", || (docker.run("docker network inspect demo").code == 1).then_some(()));
}

fn options(stage: &Stage) {
    let docker = &stage.docker;
    docker.ok("docker network create --subnet 10.77.0.0/24 --label kind=a --internal demo");
    let format = "{{.Driver}} {{(index .IPAM.Config 0).Subnet}} {{index .Labels \"kind\"}} {{.Internal}} {{.Attachable}}";
    docker.prints(&format!("docker network inspect -f '{format}' demo"), "overlay 10.77.0.0/24 a true true");
    docker.prints(&format!("docker run --rm --net demo --ip 10.77.0.99 {IMAGE} hostname -i"), "10.77.0.99");
    stage.docker.fails(1, "docker network create demo");
    docker.prints("docker network ls -q --filter label=kind=a | wc -l", "1");
}

fn local(stage: &Stage) {
    let docker = &stage.docker;
    docker.ok("docker network create -d bridge node-2/own");
    assert_eq!(stage.cluster.having("/networks", |list| list.to_string().contains("\"own\"")), ["node-2"]);
    docker.prints("docker network inspect -f '{{.Driver}}' node-2/own", "bridge");
    docker.ok(&format!("docker run -d --name web --net node-2/own {IMAGE} sleep 1000"));
    docker.prints("docker ps --format '{{.Names}}'", "node-2/web");
    docker.ok(&format!("docker run --rm --net own {IMAGE} ping -c 1 -W 2 web"));
    docker.ok("docker rm -f web && docker network rm node-2/own");
    // What every node has is there for each of them.
    for network in ["bridge", "host", "none"] {
        docker.ok(&format!("docker run --rm --net {network} {IMAGE} true"));
        docker.ok(&format!("docker network inspect node-1/{network}"));
    }
}

fn connect(stage: &Stage) {
    let docker = &stage.docker;
    docker.ok("docker network create -d overlay demo");
    docker.ok(&format!("docker run -d --name aa -e constraint:node==node-1 {IMAGE} sleep 1000"));
    docker.ok(&format!("docker run -d --name bb --net demo -e constraint:node==node-3 {IMAGE} sleep 1000"));
    docker.ok("docker network connect --alias other demo aa");
    until("a way from bb to aa", || (docker.run("docker exec bb ping -c 1 -W 1 other").code == 0).then_some(()));
    docker.ok("docker network disconnect demo aa");
    docker.prints("docker inspect -f '{{range $name, $network := .NetworkSettings.Networks}}{{$name}}{{end}}' aa", "bridge");
    stage.refused_alike("docker network connect nothing nowhere");
    stage.refused_alike("docker network disconnect nothing nowhere");
}

fn list(stage: &Stage) {
    let docker = &stage.docker;
    docker.ok("docker network create -d overlay demo");
    let names = docker.ok("docker network ls --format '{{.Name}}'");
    for name in ["node-1/bridge", "node-2/bridge", "node-3/bridge", "node-2/host", "demo"] {
        assert_eq!(names.lines().filter(|line| *line == name).count(), 1, "{name} in {names}");
    }
    docker.prints("docker network ls --format '{{.Name}}' --filter driver=overlay --filter name=demo", "demo");
    stage.refused_alike("docker network ls --filter nonsense=1");
}

fn remove(stage: &Stage) {
    let docker = &stage.docker;
    stage.refused_alike("docker network inspect nothing");
    stage.refused_alike("docker network rm nothing");
    docker.ok("docker network create -d overlay demo");
    docker.ok(&format!("docker run -d --name aa --net demo {IMAGE} sleep 1000"));
    let error = docker.fails(1, "docker network rm demo");
    assert!(error.contains("has active endpoints") || error.contains("is in use"), "{error}");
    docker.ok("docker rm -f aa");
    until("prune to take it", || docker.ok("docker network prune -f").contains("demo").then_some(()));
}
