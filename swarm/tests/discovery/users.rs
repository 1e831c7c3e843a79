//! Who is let in: by name, by certificate, within seconds, on every server.

use std::time::Duration;

use hcl_firstboot::trust::Issued;
use serde_json::json;

use super::{
    Stage,
    lab::{Client, certificates, programs::carried, within},
};

/// How soon a removal has to be in force.
const SOON: Duration = Duration::from_secs(5);

/// A user of this name with a certificate of their own, asking each of both servers.
fn user(stage: &Stage, name: &str, folder: &str) -> (Vec<Client>, Issued) {
    let folder = stage.cluster.laptop.folder.join(folder);
    let trust = &stage.cluster.trust;
    let issued = certificates::user(trust, name);
    certificates::of_user(trust, &issued, &folder);
    let laptop = &stage.cluster.laptop;
    let client = |host: &str| Client::new(carried(), laptop, &laptop.folder).asking(&format!("tcp://{host}:2378"), &folder);
    (vec![client("master"), client("node-2")], issued)
}

fn let_in(clients: &[Client]) -> bool {
    clients.iter().all(|client| client.run("docker ps").code == 0)
}

fn kept_out(clients: &[Client]) -> bool {
    clients.iter().all(|client| {
        let said = client.run("docker ps");
        said.code != 0 && said.out.is_empty() && said.error.lines().count() == 1
    })
}

/// A removed user is refused everywhere, and so is whoever is connected already.
pub fn removed(stage: &Stage) {
    let (anna, _) = user(stage, "anna", "anna");
    assert!(let_in(&anna));
    let watching = anna[1].start("docker events 2>&1; echo ended");
    std::thread::sleep(Duration::from_secs(1));
    stage.consul.user("anna", &json!({ "removed": true, "kept": [], "added": [] }));
    within(SOON, "anna's end", || kept_out(&anna).then_some(()));
    // What runs ends too.
    watching.line_with("ended");
    assert!(stage.docker.run("docker ps").code == 0, "another one is let in");
}

/// Added again, the new certificate counts and the old one does not.
pub fn back_again(stage: &Stage) {
    let (old, _) = user(stage, "otto", "otto-old");
    stage.consul.user("otto", &json!({ "removed": true, "kept": [], "added": [] }));
    within(SOON, "otto's end", || kept_out(&old).then_some(()));
    let (new, issued) = user(stage, "otto", "otto-new");
    assert!(kept_out(&new), "a certificate alone is not enough after a removal");
    stage.consul.user("otto", &json!({ "removed": true, "kept": [issued.fingerprint()], "added": [] }));
    within(SOON, "otto's return", || let_in(&new).then_some(()));
    assert!(kept_out(&old));
    stage.consul.user("otto", &json!({ "removed": false, "kept": [], "added": [] }));
    within(SOON, "no rule for otto", || (let_in(&new) && let_in(&old)).then_some(()));
    // What cannot be read changes nothing for others.
    stage.consul.user("broken", &json!("nonsense"));
    std::thread::sleep(Duration::from_secs(1));
    assert!(let_in(&new) && stage.docker.run("docker ps").code == 0);
}

/// While Consul does not answer, what was known last holds.
pub fn without_consul(stage: &Stage) {
    let (gone, _) = user(stage, "gone", "gone");
    let (here, _) = user(stage, "here", "here");
    stage.consul.user("gone", &json!({ "removed": true, "kept": [], "added": [] }));
    within(SOON, "the removal", || kept_out(&gone).then_some(()));
    for node in &stage.cluster.nodes {
        stage.cluster.end("consul", node, "KILL");
    }
    std::thread::sleep(Duration::from_secs(3));
    assert!(kept_out(&gone) && let_in(&here));
    stage.docker.ok("docker info");
    for node in &stage.cluster.nodes {
        stage.consul.agent(node);
    }
    let (late, _) = user(stage, "late", "late");
    stage.consul.user("late", &json!({ "removed": true, "kept": [], "added": [] }));
    within(Duration::from_secs(30), "the next removal", || kept_out(&late).then_some(()));
}
