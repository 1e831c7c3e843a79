//! The life of containers, and everything that is asked about them.

use super::{IMAGE, Rows, Stage};

pub const ROWS: Rows = &[
    ("lifecycle", lifecycle),
    ("exit_codes", exit_codes),
    ("wait", wait),
    ("signals", signals),
    ("pause", pause),
    ("rename", rename),
    ("update", update),
    ("restart", restart),
    ("references", references),
    ("ps", ps),
    ("looking", looking),
    ("commit", commit),
    ("export", export),
    ("prune", prune),
    ("ports", ports),
    ("environment", environment),
    ("health", health),
    ("removal", removal),
];

fn lifecycle(stage: &Stage) {
    let docker = &stage.docker;
    let id = docker.ok(&format!("docker create --name one -e constraint:node==node-2 {IMAGE} sleep 1000"));
    assert_eq!(id.len(), 64, "{id}");
    docker.prints("docker ps -a --format '{{.Names}} {{.State}}'", "node-2/one created");
    docker.prints("docker ps -q", "");
    docker.prints("docker start one", "one");
    docker.prints("docker ps --no-trunc --format '{{.ID}} {{.Names}}'", &format!("{id} node-2/one"));
    assert_eq!(stage.cluster.having("/containers/json", |list| list[0]["Id"] == id.as_str()), ["node-2"]);
    docker.prints("docker start one", "one");
    docker.prints("docker stop -t 0 one", "one");
    docker.prints("docker inspect -f '{{.State.Status}} {{.State.ExitCode}}' one", "exited 137");
    docker.prints("docker ps -a --format '{{.Names}} {{.State}}'", "node-2/one exited");
    docker.prints("docker rm one", "one");
    docker.prints("docker ps -aq", "");
    assert_eq!(stage.cluster.spread().values().sum::<usize>(), 0);
    // All at once, the way people do it.
    docker.prints(&format!("docker run --rm {IMAGE} echo hello"), "hello");
    docker.ok(&format!("docker run -d --name two {IMAGE} sleep 1000 && docker kill two && docker rm two"));
}

fn exit_codes(stage: &Stage) {
    let docker = &stage.docker;
    for code in [0, 1, 3, 255] {
        let said = docker.run(&format!("docker run --rm {IMAGE} sh -c 'echo out; echo err >&2; exit {code}'"));
        assert_eq!((said.code, said.out.as_str(), said.error.as_str()), (code, "out", "err"), "{}", docker.version);
    }
    let killed = docker.start(&format!("docker run --name gone {IMAGE} sh -c 'echo up; exec sleep 1000'"));
    killed.line_with("up");
    docker.ok("docker kill gone");
    assert_eq!(killed.end().0, 137);
    // What cannot start, and says why as a single engine does.
    for (code, command) in [(127, "/nothing"), (126, "/tmp")] {
        let line =
            format!("docker run --rm -e constraint:node==node-1 {IMAGE} {command} 2>&1 | sed 's/: unknown.*//'; exit {code}");
        let strip = |text: &str| text.replace(" -e constraint:node==node-1", "");
        let (cluster, engine) = (docker.run(&line), stage.direct.run(&strip(&line)));
        assert_eq!(cluster.out, engine.out);
        docker.fails(code, &format!("docker run --rm {IMAGE} {command}"));
    }
    docker.fails(125, "docker run --rm --no-such-option x");
    stage.docker.ok(&format!("docker run -d --name failing {IMAGE} sh -c 'exit 7' && docker wait failing"));
    docker.prints("docker inspect -f '{{.State.ExitCode}}' failing", "7");
    docker.fails(7, "docker start -a failing");
}

fn wait(stage: &Stage) {
    let docker = &stage.docker;
    for (name, node) in [("aa", 1), ("bb", 2), ("cc", 3)] {
        docker.ok(&format!("docker run -d --name {name} -e constraint:node==node-{node} {IMAGE} sh -c 'sleep 2; exit {node}'"));
    }
    docker.prints("docker wait aa bb cc", "1\n2\n3");
    docker.prints("docker wait aa", "1");
    docker.ok(&format!("docker run -d --name dd {IMAGE} sleep 1000"));
    let waiting = docker.start("docker wait dd");
    docker.ok("sleep 0.5; docker kill dd");
    assert_eq!(waiting.end(), (0, vec!["137".to_owned()]));
    stage.refused_alike("docker wait nothing");
}

fn signals(stage: &Stage) {
    let docker = &stage.docker;
    let script = "trap \"echo usr1\" USR1; trap \"echo term; exit 5\" TERM; echo ready; while :; do sleep 0.1; done";
    docker.ok(&format!("docker run -d --name one {IMAGE} sh -c '{script}'"));
    let log = docker.start("docker logs -f one");
    log.line_with("ready");
    docker.ok("docker kill -s USR1 one");
    log.line_with("usr1");
    docker.ok("docker kill --signal SIGTERM one");
    log.line_with("term");
    assert_eq!(log.end().0, 0);
    docker.prints("docker wait one", "5");
    for wrong in ["docker kill one", "docker kill nothing", "docker kill -s NONSENSE one"] {
        let said = docker.run(wrong);
        assert_eq!(said.code, 1, "{wrong}\n{said}");
    }
    // Looked up first, and so said without what the engine was about to do.
    let error = docker.fails(1, "docker kill nothing");
    assert!(
        stage.direct.fails(1, "docker kill nothing").ends_with("No such container: nothing")
            && error.ends_with("No such container: nothing"),
        "{error}"
    );
}

fn pause(stage: &Stage) {
    let docker = &stage.docker;
    docker.ok(&format!("docker run -d --name one -e constraint:node==node-3 {IMAGE} sleep 1000"));
    docker.prints("docker pause one", "one");
    docker.prints("docker ps --format '{{.State}}' --filter status=paused", "paused");
    docker.fails(1, "docker pause one");
    docker.fails(1, "docker exec one true");
    docker.prints("docker unpause one", "one");
    docker.prints("docker exec one echo on", "on");
    stage.refused_alike("docker pause nothing");
    stage.refused_alike("docker unpause nothing");
}

fn rename(stage: &Stage) {
    let docker = &stage.docker;
    docker.ok(&format!("docker run -d --name one -e constraint:node==node-1 {IMAGE} sleep 1000"));
    docker.ok(&format!("docker run -d --name two -e constraint:node==node-2 {IMAGE} sleep 1000"));
    docker.ok("docker rename one three");
    docker.prints("docker ps --format '{{.Names}}' | sort", "node-1/three\nnode-2/two");
    docker.fails(1, "docker inspect one");
    // A name that another node's container has is taken all the same.
    let error = docker.fails(1, "docker rename three two");
    assert!(error.contains("two is already assigned"), "{error}");
    docker.prints("docker exec three echo there", "there");
    // The old one is free.
    docker.ok(&format!("docker run -d --name one {IMAGE} true"));
    stage.refused_alike("docker rename nothing other");
}

fn update(stage: &Stage) {
    let docker = &stage.docker;
    docker.ok(&format!("docker run -d --name one -e constraint:node==node-2 {IMAGE} sleep 1000"));
    docker.prints("docker update --restart=on-failure:3 --cpu-shares 512 one", "one");
    docker.prints(
        "docker inspect -f '{{.HostConfig.RestartPolicy.Name}} {{.HostConfig.RestartPolicy.MaximumRetryCount}} {{.HostConfig.CpuShares}}' one",
        "on-failure 3 512",
    );
    stage.refused_alike("docker update --cpu-shares 512 nothing");
}

fn restart(stage: &Stage) {
    let docker = &stage.docker;
    docker.ok(&format!("docker run -d --name one {IMAGE} sh -c 'echo up; exec sleep 1000'"));
    docker.prints("docker restart -t 0 one", "one");
    docker.prints("docker logs one", "up\nup");
    // The engine's own policy goes on working, and is seen.
    docker.ok(&format!("docker run -d --name again --restart on-failure:2 {IMAGE} false"));
    super::lab::until("its restarts", || {
        (docker.ok("docker inspect -f '{{.RestartCount}} {{.State.Status}}' again") == "2 exited").then_some(())
    });
    stage.refused_alike("docker restart nothing");
}

fn references(stage: &Stage) {
    let docker = &stage.docker;
    let id = docker.ok(&format!("docker run -d --name web -e constraint:node==node-2 {IMAGE} sleep 1000"));
    docker.ok(&format!("docker run -d --name web2 -e constraint:node==node-3 {IMAGE} sleep 1000"));
    for reference in [&id, &id[..12], &id[..6], "web", "node-2/web", "/web", "/node-2/web"] {
        docker.prints(&format!("docker inspect --type container -f '{{{{.Id}}}}' {reference}"), &id);
        docker.prints(&format!("docker exec {reference} echo here"), "here");
    }
    docker.prints("docker inspect -f '{{.Node.Name}} {{.Node.IP}}' web", &format!("node-2 {}", stage.cluster.nodes[1].address));
    docker.prints("docker container inspect -f '{{.Config.Image}}' web web2", &format!("{IMAGE}\n{IMAGE}"));
    docker.fails(1, "docker inspect node-3/web");
    docker.fails(1, "docker inspect --type container node-9/web");
    for wrong in ["docker inspect nothing", "docker inspect --type container nothing", "docker container inspect nothing nowhere"]
    {
        stage.refused_alike(wrong);
    }
    // Two that begin alike cannot be told apart.
    let mut first = std::collections::BTreeSet::new();
    let mut many = 0;
    while first.len() == many && many < 40 {
        many += 1;
        first.insert(docker.ok(&format!("docker create {IMAGE}"))[..1].to_owned());
    }
    let ids = docker.ok("docker ps -aq --no-trunc");
    let twice = first.iter().find(|start| ids.lines().filter(|id| id.starts_with(start.as_str())).count() > 1);
    let twice = twice.expect("of seventeen, two begin alike");
    let error = docker.fails(1, &format!("docker inspect --type container {twice}"));
    assert!(error.contains("multiple IDs found with provided prefix") || error.contains("No such container"), "{error}");
}

fn ps(stage: &Stage) {
    let docker = &stage.docker;
    for (name, node, room) in [("aa", 1, "blue"), ("bb", 2, "blue"), ("cc", 3, "green")] {
        docker.ok(&format!("docker run -d --name {name} -l paint={room} -e constraint:node==node-{node} {IMAGE} sleep 1000"));
        // The list of an engine says seconds.
        std::thread::sleep(std::time::Duration::from_millis(1100));
    }
    docker.ok(&format!("docker create --name dd -e constraint:node==node-3 {IMAGE}"));
    let names = |filter: &str| {
        let mut names: Vec<_> =
            docker.ok(&format!("docker ps --format '{{{{.Names}}}}' {filter}")).lines().map(str::to_owned).collect();
        names.sort();
        names.join(" ")
    };
    assert_eq!(names(""), "node-1/aa node-2/bb node-3/cc");
    for (filter, wanted) in [
        ("-a", "node-1/aa node-2/bb node-3/cc node-3/dd"),
        ("-f label=paint=blue", "node-1/aa node-2/bb"),
        ("-f label=paint", "node-1/aa node-2/bb node-3/cc"),
        ("-f name=^/bb$", "node-2/bb"),
        ("-f name=bb", "node-2/bb"),
        ("-f node=node-3", "node-3/cc"),
        ("-a -f status=created", "node-3/dd"),
        ("-f status=paused", ""),
        ("-f ancestor=hcl/test:1", "node-1/aa node-2/bb node-3/cc"),
        ("-f ancestor=other", ""),
        ("-f network=bridge -f label=paint=green", "node-3/cc"),
        ("-n 2", "node-3/cc node-3/dd"),
        ("-l", "node-3/dd"),
        ("-a -f before=bb", "node-1/aa"),
        ("-a -f since=bb", "node-3/cc node-3/dd"),
    ] {
        assert_eq!(names(filter), wanted, "{}: {filter}", docker.version);
    }
    // Newest first, whatever node it is on.
    docker.prints("docker ps -a --format '{{.Names}}'", "node-3/dd\nnode-3/cc\nnode-2/bb\nnode-1/aa");
    let id = docker.ok("docker inspect -f '{{.Id}}' bb");
    assert_eq!(names(&format!("-f id={}", &id[..10])), "node-2/bb");
    assert!(docker.ok("docker ps -s --format '{{.Size}}' -f name=aa").contains("virtual"));
    stage.refused_alike("docker ps -f nonsense=1");
    stage.refused_alike("docker ps -f status=nonsense");
}

fn looking(stage: &Stage) {
    let docker = &stage.docker;
    docker.ok(&format!(
        "docker run -d --name one -m 32m -e constraint:node==node-2 {IMAGE} sh -c 'echo x >/tmp/new; rm /bin/vi; exec sleep 1000'"
    ));
    super::lab::until("the new file", || (docker.run("docker exec one cat /tmp/new").out == "x").then_some(()));
    assert!(docker.ok("docker top one").contains("sleep 1000"));
    assert!(docker.ok("docker top one -o pid,args").contains("sleep 1000"));
    docker.prints("docker diff one | sort", "A /tmp/new\nC /bin\nC /tmp\nD /bin/vi");
    docker.prints("docker stats --no-stream --format '{{.Name}} {{.MemUsage}}' one | sed 's/ .* / /'", "one 32MiB");
    let all = docker.ok("docker stats --no-stream --format '{{.ID}}'");
    assert_eq!(all, docker.ok("docker ps -q"));
    // A stream of them, each a second apart.
    let stats = docker.start("docker stats --format 'line {{.Name}}' one");
    stats.line_with("one");
    stats.line_with("one");
    drop(stats);
    for what in ["top", "diff", "stats --no-stream", "port", "logs"] {
        stage.refused_alike(&format!("docker {what} nothing"));
    }
    docker.ok("docker stop -t 0 one");
    docker.fails(1, "docker top one");
}

fn commit(stage: &Stage) {
    let docker = &stage.docker;
    docker.ok(&format!("docker run --name one -e constraint:node==node-3 {IMAGE} sh -c 'echo changed >/note'"));
    let id = docker.ok("docker commit -m why -a who -c 'CMD [\"cat\", \"/note\"]' one hcl/changed:2");
    assert!(id.starts_with("sha256:"), "{id}");
    docker.prints("docker images --format '{{.Repository}}:{{.Tag}}' hcl/changed", "hcl/changed:2");
    docker.prints("docker inspect -f '{{.Author}} {{.Comment}}' hcl/changed:2", "who why");
    // It is on that node alone: an image that one node has, is run there.
    docker.prints("docker run --rm hcl/changed:2", "changed");
    assert_eq!(stage.cluster.having("/images/json", |list| list.to_string().contains("hcl/changed:2")), ["node-3"]);
    stage.refused_alike("docker commit nothing hcl/none");
}

fn export(stage: &Stage) {
    let docker = &stage.docker;
    docker.ok(&format!("docker run --name one -e constraint:node==node-2 {IMAGE} sh -c 'echo kept >/note'"));
    docker.prints("docker export one | tar xO note", "kept");
    docker.ok(
        "docker export -o /tmp/hcl-export.$$ one && tar tf /tmp/hcl-export.$$ | grep -q '^bin/busybox$' && rm /tmp/hcl-export.$$",
    );
    stage.refused_alike("docker export nothing");
}

fn prune(stage: &Stage) {
    let docker = &stage.docker;
    for (name, node) in [("aa", 1), ("bb", 2), ("cc", 3)] {
        docker.ok(&format!("docker run --name {name} -l try={name} -e constraint:node==node-{node} {IMAGE} true"));
    }
    docker.ok(&format!("docker run -d --name stays {IMAGE} sleep 1000"));
    docker.ok("docker container prune -f --filter label=try=bb");
    docker.prints("docker ps -a --format '{{.Names}}' --filter label=try | sort", "node-1/aa\nnode-3/cc");
    let said = docker.ok("docker container prune -f");
    assert_eq!(said.lines().filter(|line| line.len() == 64).count(), 2, "{said}");
    assert_eq!(docker.ok("docker ps -aq").lines().count(), 1);
}

fn ports(stage: &Stage) {
    let docker = &stage.docker;
    let second = &stage.cluster.nodes[1];
    docker.ok(&format!("docker run -d --name web -p 8080:80 -e constraint:node==node-2 {IMAGE} sh -c 'echo page >/tmp/index.html; exec httpd -f -h /tmp'"));
    docker.prints("docker ps --format '{{.Ports}}' | sed 's/, .*//'", &format!("{}:8080->80/tcp", second.address));
    assert!(docker.ok("docker port web").starts_with("80/tcp -> "), "{}", docker.ok("docker port web"));
    let page = super::lab::until("the page", || {
        Some(docker.run(&format!("curl -sS -m 5 http://{}:8080/", second.address)).out).filter(|out| !out.is_empty())
    });
    assert_eq!(page, "page");
    // The port is taken on that node; the next ones go to nodes where it is free, and the fourth has none.
    for name in ["second", "third"] {
        docker.ok(&format!("docker run -d --name {name} -p 8080:80 {IMAGE} sleep 1000"));
    }
    assert_eq!(stage.cluster.spread().into_values().collect::<Vec<_>>(), [1, 1, 1]);
    let error = docker.fails(125, &format!("docker run -d --name fourth -p 8080:80 {IMAGE} sleep 1000"));
    assert!(error.contains("Unable to find a node that satisfies") && error.contains("8080"), "{error}");
    // Whatever port is free.
    docker.ok(&format!("docker run -d --name any -p 80 {IMAGE} sleep 1000"));
    assert!(docker.ok("docker port any 80").contains(':'));
    stage.refused_alike("docker port nothing 80");
}

fn environment(stage: &Stage) {
    let docker = &stage.docker;
    let options = "-e KEPT=1 -e constraint:node==node-2 -e 'affinity:image==hcl/test*' -e constraint:room!=~attic";
    docker.ok(&format!("docker run -d --name one {options} {IMAGE} sleep 1000"));
    docker.prints("docker exec one env | grep -c -e constraint -e affinity || true", "0");
    docker.prints("docker exec one sh -c 'echo $KEPT'", "1");
    // In whichever order the client sends them.
    let kept = docker.ok("docker inspect -f '{{index .Config.Labels \"com.docker.swarm.constraints\"}}' one");
    assert!([r#"["node==node-2","room!=~attic"]"#, r#"["room!=~attic","node==node-2"]"#].contains(&kept.as_str()), "{kept}");
    docker.prints("docker inspect -f '{{index .Config.Labels \"com.docker.swarm.affinities\"}}' one", r#"["image==hcl/test*"]"#);
}

fn health(stage: &Stage) {
    let docker = &stage.docker;
    let check = "--health-cmd 'test -e /tmp/well' --health-interval 300ms --health-retries 1";
    docker.ok(&format!("docker run -d --name one {check} {IMAGE} sleep 1000"));
    let state = |wanted: &str| {
        let look = || (docker.ok("docker inspect -f '{{.State.Health.Status}}' one") == wanted).then_some(());
        super::lab::until(wanted, look);
    };
    state("unhealthy");
    docker.ok("docker exec one touch /tmp/well");
    state("healthy");
    super::lab::until("ps to say so", || docker.ok("docker ps --format '{{.Status}}'").contains("(healthy)").then_some(()));
    docker.prints("docker ps -q --filter health=healthy | wc -l", "1");
}

fn removal(stage: &Stage) {
    let docker = &stage.docker;
    docker.ok(&format!("docker run -d --name one -v /data -e constraint:node==node-2 {IMAGE} sleep 1000"));
    let error = docker.fails(1, "docker rm one");
    assert!(error.contains("You cannot remove a running container"), "{error}");
    docker.prints("docker rm -f -v one", "one");
    docker.prints("docker volume ls -q", "");
    stage.refused_alike("docker rm nothing");
    stage.said_alike("docker rm -f nothing");
    stage.refused_alike("docker stop nothing");
    stage.refused_alike("docker start nothing");
    // Several, of which one is not there.
    docker.ok(&format!("docker create --name aa {IMAGE}"));
    let said = docker.run("docker rm aa nothing");
    assert_eq!((said.code, said.out.as_str()), (1, "aa"), "{said}");
}
