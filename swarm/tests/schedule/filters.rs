//! What each filter accepts, on the same small cluster.

use std::collections::BTreeMap;

use hcl_swarm::schedule::{
    Candidate, ExposedPort, Expression, Filter, PlacedContainer, PlacedImage, Protocol, PublishedPort, Request, Strategy,
    Unplaceable, eligible, place,
};
use serde_json::{Value, json};

fn map(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
}

fn container(id: &str, name: &str, labels: &[(&str, &str)]) -> PlacedContainer {
    let id = id.repeat(64 / id.len());
    PlacedContainer { id, names: vec![format!("/{name}")], labels: map(labels), ..PlacedContainer::default() }
}

fn image(id: &str, tags: &[&str]) -> PlacedImage {
    PlacedImage { id: format!("sha256:{}", id.repeat(64 / id.len())), tags: tags.iter().map(ToString::to_string).collect() }
}

/// Three nodes, the first of which leads.
fn cluster() -> Vec<Candidate> {
    let node = |name: &str, id: &str, labels: &[(&str, &str)]| Candidate {
        id: id.to_owned(),
        names: vec![name.to_owned()],
        healthy: true,
        labels: map(labels),
        nano_cpus: 4_000_000_000,
        memory: 1 << 30,
        ..Candidate::default()
    };
    let mut nodes = vec![
        node("node-a", "AAAA:1", &[("region", "us-west"), ("operatingsystem", "Debian GNU/Linux 13 (trixie)")]),
        node("node-b", "BBBB:1", &[("region", "us-east"), ("kernelversion", "6.12.1"), ("storagedriver", "overlay2")]),
        node("node-c", "CCCC:1", &[("ostype", "linux")]),
    ];
    nodes[0].names.push("master".to_owned());
    nodes[0].containers = vec![container("0a", "web", &[("tier", "front")]), container("0b", "db", &[])];
    nodes[1].containers = vec![container("1a", "cache", &[("tier", "back")])];
    nodes[0].images = vec![image("aa", &["nginx:latest", "nginx:1.25"]), image("bb", &["<none>:<none>"])];
    nodes[1].images = vec![image("aa", &["registry.lan:5000/team/nginx:latest"]), image("cc", &["redis:7"])];
    nodes
}

fn eligible_for(body: Value, nodes: &[Candidate]) -> Result<Vec<usize>, Unplaceable> {
    let mut body = body;
    eligible(&Request::take(&mut body).unwrap(), nodes)
}

#[test]
fn expressions_choose_nodes() {
    let nodes = cluster();
    for (expression, expected) in [
        ("constraint:node==node-a", &[0][..]),
        ("constraint:node==master", &[0]),
        ("constraint:node!=master", &[1, 2]),
        ("constraint:node==BBBB:1", &[1]),
        ("constraint:node==/node-[bc]/", &[1, 2]),
        ("constraint:node!=node-*", &[]),
        ("constraint:region==us*", &[0, 1]),
        ("constraint:region!=us*", &[2]),
        // A label that is not there is as an empty one.
        ("constraint:region==*", &[0, 1, 2]),
        ("constraint:region==/^$/", &[2]),
        ("constraint:Region==us*", &[]),
        ("constraint:operatingsystem==Debian GNU/Linux 13 (trixie)", &[0]),
        ("constraint:kernelversion==6.*", &[1]),
        ("constraint:storagedriver==overlay2", &[1]),
        ("constraint:ostype==linux", &[2]),
        ("affinity:container==web", &[0]),
        ("affinity:container==w*", &[0]),
        ("affinity:container!=web", &[1, 2]),
        ("affinity:container==/^(web|cache)$/", &[0, 1]),
        ("affinity:container==0a0a0a0a0a0a", &[0]),
        ("affinity:container==0a0a0a0a0a", &[]),
        ("affinity:container==1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a", &[1]),
        ("affinity:image==nginx", &[0]),
        ("affinity:image==nginx:1.25", &[0]),
        ("affinity:image==nginx:1", &[]),
        ("affinity:image==*nginx", &[0, 1]),
        ("affinity:image==registry.lan:5000/team/nginx", &[1]),
        ("affinity:image==aaaaaaaaaaaa", &[0, 1]),
        ("affinity:image!=redis", &[0, 2]),
        ("affinity:tier==front", &[0]),
        ("affinity:tier!=front", &[1, 2]),
        // `db` has no such label, `node-c` no container.
        ("affinity:tier==/^$/", &[0]),
        // Soft, and none satisfies it.
        ("constraint:node==~nobody", &[0, 1, 2]),
        ("affinity:container!=~*", &[2]),
        ("affinity:image==~nothing", &[0, 1, 2]),
    ] {
        let found = eligible_for(json!({"Env": [expression]}), &nodes);
        if expected.is_empty() {
            assert!(matches!(found, Err(Unplaceable::Conditions { .. })), "{expression}: {found:?}");
        } else {
            assert_eq!(found.as_deref(), Ok(expected), "{expression}");
        }
    }
}

#[test]
fn soft_expressions_fall_together() {
    let nodes = cluster();
    let body = json!({"Env": ["constraint:node==~node-b", "affinity:image==~nothing", "constraint:region==us*"]});
    assert_eq!(eligible_for(body, &nodes), Ok(vec![0, 1]));
    // Also where the node that they ask for has no room.
    let mut body = json!({"Env": ["constraint:node==~node-b"], "HostConfig": {"Memory": 1 << 29}});
    let request = Request::take(&mut body).unwrap();
    let mut nodes = cluster();
    assert_eq!(place(&request, &nodes, Strategy::Spread, 0), Ok(1));
    nodes[1].reserved_memory = 1 << 30;
    assert_ne!(place(&request, &nodes, Strategy::Spread, 0), Ok(1));
}

#[test]
fn only_healthy_nodes_take_containers() {
    let mut nodes = cluster();
    nodes[0].healthy = false;
    assert_eq!(eligible_for(json!({}), &nodes), Ok(vec![1, 2]));
    nodes[1].healthy = false;
    nodes[2].healthy = false;
    let error = "No healthy node available in the cluster";
    assert_eq!(eligible_for(json!({}), &nodes).unwrap_err().to_string(), error);
    assert_eq!(place(&Request::default(), &[], Strategy::Random, 5).unwrap_err().to_string(), error);
}

#[test]
fn ports_must_be_free() {
    let mut nodes = cluster();
    // Stopped, and its ports are its own still.
    nodes[0].containers[0].ports = vec![PublishedPort::new("0.0.0.0", 80, Protocol::Tcp)];
    nodes[1].containers[0].ports =
        vec![PublishedPort::new("127.0.0.1", 80, Protocol::Tcp), PublishedPort::new("", 53, Protocol::Udp)];
    nodes[2].containers.push(PlacedContainer {
        host_network: true,
        exposed: vec![ExposedPort::parse("80/tcp").unwrap()],
        ..container("2a", "host", &[])
    });
    let publish =
        |port: &str, ip: &str, host: &str| json!({"HostConfig": {"PortBindings": {port: [{"HostIp": ip, "HostPort": host}]}}});
    for (body, expected) in [
        (publish("80/tcp", "", "80"), &[2][..]),
        (publish("8080/tcp", "", "80"), &[2]),
        (publish("80/tcp", "127.0.0.1", "80"), &[2]),
        (publish("80/tcp", "192.168.200.1", "80"), &[1, 2]),
        (publish("80/tcp", "", ""), &[0, 1, 2]),
        (publish("80/tcp", "", "80-81"), &[0, 1, 2]),
        (publish("80/udp", "", "80"), &[0, 1, 2]),
        (publish("53/udp", "", "53"), &[0, 2]),
        (publish("53/tcp", "", "53"), &[0, 1, 2]),
        (json!({"ExposedPorts": {"80/tcp": {}}}), &[0, 1, 2]),
        (json!({"ExposedPorts": {"80/tcp": {}}, "HostConfig": {"NetworkMode": "host"}}), &[0, 1]),
        (json!({"ExposedPorts": {"80/udp": {}}, "HostConfig": {"NetworkMode": "host"}}), &[0, 1, 2]),
        (json!({"HostConfig": {"NetworkMode": "host"}}), &[0, 1, 2]),
    ] {
        assert_eq!(eligible_for(body.clone(), &nodes).as_deref(), Ok(expected), "{body}");
    }
}

#[test]
fn slots_are_counted() {
    for (limit, expected) in [
        ("2", &[1, 2][..]),
        ("3", &[0, 1, 2]),
        ("+3", &[0, 1, 2]),
        ("many", &[0, 1, 2]),
        ("", &[0, 1, 2]),
        ("-1", &[1, 2]),
        ("99999999999999999999", &[0, 1, 2]),
    ] {
        let mut nodes = cluster();
        nodes[0].labels.insert("containerslots".to_owned(), limit.to_owned());
        assert_eq!(eligible_for(json!({}), &nodes).as_deref(), Ok(expected), "{limit}");
    }
}

#[test]
fn dependencies_are_on_the_same_node() {
    let nodes = cluster();
    let id = "0b".repeat(32);
    for (host_config, expected) in [
        (json!({"VolumesFrom": ["db"]}), Some(0)),
        (json!({"VolumesFrom": ["db:ro"]}), Some(0)),
        (json!({"VolumesFrom": ["/db"]}), Some(0)),
        (json!({"VolumesFrom": [id]}), Some(0)),
        (json!({"VolumesFrom": [&id[..12]]}), Some(0)),
        (json!({"VolumesFrom": ["0b"]}), Some(0)),
        // Two begin so.
        (json!({"VolumesFrom": ["0"]}), None),
        (json!({"VolumesFrom": [""]}), None),
        (json!({"VolumesFrom": ["node-a/db"]}), Some(0)),
        (json!({"VolumesFrom": ["node-b/db"]}), None),
        (json!({"Links": ["cache:c"]}), Some(1)),
        (json!({"NetworkMode": "container:cache"}), Some(1)),
        (json!({"PidMode": "container:cache"}), Some(1)),
        (json!({"IpcMode": "container:web"}), Some(0)),
        (json!({"VolumesFrom": ["db"], "Links": ["web:w"]}), Some(0)),
        (json!({"VolumesFrom": ["db"], "Links": ["cache:c"]}), None),
        (json!({"NetworkMode": "bridge"}), Some(9)),
    ] {
        let found = eligible_for(json!({"HostConfig": host_config}), &nodes);
        match expected {
            Some(9) => assert_eq!(found, Ok(vec![0, 1, 2])),
            Some(index) => assert_eq!(found, Ok(vec![index]), "{host_config}"),
            None => {
                assert!(matches!(found, Err(Unplaceable::Conditions { filter: Filter::Dependency, .. })), "{host_config}");
            }
        }
    }
}

#[test]
fn errors_are_classic_swarms() {
    let nodes = cluster();
    let error = |body| eligible_for(body, &nodes).unwrap_err().to_string();
    let head = "Unable to find a node that satisfies the following conditions ";
    assert_eq!(
        error(json!({
            "Env": ["constraint:node==nobody", "constraint:region==~us*", "affinity:container==web", "affinity:image!=~redis"],
            "HostConfig": {"VolumesFrom": ["db:ro"], "PortBindings": {"80/tcp": [{"HostPort": "80"}, {"HostPort": ""}]}},
        })),
        format!(
            "{head}\n[port 80 (Bridge mode) port  (Bridge mode)]\n[available container slots]\n[--volumes-from=db:ro]\n\
             [container==web (soft=false) image!=redis (soft=true)]\n[node==nobody region==us*]"
        )
    );
    // Not beyond the filter that left none.
    let body = json!({"Env": ["constraint:node==nobody"], "HostConfig": {"NetworkMode": "container:x", "Links": ["y:z"]}});
    assert_eq!(error(body), format!("{head}\n[available container slots]\n[--link=y:z --net=container:x]"));
    let mut body = json!({"ExposedPorts": {"80/tcp": {}}, "HostConfig": {"NetworkMode": "host"}});
    let request = Request::take(&mut body).unwrap();
    let mut one = cluster();
    one.truncate(1);
    one[0].add(&request, "first");
    let again = eligible(&request, &one).unwrap_err();
    assert_eq!(again.to_string(), format!("{head}\n[port 80/tcp (Host mode)]"));
    let huge = Request { memory: 1 << 40, ..Request::default() };
    let error = place(&huge, &nodes, Strategy::Spread, 0).unwrap_err();
    assert_eq!(error.to_string(), "no resources available to schedule container");
}

/// A second `docker create` that comes before the engine lists the first container.
#[test]
fn a_container_under_way_counts() {
    let mut nodes = cluster();
    let mut body = json!({
        "Labels": {"tier": "new"},
        "HostConfig": {"Memory": 1 << 20, "NanoCpus": 5, "PortBindings": {"80/tcp": [{"HostPort": "80"}]}},
    });
    let request = Request::take(&mut body).unwrap();
    for expected in [Ok(2), Ok(1), Ok(0)] {
        let found = place(&request, &nodes, Strategy::Spread, 0);
        assert_eq!(found, expected);
        nodes[found.unwrap()].add(&request, "new");
    }
    assert!(matches!(place(&request, &nodes, Strategy::Spread, 0), Err(Unplaceable::Conditions { filter: Filter::Port, .. })));
    assert_eq!((nodes[0].reserved_memory, nodes[0].reserved_nano_cpus), (1 << 20, 5));
    for expression in ["affinity:container==new", "affinity:tier==new"] {
        assert_eq!(eligible_for(json!({"Env": [expression]}), &nodes), Ok(vec![0, 1, 2]));
    }
}

/// The retry of classic Swarm: the image is on some node and in no registry.
#[test]
fn the_api_can_add_wishes_of_its_own() {
    let nodes = cluster();
    let mut request = Request::default();
    request.affinities.push(Expression::exactly("image", "redis:7"));
    assert_eq!(eligible(&request, &nodes), Ok(vec![1]));
    let request = Request { constraints: vec![Expression::exactly("node", "nobody").soft()], ..Request::default() };
    assert_eq!(eligible(&request, &nodes), Ok(vec![0, 1, 2]));
}
