//! The command line.
//!
//! Exit codes: 0 ended as told (SIGTERM, SIGINT), 1 failed, 2 wrong arguments.

use std::{
    ffi::OsString,
    fmt::Display,
    future::Future,
    io::{self, Write as _},
    net::{Ipv4Addr, SocketAddr},
    path::PathBuf,
    process::ExitCode,
    str::FromStr,
};

use lexopt::Arg;
use tokio::signal::unix::{SignalKind, signal};

use crate::{
    join,
    manage::{self, Source},
    schedule::Strategy,
    transport::Endpoint,
};

const HELP: &str = "\
hcl-swarm: the Docker API of a whole Hypriot Cluster Lab

usage: hcl-swarm COMMAND OPTION...

  manage            on servers: serve users the whole cluster as one Docker
                    engine
  join              on every node: carry the engine to other nodes, and tell
                    Consul of its containers
  help              this text
  --version         the version

options of both:

  --listen ADDRESS:PORT
                    where users, or other nodes, come to
  --name NODE       this node's name
  --address A.B.C.D this node's own address
  --tls FOLDER      its certificates and keys
  --consul SOCKET   its Consul
  --token-file FILE the token that Consul is asked with

of join:

  --engine SOCKET   its engine

of manage:

  --strategy spread|binpack|random
                    which of the nodes that do gets a container: the emptiest,
                    the fullest, or any; spread unless given
  --encrypt-overlays
                    encrypt overlay networks whose makers do not say; needs esp
                    in the nodes' kernels
  --log-requests    a line for each request on standard error, when its answer
                    begins: user, method, path, status, client
  --engine NODE=unix:///PATH
  --engine NODE=tls://A.B.C.D:PORT
                    an engine, instead of those that Consul knows; may be given
                    several times. Consul is not asked then: nobody is removed
                    from the users. For tests
  --master NODE     whose engine is called `master` too; with --engine only

exit codes:

  0  ended as told
  1  failed
  2  wrong arguments
";

#[derive(Debug)]
enum Command {
    Manage(manage::Options),
    Join(join::Options),
    Help,
    Version,
}

/// Runs what the arguments say.
pub fn main() -> ExitCode {
    match parse(std::env::args_os()) {
        Ok(Command::Help) => print(HELP),
        Ok(Command::Version) => print(format_args!("hcl-swarm {}\n", crate::VERSION)),
        Ok(Command::Manage(options)) => run(|stop| manage::run(options, stop)),
        Ok(Command::Join(options)) => run(|stop| join::run(options, stop)),
        Err(error) => fail(2, error),
    }
}

/// What was given, before it is known what it is for.
#[derive(Default)]
struct Given {
    listen: Option<SocketAddr>,
    name: Option<String>,
    address: Option<Ipv4Addr>,
    tls: Option<PathBuf>,
    consul: Option<PathBuf>,
    token_file: Option<PathBuf>,
    engines: Vec<String>,
    strategy: Option<Strategy>,
    encrypt_overlays: bool,
    log_requests: bool,
    master: Option<String>,
}

fn parse(arguments: impl IntoIterator<Item = OsString>) -> Result<Command, String> {
    let mut parser = lexopt::Parser::from_iter(arguments);
    let mut command = None;
    let mut given = Given::default();
    while let Some(argument) = parser.next().map_err(usage)? {
        match argument {
            Arg::Long("listen") => given.listen = Some(value(&mut parser, "listen")?),
            Arg::Long("name") => given.name = Some(value(&mut parser, "name")?),
            Arg::Long("address") => given.address = Some(value(&mut parser, "address")?),
            Arg::Long("tls") => given.tls = Some(parser.value().map_err(usage)?.into()),
            Arg::Long("consul") => given.consul = Some(parser.value().map_err(usage)?.into()),
            Arg::Long("token-file") => given.token_file = Some(parser.value().map_err(usage)?.into()),
            Arg::Long("engine") => given.engines.push(value(&mut parser, "engine")?),
            Arg::Long("strategy") => given.strategy = Some(value(&mut parser, "strategy")?),
            Arg::Long("encrypt-overlays") => given.encrypt_overlays = true,
            Arg::Long("log-requests") => given.log_requests = true,
            Arg::Long("master") => given.master = Some(value(&mut parser, "master")?),
            Arg::Long("version") | Arg::Short('V') => return Ok(Command::Version),
            Arg::Long("help") | Arg::Short('h') => return Ok(Command::Help),
            Arg::Value(word) if command.is_none() => command = Some(word),
            other => return Err(usage(other.unexpected())),
        }
    }
    match command.as_ref().map(|word| word.to_string_lossy()).as_deref() {
        Some("manage") => given.manage().map(Command::Manage),
        Some("join") => given.join().map(Command::Join),
        Some("help") => Ok(Command::Help),
        Some(other) => Err(usage(format_args!("there is no command '{other}'"))),
        None => Err(usage("no command")),
    }
}

impl Given {
    fn manage(self) -> Result<manage::Options, String> {
        let source = if self.engines.is_empty() {
            if self.master.is_some() {
                return Err(usage("--master goes with --engine only"));
            }
            Source::Consul { socket: needed(self.consul, "consul")?, token_file: needed(self.token_file, "token-file")? }
        } else {
            Source::Fixed { engines: self.engines.iter().map(|text| fixed(text)).collect::<Result<_, _>>()?, master: self.master }
        };
        // Which node this is stands in its certificates.
        needed(self.address, "address")?;
        Ok(manage::Options {
            listen: needed(self.listen, "listen")?,
            name: needed(self.name, "name")?,
            tls: needed(self.tls, "tls")?,
            strategy: self.strategy.unwrap_or_default(),
            encrypt_overlays: self.encrypt_overlays,
            log_requests: self.log_requests,
            source,
        })
    }

    fn join(mut self) -> Result<join::Options, String> {
        let switches = self.encrypt_overlays || self.log_requests;
        if switches || self.strategy.is_some() || self.master.is_some() || self.engines.len() > 1 {
            return Err(usage(
                "these go with manage only: --strategy, --encrypt-overlays, --log-requests, --master, a second --engine",
            ));
        }
        let listen = match needed(self.listen, "listen")? {
            SocketAddr::V4(address) => address,
            SocketAddr::V6(address) => return Err(usage(format_args!("--listen {address}: nodes have IPv4 addresses"))),
        };
        Ok(join::Options {
            listen,
            name: needed(self.name, "name")?,
            address: needed(self.address, "address")?,
            tls: needed(self.tls, "tls")?,
            engine: needed(self.engines.pop(), "engine")?.into(),
            consul: needed(self.consul, "consul")?,
            token_file: needed(self.token_file, "token-file")?,
        })
    }
}

fn fixed(text: &str) -> Result<(String, Endpoint), String> {
    let (name, place) = text.split_once('=').ok_or_else(|| usage(format_args!("--engine {text}: NODE=PLACE is expected")))?;
    Ok((name.to_owned(), place.parse().map_err(usage)?))
}

fn value<T: FromStr<Err: Display>>(parser: &mut lexopt::Parser, name: &str) -> Result<T, String> {
    let value = parser.value().map_err(usage)?;
    let text = value.to_str().ok_or_else(|| usage(format_args!("--{name} {}: this is no text", value.to_string_lossy())))?;
    text.parse().map_err(|error| usage(format_args!("--{name} {text}: {error}")))
}

fn needed<T>(value: Option<T>, name: &str) -> Result<T, String> {
    value.ok_or_else(|| usage(format_args!("--{name} is missing")))
}

fn usage(error: impl Display) -> String {
    format!("{error}; `hcl-swarm help` shows what there is")
}

/// Runs a server until it is told to end.
fn run<F, E>(serve: impl FnOnce(Stop) -> F) -> ExitCode
where
    F: Future<Output = Result<(), E>>,
    E: Display,
{
    // Two threads: one that encrypts for a stream does not hold up the others. More would only be memory.
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    let done = runtime.map_err(|error| format!("starting: {error}")).and_then(|runtime| {
        let stop = runtime.block_on(async { told() }).map_err(|error| format!("signals: {error}"))?;
        let done = runtime.block_on(serve(stop)).map_err(|error| error.to_string());
        runtime.shutdown_background();
        done
    });
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => fail(1, error),
    }
}

type Stop = std::pin::Pin<Box<dyn Future<Output = ()> + Send>>;

/// Ready on SIGTERM or SIGINT.
fn told() -> io::Result<Stop> {
    let (mut terminated, mut interrupted) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    Ok(Box::pin(async move {
        tokio::select! {
            _ = terminated.recv() => {}
            _ = interrupted.recv() => {}
        }
    }))
}

fn print(text: impl Display) -> ExitCode {
    // Whoever closed the pipe has seen enough.
    let _ = write!(io::stdout(), "{text}");
    ExitCode::SUCCESS
}

fn fail(code: u8, error: impl Display) -> ExitCode {
    eprintln!("hcl-swarm: {error}");
    ExitCode::from(code)
}

#[cfg(test)]
mod tests {
    use super::*;

    const COMMON: &str =
        "--listen 0.0.0.0:2378 --name node-1 --address 192.168.200.77 --tls /tls --consul /c.sock --token-file /token";

    fn parsed(line: &str) -> Result<Command, String> {
        parse(["hcl-swarm"].into_iter().chain(line.split_whitespace()).map(OsString::from))
    }

    fn manage(line: &str) -> manage::Options {
        match parsed(&format!("manage {COMMON} {line}")).unwrap() {
            Command::Manage(options) => options,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn as_the_node_program_calls_it() {
        let options = manage("");
        assert_eq!(options.listen, "0.0.0.0:2378".parse().unwrap());
        assert_eq!((options.name.as_str(), options.strategy), ("node-1", Strategy::Spread));
        assert_eq!(options.source, Source::Consul { socket: "/c.sock".into(), token_file: "/token".into() });
        let Command::Join(options) = parsed(&format!("join {COMMON} --engine /run/docker.sock")).unwrap() else { panic!() };
        assert_eq!(options.engine, PathBuf::from("/run/docker.sock"));
        assert_eq!(options.listen, "0.0.0.0:2378".parse().unwrap());
    }

    #[test]
    fn fixed_engines() {
        let options = manage("--engine a=unix:///a.sock --engine b=tls://127.0.0.2:2376 --master b --strategy binpack");
        let engines = vec![
            ("a".to_owned(), Endpoint::Unix("/a.sock".into())),
            ("b".to_owned(), Endpoint::Tls("127.0.0.2:2376".parse().unwrap())),
        ];
        assert_eq!(options.source, Source::Fixed { engines, master: Some("b".to_owned()) });
        assert_eq!(options.strategy, Strategy::Binpack);
    }

    #[test]
    fn what_is_wrong_is_said() {
        for (line, expected) in [
            ("", "no command"),
            ("serve", "there is no command 'serve'"),
            ("manage", "--consul is missing"),
            ("manage --consul /c --token-file /t --name x --tls /t", "--address is missing"),
            ("manage --master x", "--master goes with --engine only"),
            ("manage --strategy best", "--strategy best: there is no strategy 'best'"),
            ("manage --engine x", "--engine x: NODE=PLACE is expected"),
            ("manage --engine x=tcp://1.2.3.4:5", "an engine is unix:///PATH or tls://A.B.C.D:PORT"),
            ("manage --listen 2378", "--listen 2378: invalid socket address syntax"),
            ("join --strategy spread", "go with manage only"),
            ("join --log-requests", "go with manage only"),
            ("join --listen [::1]:2376", "nodes have IPv4 addresses"),
            ("join more", "unexpected argument \"more\""),
            ("manage --verbose", "invalid option '--verbose'"),
        ] {
            let error = parsed(line).unwrap_err();
            assert!(error.contains(expected) && error.ends_with("; `hcl-swarm help` shows what there is"), "{line}: {error}");
        }
    }

    #[test]
    fn help_and_version() {
        assert!(matches!(parsed("help"), Ok(Command::Help)));
        assert!(matches!(parsed("manage --help"), Ok(Command::Help)));
        assert!(matches!(parsed("--version"), Ok(Command::Version)));
        let common = ["listen", "name", "address", "tls", "consul", "token-file", "engine"];
        for option in common.into_iter().chain(["strategy", "encrypt-overlays", "log-requests", "master"]) {
            assert!(HELP.contains(&format!("  --{option}")), "{option}");
        }
    }
}
