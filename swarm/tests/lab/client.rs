//! A person at a laptop on the wire, who has one Docker client and types commands.

use std::{
    fmt,
    io::{BufRead, BufReader, Read, Write},
    path::{Path, PathBuf},
    process::{Child, ChildStdin, Command, Stdio},
    sync::mpsc::{self, Receiver},
    thread,
    time::{Duration, Instant},
};

use super::{cluster::Machine, programs::Docker};

/// How long a command may take; those of a person end far sooner.
const LIMIT: &str = "240";

/// A shell in which `docker` is one certain client and asks one certain engine or cluster.
#[derive(Clone, Debug)]
pub struct Client {
    /// Which client, such as `26.1.5`.
    pub version: String,
    /// Where the commands run.
    machine: Machine,
    /// `docker`, `docker-compose`.
    programs: PathBuf,
    environment: Vec<(String, String)>,
}

/// What a command came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Said {
    /// Its exit code.
    pub code: i32,
    /// On standard output, without space at its ends.
    pub out: String,
    /// On standard error, likewise.
    pub error: String,
}

impl fmt::Display for Said {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let short = |text: &str| text.chars().take(4000).collect::<String>();
        write!(f, "exit {}\n{}\n{}", self.code, short(&self.out), short(&self.error))
    }
}

impl Client {
    /// `docker` is `program` and runs on `machine`; `folder` is for what it needs.
    pub fn new(program: &Docker, machine: &Machine, folder: &Path) -> Self {
        let programs = folder.join(format!("docker-{}", program.version));
        let config = programs.join("config");
        if !programs.exists() {
            std::fs::create_dir_all(&config).unwrap();
            std::os::unix::fs::symlink(&program.path, programs.join("docker")).unwrap();
            let mut settings = serde_json::json!({});
            if let Some(compose) = &program.compose {
                std::os::unix::fs::symlink(compose, programs.join("docker-compose")).unwrap();
                let plugins = std::fs::canonicalize(compose).unwrap();
                settings = serde_json::json!({ "cliPluginsExtraDirs": [plugins.parent().unwrap()] });
            }
            std::fs::write(config.join("config.json"), settings.to_string()).unwrap();
        }
        let environment = vec![("DOCKER_CONFIG".to_owned(), config.display().to_string())];
        Self { version: program.version.clone(), machine: machine.clone(), programs, environment }
    }

    /// The same, with another variable in its environment.
    pub fn with(mut self, name: &str, value: &str) -> Self {
        self.environment.retain(|(other, _)| other != name);
        self.environment.push((name.to_owned(), value.to_owned()));
        self
    }

    /// The same, asking `host` with the certificate in `folder`.
    pub fn asking(self, host: &str, folder: &Path) -> Self {
        self.with("DOCKER_HOST", host).with("DOCKER_CERT_PATH", &folder.display().to_string()).with("DOCKER_TLS_VERIFY", "1")
    }

    /// Whether it is of this version or a newer one.
    pub fn since(&self, major: u32) -> bool {
        self.version.split('.').next().and_then(|number| number.parse().ok()).is_some_and(|number: u32| number >= major)
    }

    /// A shell command of this person's, not started.
    pub fn command(&self, line: &str) -> Command {
        let path = std::env::var("PATH").unwrap_or_default();
        let mut command = Command::new("timeout");
        command.args(["--foreground", "--kill-after=5", LIMIT]);
        command.args(self.machine.enter()).args(["sh", "-c", line]);
        command.env("PATH", format!("{}:{path}:/usr/sbin:/sbin", self.programs.display()));
        for name in ["DOCKER_HOST", "DOCKER_TLS_VERIFY", "DOCKER_CERT_PATH", "DOCKER_API_VERSION", "DOCKER_CONTEXT"] {
            command.env_remove(name);
        }
        // Python's requests would trust these instead of what it is told.
        command.env_remove("REQUESTS_CA_BUNDLE").env_remove("CURL_CA_BUNDLE");
        command.env("DOCKER_BUILDKIT", "0").env("TERM", "xterm").envs(self.environment.iter().cloned());
        command.current_dir("/").stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    /// Runs a shell command, whatever comes of it.
    pub fn run(&self, line: &str) -> Said {
        let output = self.command(line).output().unwrap();
        let text = |bytes| String::from_utf8_lossy(bytes).trim().to_owned();
        Said { code: output.status.code().unwrap_or(-1), out: text(&output.stdout), error: text(&output.stderr) }
    }

    /// Runs a shell command that must succeed; what it printed.
    #[track_caller]
    pub fn ok(&self, line: &str) -> String {
        let said = self.run(line);
        assert!(said.code == 0, "{}: {line}\n{said}", self.version);
        said.out
    }

    /// Runs a shell command that must fail with `code`; its error message.
    #[track_caller]
    pub fn fails(&self, code: i32, line: &str) -> String {
        let said = self.run(line);
        assert!(said.code == code, "{}: {line}: not {code}\n{said}", self.version);
        said.error
    }

    /// Runs a shell command that must print just this.
    #[track_caller]
    pub fn prints(&self, line: &str, wanted: &str) {
        let said = self.run(line);
        assert!(said.code == 0 && said.out == wanted, "{}: {line}\nwanted: {wanted}\n{said}", self.version);
    }

    /// Starts a shell command whose output is read line by line while it runs.
    pub fn start(&self, line: &str) -> Background {
        let mut child = self.command(line).stdin(Stdio::piped()).stderr(Stdio::inherit()).spawn().unwrap();
        let input = child.stdin.take();
        let output = BufReader::new(child.stdout.take().unwrap());
        let (send, lines) = mpsc::channel();
        thread::spawn(move || {
            for line in output.lines() {
                let Ok(line) = line else { break };
                if send.send(line).is_err() {
                    break;
                }
            }
        });
        Background { child, input, lines, what: line.to_owned() }
    }

    /// Runs a shell command with these bytes as its input; exit code and output.
    pub fn feed(&self, line: &str, bytes: &[u8]) -> (i32, Vec<u8>) {
        let mut child = self.command(line).stdin(Stdio::piped()).stderr(Stdio::inherit()).spawn().unwrap();
        let mut input = child.stdin.take().unwrap();
        let bytes = bytes.to_vec();
        // It may end before it has read all.
        let writer = thread::spawn(move || drop(input.write_all(&bytes)));
        let mut out = Vec::new();
        child.stdout.take().unwrap().read_to_end(&mut out).unwrap();
        let code = child.wait().unwrap().code().unwrap_or(-1);
        writer.join().unwrap();
        (code, out)
    }
}

/// A command that runs while others are typed.
pub struct Background {
    child: Child,
    input: Option<ChildStdin>,
    lines: Receiver<String>,
    what: String,
}

impl Background {
    /// The next line that has `text` in it; those before it are passed over. Fails when none comes.
    #[track_caller]
    pub fn line_with(&self, text: &str) -> String {
        let end = Instant::now() + Duration::from_secs(60);
        let mut before = Vec::new();
        loop {
            match self.lines.recv_timeout(end.saturating_duration_since(Instant::now())) {
                Ok(line) if line.contains(text) => return line,
                Ok(line) => before.push(line),
                Err(error) => panic!("{}: no line with {text} ({error}) but\n{}", self.what, before.join("\n")),
            }
        }
    }

    /// The next line, if one comes in this time.
    pub fn line_within(&self, limit: Duration) -> Option<String> {
        self.lines.recv_timeout(limit).ok()
    }

    /// Types something.
    pub fn type_in(&mut self, text: &str) {
        let input = self.input.as_mut().expect("its input is closed");
        input.write_all(text.as_bytes()).unwrap();
        input.flush().unwrap();
    }

    /// Closes its input.
    pub fn close(&mut self) {
        self.input = None;
    }

    /// Waits until it ends of itself; its exit code and the lines that were not looked at.
    #[track_caller]
    pub fn end(mut self) -> (i32, Vec<String>) {
        self.input = None;
        let lines = self.lines.iter().collect();
        (self.child.wait().unwrap().code().unwrap_or(-1), lines)
    }

    /// Sends it a signal, as `Control+C` does.
    pub fn signal(&self, signal: rustix::process::Signal) {
        let pid = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process(pid, signal).unwrap();
    }
}

impl Drop for Background {
    fn drop(&mut self) {
        if let Ok(None) = self.child.try_wait() {
            self.signal(rustix::process::Signal::TERM);
            let _ = self.child.wait();
        }
    }
}
