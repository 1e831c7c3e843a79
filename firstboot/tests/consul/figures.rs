//! What an idle cluster costs: figures for `docs/consul.md`, which judge nothing.
//!
//! `cargo test --release -p hcl-firstboot --test consul figures -- --ignored --nocapture`

use std::{
    fs, thread,
    time::{Duration, Instant},
};

use hcl_firstboot::consul::{Client, catalog::State};

use super::{agent::*, leading::Candidate};

/// How long each state of things is looked at.
const LOOK: Duration = Duration::from_secs(90);
/// How often a node tells of its engine.
const BEAT: Duration = Duration::from_secs(10);

struct Cost {
    written: u64,
    calls: u64,
    ticks: u64,
}

fn field(path: String, name: &str) -> u64 {
    let text = fs::read_to_string(path).unwrap();
    let line = text.lines().find(|line| line.starts_with(name)).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

fn cost(agent: &Agent) -> Cost {
    let pid = agent.pid();
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    // From the state on, the third field (proc(5)); 14 and 15 are user and system time.
    let fields: Vec<&str> = stat.rsplit_once(')').unwrap().1.split_whitespace().collect();
    let ticks = fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap();
    Cost { written: field(format!("/proc/{pid}/io"), "write_bytes"), calls: field(format!("/proc/{pid}/io"), "syscw"), ticks }
}

fn look(what: &str, agents: &[Agent], telling: &[Client]) {
    // What the change before set going is over.
    let settle = Instant::now() + Duration::from_secs(20);
    let mut before = None;
    let until = settle + LOOK;
    while Instant::now() < until {
        for client in telling {
            // On a machine that is busy elsewhere one may come too late.
            let _ = client.beat(State::Passing, "it answers");
        }
        thread::sleep(BEAT);
        if before.is_none() && Instant::now() > settle {
            before = Some((Instant::now(), agents.iter().map(cost).collect::<Vec<_>>()));
        }
    }
    let (since, before) = before.unwrap();
    let minutes = since.elapsed().as_secs_f64() / 60.0;
    for (agent, before) in agents.iter().zip(before) {
        let after = cost(agent);
        let resident = field(format!("/proc/{}/status", agent.pid()), "VmRSS:");
        println!(
            "figure: {what}: {} {}: {:.0} KB/min written, {:.0} writes/min, {:.2} % of a core, {:.1} MB resident",
            agent.setup.node_name,
            if agent.setup.server { "server" } else { "client" },
            (after.written - before.written) as f64 / 1000.0 / minutes,
            (after.calls - before.calls) as f64 / minutes,
            (after.ticks - before.ticks) as f64 / (minutes * 60.0),
            resident as f64 * 1.024 / 1000.0,
        );
    }
}

#[test]
#[ignore = "figures: eight minutes"]
fn figures() {
    let lab = Lab::new();
    let mut agents = lab.servers(3);
    agents.push(lab.start(&lab.setup(4)));
    look("idle", &agents, &[]);
    let candidates: Vec<Candidate> = agents.iter().take(3).map(Candidate::of).collect();
    look("with the lock", &agents, &[]);
    let telling: Vec<Client> = agents.iter().map(|agent| agent.client.with_token(&lab.secrets.agent)).collect();
    for client in &telling {
        client.register_engine(Duration::from_secs(30)).unwrap();
    }
    look("with the lock and beats to the disk", &agents, &telling);
    // As on a node: the states of checks lie in memory.
    let memory = tempfile::tempdir_in("/dev/shm").unwrap();
    for agent in &agents {
        let states = agent.setup.places.data.join("checks/state");
        fs::remove_dir_all(&states).unwrap();
        let own = memory.path().join(&agent.setup.node_name);
        fs::create_dir(&own).unwrap();
        std::os::unix::fs::symlink(&own, &states).unwrap();
    }
    look("with the lock and beats to memory", &agents, &telling);
    drop(candidates);
}
