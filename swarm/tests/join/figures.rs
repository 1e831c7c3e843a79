//! What it costs: figures for `docs/join.md`, which judge nothing.
//!
//! `cargo test --release -p hcl-swarm --test join figures -- --ignored --nocapture`

use std::{
    fs,
    path::Path,
    process::Command,
    thread,
    time::{Duration, Instant},
};

use super::{
    agent::Agent,
    dns,
    host::{Host, IMAGE, Running, enter, until},
};

/// How long each state of things is looked at.
const LOOK: Duration = Duration::from_secs(90);
/// After a change, until it is over.
const SETTLE: Duration = Duration::from_secs(20);

fn field(path: String, name: &str) -> u64 {
    let text = fs::read_to_string(path).unwrap();
    let line = text.lines().find(|line| line.starts_with(name)).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

/// Ticks of a processor, user and system (proc(5), fields 14 and 15).
fn ticks(pid: u32) -> u64 {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let fields: Vec<&str> = stat.rsplit_once(')').unwrap().1.split_whitespace().collect();
    fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap()
}

/// The entries of the servers' log so far.
fn entries(agent: &Agent) -> u64 {
    let own = agent.client.raw("GET", "/v1/agent/self", None).unwrap();
    let own: serde_json::Value = serde_json::from_slice(&own.body).unwrap();
    own.pointer("/Stats/raft/commit_index").and_then(|index| index.as_str()).unwrap().parse().unwrap()
}

fn look(what: &str, agent: &Agent, join: u32) {
    thread::sleep(SETTLE);
    let consul = agent.pid();
    let counts = || (field(format!("/proc/{consul}/io"), "write_bytes"), entries(agent), ticks(consul), ticks(join));
    let (begin, before) = (Instant::now(), counts());
    thread::sleep(LOOK);
    let (minutes, after) = (begin.elapsed().as_secs_f64() / 60.0, counts());
    let per_minute = |before: u64, after: u64| (after - before) as f64 / minutes;
    println!(
        "figure: {what}: Consul writes {:.0} KB/min, {:.1} entries of its log; {:.2} % of a core; join {:.2} % of a core, {:.1} MB resident, most {:.1} MB",
        per_minute(before.0, after.0) / 1000.0,
        per_minute(before.1, after.1),
        per_minute(before.2, after.2) / 60.0,
        per_minute(before.3, after.3) / 60.0,
        field(format!("/proc/{join}/status"), "VmRSS:") as f64 * 1.024 / 1000.0,
        field(format!("/proc/{join}/status"), "VmHWM:") as f64 * 1.024 / 1000.0,
    );
}

#[test]
#[ignore = "figures: four minutes"]
fn figures() {
    let _runtime = enter();
    let mut host = Host::new();
    host.start_consul();
    host.start_engine("");
    let options = host.options();
    let text = |path: &Path| path.display().to_string();
    let (listen, address) = (options.listen.to_string(), options.address.to_string());
    let arguments = [
        ("--listen", listen),
        ("--name", options.name),
        ("--address", address),
        ("--tls", text(&options.tls)),
        ("--engine", text(&options.engine)),
        ("--consul", text(&options.consul)),
        ("--token-file", text(&options.token_file)),
    ];
    let arguments: Vec<&str> = arguments.iter().flat_map(|(name, value)| [*name, value.as_str()]).collect();
    let program = Path::new(env!("CARGO_BIN_EXE_hcl-swarm"));
    let join = Running::start(program, &[&["join"], &arguments[..]].concat(), &host.at("join.log"));
    let consul = host.consul.as_ref().unwrap();
    look("no container", consul, join.pid());
    for number in 0..20 {
        host.docker(&["run", "-d", "--name", &format!("web{number}"), "-p", "80", "-eSERVICE_NAME=web", IMAGE, "httpd", "-f"]);
    }
    until("all of them", || (dns::ports("web").len() == 20).then_some(()));
    look("20 containers", consul, join.pid());

    // What the engine sends through it, one stream at a time.
    let folder = host.docker_certificates();
    for (what, arguments) in [("direct", None), ("carried", Some(&folder))] {
        let mut command = Command::new("docker");
        match arguments {
            None => command.env("DOCKER_HOST", format!("unix://{}", host.socket().display())),
            Some(folder) => command
                .env("DOCKER_HOST", format!("tcp://{}:2376", host.address()))
                .env("DOCKER_TLS_VERIFY", "1")
                .env("DOCKER_CERT_PATH", folder),
        };
        let begin = Instant::now();
        let script = "dd if=/dev/zero bs=1M count=500 2>/dev/null";
        let output = command.args(["run", "--rm", "-i", "--log-driver", "none", IMAGE, "sh", "-c", script]).output().unwrap();
        println!("figure: {what}: {} bytes of output in {:.2} s", output.stdout.len(), begin.elapsed().as_secs_f64());
    }
    println!(
        "figure: join {:.1} MB resident at most",
        field(format!("/proc/{}/status", join.pid()), "VmHWM:") as f64 * 1.024 / 1000.0
    );
}
