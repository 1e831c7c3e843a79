use std::time::Duration;

use serde_json::json;

use super::*;
use crate::lab::probe::example;

const ALL: [&[Probe]; 6] = [GIVING, TAKING, AFTERWARDS, TAKING_AFTERWARDS, HEALTH_AFTERWARDS, STILL_GIVING];

fn judge(name: &str, code: i32, output: &str) -> Result<String, String> {
    let probe = ALL.into_iter().flatten().find(|probe| probe.name == name).unwrap();
    (probe.judge)(&Answer { code, output: output.to_owned(), took: Duration::ZERO }, &example())
}

/// What the page has of nodes with these roles, all in this state.
pub(in crate::lab) fn page(roles: &[&str], state: &str) -> String {
    let node = |role: &&str| {
        let consul = json!({ "state": "alive", "server": *role != "member" });
        json!({ "role": role, "state": state, "consul": consul, "swarm": { "state": "ready" } })
    };
    json!({ "leader": "node-1", "problems": [], "nodes": roles.iter().map(node).collect::<Vec<_>>() }).to_string()
}

#[test]
fn judges_say_yes_and_no() {
    let swarm = |nodes: &[(&str, &str, &str)]| {
        let line = |(status, availability, manager): &(&str, &str, &str)| {
            json!({ "Status": status, "Availability": availability, "ManagerStatus": manager }).to_string()
        };
        nodes.iter().map(line).collect::<Vec<_>>().join("\n")
    };
    let (first, second) = (("Ready", "Active", "Leader"), ("Ready", "Active", ""));
    let consul = |nodes: &[&str], alive: &[&str]| {
        let nodes: Vec<_> = nodes.iter().map(|name| json!({ "Node": name })).collect();
        let check = |name: &&str| json!({ "Node": name, "CheckID": "serfHealth", "Status": "passing" });
        let other = json!({ "Node": "c", "CheckID": "serfHealth", "Status": "critical" });
        let checks: Vec<_> = alive.iter().map(check).chain([other]).collect();
        format!("{}\n{}", json!(nodes), json!(checks))
    };
    let health = |pass: bool| json!({ "healthy": pass, "checks": [{ "pass": pass, "line": "the VLAN" }] }).to_string();
    let status = |role: &str| json!({ "role": role, "members": [] }).to_string();
    let rows: Vec<(&str, i32, String, bool)> = vec![
        ("swarm nodes", 0, swarm(&[first, second]), true),
        ("swarm nodes", 0, swarm(&[first]), false),
        ("swarm nodes", 0, swarm(&[first, ("Down", "Active", "")]), false),
        ("swarm nodes", 0, swarm(&[first, ("Ready", "Drain", "")]), false),
        ("swarm nodes", 0, swarm(&[second, second]), false),
        ("swarm nodes", 1, "This node is not a swarm manager".into(), false),
        ("swarm nodes afterwards", 0, swarm(&[second, first]), true),
        ("swarm nodes afterwards", 0, swarm(&[second]), false),
        ("consul nodes", 0, consul(&["a", "b"], &["a", "b"]), true),
        ("consul nodes", 0, consul(&["a", "b"], &["a"]), false),
        ("consul nodes", 0, consul(&["a"], &["a"]), false),
        ("consul nodes", 7, "curl: (7) Failed to connect".into(), false),
        ("service and routing mesh", 0, "a hello from a service\nb hello from a service".into(), true),
        ("service and routing mesh", 0, "a hello from a service".into(), false),
        ("service and routing mesh", 0, "a hello from a service\nb curl: (7)".into(), false),
        ("overlay network", 0, "running".into(), true),
        ("overlay network", 0, "docker: Error: deadline exceeded\nrunning".into(), true),
        ("overlay network", 0, "created".into(), false),
        ("overlay network", 0, "docker: Error: running".into(), false),
        ("overlay by name", 0, "hello over the overlay".into(), true),
        ("overlay by name", 1, "wget: bad address".into(), false),
        ("overlay by name afterwards", 0, "hello over the overlay".into(), true),
        ("overlay by name afterwards", 0, String::new(), false),
        ("identity", 0, "1\n2\n3\n4\n5\n6\n7".into(), true),
        ("identity", 0, "1\n2\n\n3".into(), false),
        ("identity kept", 0, String::new(), true),
        ("identity kept", 1, "3c3\n< a\n> b".into(), false),
        (STANDING_AFTERWARDS, 0, status("leader"), true),
        (STANDING_AFTERWARDS, 0, status("none"), false),
        ("cluster complete afterwards", 0, page(&["leader", "member"], "ready"), true),
        ("cluster complete afterwards", 0, page(&["leader", "member"], "silent"), false),
        ("cluster complete afterwards", 0, page(&["leader", "leader"], "ready"), false),
        ("cluster complete afterwards", 0, page(&["leader"], "ready"), false),
        ("cluster complete afterwards", 0, "curl: (7)".into(), false),
        ("health afterwards", 0, health(true), true),
        ("health afterwards", 1, health(false), false),
        ("swept", 0, String::new(), true),
        ("swept", 1, "Error: No such service".into(), false),
    ];
    for (name, code, output, passes) in &rows {
        assert_eq!(judge(name, *code, output).is_ok(), *passes, "{name}: {output}");
    }
    for probe in ALL.into_iter().flatten() {
        let has = |passes| rows.iter().any(|row| row.0 == probe.name && row.3 == passes);
        assert!(has(true) && has(false), "{} has no row that says yes or none that says no", probe.name);
    }
}
