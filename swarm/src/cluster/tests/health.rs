//! Engines that do not answer.

use super::*;

fn why(engine: &Engine) -> Option<String> {
    match &engine.snapshot().health {
        Health::Unhealthy { why, .. } => Some(why.clone()),
        _ => None,
    }
}

#[test]
fn an_engine_that_stops_keeps_its_last_word() {
    run(async {
        let (mut fake, other) = (Fake::start("node-1"), Fake::start("node-2"));
        fake.add_container(&id('a'), "web", "running");
        let cluster = cluster(&[&fake, &other]).await;
        let engine = cluster.engine("node-1").unwrap();
        fake.stop();
        until(|| why(&engine).is_some()).await;
        let snapshot = engine.snapshot();
        assert_eq!(snapshot.id(), Some("ID-node-1"));
        assert_eq!(ids(&engine), [id('a')]);
        assert_eq!(cluster.container("web").unwrap().0.name, "node-1", "a container of a dead node is found");
        assert_eq!(cluster.manager().unwrap().name, "node-2");
        let first = match snapshot.health {
            Health::Unhealthy { since, .. } => since,
            _ => unreachable!(),
        };
        // Later tries say why, and leave since when.
        until(|| why(&engine).is_some_and(|why| why.contains("cannot connect"))).await;
        assert!(matches!(engine.snapshot().health, Health::Unhealthy { since, .. } if since == first));
        fake.restart();
        fake.remove_container(&id('a'));
        until(|| engine.snapshot().is_healthy()).await;
        assert!(ids(&engine).is_empty());
    });
}

/// Its connections stand, but it says nothing: a hung engine.
#[test]
fn an_engine_that_hangs_is_noticed_within_ten_seconds() {
    run(async {
        let fake = Fake::start("node-1");
        let cluster = cluster(&[&fake]).await;
        let engine = cluster.engines().remove(0);
        fake.hang(true);
        let began = std::time::Instant::now();
        until(|| why(&engine).is_some()).await;
        assert!(began.elapsed() < Duration::from_secs(10), "{:?}", began.elapsed());
        assert!(why(&engine).unwrap().ends_with("no answer within 3 s"), "{:?}", why(&engine));
        fake.hang(false);
        until(|| engine.snapshot().is_healthy()).await;
    });
}

#[test]
fn consuls_word_is_shown_and_has_the_engine_asked_at_once() {
    run(async {
        let mut fake = Fake::start("node-1");
        let cluster = cluster(&[&fake]).await;
        let engine = cluster.engines().remove(0);
        let said = Member { trouble: Some("Agent not live or unreachable".to_owned()), ..fake.member() };
        // It answers: that counts.
        cluster.set_members(vec![said.clone()]);
        sleep(Duration::from_millis(100)).await;
        assert!(engine.snapshot().is_healthy());
        fake.stop();
        until(|| why(&engine).is_some_and(|why| why.ends_with("(Consul: Agent not live or unreachable)"))).await;
    });
}

#[test]
fn an_engine_that_never_answered() {
    run(async {
        let mut fake = Fake::start("node-1");
        fake.stop();
        let cluster = Cluster::new("node-1", None);
        cluster.set_members(vec![fake.member()]);
        let engine = cluster.engines().remove(0);
        assert_eq!(engine.snapshot().health, Health::Pending);
        until(|| why(&engine).is_some()).await;
        assert!(engine.snapshot().info.is_none() && cluster.engine("ID-node-1").is_none() && cluster.manager().is_none());
        fake.restart();
        until(|| engine.snapshot().is_healthy()).await;
    });
}

#[test]
fn what_makes_no_sense_is_said() {
    run(async {
        let fake = Fake::start("node-1");
        fake.add_image("sha256:2", "nginx:latest");
        fake.answer("/images/json", "[{\"Id\": 7}]");
        let cluster = Cluster::new("node-1", None);
        cluster.set_members(vec![fake.member()]);
        let engine = cluster.engines().remove(0);
        until(|| why(&engine).is_some()).await;
        let why = why(&engine).unwrap();
        assert!(why.contains("GET /images/json: invalid type: integer `7`, expected a string"), "{why}");
    });
}
