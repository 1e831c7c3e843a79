//! Against engines that are played: real sockets, real HTTP, and lists that a test changes.

mod fake;
mod health;
mod lookups;
mod tables;

use std::{future::Future, sync::Arc, time::Duration};

use tokio::time::{sleep, timeout};

use self::fake::Fake;
use super::*;

/// Nothing here takes longer.
const LIMIT: Duration = Duration::from_secs(30);

fn run(test: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async { timeout(LIMIT, test).await.expect("in time") });
}

/// A cluster of these engines, each healthy.
async fn cluster(fakes: &[&Fake]) -> Arc<Cluster> {
    let cluster = Cluster::new("node-1", None);
    cluster.set_members(fakes.iter().map(|fake| fake.member()).collect());
    until(|| cluster.engines().iter().all(|engine| engine.snapshot().is_healthy())).await;
    cluster
}

/// Waits until `is`.
async fn until(is: impl Fn() -> bool) {
    while !is() {
        sleep(Duration::from_millis(10)).await;
    }
}

fn id(digit: char) -> String {
    digit.to_string().repeat(64)
}

fn ids(engine: &Engine) -> Vec<String> {
    engine.snapshot().containers.iter().map(|container| container.id.clone()).collect()
}

#[test]
fn a_snapshot_has_everything() {
    run(async {
        let fake = Fake::start("node-1");
        fake.add_container(&id('a'), "web", "running");
        let cluster = cluster(&[&fake]).await;
        let snapshot = cluster.engines()[0].snapshot();
        let info = snapshot.info.as_ref().unwrap();
        assert_eq!((info.id.as_str(), info.cpus, info.memory, info.os_type.as_str()), ("ID-node-1", 4, 1 << 30, "linux"));
        assert_eq!((info.api_version.as_str(), info.min_api_version.as_str()), ("1.45", "1.24"));
        assert_eq!(info.swarm.state, SwarmState::Active);
        assert_eq!(info.labels, ["hypriot.arch=armv7l"]);
        let container = &snapshot.containers[0];
        assert_eq!((container.name(), container.state.as_str(), container.network_mode.as_str()), ("web", "running", "bridge"));
        assert_eq!(container.labels["app"], "web");
        assert_eq!(container.ports[0].public_port, Some(32768));
        let details = &container.details;
        assert_eq!((details.memory, details.nano_cpus, details.exit_code), (1 << 20, 500_000_000, 0));
        let published = Published { container: "80/tcp".to_owned(), ip: String::new(), port: Some(8080) };
        assert_eq!(details.published, [published]);
        assert_eq!(details.exposed, ["80/tcp"]);
        assert!(container.raw.get().contains("\"Status\""), "{}", container.raw);
        assert_eq!(snapshot.images[0].tags, ["busybox:latest"]);
        assert_eq!((snapshot.networks[0].name.as_str(), snapshot.networks[0].scope.as_str()), ("bridge", "local"));
        assert_eq!(snapshot.volumes[0].name, "data");
        assert!(snapshot.updated_at.is_some());
    });
}

#[test]
fn events_are_followed() {
    run(async {
        let fake = Fake::start("node-1");
        let cluster = cluster(&[&fake]).await;
        let engine = cluster.engines().remove(0);
        let mut events = cluster.events();
        fake.add_container(&id('a'), "web", "created");
        fake.tell("container", "create", &id('a'));
        until(|| ids(&engine) == [id('a')]).await;
        assert_eq!(fake.inspections(), 1);
        let event = events.recv().await.unwrap();
        assert_eq!((&*event.engine, event.fields.kind.as_str(), event.fields.action.as_str()), ("node-1", "container", "create"));
        assert_eq!(event.fields.actor.id, id('a'));
        // Several events, one question.
        let before = fake.questions();
        for action in ["attach", "exec_create: sh", "start", "health_status: healthy", "resize"] {
            fake.tell("container", action, &id('a'));
        }
        fake.add_container(&id('a'), "web", "running");
        until(|| engine.snapshot().containers[0].state == "running").await;
        assert_eq!(fake.questions() - before, 2, "one list, one inspection");
        fake.rename(&id('a'), "shop");
        fake.tell("container", "rename", &id('a'));
        until(|| engine.snapshot().containers[0].name() == "shop").await;
        fake.remove_container(&id('a'));
        fake.tell("container", "destroy", &id('a'));
        until(|| ids(&engine).is_empty()).await;
        fake.add_image("sha256:2", "nginx:latest");
        fake.tell("image", "pull", "nginx:latest");
        until(|| engine.snapshot().images.len() == 2).await;
        fake.tell("daemon", "reload", "");
        assert!(engine.snapshot().is_healthy());
    });
}

#[test]
fn callers_ask_for_their_own_changes() {
    run(async {
        let fake = Fake::start("node-1");
        let cluster = cluster(&[&fake]).await;
        let engine = cluster.engines().remove(0);
        fake.add_container(&id('a'), "web", "running");
        cluster.refresh_container(&engine, &id('a')).await.unwrap();
        assert_eq!(ids(&engine), [id('a')]);
        fake.remove_container(&id('a'));
        cluster.refresh_container(&engine, &id('a')).await.unwrap();
        assert!(ids(&engine).is_empty());
        // The beginning of an id is none.
        fake.add_container(&id('a'), "web", "running");
        cluster.refresh_container(&engine, "aaa").await.unwrap();
        assert!(ids(&engine).is_empty());
    });
}

#[test]
fn members_come_and_go() {
    run(async {
        let (one, two) = (Fake::start("node-1"), Fake::start("node-2"));
        let cluster = cluster(&[&one, &two]).await;
        assert!(cluster.master().is_none() && cluster.engine("master").is_none());
        cluster.set_master(Some("node-2".to_owned()));
        assert_eq!(cluster.engine("master").unwrap().name, "node-2");
        assert!(cluster.is_master(&cluster.master().unwrap()));
        for reference in ["node-1", "ID-node-1"] {
            assert_eq!(cluster.engine(reference).unwrap().name, "node-1");
        }
        assert!(cluster.engine("node").is_none() && cluster.engine("").is_none());
        // The own one first, whoever is the first by name.
        assert_eq!(cluster.manager().unwrap().name, "node-1");
        let kept = cluster.engine("node-1").unwrap();
        cluster.set_members(vec![one.member()]);
        assert_eq!(cluster.engines().len(), 1);
        assert!(Arc::ptr_eq(&kept, &cluster.engines()[0]));
        assert!(cluster.master().is_none());
        // Another address, another engine.
        let moved = Member { endpoint: two.member().endpoint, ..one.member() };
        cluster.set_members(vec![moved]);
        assert!(!Arc::ptr_eq(&kept, &cluster.engines()[0]));
        until(|| cluster.engines()[0].snapshot().id() == Some("ID-node-2")).await;
    });
}

#[test]
fn names_are_unique_also_while_a_container_is_made() {
    run(async {
        let (one, two) = (Fake::start("node-1"), Fake::start("node-2"));
        one.add_container(&id('a'), "web", "running");
        let cluster = cluster(&[&one, &two]).await;
        let taken = cluster.reserve_name("/web").err().unwrap();
        assert_eq!(
            taken.to_string(),
            format!(
                "Conflict: The name web is already assigned to {}. You have to delete (or rename) that container to be able to assign \
                 web to a container again.",
                id('a')
            )
        );
        let guard = cluster.reserve_name("/db").unwrap();
        assert_eq!(guard.name(), "db");
        assert!(cluster.reserve_name("db").is_err_and(|taken| taken.id.is_none()));
        let other = cluster.reserve_name("db2").unwrap();
        drop(guard);
        drop(cluster.reserve_name("db").unwrap());
        drop(other);
    });
}
