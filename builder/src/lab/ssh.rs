//! Logging into a node with the system's `ssh`.

use std::{
    io::{BufRead, BufReader, Read, Write},
    os::unix::process::CommandExt,
    path::Path,
    process::{Child, Command, Stdio},
    sync::mpsc::{RecvTimeoutError, channel},
    time::{Duration, Instant},
};

use anyhow::{Context, bail};

use super::{login::Login, process::find};

/// How long one attempt to connect may take, key exchange under emulation included.
const CONNECT: u32 = 60;

/// A node's SSH server, reached through the router.
#[derive(Clone, Debug)]
pub struct Ssh {
    /// As whom.
    pub login: Login,
    /// On which port of 127.0.0.1.
    pub port: u16,
}

/// How a run ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ended {
    /// The remote shell's exit code; 255 is ssh's own.
    pub code: i32,
    /// What ssh or the remote shell complained about, on one line.
    pub complaint: String,
}

impl Ssh {
    /// The command to type. Nodes of a lab get new host keys every time, so that these are not kept.
    pub fn to_type(&self) -> String {
        let identity = self.login.identity.display().to_string();
        let identity = if identity.contains(' ') { format!("'{identity}'") } else { identity };
        format!(
            "ssh -p {} -i {identity} -o IdentitiesOnly=yes -o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null \
             -o LogLevel=ERROR {}@127.0.0.1",
            self.port, self.login.user
        )
    }

    /// Runs `script` as root on the node with `sh`, and hands each line that it prints to `line`.
    ///
    /// # Errors
    ///
    /// `ssh` is missing, or it is not done within `limit`.
    pub fn run(&self, script: &str, limit: Duration, mut line: impl FnMut(&str)) -> anyhow::Result<Ended> {
        let deadline = Instant::now() + limit;
        let mut child = self.start(script)?;
        let (sender, lines) = channel();
        let stdout = child.0.stdout.take().context("taking ssh's output")?;
        std::thread::spawn(move || {
            // Bytes that are no text are replaced, not a reason to stop.
            for line in BufReader::new(stdout).split(b'\n') {
                let Ok(line) = line else { break };
                if sender.send(String::from_utf8_lossy(&line).trim_end_matches('\r').to_owned()).is_err() {
                    break;
                }
            }
        });
        loop {
            match lines.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
                Ok(text) => line(&text),
                Err(RecvTimeoutError::Disconnected) => break,
                Err(RecvTimeoutError::Timeout) => bail!("the commands on the node were not done after {} s", limit.as_secs()),
            }
        }
        let status = child.0.wait().context("waiting for ssh")?;
        let mut complaint = String::new();
        if let Some(mut stderr) = child.0.stderr.take() {
            stderr.read_to_string(&mut complaint).ok();
        }
        let complaint = complaint.lines().map(str::trim).filter(|line| !line.is_empty()).collect::<Vec<_>>().join("; ");
        Ok(Ended { code: status.code().unwrap_or(255), complaint })
    }

    fn start(&self, script: &str) -> anyhow::Result<Running> {
        let mut child = Command::new(find("ssh", "openssh-client")?)
            .args(["-F", "/dev/null", "-p", &self.port.to_string(), "-i"])
            .arg(Path::new(&self.login.identity))
            .args(["-o", "BatchMode=yes", "-o", "IdentitiesOnly=yes", "-o", "StrictHostKeyChecking=no"])
            .args(["-o", "UserKnownHostsFile=/dev/null", "-o", "LogLevel=ERROR", "-o", "ServerAliveInterval=30"])
            .args(["-o", "ServerAliveCountMax=4", "-o", &format!("ConnectTimeout={CONNECT}"), "-T"])
            .arg(format!("{}@127.0.0.1", self.login.user))
            .arg("if [ \"$(id -u)\" = 0 ]; then exec sh -s; else exec sudo -n sh -s; fi")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .process_group(0)
            .spawn()
            .context("starting ssh")?;
        let mut stdin = child.stdin.take().context("talking to ssh")?;
        let script = script.to_owned();
        // A thread of its own: before the login nobody reads, and a long script would block here.
        std::thread::spawn(move || stdin.write_all(script.as_bytes()));
        Ok(Running(child))
    }
}

/// Ended when dropped.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        // Already gone is fine.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
