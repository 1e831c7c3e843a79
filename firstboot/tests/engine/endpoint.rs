//! The containers of the cluster's Docker endpoint, in a real engine.

use std::{fs, path::PathBuf};

use hcl_firstboot::{
    endpoint::container::{JOIN, MANAGE, Places},
    identity::NodeId,
    key::ClusterKey,
    services::endpoint::Endpoint,
    trust::NodeNames,
};

use super::lab::Lab;

fn key() -> ClusterKey {
    ClusterKey::new([1; 32])
}

fn names(name: &str) -> NodeNames {
    NodeNames::new(NodeId([9; 16]), [192, 168, 200, 11].into(), name).unwrap()
}

/// A node's `/etc` with the image, and its places; the image is one that says what it is told and goes on.
fn node(lab: &mut Lab, host: u8) -> (PathBuf, Places) {
    let at = |name: &str| lab.at(host, name);
    let (etc, places) = (at("etc"), Places { state: at("state/swarm"), consul: at("consul"), engine: lab.socket(host) });
    let socket = places.consul.join("http.sock");
    for folder in [etc.join("hcl"), at("state"), places.consul.clone()] {
        fs::create_dir_all(folder).unwrap();
    }
    fs::write(socket, "").unwrap();
    fs::write(etc.join("hcl/images.json"), r#"{"consul":"hcl/consul:1.8.7","swarm":"hcl/swarm:1"}"#).unwrap();
    fs::write(etc.join("group"), "root:x:0:\ndocker:x:998:hcl\n").unwrap();
    lab.docker(host, "create --name make hcl/test:1 true");
    let script = at("hcl-swarm");
    // It reads what it is given, and can write nothing.
    fs::write(
        &script,
        "#!/bin/sh\nset -e\ntest -s $(echo \"$@\" | sed \"s/.*--token-file //; s/ .*//\")\ntest -s /var/lib/hcl/swarm/server-key.pem\n\
         test -e /run/hcl-consul/http.sock\n! touch /var/lib/hcl/swarm/x 2>/dev/null\n! touch /x 2>/dev/null\necho \"$@\"\nexec sleep 1000\n",
    )
    .unwrap();
    fs::set_permissions(&script, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    lab.docker(host, &format!("cp {} make:/hcl-swarm", script.display()));
    lab.docker(host, "commit make hcl/swarm:1");
    lab.docker(host, "rm make");
    (etc, places)
}

#[test]
fn as_it_shall_be() {
    let mut lab = Lab::new();
    let host = lab.engine();
    let engine = lab.connect(host);
    let (etc, places) = node(&mut lab, host);
    let leader = [192, 168, 200, 1].into();
    let endpoint = || Endpoint::new(&etc, leader, places.clone()).unwrap();
    let running = || lab.docker(host, "ps --format {{.Names}}").lines().map(str::to_owned).collect::<Vec<_>>();
    let id = |name: &str| lab.docker(host, &format!("inspect --format {{{{.Id}}}} {name}"));

    // A member has one, a server both; which can read all that it is given.
    let mut one = endpoint();
    one.keep(&engine, &key(), &names("node-9"), false).unwrap();
    assert_eq!(running(), [JOIN]);
    let join = id(JOIN);
    one.keep(&engine, &key(), &names("node-9"), true).unwrap();
    assert_eq!(running().len(), 2);
    assert_eq!(id(JOIN), join, "what is as it shall be stays");
    for (name, begins) in [(JOIN, "join --listen 192.168.200.11:2376 --name node-9"), (MANAGE, "manage --listen 0.0.0.0:2378")] {
        let said = lab.until(host, "ran it", || Some(lab.docker(host, &format!("logs {name}"))).filter(|said| !said.is_empty()));
        assert!(said.starts_with(begins), "{said}");
        let inspect = |what: &str| lab.docker(host, &format!("inspect --format {what} {name}"));
        let limits =
            inspect("{{.HostConfig.CapDrop}}{{.HostConfig.ReadonlyRootfs}}{{.HostConfig.NetworkMode}}{{.HostConfig.PidsLimit}}");
        assert_eq!(limits, "[ALL]truehost64");
    }
    assert!(!engine.users_objects().unwrap(), "both are ours");
    assert!(lab.docker(host, &format!("inspect {MANAGE}")).matches("docker.sock").count() == 0);

    // A new start of the program, with the same of all: nothing happens.
    let manage = id(MANAGE);
    endpoint().keep(&engine, &key(), &names("node-9"), true).unwrap();
    assert_eq!((id(JOIN), id(MANAGE)), (join.clone(), manage.clone()));
    // Somebody took a file and a container away.
    fs::remove_file(places.state.join("node.pem")).unwrap();
    lab.docker(host, &format!("rm -f {MANAGE}"));
    endpoint().keep(&engine, &key(), &names("node-9"), true).unwrap();
    assert!(places.state.join("node.pem").exists());
    assert_ne!(id(MANAGE), manage);
    assert_eq!(id(JOIN), join, "the file is the same one");
    // Another name: other certificates, which both have to read.
    let mut other = endpoint();
    other.keep(&engine, &key(), &names("node-8"), true).unwrap();
    assert_ne!(id(JOIN), join);
    // No server any more.
    other.keep(&engine, &key(), &names("node-8"), false).unwrap();
    assert_eq!(running(), [JOIN]);
    // The card's next image has none.
    fs::write(etc.join("hcl/images.json"), r#"{"consul":"hcl/consul:1.8.7"}"#).unwrap();
    let mut without = endpoint();
    without.keep(&engine, &key(), &names("node-8"), true).unwrap();
    assert_eq!(running(), [""; 0]);
    assert!(without.shown(true).contains("built without the image `swarm`"));
}

#[test]
fn what_stands_in_the_way() {
    let mut lab = Lab::new();
    let host = lab.engine();
    let engine = lab.connect(host);
    let (etc, places) = node(&mut lab, host);
    let mut endpoint = Endpoint::new(&etc, [192, 168, 200, 1].into(), places).unwrap();
    lab.docker(host, &format!("run -d --name {MANAGE} hcl/test:1 sleep 1000"));
    let wrong = endpoint.keep(&engine, &key(), &names("node-9"), true).unwrap_err();
    assert!(wrong.starts_with(&format!("the container {MANAGE} is a user's")), "{wrong}");
    // A node that is no server has nothing against it.
    endpoint.keep(&engine, &key(), &names("node-9"), false).unwrap();
    endpoint.wipe(&engine).unwrap();
    assert_eq!(lab.docker(host, "ps --format {{.Names}}"), MANAGE);
    lab.docker(host, "rmi hcl/swarm:1");
    let wrong = endpoint.keep(&engine, &key(), &names("node-9"), false).unwrap_err();
    assert!(wrong.starts_with("there is no image hcl/swarm:1"), "{wrong}");
}
