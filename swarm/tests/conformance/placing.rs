//! Where containers go: strategy, constraints, affinities, names that are unique in the cluster.

use super::{IMAGE, Rows, Stage};

pub const ROWS: Rows = &[
    ("spread", spread),
    ("constraints", constraints),
    ("affinities", affinities),
    ("dependencies", dependencies),
    ("names", names),
    ("names_at_once", names_at_once),
    ("many_at_once", many_at_once),
    ("resources", resources),
    ("wrong_expressions", wrong_expressions),
];

fn spread(stage: &Stage) {
    for _ in 0..9 {
        stage.docker.ok(&format!("docker create {IMAGE}"));
    }
    assert_eq!(stage.cluster.spread().into_values().collect::<Vec<_>>(), [3, 3, 3]);
}

fn on(stage: &Stage, options: &str) -> String {
    let docker = &stage.docker;
    let id = docker.ok(&format!("docker create {options} {IMAGE}"));
    let node = docker.ok(&format!("docker inspect -f '{{{{.Node.Name}}}}' {id}"));
    assert_eq!(stage.cluster.having("/containers/json?all=1", |list| list.to_string().contains(&id)), [node.as_str()]);
    node
}

fn constraints(stage: &Stage) {
    for (options, wanted) in [
        ("-e constraint:node==node-2", &["node-2"][..]),
        ("-e constraint:node==master", &["node-1"]),
        ("-e constraint:node!=master", &["node-2", "node-3"]),
        ("-e constraint:room==attic", &["node-1"]),
        ("-e constraint:room==cell*", &["node-2", "node-3"]),
        ("-e 'constraint:room==/ATT.*/'", &[]),
        ("-e 'constraint:room==/(?i)ATT.*/'", &["node-1"]),
        ("-e constraint:room!=cellar", &["node-1"]),
        ("-e constraint:room==cellar -e constraint:node!=node-3", &["node-2"]),
        ("-e constraint:room==~nowhere", &["node-1", "node-2", "node-3"]),
        ("-e constraint:storagedriver==overlay2", &["node-1", "node-2", "node-3"]),
        ("-e constraint:ostype==linux -e constraint:node==node-3", &["node-3"]),
        ("-l 'com.docker.swarm.constraints=[\"node==node-3\"]'", &["node-3"]),
    ] {
        if wanted.is_empty() {
            let error = stage.docker.fails(1, &format!("docker create {options} {IMAGE}"));
            assert!(error.contains("Unable to find a node that satisfies"), "{error}");
        } else {
            assert!(wanted.contains(&on(stage, options).as_str()), "{options}");
        }
    }
    let error = stage.docker.fails(1, &format!("docker create -e constraint:node==nowhere {IMAGE}"));
    assert!(
        error.contains("Unable to find a node that satisfies the following conditions") && error.contains("node==nowhere"),
        "{error}"
    );
}

fn affinities(stage: &Stage) {
    let docker = &stage.docker;
    docker.ok(&format!("docker create --name front -l tier=front -e constraint:node==node-3 {IMAGE}"));
    docker.ok(&format!("docker create --name back -l tier=back -e constraint:node==node-2 {IMAGE}"));
    docker.ok(&format!("docker run --name one -e constraint:node==node-1 {IMAGE} true && docker commit one hcl/only:1"));
    for (options, wanted) in [
        ("-e affinity:container==front", "node-3"),
        ("-e affinity:container==fr*", "node-3"),
        ("-e affinity:tier==back", "node-2"),
        ("-e affinity:container!=front -e affinity:tier!=back", "node-1"),
        ("-e affinity:image==hcl/only", "node-1"),
        ("-e affinity:container==~nothing -e constraint:node==node-2", "node-2"),
    ] {
        assert_eq!(on(stage, options), wanted, "{options}");
    }
    docker.fails(1, &format!("docker create -e affinity:container==nothing {IMAGE}"));
}

fn dependencies(stage: &Stage) {
    let docker = &stage.docker;
    docker.ok(&format!("docker run -d --name base -e constraint:node==node-2 {IMAGE} sleep 1000"));
    for options in ["--link base:b", "--volumes-from base", "--net container:base", "--pid container:base"] {
        assert_eq!(on(stage, options), "node-2", "{options}");
    }
    docker.prints(&format!("docker run --rm --net container:base {IMAGE} hostname"), &docker.ok("docker exec base hostname"));
    docker.fails(1, &format!("docker create --link base:b -e constraint:node==node-1 {IMAGE}"));
}

fn names(stage: &Stage) {
    let docker = &stage.docker;
    docker.ok(&format!("docker create --name web -e constraint:node==node-1 {IMAGE}"));
    let error = docker.fails(1, &format!("docker create --name web -e constraint:node==node-2 {IMAGE}"));
    assert!(error.contains("Conflict: The name web is already assigned"), "{error}");
    docker.ok("docker rm web");
    docker.ok(&format!("docker create --name web -e constraint:node==node-2 {IMAGE}"));
    stage.refused_alike(&format!("docker create --name '!' {IMAGE}"));
    // One name, taken behind our back on another node: seen within seconds.
    stage.direct.ok(&format!("docker create --name behind {IMAGE}"));
    super::lab::until("the other one's name", || {
        docker.ok("docker ps -a --format '{{.Names}}'").contains("node-1/behind").then_some(())
    });
    // Lists are asked for; names are known by the engines' events, a fraction of a second later.
    std::thread::sleep(std::time::Duration::from_secs(1));
    docker.fails(1, &format!("docker create --name behind -e constraint:node==node-3 {IMAGE}"));
}

/// Of many who ask for one name at the same moment, one gets it.
fn names_at_once(stage: &Stage) {
    let line = format!("for n in 1 2 3 4 5 6; do docker create --name same {IMAGE} >/dev/null 2>&1 && echo made & done; wait");
    stage.docker.prints(&line, "made");
    assert_eq!(stage.cluster.spread().values().sum::<usize>(), 1);
}

/// Many people at the same time: nobody's container is lost on the way.
fn many_at_once(stage: &Stage) {
    let run = format!("docker run --rm {IMAGE} echo ran");
    let line = format!("for n in 1 2 3 4; do (for m in 1 2 3 4 5 6 7 8; do {run} 2>&1; done) & done; wait");
    let said = stage.docker.ok(&line);
    assert_eq!(said.lines().filter(|line| *line == "ran").count(), 32, "{said}");
}

fn resources(stage: &Stage) {
    let docker = &stage.docker;
    let total: u64 = stage.direct.ok("docker info -f '{{.MemTotal}}'").parse().unwrap();
    let most = total * 6 / 10;
    for _ in 0..3 {
        docker.ok(&format!("docker create -m {most} {IMAGE}"));
    }
    assert_eq!(stage.cluster.spread().into_values().collect::<Vec<_>>(), [1, 1, 1]);
    let error = docker.fails(1, &format!("docker create -m {most} {IMAGE}"));
    assert!(error.contains("no resources available") || error.contains("Unable to find a node"), "{error}");
}

fn wrong_expressions(stage: &Stage) {
    for wrong in [
        "constraint:node",
        "constraint:node=node-1",
        "constraint:n==x",
        "constraint:1a==x",
        "constraint:node==",
        "affinity:container==/(/",
        "constraint:node==/(/",
    ] {
        let error = stage.docker.fails(1, &format!("docker create -e '{wrong}' {IMAGE}"));
        assert!(error.contains("Error response from daemon"), "{wrong}: {error}");
    }
    assert_eq!(stage.cluster.spread().values().sum::<usize>(), 0);
}
