//! `hcl recover`.

use std::{
    fmt::Display,
    io::{self, BufRead, IsTerminal, Write},
    path::Path,
    process::ExitCode,
};

use super::{
    fail,
    service::{CLUSTER, NETWORK, systemctl},
};
use crate::{
    consul::{self, raft},
    driver::{self, Options},
    durable,
    engine::{self, Engine},
    health,
    http::Client,
    record::Record,
    services::{
        kept::{self, Kept},
        recover::{Facts, Recovery, plan},
    },
    status::{Status, uptime_ms},
};

/// Says what is lost, asks, and has this node go on alone; each line goes to `say` as it comes.
pub(super) fn recover(options: &Options, yes: bool, say: impl Fn(&dyn Display)) -> ExitCode {
    let status = match Status::read(&options.run_dir) {
        Ok(status) => status.filter(Status::is_alive),
        Err(error) => return fail(1, format_args!("reading the status in {}: {error}", options.run_dir.display())),
    };
    // Only it knows whether the others are there.
    let Some(status) = status else { return fail(3, health::NOT_RUNNING) };
    let recovery = look(options, status).and_then(|(facts, name)| plan(&facts, drawn()?).map(|recovery| (recovery, name)));
    let (recovery, name) = match recovery {
        Ok(planned) => planned,
        Err(why) => return fail(1, format_args!("nothing was done: {why}")),
    };
    say(&format_args!("{name} goes on alone, as the founder of a new cluster of the same key:"));
    for line in &recovery.lines {
        say(&format_args!("  {line}"));
    }
    if !(yes || agreed(&name)) {
        return fail(2, "nothing was done: type the node's name when you are asked for it, or add --yes");
    }
    match perform(options, &recovery) {
        Ok(()) => {
            say(&"done: `hcl status` shows how it goes on, and `sudo hcl health` what came of it");
            ExitCode::SUCCESS
        }
        Err(error) => fail(1, error),
    }
}

fn drawn() -> Result<[u8; 16], String> {
    let drawn = driver::random().map_err(|error| format!("random bytes: {error}"))?;
    let mut bytes = [0; 16];
    bytes.copy_from_slice(&drawn[..16]);
    Ok(bytes)
}

fn look(options: &Options, status: Status) -> Result<(Facts, String), String> {
    let engine = Engine::connect(Client::unix(engine::SOCKET)).ok();
    let swarm = engine.as_ref().and_then(|engine| engine.swarm_state().ok());
    let facts = Facts {
        record: read(&options.state)?,
        status,
        uptime_ms: uptime_ms(),
        kept: Kept::read(&kept::path(&options.state))?,
        swarm,
        // A manager without a majority lists no nodes.
        swarm_led: engine.is_some_and(|engine| engine.nodes().is_ok()),
        consul_state: raft::has_state(&Path::new(consul::STATE).join("data")),
        consul_led: consul::Client::new(consul::SOCKET, None).leader().is_ok_and(|leader| leader.is_some()),
    };
    let name = rustix::system::uname().nodename().to_string_lossy().into_owned();
    Ok((facts, name))
}

fn read(path: &Path) -> Result<Record, String> {
    let file = std::fs::read(path).map_err(|error| format!("{}: {error}", path.display()))?;
    Record::from_file(&file).map_err(|error| format!("{}: {error}", path.display()))
}

/// A person at a terminal types the node's name.
fn agreed(name: &str) -> bool {
    if !io::stdin().is_terminal() {
        return false;
    }
    // A terminal that takes no question gives no answer.
    let _ = write!(io::stderr(), "This cannot be taken back. Type {name} to go on: ");
    let mut line = String::new();
    io::stdin().lock().read_line(&mut line).is_ok() && line.trim() == name
}

/// Ends both programs, has what they keep say what is to be done, and starts them.
fn perform(options: &Options, recovery: &Recovery) -> Result<(), String> {
    systemctl("stop", CLUSTER)?;
    systemctl("stop", NETWORK)?;
    let written = write(options, recovery);
    // Whatever came of it, the node is to be there.
    let started = systemctl("start", NETWORK).and_then(|()| systemctl("start", CLUSTER));
    written.and(started)
}

/// The services' part comes first: what they have must not be forgotten for a founding that they do not know.
fn write(options: &Options, recovery: &Recovery) -> Result<(), String> {
    let path = kept::path(&options.state);
    recovery.kept.write(&path).map_err(|error| format!("{}: {error}", path.display()))?;
    let record = Record { membership: Some(recovery.membership.clone()), ..read(&options.state)? };
    let path = &options.state;
    durable::replace(path, &record.to_file(), 0o600).map_err(|error| format!("{}: {error}", path.display()))
}
