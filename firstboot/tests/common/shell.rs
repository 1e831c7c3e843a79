//! A shell in namespaces of its own, to which commands are given one after the other.

use std::{
    io::{BufRead, BufReader, Write},
    path::Path,
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
};

pub struct Shell {
    child: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
}

impl Shell {
    /// A shell that `unshare` starts with `options`; systemd's notifications go to `notify`.
    pub fn new(options: &[&str], notify: Option<&Path>) -> Self {
        let mut command = Command::new("unshare");
        command
            .args(options)
            .arg("sh")
            .env("PATH", format!("{}:/usr/sbin:/sbin", std::env::var("PATH").unwrap_or_default()))
            .env_remove("JOURNAL_STREAM")
            .env_remove("NOTIFY_SOCKET")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped());
        if let Some(notify) = notify {
            command.env("NOTIFY_SOCKET", notify);
        }
        let mut child = command.spawn().expect("unshare is needed: apt-get install util-linux");
        let (input, output) = (child.stdin.take().unwrap(), BufReader::new(child.stdout.take().unwrap()));
        Self { child, input, output }
    }

    /// Runs a command; its output. It must succeed.
    #[track_caller]
    pub fn sh(&mut self, command: &str) -> String {
        let (code, text) = self.try_sh(command);
        assert_eq!(code, 0, "{command}\n{text}");
        text
    }

    /// Runs a command; its exit code and output.
    pub fn try_sh(&mut self, command: &str) -> (i32, String) {
        writeln!(self.input, "{{ {command} ; }} 2>&1; echo \"@@ $?\"").unwrap();
        let mut text = String::new();
        loop {
            let mut line = String::new();
            assert!(self.output.read_line(&mut line).unwrap() > 0, "the shell ended at {command}");
            if let Some(code) = line.strip_prefix("@@ ") {
                return (code.trim().parse().unwrap(), text);
            }
            text.push_str(&line);
        }
    }
}

impl Drop for Shell {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
