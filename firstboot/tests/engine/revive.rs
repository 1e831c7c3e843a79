//! Containers whose overlay was not there when the engine came up: moby issue 32607 as it happens.

use std::time::{Duration, Instant};

use hcl_firstboot::engine::{Engine, JoinSwarm, Reviver, SwarmState};

use super::lab::{BOUND, Lab};

const RUN: &str = "run -d --init=false --network ov";

fn running(engine: &Engine) -> Vec<String> {
    let all = engine.containers().unwrap().into_iter().filter(|container| container.state == "running");
    let mut names: Vec<_> = all.map(|container| container.name().to_owned()).collect();
    names.sort();
    names
}

#[test]
fn they_come_back_once_the_overlay_does() {
    let mut lab = Lab::new();
    let [manager, worker] = [(); 2].map(|()| lab.engine());
    let [first, second] = [manager, worker].map(|host| lab.connect(host));
    first.init_swarm(&lab.founding(manager)).unwrap();
    let token = first.swarm().unwrap().join_tokens.worker;
    let managers = vec![lab.address(manager)];
    second.join_swarm(&JoinSwarm { address: lab.address(worker), managers, token }, BOUND).unwrap();
    lab.docker(manager, "network create -d overlay --attachable ov");
    let policies = [("always", "always"), ("unless", "unless-stopped"), ("failing", "on-failure"), ("once", "no")];
    for (name, policy) in policies {
        lab.docker(worker, &format!("{RUN} --restart {policy} --name {name} hcl/test:1 sleep 1000"));
        lab.docker(worker, &format!("{RUN} --restart {policy} --name {name}-stopped hcl/test:1 sleep 1000"));
        lab.docker(worker, &format!("stop -t 0 {name}-stopped"));
    }
    lab.docker(worker, "create --network ov --restart always --name never-ran hcl/test:1 sleep 1000");
    lab.docker(worker, "run -d --network container:always --restart always --name beside hcl/test:1 sleep 1000");
    lab.docker(worker, "run -d --network host --restart always --name local hcl/test:1 sleep 1000");
    let mut reviver = Reviver::default();
    assert!(reviver.look(&second, Instant::now()).unwrap().is_empty(), "all is as it was left");

    // All off; the worker comes back alone. Its engine tries once.
    lab.stop(worker);
    lab.stop(manager);
    lab.start(worker);
    lab.until(worker, "failed to start one", || {
        second.container("always").unwrap().filter(|there| !there.state.running && !there.state.error.is_empty())
    });
    assert_eq!(running(&second), ["local"]);

    // Now the manager does.
    lab.start(manager);
    lab.until(worker, "was in the swarm", || Some(second.swarm_state().unwrap()).filter(SwarmState::is_active));
    let mut now = Instant::now();
    let end = now + BOUND;
    // The engine starts a stopped one itself where its policy is `always`.
    let wanted = ["always", "always-stopped", "beside", "failing", "local", "unless"];
    let mut tried = Vec::new();
    while running(&second) != wanted {
        assert!(Instant::now() < end, "{:?} run after {tried:#?}", running(&second));
        tried.extend(reviver.look(&second, now).unwrap());
        // No need to wait for what is told the time.
        now += Duration::from_secs(5);
    }
    assert!(tried.iter().any(|revival| revival.name == "always" && revival.started.is_ok()), "{tried:#?}");

    // What a person stops stays so.
    lab.docker(worker, "stop -t 0 always unless failing");
    for _ in 0..3 {
        now += Duration::from_secs(600);
        assert!(reviver.look(&second, now).unwrap().iter().all(|revival| revival.name == "beside"));
    }
    assert_eq!(running(&second), ["always-stopped", "beside", "local"]);
}
