//! Other programs that a build runs, and what to say when one is missing or fails.

use std::{
    collections::VecDeque,
    ffi::OsStr,
    io::Read,
    os::unix::process::CommandExt,
    process::{Command, Stdio},
};

use anyhow::{Context, Result, bail};

/// Ends its process group when its standard input ends, which only we hold open: SIGTERM, on which mmdebstrap takes its
/// own files away (it waits for its children, so that telling it alone is not enough), then SIGKILL.
const GUARD: &str = "exec 3<&0 </dev/null\n\
    (\n\
    trap '' TERM\n\
    read -r _ <&3\n\
    kill -TERM 0\n\
    tries=0\n\
    while kill -0 $$ && [ $tries -lt 300 ]; do sleep 0.1; tries=$((tries + 1)); done\n\
    kill -KILL 0\n\
    ) >/dev/null 2>&1 &\n\
    exec \"$@\" 3<&-";

/// A program of the host, with the Debian package that brings it.
#[derive(Debug)]
pub struct Tool {
    name: &'static str,
    package: &'static str,
    command: Command,
}

impl Tool {
    /// `name` is looked up in `PATH` and in the `sbin` folders, which users do not have there.
    pub fn new(name: &'static str, package: &'static str) -> Self {
        let mut command = Command::new(name);
        command.env("PATH", search_path()).env("LC_ALL", "C.UTF-8").stdin(Stdio::null());
        Self { name, package, command }
    }

    /// As [`Tool::new`] for a program that must not outlive us, nor anything that it starts: it runs in a process group
    /// of its own, with a guard that ends the group should we die, even by SIGKILL. Only for [`Tool::watch`].
    ///
    /// With `own_mounts` what it mounts goes with it too (only root may ask for that): a mount left behind in a work
    /// folder would be a way from there into the machine's own file systems, for whoever removes the folder.
    ///
    /// # Errors
    ///
    /// The program is not installed.
    pub fn tied(name: &'static str, package: &'static str, own_mounts: bool) -> Result<Self> {
        if !is_installed(name) {
            bail!("{name} is not installed: apt-get install {package}");
        }
        let mut tool = Self::new("sh", "dash").args(["-c", GUARD, "sh"]);
        if own_mounts {
            tool.command.args(["unshare", "--mount", "--"]);
        }
        tool.command.arg(name);
        tool.command.process_group(0).stdin(Stdio::piped());
        Ok(Self { name, package, ..tool })
    }

    /// Adds one argument.
    #[must_use]
    pub fn arg(mut self, arg: impl AsRef<OsStr>) -> Self {
        self.command.arg(arg);
        self
    }

    /// Adds arguments.
    #[must_use]
    pub fn args<S: AsRef<OsStr>>(mut self, args: impl IntoIterator<Item = S>) -> Self {
        self.command.args(args);
        self
    }

    /// Sets a variable of its environment.
    #[must_use]
    pub fn env(mut self, key: &str, value: impl AsRef<OsStr>) -> Self {
        self.command.env(key, value);
        self
    }

    /// The command itself, for what is not wrapped here.
    pub fn command(&mut self) -> &mut Command {
        &mut self.command
    }

    /// Runs it to its end and gives its standard output.
    ///
    /// # Errors
    ///
    /// It is missing, could not be started, or ended with another code than 0. The message holds
    /// the program's own last words that look like an error.
    pub fn output(mut self) -> Result<Vec<u8>> {
        self.command.stdout(Stdio::piped()).stderr(Stdio::piped());
        let output = self.spawn()?.wait_with_output().with_context(|| format!("waiting for {}", self.name))?;
        if !output.status.success() {
            let mut text = String::from_utf8_lossy(&output.stderr).into_owned();
            if text.trim().is_empty() {
                text = String::from_utf8_lossy(&output.stdout).into_owned();
            }
            bail!("{} ended with {}: {}", self.name, describe(output.status), last_words(&text));
        }
        Ok(output.stdout)
    }

    /// Runs it to its end, handing each line of its standard error to `line`; standard output goes
    /// to where the command was told.
    ///
    /// # Errors
    ///
    /// As [`Tool::output`].
    pub fn watch(mut self, mut line: impl FnMut(&str)) -> Result<()> {
        self.command.stderr(Stdio::piped());
        let mut child = self.spawn()?;
        // For a tied program: to be closed by our end, or when it has ended.
        let held = child.stdin.take();
        let mut tail = VecDeque::new();
        if let Some(mut stderr) = child.stderr.take() {
            let mut buffer = [0; 4096];
            let mut pending = Vec::new();
            loop {
                let count = stderr.read(&mut buffer).with_context(|| format!("reading what {} says", self.name))?;
                if count == 0 {
                    break;
                }
                for &byte in &buffer[..count] {
                    if byte == b'\n' || byte == b'\r' {
                        let text = String::from_utf8_lossy(&pending).into_owned();
                        pending.clear();
                        if !text.trim().is_empty() {
                            line(&text);
                            if tail.len() == 100 {
                                tail.pop_front();
                            }
                            tail.push_back(text);
                        }
                    } else {
                        pending.push(byte);
                    }
                }
            }
        }
        let status = child.wait().with_context(|| format!("waiting for {}", self.name))?;
        drop(held);
        if !status.success() {
            bail!("{} ended with {}: {}", self.name, describe(status), last_words(tail.make_contiguous().join("\n").as_str()));
        }
        Ok(())
    }

    fn spawn(&mut self) -> Result<std::process::Child> {
        match self.command.spawn() {
            Ok(child) => Ok(child),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                bail!("{} is not installed: apt-get install {}", self.name, self.package)
            }
            Err(error) => Err(error).with_context(|| format!("starting {}", self.name)),
        }
    }
}

/// Where programs are looked for: `PATH`, and the `sbin` folders, which users do not have there.
fn search_path() -> String {
    format!("{}:/usr/sbin:/sbin:/usr/bin:/bin", std::env::var("PATH").unwrap_or_default())
}

/// Whether there is a program `name`.
pub fn is_installed(name: &str) -> bool {
    std::env::split_paths(&search_path()).any(|folder| folder.join(name).is_file())
}

fn describe(status: std::process::ExitStatus) -> String {
    use std::os::unix::process::ExitStatusExt;
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("exit code {code}"),
        (None, Some(signal)) => format!("signal {signal}"),
        (None, None) => "an unknown status".to_owned(),
    }
}

/// The line that says why: the first that begins like an error, else the last one.
fn last_words(text: &str) -> String {
    let lines: Vec<&str> = text.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    let is_error = |line: &&&str| line.starts_with("E: ") || line.to_ascii_lowercase().starts_with("error");
    let chosen = lines.iter().find(is_error).or(lines.last()).copied().unwrap_or("it said nothing");
    chosen.strip_prefix("E: ").unwrap_or(chosen).to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_program_names_its_package() {
        let error = Tool::new("no-such-program-here", "some-package").output().unwrap_err();
        assert_eq!(error.to_string(), "no-such-program-here is not installed: apt-get install some-package");
    }

    #[test]
    fn a_tied_program_that_is_missing_names_its_package() {
        let error = Tool::tied("no-such-program-here", "some-package", false).unwrap_err();
        assert_eq!(error.to_string(), "no-such-program-here is not installed: apt-get install some-package");
    }

    #[test]
    fn a_failure_says_why() {
        let error = Tool::new("sh", "dash").args(["-c", "echo W: x >&2; echo 'E: no room' >&2; exit 3"]).output().unwrap_err();
        assert_eq!(error.to_string(), "sh ended with exit code 3: no room");
        let mut seen = Vec::new();
        let error = Tool::new("sh", "dash").args(["-c", "echo one >&2; kill -9 $$"]).watch(|line| seen.push(line.to_owned()));
        assert_eq!(error.unwrap_err().to_string(), "sh ended with signal 9: one");
        assert_eq!(seen, ["one"]);
    }
}
