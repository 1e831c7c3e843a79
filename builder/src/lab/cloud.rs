//! What is asked of the nodes as one cloud: engine, swarm, Consul, services and overlay networks, before and after the leader boots anew.

use std::collections::BTreeSet;

use serde_json::Value;

use super::{
    health,
    probe::{Answer, Expected, Probe, STANDING_SCRIPT, standing},
};

/// Waits until the cluster's page shows every node ready, for a quarter of an hour at most, and prints what it shows then. It does not look
/// often: three emulated boards keep two cores busy by themselves, and what looks at them is emulated too.
pub(super) const COMPLETE_SCRIPT: &str = r#"
    end=$(($(cut -d. -f1 /proc/uptime) + 900))
    while shown=$(curl -sS -m 10 http://localhost:8500/api/cluster 2>&1); [ "$(cut -d. -f1 /proc/uptime)" -lt "$end" ]; do
        ready=$(printf %s "$shown" | grep -o '"state":"ready","heard' | wc -l)
        servers=$(printf %s "$shown" | grep -o '"state":"alive","server":true' | wc -l)
        [ "$ready $servers" != "@NODES@ @SERVERS@" ] || break
        sleep 10
    done
    printf '%s\n' "$shown""#;

/// Nodes of the engine's swarm, a JSON object a line.
const SWARM_SCRIPT: &str = r"
    end=$(($(cut -d. -f1 /proc/uptime) + 180))
    while nodes=$(docker node ls --format '{{json .}}' 2>&1); [ $(cut -d. -f1 /proc/uptime) -lt $end ]; do
        [ $(printf '%s\n' $nodes | grep -c 'Ready') -lt @NODES@ ] || break
        sleep 5
    done
    docker node ls --format '{{json .}}'";

/// Asks for `/` on the cluster's network, by the name of a container that may run on another node.
const OVERLAY_SCRIPT: &str = r#"
    busybox=$(sed -n 's/.*"busybox": *"\([^"]*\)".*/\1/p' /etc/hcl/images.json)
    for try in 1 2 3 4 5 6; do
        docker run --rm --network hcl-probe-net "$busybox" wget -q -T 10 -O - http://hcl-probe-server:8000/greeting && exit 0
        sleep 5
    done
    exit 1"#;

/// On the leader: what it has to give to all.
pub const GIVING: &[Probe] = &[
    Probe {
        name: "swarm nodes",
        wants: "`docker node ls` on the leader has every node ready and active, and one leader among the managers",
        limit: 240,
        script: SWARM_SCRIPT,
        judge: swarm,
    },
    Probe {
        name: "consul nodes",
        wants: "Consul lists every node, and all of them alive",
        limit: 60,
        script: "curl -sS -m 20 http://localhost:8500/v1/catalog/nodes; echo; curl -sS -m 20 http://localhost:8500/v1/health/state/any",
        judge: consul,
    },
    Probe {
        name: "service and routing mesh",
        wants: "a service of three replicas answers on the address of every node",
        limit: 400,
        script: r#"
            busybox=$(sed -n 's/.*"busybox": *"\([^"]*\)".*/\1/p' /etc/hcl/images.json)
            docker service create --quiet --detach --name hcl-probe --replicas 3 --publish 8080:8000 --no-resolve-image "$busybox" \
                sh -c 'mkdir /www; echo hello from a service >/www/greeting; exec httpd -f -p 8000 -h /www' >/dev/null || exit 1
            end=$(($(cut -d. -f1 /proc/uptime) + 240))
            until [ "$(docker service ls --filter name=hcl-probe --format '{{.Replicas}}')" = 3/3 ]; do
                [ "$(cut -d. -f1 /proc/uptime)" -lt "$end" ] || { docker service ps --no-trunc hcl-probe; exit 1; }
                sleep 5
            done
            for address in $(hcl status --json | grep -o '"members":\[[^]]*' | grep -o '"address":"[0-9.]*"' | cut -d'"' -f4); do
                for try in 1 2 3 4 5 6; do
                    said=$(curl -sS -m 20 "http://$address:8080/greeting" 2>&1) && break
                    sleep 5
                done
                echo "$address $said"
            done"#,
        judge: greetings,
    },
    Probe {
        name: "overlay network",
        wants: "an attachable overlay network is made, and a container on it that comes back by itself",
        limit: 400,
        script: r#"
            set -e
            busybox=$(sed -n 's/.*"busybox": *"\([^"]*\)".*/\1/p' /etc/hcl/images.json)
            docker network create --driver overlay --attachable hcl-probe-net >/dev/null
            # The managers have twenty seconds to attach a container, which an emulated one that is busy may miss.
            for try in 1 2 3 4 5 6 7 8; do
                docker run --detach --name hcl-probe-server --restart always --network hcl-probe-net "$busybox" \
                    sh -c 'mkdir -p /www; echo hello over the overlay >/www/greeting; exec httpd -f -p 8000 -h /www' >/dev/null && break
                docker rm --force hcl-probe-server >/dev/null
                sleep 5
            done
            docker inspect --format '{{.State.Status}}' hcl-probe-server"#,
        // Above the last line stands why it was tried again.
        judge: |answer, _| match answer.succeeded()?.lines().next_back() {
            Some("running") => Ok("the container runs".into()),
            _ => Err(answer.quoted()),
        },
    },
];

// A literal, since it is part of other scripts.
macro_rules! identity {
    () => {
        r#"set -e
hcl status --json | grep -o '"incarnation": *"[0-9a-f]*"' | sort -u
cat /proc/sys/kernel/hostname /etc/machine-id
cut -d' ' -f2 /etc/ssh/ssh_host_ed25519_key.pub
docker info --format '{{.Swarm.NodeID}}'
docker info --format '{{.Swarm.NodeAddr}}'
known=$(curl -sSf -m 20 "http://localhost:8500/v1/catalog/node/$(cat /proc/sys/kernel/hostname)")
printf '%s' "$known" | grep -o '"ID":"[0-9a-f-]*","Node"'
"#
    };
}

/// Prints what must never change of a node, a fact a line: its founding, names and keys, its id and address in the swarm, and its own id as
/// Consul's catalog has it. Fails where one of them is not known.
pub const IDENTITY: &str = identity!();
/// The lines of it.
pub const IDENTITY_FACTS: usize = 7;

/// On every node, one after the other: what it gets from the others.
pub const TAKING: &[Probe] = &[
    Probe {
        name: "overlay by name",
        wants: "a container reaches one on the leader by its name, over the overlay network",
        limit: 300,
        script: OVERLAY_SCRIPT,
        judge: overlay,
    },
    Probe {
        name: "identity",
        wants: "names, addresses, keys and ids of the node, in swarm and Consul as well, are written down",
        limit: 60,
        script: concat!(
            "mkdir -p /var/lib/hcl-lab; cat >/var/lib/hcl-lab/identity <<'END'\n",
            identity!(),
            "END\nsh /var/lib/hcl-lab/identity >/var/lib/hcl-lab/before; code=$?; cat /var/lib/hcl-lab/before; exit $code"
        ),
        judge: |answer, _| match answer.succeeded()?.lines().filter(|line| !line.trim().is_empty()).count() {
            IDENTITY_FACTS => Ok(format!("{IDENTITY_FACTS} facts")),
            _ => Err(answer.quoted()),
        },
    },
];

/// On every node at once, after the leader booted anew.
pub const AFTERWARDS: &[Probe] = &[
    Probe {
        name: STANDING_AFTERWARDS,
        wants: "after the leader's reboot the node leads or follows",
        limit: 660,
        script: STANDING_SCRIPT,
        judge: standing,
    },
    Probe {
        name: "cluster complete afterwards",
        wants: "after the leader's reboot the cluster's page shows every node ready",
        limit: 960,
        script: COMPLETE_SCRIPT,
        judge: complete,
    },
    Probe {
        name: "identity kept",
        wants: "no name, address, key or id of the node has changed",
        limit: 60,
        script: "sh /var/lib/hcl-lab/identity | diff /var/lib/hcl-lab/before -",
        judge: |answer, _| {
            answer.succeeded()?;
            Ok("nothing has changed".into())
        },
    },
];

/// On every node, one after the other, once that is so.
pub const TAKING_AFTERWARDS: &[Probe] = &[Probe {
    name: "overlay by name afterwards",
    wants: "after the leader's reboot its container is back, and is reached by its name",
    limit: 300,
    script: OVERLAY_SCRIPT,
    judge: overlay,
}];

/// On every node at once, when nothing more is to come back.
pub const HEALTH_AFTERWARDS: &[Probe] = &[Probe {
    name: "health afterwards",
    wants: "after the leader's reboot every line of `hcl health` is a [PASS]",
    limit: 120,
    script: "hcl health --json",
    judge: health::judge,
}];

/// Where the node stands after the leader's reboot.
pub const STANDING_AFTERWARDS: &str = "cluster role afterwards";

/// On the node that led, once it is back.
pub const STILL_GIVING: &[Probe] = &[
    Probe {
        name: "swarm nodes afterwards",
        wants: "after its reboot `docker node ls` has every node ready and active, and one leader among the managers",
        limit: 240,
        script: SWARM_SCRIPT,
        judge: swarm,
    },
    Probe {
        name: "swept",
        wants: "service, container and network of this test can be removed",
        limit: 180,
        script: r#"
            set -e
            docker service rm hcl-probe >/dev/null
            docker rm --force hcl-probe-server >/dev/null
            for try in 1 2 3 4 5 6 7 8 9 10; do
                docker network rm hcl-probe-net >/dev/null && exit 0
                sleep 3
            done
            exit 1"#,
        judge: |answer, _| {
            answer.succeeded()?;
            Ok("removed".into())
        },
    },
];

fn swarm(answer: &Answer, expected: &Expected) -> Result<String, String> {
    let nodes: Vec<Value> = answer.succeeded()?.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
    let all = |key: &str, wanted: &str| nodes.iter().filter(|node| node[key] == wanted).count();
    let (ready, active, leaders) = (all("Status", "Ready"), all("Availability", "Active"), all("ManagerStatus", "Leader"));
    if (nodes.len(), ready, active, leaders) == (expected.nodes, expected.nodes, expected.nodes, 1) {
        let managers =
            nodes.iter().filter(|node| node["ManagerStatus"].as_str().is_some_and(|status| !status.is_empty())).count();
        Ok(format!("{ready} ready, {managers} of them managers"))
    } else {
        Err(answer.quoted())
    }
}

/// Catalog and health checks, a line each.
fn consul(answer: &Answer, expected: &Expected) -> Result<String, String> {
    let lists: Vec<Value> = answer.succeeded()?.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
    let [Value::Array(nodes), Value::Array(checks)] = &lists[..] else { return Err(answer.quoted()) };
    let names: BTreeSet<&str> = nodes.iter().filter_map(|node| node["Node"].as_str()).collect();
    let alive = |check: &&Value| check["CheckID"] == "serfHealth" && check["Status"] == "passing";
    let alive: BTreeSet<&str> = checks.iter().filter(alive).filter_map(|check| check["Node"].as_str()).collect();
    if names.len() == expected.nodes && names == alive { Ok(format!("{names:?} alive")) } else { Err(answer.quoted()) }
}

/// A line for each node: its address, and what the service said there.
fn greetings(answer: &Answer, expected: &Expected) -> Result<String, String> {
    let lines: Vec<&str> = answer.succeeded()?.lines().collect();
    let right = lines.iter().filter(|line| line.ends_with(" hello from a service")).count();
    if right == lines.len() && right == expected.nodes { Ok(format!("on {right} nodes")) } else { Err(answer.quoted()) }
}

fn overlay(answer: &Answer, _: &Expected) -> Result<String, String> {
    let said = answer.succeeded()?;
    if said.lines().any(|line| line == "hello over the overlay") { Ok(said.to_owned()) } else { Err(answer.quoted()) }
}

/// What the page has: every node ready, alive in Consul and in the swarm, one of them the leader, and as many servers as there shall be.
pub(super) fn complete(answer: &Answer, expected: &Expected) -> Result<String, String> {
    let view: Value = serde_json::from_str(answer.first_line()).map_err(|_| answer.quoted())?;
    let nodes = view["nodes"].as_array().ok_or_else(|| answer.quoted())?;
    let wrong =
        |node: &&Value| node["state"] != "ready" || node["consul"]["state"] != "alive" || node["swarm"]["state"] != "ready";
    let wrong: Vec<String> = nodes.iter().filter(wrong).map(ToString::to_string).collect();
    let leaders = nodes.iter().filter(|node| node["role"] == "leader").count();
    // What gossip says: the role on the page is what shall be.
    let servers = nodes.iter().filter(|node| node["consul"]["server"] == true).count();
    let wanted = expected.servers();
    if nodes.len() == expected.nodes && wrong.is_empty() && leaders == 1 && servers == wanted {
        Ok(format!("{} ready, led by {}", nodes.len(), view["leader"].as_str().unwrap_or("nobody")))
    } else {
        Err(format!(
            "{} nodes, {leaders} leaders, {servers} of {wanted} servers, problems {}, not ready: {}",
            nodes.len(),
            view["problems"],
            wrong.join("; ")
        ))
    }
}

#[cfg(test)]
#[path = "cloud_tests.rs"]
pub(super) mod tests;
