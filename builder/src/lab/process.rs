//! QEMU processes that never outlive this one.
//!
//! Each is killed when its [`Process`] is dropped. Against a `SIGKILL` of this program there is `setpriv
//! --pdeathsig` (Linux): the kernel then kills the child. The moment between start and that setting is
//! covered too, since QEMU connects to sockets of ours and ends by itself when nobody listens there.
//!
//! The kernel watches the *thread* that started the child, so start QEMU from one that lives as long as
//! the lab does.

use std::{
    fs::File,
    os::unix::{net::UnixListener, net::UnixStream, process::CommandExt},
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context, bail};

/// How often a state that cannot be waited for is looked at.
const TICK: Duration = Duration::from_millis(20);

/// A running program of ours.
#[derive(Debug)]
pub struct Process {
    name: String,
    child: Child,
    errors: PathBuf,
    status: Option<ExitStatus>,
}

impl Process {
    /// Starts `program` with `arguments`; `name` stands in messages, `errors` takes what it prints.
    ///
    /// # Errors
    ///
    /// The program is not installed (the message names `package`), or cannot be started.
    pub fn spawn(name: &str, program: &str, package: &str, arguments: &[String], errors: PathBuf) -> anyhow::Result<Self> {
        let path = find(program, package)?;
        let mut command = if cfg!(target_os = "linux") {
            let mut command = Command::new(find("setpriv", "util-linux")?);
            command.args(["--pdeathsig", "KILL", "--"]).arg(path);
            command
        } else {
            Command::new(path)
        };
        let log = File::create(&errors).with_context(|| format!("creating {}", errors.display()))?;
        command
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            // A group of its own: Ctrl-C reaches us alone, and we decide in which order things end.
            .process_group(0);
        let child = command.spawn().with_context(|| format!("starting {program} for {name}"))?;
        Ok(Self { name: name.to_owned(), child, errors, status: None })
    }

    /// Its process id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// How it ended, where it has.
    pub fn ended(&mut self) -> anyhow::Result<Option<ExitStatus>> {
        if self.status.is_none() {
            self.status = self.child.try_wait().with_context(|| format!("waiting for {}", self.name))?;
        }
        Ok(self.status)
    }

    /// Waits until it ended, at most `limit`.
    ///
    /// # Errors
    ///
    /// It runs still.
    pub fn wait(&mut self, limit: Duration) -> anyhow::Result<ExitStatus> {
        let deadline = Instant::now() + limit;
        loop {
            if let Some(status) = self.ended()? {
                return Ok(status);
            }
            if Instant::now() >= deadline {
                bail!("{} still runs after {} s", self.name, limit.as_secs());
            }
            std::thread::sleep(TICK);
        }
    }

    /// Ends it at once.
    pub fn kill(&mut self) {
        if self.status.is_none() {
            // It may have ended by itself meanwhile; then there is nothing to kill.
            let _ = self.child.kill();
            self.status = self.child.wait().ok();
        }
    }

    /// The last lines that it printed, on one line, without the warnings that mean nothing here.
    pub fn last_words(&self) -> String {
        let text = std::fs::read_to_string(&self.errors).unwrap_or_default();
        let lines: Vec<_> = text.lines().filter(|line| !line.trim().is_empty() && !line.contains("warning:")).collect();
        lines[lines.len().saturating_sub(3)..].join("; ")
    }

    /// Accepts the connection that it makes to `listener` when it starts.
    ///
    /// # Errors
    ///
    /// It ended instead (its own words are in the message), or did nothing for `limit`.
    pub fn accept(&mut self, listener: &UnixListener, limit: Duration) -> anyhow::Result<UnixStream> {
        listener.set_nonblocking(true)?;
        let deadline = Instant::now() + limit;
        loop {
            match listener.accept() {
                Ok((stream, _)) => {
                    stream.set_nonblocking(false)?;
                    return Ok(stream);
                }
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {}
                Err(error) => return Err(error).with_context(|| format!("accepting a connection of {}", self.name)),
            }
            if let Some(status) = self.ended()? {
                bail!("{} did not start ({status}): {}", self.name, self.last_words());
            }
            if Instant::now() >= deadline {
                bail!("{} did not connect within {} s of its start", self.name, limit.as_secs());
            }
            std::thread::sleep(TICK);
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Where `program` is, searched as a shell does.
///
/// # Errors
///
/// It is nowhere: one line that names the package to install.
pub fn find(program: &str, package: &str) -> anyhow::Result<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    search(program, std::env::split_paths(&path))
        .with_context(|| format!("`{program}` is not installed: on Debian and Ubuntu it is in the package `{package}`"))
}

fn search(program: &str, folders: impl Iterator<Item = PathBuf>) -> Option<PathBuf> {
    folders.map(|folder| folder.join(program)).find(|path| executable(path))
}

fn executable(path: &Path) -> bool {
    rustix::fs::access(path, rustix::fs::Access::EXEC_OK).is_ok() && path.is_file()
}

/// Binds a unix socket at `path`.
///
/// # Errors
///
/// Mostly that the path is longer than the 107 bytes that the system takes.
pub fn listen(path: &Path) -> anyhow::Result<UnixListener> {
    UnixListener::bind(path).with_context(|| {
        format!("opening the socket {} (a path of more than 107 bytes is too long: set TMPDIR to a shorter one)", path.display())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_program_is_named_with_its_package() {
        let error = find("qemu-system-none", "qemu-system-arm").unwrap_err();
        assert_eq!(
            error.to_string(),
            "`qemu-system-none` is not installed: on Debian and Ubuntu it is in the package `qemu-system-arm`"
        );
        assert!(search("sh", [PathBuf::from("/bin")].into_iter()).is_some());
        // A folder is no program.
        assert!(search("bin", [PathBuf::from("/usr")].into_iter()).is_none());
    }

    #[test]
    fn a_program_that_ends_instead_of_connecting_is_quoted() {
        let folder = tempfile::tempdir().unwrap();
        let listener = listen(&folder.path().join("socket")).unwrap();
        let script = "echo 'qemu: no such machine' >&2; exit 3";
        let arguments = ["-c".to_owned(), script.to_owned()];
        let mut process = Process::spawn("node-1", "sh", "dash", &arguments, folder.path().join("errors")).unwrap();
        let error = process.accept(&listener, Duration::from_secs(60)).unwrap_err().to_string();
        assert!(error.contains("node-1 did not start") && error.ends_with("qemu: no such machine"), "{error}");
    }

    #[test]
    fn dropped_means_ended() {
        let folder = tempfile::tempdir().unwrap();
        let arguments = ["600".to_owned()];
        let process = Process::spawn("sleeper", "sleep", "coreutils", &arguments, folder.path().join("errors")).unwrap();
        let id = rustix::process::Pid::from_raw(process.id() as i32).unwrap();
        assert!(rustix::process::test_kill_process(id).is_ok());
        drop(process);
        assert!(rustix::process::test_kill_process(id).is_err());
    }
}
