//! Engines come from Consul, and so does who leads.

use std::time::Duration;

use super::{
    Stage,
    lab::{IMAGE, programs::carried, until, within},
    sleeper,
};

/// All three, by name and address, well.
pub fn found(stage: &Stage) {
    let text = until("three engines", || {
        Some(stage.docker.ok("docker info 2>/dev/null")).filter(|text| text.matches("Status: Healthy").count() == 3)
    });
    for node in &stage.cluster.nodes {
        assert!(text.contains(&format!("{}: {}", node.name, node.address)), "{text}");
    }
    sleeper(stage, "one", "node-3", "");
    stage.docker.prints("docker exec one hostname -i | wc -w", "1");
}

/// Both servers say the same, and names are unique whoever is asked.
pub fn two_managers(stage: &Stage) {
    let other = stage.cluster.client(carried(), stage.node(2));
    sleeper(stage, "one", "node-3", "");
    until("the other server to know", || (other.ok("docker ps --format '{{.Names}}'") == "node-3/one").then_some(()));
    let error = other.fails(125, &format!("docker run -d --name one {IMAGE} true"));
    assert!(error.contains("already assigned") || error.contains("already in use"), "{error}");
    other.ok("docker rm -f one");
    within(Duration::from_secs(10), "the first server to know", || stage.docker.ok("docker ps -q").is_empty().then_some(()));
    // One that is started anew is told everything again.
    stage.cluster.end("manage", stage.node(2), "TERM");
    other.fails(1, "docker ps");
    stage.cluster.manage(stage.node(2), "");
    stage.cluster.answers(stage.node(2));
    until("three engines", || (other.ok("docker info 2>/dev/null").matches("Status: Healthy").count() == 3).then_some(()));
}

/// `master` is whoever leads, within seconds.
pub fn master_moves(stage: &Stage) {
    let at = |node: &str| {
        let made = stage.docker.run(&format!("docker create -e constraint:node==master {IMAGE}"));
        (made.code == 0 && stage.docker.ok(&format!("docker inspect -f '{{{{.Node.Name}}}}' {}", made.out)) == node).then_some(())
    };
    within(Duration::from_secs(10), "node-1 as master", || at("node-1"));
    stage.consul.lead(stage.node(3));
    within(Duration::from_secs(10), "node-3 as master", || at("node-3"));
    for _ in 0..3 {
        at("node-3").expect("node-3 leads");
        let made = stage.docker.ok(&format!("docker create -e constraint:node!=master {IMAGE}"));
        assert_ne!(stage.docker.ok(&format!("docker inspect -f '{{{{.Node.Name}}}}' {made}")), "node-3");
    }
    stage.consul.lead(stage.node(1));
    within(Duration::from_secs(10), "node-1 as master", || at("node-1"));
}

/// A node whose power goes: seen by Consul as by its silence, and back again.
pub fn dead(stage: &Stage) {
    let (docker, dead) = (&stage.docker, stage.node(3));
    sleeper(stage, "far", "node-3", "");
    for what in ["join", "d", "consul"] {
        stage.cluster.end(what, dead, "KILL");
    }
    let text = within(Duration::from_secs(60), "its death", || {
        Some(docker.ok("docker info 2>/dev/null")).filter(|text| text.contains("Unhealthy"))
    });
    assert!(text.contains("Nodes: 3"), "{text}");
    docker.prints("docker ps -a --format '{{.Names}} {{.Status}}'", "node-3/far Host Down");
    for _ in 0..4 {
        docker.ok(&format!("docker create {IMAGE}"));
    }
    stage.consul.agent(dead);
    stage.cluster.start_engine(dead);
    stage.cluster.join(dead);
    within(Duration::from_secs(60), "its return", || {
        (docker.ok("docker info 2>/dev/null").matches("Status: Healthy").count() == 3).then_some(())
    });
    docker.prints("docker start far", "far");
}
