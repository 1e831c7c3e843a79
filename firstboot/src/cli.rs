//! The command line.
//!
//! Exit codes: 0 done (`status`: the network is ready, `health`: all is well), 1 failed (`status`: not ready, `health`: something is
//! wrong; `poweroff`, `reboot`: a node did not accept it), 2 wrong arguments or configuration or not root, 3 the program is not running
//! (`status`, `health`, `poweroff`, `reboot`).

mod order;
mod recover;
mod service;
mod user;

use std::{ffi::OsString, fmt::Display, io::Write, path::PathBuf, process::ExitCode};

use lexopt::Arg;

use crate::{
    clock,
    config::{ConfigError, NodeConfig, Vlan},
    dependencies::{self, Here},
    driver::{self, Console, Options, RunError},
    grow, health, report,
    services::{
        self,
        orders::{Order, local},
        state::ServicesStatus,
    },
    status::{STORY, Snapshot, Status, uptime_ms},
};

const HELP: &str = "\
hcl: this node of a Hypriot Cluster Lab

usage: hcl COMMAND [OPTION]...

  status [--json]   what the node is doing, since when and why
  health [--json]   what is right with the node and what is wrong, a line each;
                    as root
  log               what the node did since the boot, in plain words
  dependencies      the programs and kernel features that a node needs, and
                    whether they are here
  stop              leave the cluster until the next boot: end the program and
                    take back addresses, VLAN, firewall, settings and names;
                    as root
  start             come back before that; as root
  poweroff --all    switch off all nodes of the cluster, the leader last;
                    as root
  reboot --all      boot all of them anew; as root
    [--timeout SECONDS]
                    how long a node has for its answer: 10, at most 60
  recover [--yes]   go on alone after the cluster's servers are gone for good:
                    says what is lost, and asks; as root
  user add NAME     a certificate for the cluster's Docker endpoint, into
    [--out FOLDER]  ./docker-NAME unless a folder is named; as root
  user list         who was added and who was removed; as root
  user remove NAME  refuse all certificates in that name; as root
  report            a text about board and system to send with a bug report or
                    a success story; says what it leaves out
  help              this text
  --version         the version

What the system itself calls, as hcl-firstboot:

  run               make the cluster's network and keep it
                    (hcl-firstboot.service)
  cluster           bring engine, Consul and swarm into the cluster, and serve
                    the page (hcl-cluster.service)
  grow-root         grow the root file system to the end of the card
                    (hcl-grow-root.service)
  preflight         say what the kernel lacks for the engine (docker.service)
  clock             set the clock forward to the latest time that is certain
                    (hcl-clock.service)
  save-clock        keep the time for that (hcl-save-clock.service)

To try things out, with other files than the node's:

  --config FILE     /etc/hcl/node.toml
  --run-dir FOLDER  /run/hcl
  --etc FOLDER      /etc
  --state FILE      /var/lib/hcl/state
  --console FILE    /dev/console
  --key FILE        /etc/hcl/cluster.key
  --boot FOLDER     /boot/firmware, with hcl.toml and hcl-log.txt
  --root FOLDER     /, for the proc and sys with serial numbers and LED

exit codes:

  0  done; status: the network is ready; health, dependencies: all is well
  1  failed; status: it is not ready; health, dependencies: something is wrong;
     poweroff, reboot: a node that is named did not accept it;
     recover: it is not the cure, and why
  2  wrong arguments or configuration, or not root; recover: not agreed to
  3  hcl-firstboot is not running (status, health, recover), or left no story
     (log);
     hcl-cluster is not running (poweroff, reboot): nothing was ordered
";

#[derive(Debug, PartialEq, Eq)]
enum Command {
    Run,
    Cluster,
    Status { json: bool },
    Health { json: bool },
    Dependencies,
    Log,
    Stop,
    Start,
    Order { order: Order, timeout_s: u64 },
    Recover { yes: bool },
    User(user::Request),
    Report,
    GrowRoot,
    Preflight,
    Clock,
    SaveClock,
    Help,
    Version,
}

/// Runs what the arguments say.
pub fn main() -> ExitCode {
    let (command, options) = match parse(std::env::args_os()) {
        Ok(parsed) => parsed,
        Err(error) => return fail(2, error),
    };
    match command {
        Command::Run => run(&options),
        Command::Cluster => as_root("cluster", || done(services::run(&options))),
        Command::Status { json } => status(&options, json),
        Command::Health { json } => as_root("health", || health(&options, json)),
        Command::Dependencies => dependencies(&options),
        Command::Log => log(&options),
        Command::Stop => as_root("stop", || done(service::stop(&options, say))),
        Command::Start => as_root("start", || done(service::start(&options, say))),
        Command::Order { order, timeout_s } => {
            as_root(&format!("{order} --all"), || order::give(&options, order, timeout_s, say))
        }
        Command::Recover { yes } => as_root("recover", || recover::recover(&options, yes, say)),
        Command::User(request) => as_root("user", || done(user::run(&options, request, say))),
        Command::Report => {
            print(report::gather());
            ExitCode::SUCCESS
        }
        Command::GrowRoot => match grow::run(&Console::new(options.console)) {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => fail(1, error),
        },
        Command::Preflight => {
            preflight(&options);
            ExitCode::SUCCESS
        }
        Command::Clock => done(clock::set(&options.root).map(|line| say(&line))),
        Command::SaveClock => done(clock::save(&options.root)),
        Command::Help => {
            print(HELP);
            ExitCode::SUCCESS
        }
        Command::Version => {
            print(format_args!("hcl {}\n", crate::VERSION));
            ExitCode::SUCCESS
        }
    }
}

fn parse(arguments: impl IntoIterator<Item = OsString>) -> Result<(Command, Options), String> {
    let mut parser = lexopt::Parser::from_iter(arguments);
    let mut command = None;
    let mut options = Options::default();
    let (mut json, mut all, mut yes, mut timeout) = (false, false, false, None);
    // What follows `user`.
    let (mut words, mut out) = (None, None);
    let say = |error: lexopt::Error| format!("{error}; `hcl help` shows what there is");
    while let Some(argument) = parser.next().map_err(say)? {
        let path = |place: &mut PathBuf, parser: &mut lexopt::Parser| {
            *place = parser.value().map_err(say)?.into();
            Ok::<_, String>(())
        };
        match argument {
            Arg::Long("config") => path(&mut options.config, &mut parser)?,
            Arg::Long("run-dir") => path(&mut options.run_dir, &mut parser)?,
            Arg::Long("console") => path(&mut options.console, &mut parser)?,
            Arg::Long("etc") => path(&mut options.etc, &mut parser)?,
            Arg::Long("key") => path(&mut options.key, &mut parser)?,
            Arg::Long("state") => path(&mut options.state, &mut parser)?,
            Arg::Long("boot") => path(&mut options.boot, &mut parser)?,
            Arg::Long("root") => path(&mut options.root, &mut parser)?,
            Arg::Long("json") => json = true,
            Arg::Long("all") => all = true,
            Arg::Long("yes") => yes = true,
            Arg::Long("out") => out = Some(PathBuf::from(parser.value().map_err(say)?)),
            Arg::Long("timeout") => timeout = Some(seconds(&parser.value().map_err(say)?)?),
            Arg::Long("version") | Arg::Short('V') => return Ok((Command::Version, options)),
            Arg::Long("help") | Arg::Short('h') => return Ok((Command::Help, options)),
            // All commands are on one page.
            Arg::Value(_) if command == Some(Command::Help) => {}
            Arg::Value(word) if words.is_some() => words.get_or_insert_with(Vec::new).push(word),
            Arg::Value(word) if command.is_none() && word == "user" => words = Some(Vec::new()),
            Arg::Value(word) if command.is_none() => {
                command = Some(match word.to_str() {
                    Some("run") => Command::Run,
                    Some("cluster") => Command::Cluster,
                    Some("status") => Command::Status { json: false },
                    Some("health") => Command::Health { json: false },
                    Some("dependencies") => Command::Dependencies,
                    Some("log") => Command::Log,
                    Some("stop") => Command::Stop,
                    Some("start") => Command::Start,
                    Some("poweroff") => Command::Order { order: Order::Poweroff, timeout_s: local::TIMEOUT },
                    Some("reboot") => Command::Order { order: Order::Reboot, timeout_s: local::TIMEOUT },
                    Some("recover") => Command::Recover { yes: false },
                    Some("report") => Command::Report,
                    Some("grow-root") => Command::GrowRoot,
                    Some("preflight") => Command::Preflight,
                    Some("clock") => Command::Clock,
                    Some("save-clock") => Command::SaveClock,
                    Some("help") => Command::Help,
                    _ => return Err(format!("no command {word:?}; `hcl help` shows what there is")),
                });
            }
            other => return Err(say(other.unexpected())),
        }
    }
    let command = match (words, out) {
        (Some(words), out) => Command::User(user::Request::parse(&words, out)?),
        (None, Some(_)) => return Err("--out goes with `user add` only; `hcl help` shows what there is".to_owned()),
        (None, None) => command.unwrap_or(Command::Help),
    };
    match command {
        Command::Order { order, .. } if !all => {
            return Err(format!(
                "`hcl {order}` is for all nodes of the cluster: `sudo hcl {order} --all`; for this one alone: `sudo {order}`"
            ));
        }
        Command::Order { .. } => {}
        _ if all || timeout.is_some() => {
            return Err("--all and --timeout go with `poweroff` and `reboot` only; `hcl help` shows what there is".to_owned());
        }
        _ => {}
    }
    match command {
        Command::Recover { .. } => {}
        _ if yes => return Err("--yes goes with `recover` only; `hcl help` shows what there is".to_owned()),
        _ => {}
    }
    match command {
        Command::Status { .. } => Ok((Command::Status { json }, options)),
        Command::Health { .. } => Ok((Command::Health { json }, options)),
        _ if json => Err("--json goes with `status` and `health` only; `hcl help` shows what there is".to_owned()),
        Command::Order { order, timeout_s } => Ok((Command::Order { order, timeout_s: timeout.unwrap_or(timeout_s) }, options)),
        Command::Recover { .. } => Ok((Command::Recover { yes }, options)),
        command => Ok((command, options)),
    }
}

fn seconds(text: &std::ffi::OsStr) -> Result<u64, String> {
    let seconds = text.to_str().and_then(|text| text.parse().ok());
    seconds
        .filter(|seconds| (1..=local::LONGEST_TIMEOUT).contains(seconds))
        .ok_or_else(|| format!("--timeout {text:?}: a number of seconds from 1 to {}", local::LONGEST_TIMEOUT))
}

fn run(options: &Options) -> ExitCode {
    match driver::run(options) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error @ RunError::Config(_)) => fail(2, error),
        Err(error) => fail(1, error),
    }
}

fn status(options: &Options, json: bool) -> ExitCode {
    let status = match Status::read(&options.run_dir) {
        Ok(status) => status.filter(Status::is_alive),
        Err(error) => return fail(1, format_args!("reading the status in {}: {error}", options.run_dir.display())),
    };
    let Some(status) = status else {
        if json {
            print("{\"running\":false}\n");
        }
        // The usual reason first.
        return match NodeConfig::on_node(&options.config, &options.boot) {
            // The boot partition is root's.
            Err(ConfigError::Read { source, .. }) if source.kind() == std::io::ErrorKind::PermissionDenied => {
                fail(3, "hcl-firstboot is not running: `hcl log` says why, `sudo hcl start` starts it")
            }
            Err(error) => fail(3, format_args!("hcl-firstboot is not running: its configuration is wrong: {error}")),
            Ok(_) => fail(3, health::NOT_RUNNING),
        };
    };
    let host_name = rustix::system::uname().nodename().to_string_lossy().into_owned();
    let snapshot = Snapshot { status, host_name, uptime_ms: uptime_ms(), services: ServicesStatus::shown(&options.run_dir) };
    if json {
        print(format_args!("{}\n", snapshot.json()));
    } else {
        print(snapshot.table());
    }
    if snapshot.status.is_ready() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn health(options: &Options, json: bool) -> ExitCode {
    let (running, checks) = match health::look(options) {
        Ok((facts, checks)) => (facts.status.is_some(), checks),
        Err(error) => return fail(1, format_args!("looking at this node: {error}")),
    };
    let healthy = checks.iter().all(|check| check.pass);
    if json {
        let value = serde_json::json!({ "healthy": healthy, "running": running, "checks": checks });
        print(format_args!("{value}\n"));
    } else {
        checks.iter().for_each(|check| say(check));
    }
    match (running, healthy) {
        (false, _) => ExitCode::from(3),
        (true, false) => ExitCode::FAILURE,
        (true, true) => ExitCode::SUCCESS,
    }
}

fn dependencies(options: &Options) -> ExitCode {
    // With a wrong configuration nobody knows whether there will be a VLAN.
    let vlan = NodeConfig::as_far_as_seen(&options.config, &options.boot).map_or(true, |config| config.vlan != Vlan::Off);
    let checks = dependencies::checks(&Here::look(&options.root, &release()), vlan);
    checks.iter().for_each(|check| say(check));
    if checks.iter().all(|check| check.pass) { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// For the journal; the engine starts all the same, and says in its own words what does not work.
fn preflight(options: &Options) {
    dependencies::lacks(&Here::look(&options.root, &release())).iter().for_each(|check| say(check));
}

fn release() -> String {
    rustix::system::uname().release().to_string_lossy().into_owned()
}

fn log(options: &Options) -> ExitCode {
    let path = options.run_dir.join(STORY);
    match std::fs::read(&path) {
        Ok(text) => {
            say(&"Since the boot, h:mm:ss; `journalctl -b -u hcl-firstboot` has the rest.");
            print(String::from_utf8_lossy(&text));
            ExitCode::SUCCESS
        }
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => fail(
            3,
            "nothing to tell: hcl-firstboot has not run since the boot; `systemctl status hcl-firstboot` says why, `sudo hcl start` starts it",
        ),
        Err(error) => fail(1, format_args!("{}: {error}", path.display())),
    }
}

fn as_root(command: &str, run: impl FnOnce() -> ExitCode) -> ExitCode {
    if rustix::process::geteuid().is_root() {
        run()
    } else {
        fail(2, format_args!("`hcl {command}` needs root: `sudo hcl {command}`"))
    }
}

fn done(result: Result<(), String>) -> ExitCode {
    result.map_or_else(|error| fail(1, error), |()| ExitCode::SUCCESS)
}

fn say(line: &dyn Display) {
    print(format_args!("{line}\n"));
}

fn fail(code: u8, error: impl Display) -> ExitCode {
    // In one piece, since standard output may go to the same place. A reader that went away is not our failure.
    let _ = std::io::stderr().write_all(format!("hcl: {error}\n").as_bytes());
    ExitCode::from(code)
}

fn print(text: impl Display) {
    let _ = write!(std::io::stdout(), "{text}");
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(line: &str) -> Result<Command, String> {
        parse(line.split_whitespace().map(OsString::from)).map(|(command, _)| command)
    }

    #[test]
    fn commands() {
        assert_eq!(parsed("hcl"), Ok(Command::Help));
        assert_eq!(parsed("hcl status"), Ok(Command::Status { json: false }));
        assert_eq!(parsed("hcl status --json"), Ok(Command::Status { json: true }));
        assert_eq!(parsed("hcl --json status"), Ok(Command::Status { json: true }));
        assert_eq!(parsed("hcl dependencies"), Ok(Command::Dependencies));
        assert_eq!([parsed("hcl stop"), parsed("hcl start")], [Ok(Command::Stop), Ok(Command::Start)]);
        assert_eq!(parsed("hcl log"), Ok(Command::Log));
        assert_eq!(parsed("hcl health --json"), Ok(Command::Health { json: true }));
        assert_eq!(parsed("hcl-firstboot run --config a --run-dir b"), Ok(Command::Run));
        assert_eq!(parsed("hcl --version"), Ok(Command::Version));
        assert_eq!([parsed("hcl help stop"), parsed("hcl stop --help")], [Ok(Command::Help), Ok(Command::Help)]);
        let order = |order, timeout_s| Ok(Command::Order { order, timeout_s });
        assert_eq!(parsed("hcl poweroff --all"), order(Order::Poweroff, 10));
        assert_eq!(parsed("hcl --timeout 60 reboot --all"), order(Order::Reboot, 60));
        for line in ["hcl poweroff", "hcl reboot --timeout 5"] {
            assert!(parsed(line).unwrap_err().contains("for this one alone: `sudo "), "{line}");
        }
        for line in ["hcl status --all", "hcl stop --timeout 5", "hcl reboot --all --json"] {
            assert!(parsed(line).unwrap_err().contains(" only; "), "{line}");
        }
        assert_eq!(parsed("hcl recover --yes"), Ok(Command::Recover { yes: true }));
        assert_eq!(parsed("hcl recover"), Ok(Command::Recover { yes: false }));
        assert!(parsed("hcl stop --yes").unwrap_err().contains("`recover` only"));
        let add = user::Request::Add { name: "ada".parse().unwrap(), out: Some("x".into()) };
        assert_eq!(parsed("hcl user add ada --out x"), Ok(Command::User(add)));
        assert_eq!(parsed("hcl --out x user list").unwrap_err(), parsed("hcl status --out x").unwrap_err());
        for timeout in ["0", "61", "-1", "1.5", "x"] {
            assert!(parsed(&format!("hcl reboot --all --timeout {timeout}")).unwrap_err().contains("from 1 to 60"), "{timeout}");
        }
        for line in ["hcl statsu", "hcl status now", "hcl run --json", "hcl --config", "hcl -x"] {
            assert!(parsed(line).is_err(), "{line}");
        }
    }

    #[test]
    fn the_help_names_every_command() {
        for command in [
            "run",
            "cluster",
            "status",
            "health",
            "dependencies",
            "log",
            "stop",
            "start",
            "poweroff",
            "reboot",
            "recover",
            "user",
            "report",
            "grow-root",
            "preflight",
            "clock",
            "save-clock",
            "help",
            "--version",
        ] {
            assert!(HELP.contains(&format!("\n  {command} ")), "{command}");
        }
        assert!(HELP.lines().all(|line| line.len() <= 80), "a line breaks on a console of 80 columns");
    }
}
