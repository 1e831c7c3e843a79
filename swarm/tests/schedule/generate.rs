//! Small clusters and bodies of `POST /containers/create`, from few enough words that they often meet.

use std::collections::BTreeMap;

use hcl_swarm::schedule::{Candidate, ExposedPort, PlacedContainer, PlacedImage, Protocol, PublishedPort};
use proptest::{collection::vec, option, prelude::*, sample::select};
use serde_json::{Value, json};

const NAMES: [&str; 5] = ["web", "web-1", "db", "cache", "a.b"];
const TAGS: [&str; 4] = ["nginx:latest", "nginx:1.25", "lan:5000/team/redis:7", "redis:7"];
const REGIONS: [&str; 4] = ["us-east", "us-west", "eu", "a.b"];
const KEYS: [&str; 8] = ["node", "node", "region", "tier", "container", "container", "image", "storagedriver"];
/// Values of expressions: names, patterns and regular expressions that match some of the words above.
const VALUES: [&str; 26] = [
    "node-0",
    "node-1",
    "node-2",
    "node-*",
    "master",
    "ID-1",
    "us-*",
    "us-east",
    "*",
    "eu",
    "a.b",
    "axb",
    "web",
    "web*",
    "*b*",
    "nginx",
    "nginx:1.25",
    "*redis",
    "/",
    "/node-[01]/",
    "/(?i)^US-/",
    "/^$/",
    "/web|db/",
    "//",
    "/a.b/",
    "/\\d$/",
];

pub(super) fn container() -> impl Strategy<Value = PlacedContainer> {
    let port = (select(&["", "127.0.0.1", "192.168.200.9"][..]), select(&[80, 81, 53][..]), any::<bool>())
        .prop_map(|(ip, port, udp)| PublishedPort::new(ip, port, if udp { Protocol::Udp } else { Protocol::Tcp }));
    let exposed = select(&["80/tcp", "53/udp"][..]).prop_map(|port| ExposedPort::parse(port).unwrap());
    (any::<u64>(), select(&NAMES[..]), option::of(select(&REGIONS[..])), vec(port, 0..2), any::<bool>(), vec(exposed, 0..2))
        .prop_map(|(id, name, tier, ports, host_network, exposed)| PlacedContainer {
            id: format!("{id:016x}").repeat(4),
            names: vec![format!("/{name}")],
            labels: tier.map(|tier| ("tier".to_owned(), tier.to_owned())).into_iter().collect(),
            running: id % 2 == 0,
            ports,
            host_network,
            exposed,
        })
}

fn node() -> impl Strategy<Value = Candidate> {
    let image =
        select(&TAGS[..]).prop_map(|tag| PlacedImage { id: format!("sha256:{}", "ab".repeat(32)), tags: vec![tag.to_owned()] });
    let labels = (option::of(select(&REGIONS[..])), option::weighted(0.2, select(&["0", "1", "3", "x"][..])));
    let resources = (0_u64..5, 0_u64..2000, 0_u64..3, 0_u64..1000);
    (proptest::bool::weighted(0.9), labels, resources, vec(container(), 0..4), vec(image, 0..3)).prop_map(
        |(healthy, (region, slots), (cpus, memory, used_cpus, used_memory), containers, images)| {
            let mut labels = BTreeMap::from([("storagedriver".to_owned(), "overlay2".to_owned())]);
            labels.extend(region.map(|region| ("region".to_owned(), region.to_owned())));
            labels.extend(slots.map(|slots| ("containerslots".to_owned(), slots.to_owned())));
            let (nano_cpus, reserved_nano_cpus) = (cpus * 1_000_000_000, used_cpus * 1_000_000_000);
            let (id, names, reserved_memory) = (String::new(), Vec::new(), used_memory);
            Candidate { id, names, healthy, labels, nano_cpus, memory, reserved_nano_cpus, reserved_memory, containers, images }
        },
    )
}

/// Up to five nodes, of which one may lead.
pub(super) fn cluster() -> impl Strategy<Value = Vec<Candidate>> {
    (vec(node(), 0..5), any::<proptest::sample::Index>()).prop_map(|(mut nodes, leader)| {
        for (index, node) in nodes.iter_mut().enumerate() {
            node.id = format!("ID-{index}");
            node.names = vec![format!("node-{index}")];
        }
        if !nodes.is_empty() {
            let leader = leader.index(nodes.len());
            nodes[leader].names.push("master".to_owned());
        }
        nodes
    })
}

fn entry() -> impl Strategy<Value = String> {
    let parts = (
        select(&["constraint", "affinity"][..]),
        select(&KEYS[..]),
        select(&["==", "!="][..]),
        any::<bool>(),
        select(&VALUES[..]),
    );
    parts.prop_map(|(family, key, operator, soft, value)| {
        format!("{family}:{key}{operator}{}{value}", if soft { "~" } else { "" })
    })
}

/// A body that [`super::naive`] understands. Softness is decided before the slashes.
pub(super) fn body() -> impl Strategy<Value = Value> {
    let binding = (select(&["80/tcp", "53/udp"][..]), select(&["", "0.0.0.0", "127.0.0.1"][..]), select(&["", "80", "53"][..]));
    let dependency = select(&["web", "db:ro", "cache:c"][..]);
    let mode = select(&["default", "default", "host", "container:db"][..]);
    let resources = (select(&[0, 0, 100, 900][..]), select(&[0_u64, 0, 500_000_000, 2_000_000_000][..]));
    let host_config = (vec(binding, 0..2), option::weighted(0.1, dependency), mode, resources);
    (vec(entry(), 0..4), host_config, any::<bool>()).prop_map(
        |(mut env, (bindings, dependency, mode, (memory, nano_cpus)), exposed)| {
            env.insert(env.len() / 2, "PATH=/bin".to_owned());
            let bindings = bindings.into_iter();
            let bindings = bindings.map(|(port, ip, host)| (port.to_owned(), json!([{"HostIp": ip, "HostPort": host}])));
            let dependencies = dependency.into_iter().collect::<Vec<_>>();
            json!({
                "Env": env,
                "ExposedPorts": if exposed { json!({"80/tcp": {}}) } else { json!({}) },
                "HostConfig": {
                    "NetworkMode": mode, "Memory": memory, "NanoCpus": nano_cpus, "VolumesFrom": dependencies,
                    "PortBindings": bindings.collect::<serde_json::Map<_, _>>(),
                },
            })
        },
    )
}

/// JSON of any shape, with the members that are looked at more often than others.
pub(super) fn json() -> impl Strategy<Value = Value> {
    let text = prop_oneof![
        entry(),
        ".*",
        "(constraint|affinity|reschedule):.{0,12}",
        "[a-z]{1,4}[=!~]{0,3}/?[a-z(*\\[\\]|?+^$]{0,8}/?",
        Just(r#"["node==a"]"#.to_owned()),
    ];
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<i64>().prop_map(Value::from),
        any::<bool>().prop_map(Value::from),
        text.prop_map(Value::from)
    ];
    let key = prop_oneof![
        select(
            &[
                "Env",
                "env",
                "Labels",
                "HostConfig",
                "ExposedPorts",
                "NetworkMode",
                "PortBindings",
                "80/tcp",
                "HostPort",
                "HostIp",
                "Memory",
                "NanoCpus",
                "VolumesFrom",
                "Links",
                "com.docker.swarm.constraints",
                "com.docker.swarm.affinities"
            ][..]
        )
        .prop_map(str::to_owned),
        "[a-z]{1,3}",
    ];
    leaf.prop_recursive(4, 64, 8, move |inner| {
        prop_oneof![
            vec(inner.clone(), 0..8).prop_map(Value::from),
            vec((key.clone(), inner), 0..8).prop_map(|members| members.into_iter().collect()),
        ]
    })
}
