//! One engine: what it says of itself, containers of ours, and a user's objects.

use std::{
    fs,
    time::{Duration, Instant},
};

use hcl_firstboot::{
    engine::{ContainerSpec, Engine, Ensured, Error, Mount, Restart, SwarmState, SwarmWatch},
    http::Client,
    view,
};

use super::lab::{IMAGE, Lab, refusal};

#[test]
fn what_it_is() {
    let mut lab = Lab::new();
    let host = lab.engine();
    let engine = lab.connect(host);
    let version = engine.version().unwrap();
    assert_eq!(version.version, lab.docker(host, "version --format {{.Server.Version}}"));
    let offered = lab.docker(host, "version --format {{.Server.APIVersion}}");
    assert_eq!(engine.api().to_string(), if offered == "1.41" { "1.41" } else { "1.45" }.to_owned(), "{offered} is offered");
    let info = engine.info().unwrap();
    assert_eq!((info.driver.as_str(), info.docker_root_dir), ("overlay2", lab.at(host, "root")));
    assert_eq!(engine.swarm_state().unwrap(), SwarmState::None);
    assert_eq!(engine.images().unwrap()[0].repo_tags, [IMAGE]);
    lab.stop(host);
    let line = refusal(SwarmWatch::default().look(&engine, Instant::now()));
    assert!(
        line.starts_with("asking whether it is there: the engine gives no answer: ") && line.contains("docker.sock"),
        "{line}"
    );
    let line = refusal(Engine::connect(Client::unix(lab.socket(host))));
    assert!(line.contains("docker.sock"), "{line}");
}

#[test]
fn a_container_as_it_shall_be() {
    let mut lab = Lab::new();
    let host = lab.engine();
    let engine = lab.connect(host);
    let shared = lab.at(host, "shared");
    fs::create_dir(&shared).unwrap();
    let mut spec = ContainerSpec::new("hcl-a", IMAGE);
    spec.command = ["/bin/sh", "-c", "echo $WORD >/shared/word; exec sleep 1000"].map(str::to_owned).to_vec();
    spec.environment.insert("WORD".to_owned(), "one two".to_owned());
    spec.mounts.push(Mount { source: shared.clone(), target: "/shared".into(), read_only: false });
    spec.tmpfs.push("/tmp".into());
    spec.stop_timeout = Duration::from_secs(1);

    assert_eq!(engine.ensure_container(&spec).unwrap(), Ensured::Created);
    lab.until(host, "ran it", || fs::read_to_string(shared.join("word")).ok().filter(|word| word == "one two\n"));
    let id = |lab: &Lab| lab.docker(host, "inspect --format {{.Id}} hcl-a");
    let first = id(&lab);
    assert_eq!(engine.ensure_container(&spec).unwrap(), Ensured::Kept);
    lab.docker(host, "kill hcl-a");
    lab.until(host, "ended it", || engine.container("hcl-a").unwrap().filter(|there| !there.state.running));
    assert_eq!(engine.ensure_container(&spec).unwrap(), Ensured::Started);
    assert_eq!(id(&lab), first, "it is the same one");

    spec.environment.insert("WORD".to_owned(), "three".to_owned());
    assert_eq!(engine.ensure_container(&spec).unwrap(), Ensured::Replaced);
    assert_ne!(id(&lab), first);
    lab.until(host, "ran the other", || fs::read_to_string(shared.join("word")).ok().filter(|word| word == "three\n"));
    // Another image of the same name.
    lab.docker(host, "run --name other --entrypoint /bin/true hcl/test:1");
    lab.docker(host, &format!("commit other {IMAGE}"));
    lab.docker(host, "rm other");
    assert_eq!(engine.ensure_container(&spec).unwrap(), Ensured::Replaced);
    assert_eq!(engine.ensure_container(&spec).unwrap(), Ensured::Kept);
    assert!(!engine.users_objects().unwrap(), "all of it is ours");

    // It has what it was given and no more.
    let inspect = |what: &str| lab.docker(host, &format!("inspect --format {what} hcl-a"));
    assert_eq!(inspect("{{.HostConfig.CapDrop}}{{.HostConfig.ReadonlyRootfs}}{{.HostConfig.NetworkMode}}"), "[ALL]truehost");
    assert_eq!(inspect("{{.HostConfig.RestartPolicy.Name}}{{.Config.StopTimeout}}"), "always1");
    let (wrote, _) = lab.try_docker(host, "exec hcl-a sh -c >/bin/x");
    assert!(!wrote, "its file system is read-only");

    engine.stop_container("hcl-a", Duration::from_secs(1)).unwrap();
    engine.stop_container("hcl-a", Duration::from_secs(1)).unwrap();
    engine.remove_container("hcl-a").unwrap();
    engine.remove_container("hcl-a").unwrap();
    assert_eq!(engine.container("hcl-a").unwrap(), None);
    assert_eq!(engine.containers().unwrap(), []);
}

#[test]
fn a_container_that_cannot_be() {
    let mut lab = Lab::new();
    let host = lab.engine();
    let engine = lab.connect(host);
    let line = refusal(engine.ensure_container(&ContainerSpec::new("hcl-a", "hcl/none:1")));
    assert_eq!(line, "there is no image hcl/none:1 in the engine's store: `docker images` shows what there is");
    let mut spec = ContainerSpec::new("hcl-a", IMAGE);
    spec.command = vec!["/bin/nothing".to_owned()];
    spec.restart = Restart::Never;
    let line = refusal(engine.ensure_container(&spec));
    assert!(line.starts_with("starting the container hcl-a: the engine says: ") && line.contains("/bin/nothing"), "{line}");
    spec.command = ["/bin/sleep", "1000"].map(str::to_owned).to_vec();
    assert_eq!(engine.ensure_container(&spec).unwrap(), Ensured::Replaced, "what cannot start is in nobody's way");
    spec.mounts.push(Mount { source: "/nowhere".into(), target: "/a".into(), read_only: true });
    let line = refusal(engine.ensure_container(&spec));
    assert!(line.starts_with("making the container hcl-a: the engine says: ") && line.contains("/nowhere"), "{line}");
    // A user's is left alone.
    lab.docker(host, "run -d --name hcl-a hcl/test:1 sleep 1000");
    assert!(matches!(engine.ensure_container(&spec), Err(Error::NameTaken(name)) if name == "hcl-a"));
    assert_eq!(lab.docker(host, "ps --format {{.Names}}"), "hcl-a");
}

/// Image and ports, as the page shows them: of a service what every node answers at, of a container what its own does.
#[test]
fn what_is_published() {
    let mut lab = Lab::new();
    let host = lab.engine();
    let engine = lab.connect(host);
    engine.init_swarm(&lab.founding(host)).unwrap();
    let ports = "--publish 8080:80 --publish published=443,target=443 --publish published=53,target=53,protocol=udp \
                 --publish published=9000,target=90,mode=host";
    let digest = format!("sha256:{}", "3c".repeat(32));
    lab.docker(host, &format!("service create --detach --no-resolve-image --replicas 0 --name web {ports} hcl/test:1@{digest}"));
    // The managers give it its ports a moment later.
    let web =
        lab.until(host, "gave the service its ports", || engine.services().unwrap().pop().filter(|one| one.ports.len() > 1));
    assert_eq!((web.name.as_str(), web.ports), ("web", vec![443, 8080]));
    assert_eq!(view::image(&web.image), "hcl/test:1@sha256:3c3c3c3c3c3c");
    assert_eq!(web.tasks, Some((0, 0)));

    lab.docker(host, "network create --driver bridge users");
    let ports = "-p 8081:80 -p 127.0.0.1:8082:80 -p 53:53/udp --expose 90";
    lab.docker(host, &format!("run -d --name one --network users {ports} hcl/test:1 sleep 1000"));
    let one = engine.containers().unwrap().into_iter().find(|container| container.name() == "one").unwrap();
    assert_eq!((one.image.as_str(), one.ports()), ("hcl/test:1", vec![8081]));
}

#[test]
fn what_a_user_has_made() {
    let mut lab = Lab::new();
    let host = lab.engine();
    let engine = lab.connect(host);
    let found = || engine.users_objects().unwrap();
    assert!(!found());
    for (make, remove) in [
        ("create --name aa hcl/test:1 true", "rm aa"),
        ("volume create aa", "volume rm aa"),
        ("network create aa", "network rm aa"),
    ] {
        lab.docker(host, make);
        assert!(found(), "{make}");
        lab.docker(host, remove);
        assert!(!found(), "{remove}");
    }
    for ours in ["create --label hcl.system=1 hcl/test:1 true", "volume create --label hcl.system=1"] {
        lab.docker(host, ours);
    }
    assert!(!found(), "what is ours is no user's");
    lab.docker(host, &format!("swarm init --advertise-addr {}", lab.address(host)));
    assert!(!found(), "nor is what comes with a swarm");
    for (make, remove) in [
        ("service create --detach --no-resolve-image --replicas 0 --name aa hcl/test:1", "service rm aa"),
        ("network create -d overlay aa", "network rm aa"),
    ] {
        lab.docker(host, make);
        assert!(found(), "{make}");
        lab.docker(host, remove);
        lab.until(host, "removed it", || (!found()).then_some(()));
    }
    let line = refusal(engine.set_labels("none", &[("a", "b")]));
    assert_eq!(line, "labelling node none: the engine says: node none not found");
}
