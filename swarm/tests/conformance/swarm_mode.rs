//! Swarm mode's own commands, as on a manager.

use std::fs;

use super::{IMAGE, Rows, Stage, lab::until};

pub const ROWS: Rows = &[
    ("nodes", nodes),
    ("service", service),
    ("service_logs", service_logs),
    ("secrets_and_configs", secrets_and_configs),
    ("stack", stack),
    ("tasks", tasks),
    ("swarm", swarm),
];

fn nodes(stage: &Stage) {
    let docker = &stage.docker;
    docker.prints("docker node ls --format '{{.Hostname}} {{.Status}}' | sort", "node-1 Ready\nnode-2 Ready\nnode-3 Ready");
    docker.prints("docker node inspect -f '{{.Status.Addr}}' node-2", &stage.cluster.nodes[1].address.to_string());
    docker.ok("docker node update --label-add kind=a node-2");
    docker.prints("docker node ls -q --filter node.label=kind=a | wc -l", "1");
    docker.ok("docker node update --label-rm kind node-2");
    stage.refused_alike("docker node inspect nothing");
    stage.refused_alike("docker node rm nothing");
    docker.ok("docker node ps self 2>/dev/null || docker node ps node-1");
}

fn service(stage: &Stage) {
    let docker = &stage.docker;
    docker.ok("docker network create -d overlay demo");
    docker.ok(&format!("docker service create -d --stop-grace-period 1s --no-resolve-image --name web --network demo --replicas 3 --endpoint-mode dnsrr {IMAGE} sleep 1000"));
    until("three tasks", || (docker.ok("docker service ls --format '{{.Replicas}}'") == "3/3").then_some(()));
    docker.prints("docker service ps web --format '{{.Node}}' --filter desired-state=running | sort", "node-1\nnode-2\nnode-3");
    // Their containers are the cluster's, like any other.
    until("their containers", || {
        (docker.ok("docker ps -q --filter label=com.docker.swarm.service.name=web").lines().count() == 3).then_some(())
    });
    let other = docker.ok("docker ps --format '{{.Names}}' | grep '^node-3/web'");
    docker.prints(&format!("docker exec {other} hostname -i | wc -w"), "1");
    docker.ok("docker service scale -d web=1");
    until("one task", || (docker.ok("docker service ls --format '{{.Replicas}}'") == "1/1").then_some(()));
    docker.ok("docker service update -d --env-add A=b web && docker service inspect --pretty web");
    docker.prints("docker service rm web", "web");
    stage.refused_alike("docker service rm nothing");
    stage.refused_alike("docker service inspect nothing");
    stage.refused_alike("docker service scale nothing=2");
    until("the tasks' end", || docker.ok("docker ps -q").is_empty().then_some(()));
    // Waiting, as without `-d`, is done through many questions.
    docker
        .ok(&format!("docker service create -q --stop-grace-period 1s --no-resolve-image --name waited {IMAGE} sleep 1000 && docker service rm waited"));
}

fn service_logs(stage: &Stage) {
    let docker = &stage.docker;
    let script = "echo first; i=0; while [ $i -lt 100 ]; do echo line $i; i=$((i+1)); sleep 0.2; done; sleep 1000";
    docker.ok(&format!(
        "docker service create -d --stop-grace-period 1s --no-resolve-image --name talks --constraint node.hostname==node-3 {IMAGE} sh -c '{script}'"
    ));
    until("its first line", || docker.run("docker service logs --raw talks").out.contains("first").then_some(()));
    let log = docker.start("docker service logs --raw -f talks");
    for number in [0, 1, 2, 10, 20] {
        log.line_with(&format!("line {number}"));
    }
    drop(log);
    stage.refused_alike("docker service logs nothing");
}

fn secrets_and_configs(stage: &Stage) {
    let docker = &stage.docker;
    docker.ok("echo hidden | docker secret create word - && echo shown | docker config create page -");
    docker.prints("docker secret ls --format '{{.Name}}'", "word");
    docker.prints("docker config inspect -f '{{.Spec.Name}}' page", "page");
    docker.ok(&format!("docker service create -d --stop-grace-period 1s --no-resolve-image --name reads --secret word --config source=page,target=/page {IMAGE} sh -c 'cat /run/secrets/word /page; sleep 1000'"));
    until("both", || (docker.run("docker service logs --raw reads").out == "hidden\nshown").then_some(()));
    docker.fails(1, "docker secret rm word");
    docker.ok("docker service rm reads && docker secret rm word && docker config rm page");
    stage.refused_alike("docker secret inspect nothing");
    stage.refused_alike("docker config rm nothing");
}

fn stack(stage: &Stage) {
    let docker = &stage.docker;
    let file = stage.cluster.laptop.folder.join("stack.yml");
    let text = format!(
        "version: '3.7'\nservices:\n  web:\n    image: {IMAGE}\n    command: sh -c 'echo page >/tmp/index.html; exec httpd -f -h /tmp'\n    deploy:\n      \
         replicas: 2\n      endpoint_mode: dnsrr\n    configs: [note]\n  client:\n    image: {IMAGE}\n    stop_grace_period: 1s\n    command: sleep 1000\n\
         configs:\n  note:\n    file: {}\n",
        file.display()
    );
    fs::write(&file, text).unwrap();
    docker.ok(&format!("docker stack deploy --resolve-image never -c {} demo", file.display()));
    until("its services", || {
        let services = docker.ok("docker stack services demo --format '{{.Name}} {{.Replicas}}' | sort");
        (services == "demo_client 1/1\ndemo_web 2/2").then_some(())
    });
    docker.prints("docker stack ls --format '{{.Name}} {{.Services}}'", "demo 2");
    assert_eq!(docker.ok("docker stack ps -q demo").lines().count(), 3);
    let client = until("its container", || {
        Some(docker.ok("docker ps -q --filter label=com.docker.swarm.service.name=demo_client")).filter(|id| !id.is_empty())
    });
    until("the page", || {
        (docker.run(&format!("docker exec {client} wget -qO- http://web/index.html")).out == "page").then_some(())
    });
    docker.ok("docker stack rm demo");
    until("its end", || docker.ok("docker ps -q").is_empty().then_some(()));
}

fn tasks(stage: &Stage) {
    let docker = &stage.docker;
    docker.ok(&format!("docker service create -d --stop-grace-period 1s --no-resolve-image --name web {IMAGE} sleep 1000"));
    let task = until("its task", || Some(docker.ok("docker service ps -q web")).filter(|id| !id.is_empty()));
    until("that it runs", || {
        (docker.ok(&format!("docker inspect --type task -f '{{{{.Status.State}}}}' {task}")) == "running").then_some(())
    });
    // An inspection that does not say what it looks for asks for everything in turn.
    docker.prints("docker inspect -f '{{.Spec.Name}}' web", "web");
}

fn swarm(stage: &Stage) {
    let docker = &stage.docker;
    let token = docker.ok("docker swarm join-token -q worker");
    assert_eq!(token, stage.direct.ok("docker swarm join-token -q worker"));
    docker.ok("docker swarm update --task-history-limit 4 && docker swarm update --task-history-limit 5");
    docker.prints("docker info -f '{{.Swarm.LocalNodeState}} {{.Swarm.Nodes}} {{.Swarm.Managers}}'", "active 3 3");
    // One node's membership is the node program's, never a user's.
    for wrong in [
        "docker swarm init",
        "docker swarm leave",
        "docker swarm leave --force",
        &format!("docker swarm join --token {token} 192.168.200.12:2377"),
    ] {
        let said = docker.run(wrong);
        assert!(said.code == 1 && said.error.lines().count() <= 2, "{wrong}\n{said}");
    }
    docker.prints("docker node ls -q | wc -l", "3");
}
