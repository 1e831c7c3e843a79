//! What is said of the whole: `info`, `version`, `events`, `system df`.

use std::time::Duration;

use super::{IMAGE, Rows, Stage, lab::until};

pub const ROWS: Rows =
    &[("info", info), ("version", version), ("events", events), ("past_events", past_events), ("disk", disk), ("search", search)];
/// Takes a node away and gives it back.
pub const ONCE: Rows = &[("dead_node", dead_node)];

fn info(stage: &Stage) {
    let docker = &stage.docker;
    docker.ok(&format!("docker run -d --name one -m 64m --cpus 1 -e constraint:node==node-2 {IMAGE} sleep 1000"));
    docker.ok(&format!("docker create --name two {IMAGE}"));
    docker.prints("docker info -f '{{.Containers}} {{.ContainersRunning}} {{.ContainersStopped}} {{.Name}}'", "2 1 1 node-1");
    let text = until("figures of today", || Some(docker.ok("docker info 2>/dev/null")).filter(|text| text.contains("64 MiB /")));
    let lines: Vec<_> = text.lines().map(str::trim).collect();
    let has = |wanted: &str| assert!(lines.iter().any(|line| line.starts_with(wanted)), "no line {wanted} in\n{text}");
    for wanted in [
        "Role: primary",
        "Strategy: spread",
        "Filters: health, port, containerslots, dependency, affinity, constraint",
        "Nodes: 3",
    ] {
        has(wanted);
    }
    for node in &stage.cluster.nodes {
        has(&format!("{}: {}", node.name, node.address));
    }
    for wanted in [
        "└ ID: ",
        "└ Status: Healthy",
        "└ Containers: 1 (1 Running, 0 Paused, 0 Stopped)",
        "└ Reserved CPUs: 1 / ",
        "└ Reserved Memory: 64 MiB / ",
        "└ Labels: ",
    ] {
        has(wanted);
    }
    assert!(text.contains("room=attic") && text.contains("storagedriver=overlay2"), "{text}");
    assert!(
        lines.iter().any(|line| line.starts_with("└ UpdatedAt: 20"))
            && lines.iter().any(|line| line.starts_with("└ ServerVersion: 20.10")),
        "{text}"
    );
}

fn version(stage: &Stage) {
    let docker = &stage.docker;
    let client = docker.ok("docker version -f '{{.Client.Version}}'");
    assert!(client.starts_with(&docker.version), "{client}");
    let server = docker.ok("docker version -f '{{.Server.Version}} {{.Server.APIVersion}} {{.Server.MinAPIVersion}}'");
    assert!(server.starts_with("swarm/") || server.starts_with("20.10"), "{server}");
    // The client speaks what both can.
    docker.prints("docker version -f '{{.Client.APIVersion}}'", "1.41");
    for old in ["1.24", "1.30", "1.40"] {
        let older = docker.clone().with("DOCKER_API_VERSION", old);
        older.prints("docker version -f '{{.Client.APIVersion}}'", old);
        older.prints(&format!("docker run --rm {IMAGE} echo old"), "old");
    }
    let newer = docker.clone().with("DOCKER_API_VERSION", "1.99");
    let direct = stage.direct.clone().with("DOCKER_API_VERSION", "1.99");
    let (cluster, engine) = (newer.run("docker ps"), direct.run("docker ps"));
    assert_eq!(cluster, engine);
}

fn events(stage: &Stage) {
    let docker = &stage.docker;
    let watching = docker.start("docker events --format '{{.Type}} {{.Action}} {{index .Actor.Attributes \"name\"}}'");
    // They begin a moment after the command.
    std::thread::sleep(Duration::from_secs(1));
    for node in 1..=3 {
        docker.ok(&format!("docker run --rm --name on-{node} -e constraint:node==node-{node} {IMAGE} true"));
        for action in ["create", "start", "die"] {
            watching.line_with(&format!("container {action} on-{node}"));
        }
    }
    docker.ok(&format!("docker tag {IMAGE} hcl/event:1"));
    watching.line_with("image tag");
    drop(watching);
    // What classic Swarm added: of which node it is.
    let watching = docker.start("docker events --filter event=create --format '{{json .}}'");
    std::thread::sleep(Duration::from_secs(1));
    docker.ok(&format!("docker create --name two -e constraint:node==node-2 {IMAGE}"));
    let line = watching.line_with("\"two\"");
    assert!(line.contains("\"node.name\":\"node-2\""), "{line}");
    let filtered = docker.start("docker events --filter container=three --format '{{.Action}}'");
    std::thread::sleep(Duration::from_secs(1));
    docker.ok(&format!("docker create --name other {IMAGE} && docker create --name three {IMAGE}"));
    assert_eq!(filtered.line_within(Duration::from_secs(10)).as_deref(), Some("create"));
}

fn past_events(stage: &Stage) {
    let docker = &stage.docker;
    let since = docker.ok("date +%s.%N");
    for node in 1..=3 {
        docker.ok(&format!("docker create --name on-{node} -e constraint:node==node-{node} {IMAGE}"));
    }
    let until = docker.ok("date +%s.%N");
    let said = docker.ok(&format!(
        "docker events --since {since} --until {until} --filter event=create --format '{{{{index .Actor.Attributes \"name\"}}}}'"
    ));
    assert_eq!(said, "on-1\non-2\non-3", "in the order in which they happened");
}

fn disk(stage: &Stage) {
    let docker = &stage.docker;
    docker.ok(&format!("docker run --name one -e constraint:node==node-2 {IMAGE} sh -c 'head -c 2000000 /dev/zero >/zeros'"));
    docker.ok("docker volume create node-3/data");
    let rows = docker.ok("docker system df --format '{{.Type}} {{.TotalCount}}'");
    assert!(rows.contains("Containers 1") && rows.contains("Local Volumes 1"), "{rows}");
    assert!(docker.ok("docker system df -v").contains("2MB"), "{}", docker.ok("docker system df -v"));
    let said = docker.ok("docker system prune -f --volumes");
    assert!(said.contains("Total reclaimed space"), "{said}");
    docker.prints("docker ps -aq", "");
}

fn search(stage: &Stage) {
    // There is no way out of this lab: refused with a reason, by the cluster as by an engine.
    for docker in [&stage.docker, &stage.direct] {
        assert_eq!(docker.run("docker search --limit 1 busybox").code, 1);
    }
}

/// Three nodes, one of which dies: what `info` and `ps` say, and what goes on.
fn dead_node(stage: &Stage) {
    let docker = &stage.docker;
    let dead = &stage.cluster.nodes[2];
    for node in 1..=3 {
        docker.ok(&format!("docker run -d --name on-{node} -e constraint:node==node-{node} {IMAGE} sleep 1000"));
    }
    let following = docker.start("docker logs -f on-3 2>&1; echo ended");
    let waiting = docker.start("docker wait on-3 2>&1");
    std::thread::sleep(Duration::from_secs(1));
    let mut again = Again { stage, done: false };
    stage.cluster.end("join", dead, "KILL");
    stage.cluster.end("d", dead, "KILL");
    // Streams end, and calls with an error in one line.
    following.line_with("ended");
    let (code, said) = waiting.end();
    assert!(code != 0 && said.len() == 1, "{code} {said:?}");
    let text =
        until("the engine's death", || Some(docker.ok("docker info 2>/dev/null")).filter(|text| text.contains("Unhealthy")));
    let of_dead = text.split("node-3: ").nth(1).unwrap_or_else(|| panic!("no node-3 in {text}"));
    assert!(of_dead.contains("└ Status: Unhealthy") && of_dead.contains("└ Error: node-3 "), "{text}");
    assert!(text.contains("Nodes: 3"), "{text}");
    docker.prints("docker ps -a --format '{{.Names}} {{.Status}}' | grep on-3", "node-3/on-3 Host Down");
    docker.prints("docker ps --format '{{.Names}}' | sort", "node-1/on-1\nnode-2/on-2");
    let error = docker.fails(1, "docker exec on-3 true");
    assert!(error.contains("node-3") && error.lines().count() == 1, "{error}");
    // The rest works, and nothing is put on it; its names stay taken.
    for _ in 0..3 {
        docker.ok(&format!("docker create {IMAGE}"));
    }
    docker.fails(1, &format!("docker create --name on-3 {IMAGE}"));
    docker.fails(1, &format!("docker create -e constraint:node==node-3 {IMAGE}"));
    docker.ok("docker images && docker network ls && docker volume ls && docker node ls");
    // It comes back as it was.
    again.start();
    until("the node's return", || {
        docker.ok("docker ps -a --format '{{.Names}} {{.State}}'").contains("node-3/on-3 exited").then_some(())
    });
    docker.prints("docker start on-3", "on-3");
    assert!(!docker.ok("docker info 2>/dev/null").contains("Unhealthy"));
}

/// Gives the dead node back whatever comes, for the cases after this one.
struct Again<'a> {
    stage: &'a Stage<'a>,
    done: bool,
}

impl Again<'_> {
    fn start(&mut self) {
        if !std::mem::replace(&mut self.done, true) {
            let dead = &self.stage.cluster.nodes[2];
            self.stage.cluster.start_engine(dead);
            self.stage.cluster.join(dead);
        }
    }
}

impl Drop for Again<'_> {
    fn drop(&mut self) {
        self.start();
    }
}
