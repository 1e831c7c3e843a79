//! The paper's two use cases, letter by letter but for the names of images, and Compose.

use std::{collections::BTreeSet, fs, path::PathBuf, time::Duration};

use super::{
    IMAGE, Rows, Stage,
    lab::{until, within},
};

/// For every client.
pub const ROWS: Rows = &[("use_case_a", use_case_a)];
/// For the client that comes with Compose.
pub const COMPOSE: Rows = &[("use_case_b", use_case_b), ("compose", compose), ("compose_network", compose_network)];

/// Section III.A: a web server on the master, fetched by its name from another node.
fn use_case_a(stage: &Stage) {
    let docker = &stage.docker;
    docker.ok(&format!("docker tag {IMAGE} hypriot/armhf-busybox"));
    let file = format!(
        "FROM {IMAGE}\nRUN mkdir /www && echo a page from the master >/www/index.html\nCMD [\"httpd\", \"-f\", \"-h\", \"/www\"]\n"
    );
    let (code, _) = docker.feed("docker build -q -t hypriot/rpi-nano-httpd -", file.as_bytes());
    assert_eq!(code, 0);
    docker.ok("export DOCKER_HOST=tcp://master:2378\n\
         docker network create -d overlay demo && \\\n\
         docker run -d --name=webserver \\\n\
         --net=demo -e \"constraint:node==master\" \\\n\
         hypriot/rpi-nano-httpd");
    docker.prints("docker ps --format '{{.Names}}'", "node-1/webserver");
    let said = docker.run(
        "export DOCKER_HOST=tcp://master:2378\n\
         docker run --net=demo \\\n\
         -e \"constraint:node!=master\" \\\n\
         hypriot/armhf-busybox \\\n\
         wget -O- http://webserver/index.html",
    );
    assert!(said.code == 0 && said.out.contains("a page from the master"), "{said}");
    docker.prints("docker ps -a --format '{{.Names}}' --filter status=exited | grep -c '^node-[23]/'", "1");
}

fn project(stage: &Stage, name: &str, text: &str) -> PathBuf {
    let folder = stage.cluster.laptop.folder.join(name);
    fs::create_dir_all(&folder).unwrap();
    fs::write(folder.join("docker-compose.yml"), text).unwrap();
    folder
}

/// Section III.B without Consul: the same commands, the balancer's part left to who asks every web server.
fn use_case_b(stage: &Stage) {
    let docker = &stage.docker;
    let text = format!(
        "version: '2'\nservices:\n  demo-hostname:\n    image: {IMAGE}\n    command: sh -c 'hostname >/tmp/index.html; exec httpd -f -h /tmp'\n    \
         ports: ['80']\n  loadbalancer:\n    image: {IMAGE}\n    command: sleep 1000\n    environment: ['constraint:node==master']\n    ports: ['80:80']\n"
    );
    let folder = project(stage, "loadbalancing_with_haproxy", &text);
    let at = folder.display();
    docker.ok(&format!("cd {at} && docker-compose -p loadbalancing up -d"));
    docker
        .prints("docker ps --format '{{.Names}}' --filter label=com.docker.compose.service=loadbalancer | cut -d/ -f1", "node-1");
    docker.ok(&format!("cd {at} && docker-compose -p loadbalancing scale demo-hostname=10"));
    let ports = docker.ok("docker ps --format '{{.Ports}}' --filter label=com.docker.compose.service=demo-hostname");
    assert_eq!(ports.lines().count(), 10, "{ports}");
    let spread = stage.cluster.spread();
    assert!(spread.values().all(|count| (3..=4).contains(count)), "{spread:?}");
    let fetch = "for at in $(docker ps --format '{{.Ports}}' --filter label=com.docker.compose.service=demo-hostname | sed 's/->.*//'); do curl -sS -m 5 http://$at/; done";
    let names = within(Duration::from_secs(10), "ten pages", || {
        let names: BTreeSet<_> = docker.run(fetch).out.lines().map(str::to_owned).collect();
        (names.len() == 10).then_some(names)
    });
    assert_eq!(names.len(), 10);
    docker.ok(&format!("cd {at} && docker-compose -p loadbalancing scale demo-hostname=2"));
    assert_eq!(docker.ok("docker ps -q --filter label=com.docker.compose.service=demo-hostname").lines().count(), 2);
    docker.ok(&format!("cd {at} && docker-compose -p loadbalancing down -t 0"));
    docker.prints("docker ps -aq", "");
}

/// What else people do with Compose.
fn compose(stage: &Stage) {
    let docker = &stage.docker;
    let text = format!(
        "services:\n  one:\n    build: .\n    command: sh -c 'echo up; exec sleep 1000'\n    volumes: ['data:/data']\n    environment: ['constraint:node==node-2']\n  \
         two:\n    image: {IMAGE}\n    command: sh -c 'sleep 1; exit 3'\n    depends_on: [one]\nvolumes:\n  data:\n"
    );
    let folder = project(stage, "compose", &text);
    fs::write(folder.join("Dockerfile"), format!("FROM {IMAGE}\nENV BUILT=yes\n")).unwrap();
    let cd = format!("cd {}", folder.display());
    docker.ok(&format!("{cd} && docker-compose up -d --build"));
    docker.prints(&format!("{cd} && docker-compose exec -T one sh -c 'echo $BUILT'"), "yes");
    // It clears the line, terminal or not.
    docker.prints(&format!("{cd} && docker-compose --ansi never logs --no-color --no-log-prefix one | sed 's/.*\\[2K//'"), "up");
    assert!(
        docker.ok(&format!("{cd} && docker-compose ps -a")).contains("Exited (3)")
            || docker.ok(&format!("{cd} && sleep 2; docker-compose ps -a")).contains("Exited (3)")
    );
    assert!(docker.ok(&format!("{cd} && docker-compose top one")).contains("sleep 1000"));
    docker.prints(&format!("{cd} && docker-compose run --rm two echo once 2>/dev/null"), "once");
    docker.ok(&format!("{cd} && docker-compose stop -t 0 && docker-compose start one && docker-compose restart -t 0 one"));
    // As a plugin of the client.
    docker.ok(&format!("{cd} && docker compose ps"));
    docker.ok(&format!("{cd} && docker-compose down -v -t 0 --rmi local"));
    docker.prints("docker volume ls -q; docker network ls -q --filter name=compose; docker ps -aq", "");
}

/// The project's default network is an overlay: services find each other across nodes, though Compose never asks for `attachable`.
fn compose_network(stage: &Stage) {
    let docker = &stage.docker;
    let text = format!(
        "services:\n  web:\n    image: {IMAGE}\n    command: sh -c 'echo page >/tmp/index.html; exec httpd -f -h /tmp'\n    environment: ['constraint:node==node-2']\n  \
         client:\n    image: {IMAGE}\n    command: sleep 1000\n    environment: ['constraint:node==node-3']\n"
    );
    let cd = format!("cd {}", project(stage, "across", &text).display());
    docker.ok(&format!("{cd} && docker-compose up -d"));
    docker.prints("docker network inspect -f '{{.Driver}} {{.Attachable}}' across_default", "overlay true");
    until("the page", || {
        (docker.run(&format!("{cd} && docker-compose exec -T client wget -qO- http://web/index.html")).out == "page")
            .then_some(())
    });
    docker.ok(&format!("{cd} && docker-compose down -t 0"));
    // Each engine takes its part of the network down by itself.
    until("the network gone", || (docker.run("docker network inspect across_default").code == 1).then_some(()));
}
