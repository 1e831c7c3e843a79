//! Clusters of which every part of the page has something to show.

use hcl_firstboot::view::{
    Card, Check, Consul, Container, Engine, Gossip, Memory, Node, Role, Service, State, Swarm, View, problems,
};

/// Three nodes, all well.
pub fn well() -> View {
    let mut view = View {
        cluster: "lab".into(),
        id: "0a1b2c3d".into(),
        leader: Some("node-1a2b3c".into()),
        served_by: "node-1a2b3c".into(),
        nodes: vec![
            node("node-1a2b3c", 10, Role::Leader, "Raspberry Pi 4 Model B Rev 1.4", 4),
            node("node-4d5e6f", 77, Role::Server, "Raspberry Pi 3 Model B Plus Rev 1.3", 1),
            node("node-708192", 142, Role::Server, "Raspberry Pi Zero 2 W Rev 1.0", 0),
        ],
        services: vec![
            Service {
                name: "web".into(),
                image: "hypriot/rpi-busybox-httpd:latest".into(),
                running: 3,
                wanted: 3,
                ports: vec![80],
            },
            Service {
                name: "whoami".into(),
                image: "registry.local:5000/demo/whoami:1.2@sha256:3c4c843a3aff".into(),
                running: 2,
                wanted: 2,
                ports: vec![8000, 8443],
            },
            Service { name: "redis".into(), image: "redis:7".into(), running: 1, wanted: 1, ports: Vec::new() },
        ],
        ..View::default()
    };
    for (node, port) in [(0, 8081), (1, 8082)] {
        view.nodes[node].engine.containers[1].ports = vec![port];
    }
    view.nodes[0].swarm.leader = true;
    view.nodes[0].consul.leader = true;
    view.problems = problems::problems(&view);
    view
}

/// The same with much that is wrong, names that are long, and text that would be HTML.
pub fn ill() -> View {
    let mut view = well();
    let [first, second, third] = &mut view.nodes[..] else { unreachable!() };
    first.temperature_c = Some(83.2);
    first.memory = Some(Memory { total: 3_900_000_000, available: 120_000_000 });
    let evil = "<img src=x onerror=alert(1)><script>alert(2)</script>";
    first.engine.containers.push(Container {
        name: evil.into(),
        image:
            "a-registry-with-a-long-name.example.internal:5000/an-organisation/an-image-with-a-name:a-tag-that-is-long-as-well"
                .into(),
        state: "restarting".into(),
        status: "Restarting (1) 12 seconds ago".into(),
        system: false,
        ports: vec![1, 22, 333, 4444, 55555],
    });
    first.checks.push(Check {
        name: "lease".into(),
        pass: false,
        line: "there is no lease: `sudo systemctl restart hcl-firstboot` asks again".into(),
    });
    second.state = State::Silent;
    second.heard_ms_ago = Some(74_000);
    second.consul.state = Gossip::Failed;
    third.state = State::Starting;
    third.engine.state = "down".into();
    third.card = Some(Card { total: 8_000_000_000, free: 200_000_000 });
    view.services[0].running = 1;
    view.services.push(Service {
        name: "a-service-whose-name-is-as-long-as-sixty-three-characters-may-be".into(),
        image: evil.into(),
        running: 20,
        wanted: 24,
        ports: vec![1, 22, 333, 4444, 55555],
    });
    view.problems = problems::problems(&view);
    view
}

fn node(name: &str, last: u8, role: Role, board: &str, containers: usize) -> Node {
    let container = |name: &str, image: &str, system| Container {
        name: name.into(),
        image: image.into(),
        state: "running".into(),
        status: "Up 3 hours".into(),
        system,
        ports: Vec::new(),
    };
    let mut all = vec![container("hcl-consul", "hcl/consul:1.8.7", true)];
    all.extend((1..=containers).map(|n| container(&format!("web.{n}"), "hypriot/rpi-busybox-httpd:latest", false)));
    let check = |name: &str, line: &str| Check { name: name.into(), pass: true, line: line.into() };
    Node {
        name: name.into(),
        id: format!("{last:032x}"),
        address: format!("192.168.200.{last}"),
        role,
        state: State::Ready,
        heard_ms_ago: Some(800),
        uptime_s: Some(11_000 * u64::from(last)),
        arch: "arm".into(),
        board: board.into(),
        memory: Some(Memory { total: 966_000_000, available: 512_000_000 + 1_000_000 * u64::from(last) }),
        load: Some(0.4),
        processors: Some(4),
        temperature_c: Some(48.5),
        card: Some(Card { total: 31_000_000_000, free: 25_400_000_000 }),
        engine: Engine { version: "26.1.5".into(), state: "running".into(), containers: all },
        consul: Consul { state: Gossip::Alive, server: true, leader: false },
        swarm: Swarm { state: "ready".into(), role: "manager".into(), leader: false },
        checks: vec![check("vlan", "eth0.200 carries the cluster"), check("leader", "the leader was heard 2 s ago")],
    }
}
