//! Containers in Consul.

use std::{
    thread,
    time::{Duration, Instant},
};

use hcl_swarm::consul::{Service, State};

use super::{
    dns,
    host::{Host, IMAGE, enter, until},
};

/// How long a container may take to be found after its start, and to be no longer after its end began.
const SOON: Duration = Duration::from_secs(2);
/// What a web server runs: nothing in it cares for SIGTERM.
const SERVE: [&str; 3] = ["sh", "-c", "mkdir -p /www && echo $HOSTNAME >/www/index.html && exec httpd -f -h /www"];

fn start(host: &Host, name: &str, options: &[&str]) {
    host.docker(&[&["run", "-d", "--name", name, "-p", "80"], options, &[IMAGE], &SERVE[..]].concat());
}

fn published(host: &Host, name: &str) -> u16 {
    let text = host.docker(&["port", name, "80/tcp"]);
    text.lines().next().unwrap().rsplit_once(':').unwrap().1.parse().unwrap()
}

fn wait_ports(service: &str, expected: &[u16]) -> Duration {
    until(&format!("{service} at {expected:?}"), || (dns::ports(service) == expected).then_some(())).1
}

#[test]
fn containers_come_and_go() {
    let runtime = enter();
    let mut host = Host::new();
    host.start_consul();
    host.start_engine("");
    // One that is there before.
    start(&host, "early", &["-l", "com.docker.compose.service=demo-hostname"]);
    host.start_join(&runtime);
    let early = published(&host, "early");
    wait_ports("demo-hostname", &[early]);

    for (name, option, service) in [
        ("shop", "-eSERVICE_NAME=shop", "shop"),
        ("door", "-lSERVICE_80_NAME=Door_1", "door-1"),
        ("blue", "-lSERVICE_TAGS=blue", "busybox"),
        ("none", "-lSERVICE_IGNORE=1", "nobody"),
    ] {
        start(&host, name, &[option]);
        let expected = [published(&host, name)];
        if name == "none" {
            continue;
        }
        let took = wait_ports(service, &expected);
        eprintln!("figure: {service} is found {took:?} after its start");
        assert!(took < SOON, "{service}: {took:?}");
    }
    assert_eq!(dns::ask("blue.busybox.service.consul", Some(8192)).unwrap(), [published(&host, "blue")]);
    // What has no port, or one that nobody else reaches, is no service.
    host.docker(&["run", "-d", "--name", "inner", "-eSERVICE_NAME=inner", "-p", "127.0.0.1::80", IMAGE, "sleep", "1000"]);
    host.docker(&["run", "-d", "--name", "hidden", "-eSERVICE_NAME=inner", IMAGE, "sleep", "1000"]);

    // It goes when it is told to end, and not when it ends.
    let port = published(&host, "shop");
    let began = Instant::now();
    thread::scope(|scope| {
        let stop = scope.spawn(|| host.docker(&["stop", "-t", "4", "shop"]));
        until("shop gone", || dns::ports("shop").is_empty().then_some(()));
        let gone = began.elapsed();
        let still = std::net::TcpStream::connect((host.address(), port)).is_ok();
        eprintln!("figure: shop is gone {gone:?} after it was told to end, and takes connections: {still}");
        assert!(gone < SOON && still, "{gone:?}");
        stop.join().unwrap();
    });
    host.docker(&["start", "shop"]);
    wait_ports("shop", &[published(&host, "shop")]);
    host.docker(&["kill", "-s", "KILL", "shop"]);
    let (_, took) = until("shop killed", || dns::ports("shop").is_empty().then_some(()));
    assert!(took < SOON, "{took:?}");

    // Signals that end nothing, a pause, another name.
    let door = published(&host, "door");
    host.docker(&["kill", "-s", "USR1", "door"]);
    thread::sleep(Duration::from_millis(500));
    assert_eq!(dns::ports("door-1"), [door]);
    host.docker(&["pause", "door"]);
    wait_ports("door-1", &[]);
    host.docker(&["unpause", "door"]);
    wait_ports("door-1", &[door]);
    host.docker(&["rename", "door", "gate"]);
    until("the new name", || {
        let known = host.ask(&runtime, |consul| async move { consul.services().await.ok() })?;
        (known.contains_key("node-1:gate:80") && !known.contains_key("node-1:door:80")).then_some(())
    });
    host.docker(&["rm", "-f", "none", "inner", "hidden"]);

    // A port that nobody listens at enters no DNS until somebody does.
    let late = ["-e", "SERVICE_NAME=late", "--network", "host", "--expose", "8099", IMAGE];
    host.docker(&[&["run", "-d", "--name", "late"], &late[..], &["sh", "-c", "sleep 4; exec httpd -f -p 8099"]].concat());
    let (state, _) = until("the late one, registered", || {
        let known = host.ask(&runtime, |consul| async move { consul.checks().await.ok() })?;
        known.get("service:node-1:late:8099").map(|check| check.state)
    });
    assert_eq!(state, State::Critical);
    assert_eq!(dns::ports("late"), [0; 0]);
    wait_ports("late", &[8099]);
    host.stop_engine();
    host.stop_join(&runtime);
}

#[test]
fn what_was_missed_is_mended() {
    let runtime = enter();
    let mut host = Host::new();
    host.start_consul();
    host.start_engine("");
    host.start_join(&runtime);
    start(&host, "one", &["-eSERVICE_NAME=one"]);
    start(&host, "two", &["-eSERVICE_NAME=two"]);
    let (one, two) = (published(&host, "one"), published(&host, "two"));
    wait_ports("one", &[one]);
    wait_ports("two", &[two]);

    // Consul ends, and comes back empty.
    host.kill_consul();
    host.start_consul();
    let (_, took) = until("both again", || (dns::ports("one") == [one] && dns::ports("two") == [two]).then_some(()));
    eprintln!("figure: both are found {took:?} after Consul came back empty");

    // Somebody takes one out by hand.
    host.ask(&runtime, |consul| async move { consul.deregister("node-1:one:80").await }).unwrap();
    wait_ports("one", &[one]);

    // Nobody looks while one goes, and what others registered stays.
    host.stop_join(&runtime);
    let foreign = Service {
        id: "node-1:foreign:80".into(),
        name: "foreign".into(),
        at: std::net::SocketAddrV4::new(host.address(), 4711),
        tags: Vec::new(),
        meta: Default::default(),
        check: None,
    };
    host.ask(&runtime, |consul| async move { consul.register(&foreign).await }).unwrap();
    host.docker(&["rm", "-f", "two"]);
    assert_eq!(dns::ports("one"), [one]);
    host.start_join(&runtime);
    until("two gone", || {
        let known = host.ask(&runtime, |consul| async move { consul.services().await.ok() })?;
        (!known.contains_key("node-1:two:80")).then_some(())
    });
    wait_ports("foreign", &[4711]);
    assert_eq!(dns::ports("one"), [one]);

    // The engine ends, and with it its containers; what comes back is found.
    host.docker(&["update", "--restart", "always", "one"]);
    host.stop_engine();
    wait_ports("one", &[]);
    host.start_engine("");
    until("one running", || host.try_docker(&["port", "one", "80/tcp"]).ok().filter(|text| !text.is_empty()));
    wait_ports("one", &[published(&host, "one")]);
    host.stop_join(&runtime);
}
