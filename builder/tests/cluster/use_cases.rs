//! The paper's two use cases, typed as the README on the card says them, and what a browser of the home network sees.

use std::{
    collections::BTreeSet,
    thread,
    time::{Duration, Instant},
};

use crate::{
    lab::{Cluster, image},
    stranger::run,
};

/// Types the commands of section `$1` of the card's README, up to taking it all away again, as its user.
const TYPED: &str = r###"
    awk -v title="## $1. " '/^## /{on = index($0, title) == 1} /^Take it away/{on = 0} on && /^    /{print substr($0, 5)}' \
        /usr/share/hcl/demo/README.md >/run/typed
    [ -s /run/typed ]
    su - hcl -c 'set -e; export DOCKER_HOST=tcp://master:2378; . /run/typed'"###;
/// Requests a second: emulated boards do not serve the fifty that real ones do.
const RATE: u32 = 5;

#[test]
#[ignore = "needs a built image and twenty minutes: make proof"]
fn both_use_cases_of_the_paper() {
    let three = [0, 1, 2];
    let mut cluster = Cluster::start("use-cases", &image(), 3, 0, &["browser"]);
    cluster.settled(&three);
    cluster.healthy(&three);
    let leader = cluster.leader(&three);
    let (typist, other) = ((leader + 1) % 3, (leader + 2) % 3);
    let docker = |line: &str| format!("su - hcl -c 'export DOCKER_HOST=tcp://master:2378; {line}'");
    let info = cluster.ask(typist, &docker("docker info"));
    println!("{info}");
    assert!(info.contains("Nodes: 3") && info.matches("Status: Healthy").count() == 3, "{info}");

    cluster.say("use case A");
    let page = cluster.ask(typist, &format!("set -- A{TYPED}"));
    cluster.say(page.trim());
    assert!(page.contains("Hello from the webserver on the master"), "{page}");

    cluster.say("use case B");
    let said = cluster.ask(typist, &format!("set -- B{TYPED}"));
    let scaled = Instant::now();
    cluster.say(said.trim());
    let (_, socket) = cluster.lab.port("browser").unwrap();
    let master = cluster.lab.address(leader).unwrap();
    let load = move |seconds: u32| {
        let (socket, count) = (socket.clone(), seconds * RATE);
        thread::spawn(move || {
            let pause = 1.0 / f64::from(RATE);
            run(
                &socket,
                &format!(
                    "ip addr add 192.168.77.241/24 dev wire; sleep 1; mkdir /tmp/pages.$$; mount -t tmpfs pages /tmp/pages.$$
                     for n in $(seq {count}); do
                         curl -s -m 10 -w ' %{{http_code}}\\n' http://{master}/ >/tmp/pages.$$/$n 2>&1 & sleep {pause}
                     done
                     sleep 11; cat /tmp/pages.$$/*"
                ),
            )
        })
    };
    let judged = |what: &str, printed: &str| {
        let lines: Vec<_> = printed.lines().filter(|line| !line.trim().is_empty()).collect();
        let pages: BTreeSet<_> =
            lines.iter().filter_map(|line| line.strip_prefix("<!DOCTYPE html><title>")?.split_once('<')).collect();
        let pages: BTreeSet<_> = pages.into_iter().map(|(name, _)| name).collect();
        let failed = printed.split_whitespace().filter(|word| word.len() == 3 && word.starts_with(['0', '5'])).count();
        println!("{what}: {} requests, {failed} failed, {} containers answered", lines.len(), pages.len());
        (pages.len(), failed)
    };
    let looked = load(10).join().unwrap();
    println!("looked for {:.0} s from the end of `scale` on", scaled.elapsed().as_secs_f64());
    assert_eq!(judged("ten web servers", &looked), (10, 0), "{looked}");

    let loading = load(60);
    let more = "cd /usr/share/hcl/demo/loadbalancing_with_haproxy; docker-compose -p loadbalancing scale demo-hostname=12";
    cluster.ask(typist, &docker(more));
    let (pages, failed) = judged("two more come", &loading.join().unwrap());
    assert!(pages >= 10 && failed == 0);

    let loading = load(60);
    cluster.look(Duration::from_secs(15));
    cluster.pull(other);
    let (_, failed) = judged("a node loses its power", &loading.join().unwrap());
    assert!(failed * 100 <= (60 * RATE) as usize, "{failed} of {} failed", 60 * RATE);
    let info = cluster.ask(typist, &docker("docker info"));
    println!("{info}");
    assert!(info.contains("Nodes: 3") && info.contains("Status: Unhealthy"), "{info}");
}
