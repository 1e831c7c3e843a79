//! Images: what one asks for reaches every engine.

use std::fs;

use serde_json::Value;

use super::{IMAGE, Rows, Stage};

pub const ROWS: Rows = &[
    ("list", list),
    ("load", load),
    ("tag_and_remove", tag_and_remove),
    ("history", history),
    ("import", import),
    ("build", build),
    ("build_fails", build_fails),
    ("prune", prune),
    ("registry", registry),
];

const ALL: [&str; 3] = ["node-1", "node-2", "node-3"];

fn tagged(tag: &str) -> impl Fn(&Value) -> bool {
    move |list| {
        list.as_array()
            .unwrap()
            .iter()
            .any(|image| image["RepoTags"].as_array().is_some_and(|tags| tags.iter().any(|own| own == tag)))
    }
}

fn list(stage: &Stage) {
    let docker = &stage.docker;
    // The same image on three nodes is one line.
    docker.prints("docker images --format '{{.Repository}}:{{.Tag}}'", IMAGE);
    docker.prints("docker images -q --no-trunc hcl/test", &stage.direct.ok("docker images -q --no-trunc hcl/test"));
    docker.prints("docker images -q --filter reference=other", "");
    docker.prints("docker image inspect -f '{{index .RepoTags 0}}' hcl/test:1", IMAGE);
    stage.refused_alike("docker image inspect nothing");
    stage.refused_alike("docker images --filter nonsense=1");
}

fn load(stage: &Stage) {
    let docker = &stage.docker;
    let archive = stage.cluster.laptop.folder.join("load.tar");
    let archive = archive.display();
    docker.ok(&format!("docker tag {IMAGE} hcl/loaded:1 && docker save -o {archive} hcl/loaded:1 && docker rmi hcl/loaded:1"));
    assert_eq!(stage.cluster.having("/images/json", tagged("hcl/loaded:1")), [""; 0]);
    let said = docker.ok(&format!("docker load -i {archive}"));
    assert!(said.contains("Loaded image: hcl/loaded:1"), "{said}");
    assert_eq!(stage.cluster.having("/images/json", tagged("hcl/loaded:1")), ALL);
    docker.ok(&format!("docker rmi hcl/loaded:1 && docker load -q <{archive}"));
    assert_eq!(stage.cluster.having("/images/json", tagged("hcl/loaded:1")), ALL);
    // Two in one archive; and what is no archive.
    docker
        .ok(&format!("docker save -o {archive} hcl/loaded:1 {IMAGE} && tar xOf {archive} manifest.json | grep -q hcl/loaded:1"));
    let said = docker.run("echo nonsense | docker load");
    assert_eq!(said.code, 1, "{said}");
    stage.refused_alike("docker save nothing | cat; docker save -o /tmp/nothing nothing");
}

fn tag_and_remove(stage: &Stage) {
    let docker = &stage.docker;
    docker.ok(&format!("docker tag {IMAGE} hcl/other:2"));
    assert_eq!(stage.cluster.having("/images/json", tagged("hcl/other:2")), ALL);
    docker.prints("docker run --rm hcl/other:2 echo runs", "runs");
    assert!(docker.ok("docker rmi hcl/other:2").contains("Untagged: hcl/other:2"));
    assert_eq!(stage.cluster.having("/images/json", tagged("hcl/other:2")), [""; 0]);
    assert_eq!(stage.cluster.having("/images/json", tagged(IMAGE)), ALL);
    stage.refused_alike("docker tag nothing hcl/x");
    stage.refused_alike("docker rmi nothing");
    // One name of several goes, whatever runs of it.
    docker.ok(&format!(
        "docker tag {IMAGE} hcl/used:1 && docker run -d --name one -e constraint:node==node-2 hcl/used:1 sleep 1000"
    ));
    docker.ok("docker rmi hcl/used:1");
    // What is in use stays where it is.
    docker.ok("docker commit one hcl/running:1 && docker run -d --name two hcl/running:1 sleep 1000");
    let said = docker.run("docker rmi hcl/running:1");
    assert!(said.code == 1 && said.error.contains("conflict"), "{said}");
    assert_eq!(stage.cluster.having("/images/json", tagged("hcl/running:1")), ["node-2"]);
}

fn history(stage: &Stage) {
    for line in [
        format!("docker history --no-trunc --format '{{{{.Size}}}} {{{{.CreatedBy}}}}' {IMAGE}"),
        format!("docker history -q {IMAGE}"),
    ] {
        stage.docker.prints(&line, &stage.direct.ok(&line));
    }
    stage.refused_alike("docker history nothing");
}

fn import(stage: &Stage) {
    let docker = &stage.docker;
    docker.ok(&format!(
        "docker create --name one {IMAGE} && docker export one | docker import -c 'CMD [\"echo\", \"imported\"]' - hcl/imported:1"
    ));
    docker.prints("docker run --rm hcl/imported:1", "imported");
    assert_eq!(stage.cluster.having("/images/json", tagged("hcl/imported:1")), ALL);
}

fn build(stage: &Stage) {
    let docker = &stage.docker;
    let folder = stage.cluster.laptop.folder.join(format!("build-{}", docker.version));
    fs::create_dir_all(&folder).unwrap();
    fs::write(folder.join("note"), "noted\n").unwrap();
    let file = format!(
        "FROM {IMAGE}\nARG WORD=none\nCOPY note /note\nRUN echo $WORD >>/note\nLABEL kind=built\nCMD [\"cat\", \"/note\"]\n"
    );
    fs::write(folder.join("Dockerfile"), file).unwrap();
    let said = docker.ok(&format!("docker build -t hcl/built:1 -t hcl/built:2 --build-arg WORD=word {} 2>&1", folder.display()));
    assert!(said.contains("Step 4/6") && said.contains("Successfully tagged hcl/built:1"), "{said}");
    for tag in ["hcl/built:1", "hcl/built:2"] {
        assert_eq!(stage.cluster.having("/images/json", tagged(tag)), ALL, "{said}");
    }
    for node in ALL {
        docker.prints(&format!("docker run --rm -e constraint:node=={node} hcl/built:1"), "noted\nword");
    }
    // It is the same image everywhere.
    docker
        .prints("docker images --filter label=kind=built --format '{{.Repository}}:{{.Tag}}' | sort", "hcl/built:1\nhcl/built:2");
    docker.prints("docker images -q hcl/built | sort -u | wc -l", "1");
    // From standard input, with its id as the only output.
    let id = docker.ok(&format!("printf 'FROM {IMAGE}\\nENV A=b\\n' | docker build -q -t hcl/piped -"));
    assert!(id.starts_with("sha256:"), "{id}");
    docker.prints("docker run --rm hcl/piped sh -c 'echo $A'", "b");
}

fn build_fails(stage: &Stage) {
    let docker = &stage.docker;
    let (code, _) = docker.feed("docker build -t hcl/bad - 2>&1", format!("FROM {IMAGE}\nRUN exit 42\n").as_bytes());
    assert_ne!(code, 0);
    for (file, text) in [
        (format!("FROM {IMAGE}\nRUN exit 42\n"), "returned a non-zero code: 42"),
        ("FROM nothing.invalid/none\n".to_owned(), "nothing.invalid"),
        ("NONSENSE\n".to_owned(), "nknown instruction"),
    ] {
        let (_, out) = docker.feed("docker build -t hcl/bad - 2>&1", file.as_bytes());
        let out = String::from_utf8_lossy(&out);
        assert!(out.contains(text), "{out}");
    }
    assert_eq!(stage.cluster.having("/images/json", tagged("hcl/bad:latest")), [""; 0]);
}

fn prune(stage: &Stage) {
    let docker = &stage.docker;
    docker.ok(&format!("printf 'FROM {IMAGE}\\nLABEL a=1\\n' | docker build -q -t hcl/pruned -"));
    docker.ok(&format!("printf 'FROM {IMAGE}\\nLABEL a=2\\n' | docker build -q -t hcl/pruned -"));
    let said = docker.ok("docker image prune -f");
    assert!(said.contains("deleted: sha256:"), "{said}");
    for node in &stage.cluster.nodes {
        let (_, list) = node.ask("GET", "/images/json?filters={\"dangling\":[\"true\"]}", None);
        assert_eq!(list.as_array().map(Vec::len), Some(0), "{}: {list}", node.name);
    }
    assert_eq!(stage.cluster.having("/images/json", tagged("hcl/pruned:latest")), ALL);
}

/// A registry on the wire: pushed from one node, pulled by all or by one.
fn registry(stage: &Stage) {
    let docker = &stage.docker;
    let laptop = &stage.cluster.laptop;
    let config = laptop.folder.join("registry.yml");
    let store = laptop.folder.join("registry");
    let text = format!(
        "version: 0.1\nstorage:\n  filesystem:\n    rootdirectory: {}\nhttp:\n  addr: {}:5000\n",
        store.display(),
        laptop.address
    );
    fs::write(&config, text).unwrap();
    let serving = docker.start(&format!("exec docker-registry serve {} 2>/dev/null", config.display()));
    let at = format!("{}:5000/hcl/pulled", laptop.address);
    super::lab::until("the registry", || {
        (docker.run(&format!("curl -sSf -m 5 http://{}:5000/v2/", laptop.address)).code == 0).then_some(())
    });
    docker.ok(&format!("docker tag {IMAGE} {at}:1 && docker push {at}:1"));
    docker.ok(&format!("docker rmi {at}:1"));
    assert_eq!(stage.cluster.having("/images/json", tagged(&format!("{at}:1"))), [""; 0]);
    let said = docker.ok(&format!("docker pull {at}:1"));
    for node in ALL {
        assert!(said.contains(node), "{said}");
    }
    assert_eq!(stage.cluster.having("/images/json", tagged(&format!("{at}:1"))), ALL);
    docker.ok(&format!("docker rmi {at}:1"));
    // `run` has it fetched where it runs.
    docker.prints(&format!("docker run --rm -e constraint:node==node-2 {at}:1 echo fetched 2>/dev/null"), "fetched");
    assert!(stage.cluster.having("/images/json", tagged(&format!("{at}:1"))).contains(&"node-2".to_owned()));
    let error = docker.fails(1, &format!("docker pull {at}:none"));
    assert!(error.contains("manifest unknown") || error.contains("not found"), "{error}");
    drop(serving);
}
