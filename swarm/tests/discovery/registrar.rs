//! What containers publish stands in Consul, by Registrator's rules.

use std::time::Duration;

use serde_json::Value;

use super::{
    Stage,
    lab::{IMAGE, within},
    sleeper,
};

/// How soon a change has to be seen.
const SOON: Duration = Duration::from_secs(10);

fn wait_for(stage: &Stage, service: &str, count: usize) -> Vec<Value> {
    within(SOON, &format!("{count} of {service}"), || Some(stage.consul.service(service)).filter(|found| found.len() == count))
}

/// Published ports come and go with their containers.
pub fn published(stage: &Stage) {
    let node = stage.node(2);
    stage.docker.ok(&format!("docker run -d --name web -p 8080:80 -e constraint:node==node-2 {IMAGE} httpd -f"));
    // The image's base name, `hcl/test:1`.
    let found = wait_for(stage, "test", 1);
    let service = &found[0]["Service"];
    assert_eq!(
        (service["Address"].as_str(), service["Port"].as_u64()),
        (Some(node.address.to_string().as_str()), Some(8080)),
        "{service}"
    );
    assert_eq!((service["ID"].as_str(), found[0]["Node"]["Node"].as_str()), (Some("node-2:web:80"), Some("node-2")), "{service}");
    within(SOON, "a passing check", || {
        let checks = stage.consul.service("test")[0]["Checks"].as_array().cloned().unwrap_or_default();
        (checks.len() > 1 && checks.iter().all(|check| check["Status"] == "passing")).then_some(())
    });
    stage.docker.ok("docker stop -t 0 web");
    wait_for(stage, "test", 0);
    stage.docker.ok("docker start web");
    wait_for(stage, "test", 1);
    stage.docker.ok("docker rm -f web");
    wait_for(stage, "test", 0);
    // What publishes nothing is not there.
    sleeper(stage, "quiet", "node-2", "--expose 80");
    std::thread::sleep(Duration::from_secs(2));
    wait_for(stage, "test", 0);
}

/// Names and tags by label, by variable, by port, by Compose; and the wish to be left out.
pub fn names(stage: &Stage) {
    let web = |name: &str, options: &str| sleeper(stage, name, "node-3", options);
    web("web-a", "-p 80 -e SERVICE_NAME=by-variable -e SERVICE_TAGS=one,two");
    let found = wait_for(stage, "by-variable", 1);
    assert_eq!(found[0]["Service"]["Tags"], serde_json::json!(["one", "two"]));
    web("web-b", "-p 80 -l SERVICE_NAME=by-label");
    wait_for(stage, "by-label", 1);
    web("web-c", "-p 80 -p 81 -e SERVICE_80_NAME=first -e SERVICE_81_NAME=second -e SERVICE_81_TAGS=x");
    wait_for(stage, "first", 1);
    assert_eq!(wait_for(stage, "second", 1)[0]["Service"]["Tags"], serde_json::json!(["x"]));
    web("web-d", "-p 80 -e SERVICE_IGNORE=1 -e SERVICE_NAME=ignored");
    web("web-e", "-p 80 -p 81 -e SERVICE_NAME=half -e SERVICE_81_IGNORE=1");
    // A name for several ports has the port behind it.
    wait_for(stage, "half-80", 1);
    for name in ["web-f", "web-g"] {
        web(name, "-p 80 -l com.docker.compose.service=demo-hostname");
    }
    sleeper(stage, "web-h", "node-2", "-p 80 -l com.docker.compose.service=demo-hostname");
    wait_for(stage, "demo-hostname", 3);
    assert!(!stage.consul.services().contains(&"ignored".to_owned()), "{:?}", stage.consul.services());
    stage.docker.ok("docker rm -f web-g web-c");
    wait_for(stage, "demo-hostname", 2);
    wait_for(stage, "first", 0);
}

/// A container whose server has died is there, and not well.
pub fn checks(stage: &Stage) {
    // What listens goes at a word, while the container stays.
    let script = "httpd -f & echo $! >/tmp/pid; exec sleep 1000";
    stage.docker.ok(&format!(
        "docker run -d --name web -p 80 -e SERVICE_NAME=mortal -e constraint:node==node-2 {IMAGE} sh -c '{script}'"
    ));
    let status = |wanted: &str| {
        within(Duration::from_secs(40), wanted, || {
            let found = stage.consul.service("mortal");
            let checks = found.first()?["Checks"].as_array()?.clone();
            checks.iter().any(|check| check["ServiceName"] == "mortal" && check["Status"] == wanted).then_some(())
        });
    };
    status("passing");
    // A port that the engine forwards answers as long as the engine does: what counts is the container.
    stage.docker.ok("docker kill web");
    within(SOON, "its end", || stage.consul.service("mortal").is_empty().then_some(()));
}

/// A registrar that is started anew takes out what is no more and puts in what is new.
pub fn starts_anew(stage: &Stage) {
    let node = stage.node(2);
    sleeper(stage, "old", "node-2", "-p 80 -e SERVICE_NAME=old");
    wait_for(stage, "old", 1);
    stage.cluster.end("join", node, "KILL");
    node.ask("DELETE", "/containers/old?force=1", None);
    let body = serde_json::json!({ "Image": IMAGE, "Cmd": ["sleep", "1000"], "Env": ["SERVICE_NAME=new"], "HostConfig": { "PublishAllPorts": false, "PortBindings": { "80/tcp": [{ "HostPort": "" }] } }, "ExposedPorts": { "80/tcp": {} } });
    let (status, made) = node.ask("POST", "/containers/create?name=new", Some(&body));
    assert_eq!(status, 201, "{made}");
    assert_eq!(node.ask("POST", "/containers/new/start", None).0, 204);
    stage.cluster.join(node);
    wait_for(stage, "new", 1);
    wait_for(stage, "old", 0);
    // Told to stop, it takes its own out with it or leaves them to the next: either way none is wrong for long.
    assert!(stage.consul.services().contains(&"hcl-engine".to_owned()), "the engine is the node program's");
}
