//! QEMU's control socket (QEMU Machine Protocol): one JSON object a line, a reply for each command.

use std::{
    io::{BufRead, BufReader, Write},
    os::unix::net::UnixStream,
    time::Duration,
};

use anyhow::{Context, bail};
use serde_json::{Value, json};

/// QEMU answers at once; on a machine that is busy with emulation "at once" is stretched.
const PATIENCE: Duration = Duration::from_secs(60);
/// Events passed over while waiting for a reply at most.
const EVENTS: usize = 10_000;

/// A connection in command mode.
#[derive(Debug)]
pub struct Qmp {
    stream: BufReader<UnixStream>,
}

impl Qmp {
    /// Takes the greeting and enters command mode.
    ///
    /// # Errors
    ///
    /// The peer is no QEMU or says nothing for a minute.
    pub fn new(stream: UnixStream) -> anyhow::Result<Self> {
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        let mut qmp = Self { stream: BufReader::new(stream) };
        let greeting = qmp.line()?;
        if greeting.get("QMP").is_none() {
            bail!("QEMU's control socket greeted with {greeting}");
        }
        qmp.execute("qmp_capabilities", json!({}))?;
        Ok(qmp)
    }

    /// Runs a command and returns what it returned.
    ///
    /// # Errors
    ///
    /// QEMU refused it, or has gone.
    pub fn execute(&mut self, command: &str, arguments: Value) -> anyhow::Result<Value> {
        let context = || format!("asking QEMU for `{command}`");
        let mut request = json!({ "execute": command, "arguments": arguments }).to_string();
        request.push('\n');
        self.stream.get_mut().write_all(request.as_bytes()).with_context(context)?;
        for _ in 0..EVENTS {
            let mut reply = self.line().with_context(context)?;
            if let Some(value) = reply.get_mut("return") {
                return Ok(value.take());
            }
            if let Some(error) = reply.get("error") {
                bail!("QEMU refused `{command}`: {}", error["desc"].as_str().unwrap_or_default());
            }
        }
        bail!("QEMU did not answer `{command}` but sent {EVENTS} events")
    }

    /// Runs a command of the human monitor, for which QMP has none; returns what it printed.
    pub fn human(&mut self, line: &str) -> anyhow::Result<String> {
        let reply = self.execute("human-monitor-command", json!({ "command-line": line }))?;
        Ok(reply.as_str().unwrap_or_default().trim().to_owned())
    }

    fn line(&mut self) -> anyhow::Result<Value> {
        let mut line = String::new();
        if self.stream.read_line(&mut line)? == 0 {
            bail!("QEMU closed its control socket");
        }
        serde_json::from_str(&line).context("reading QEMU's answer")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A peer that takes one command line for each of `replies` and answers with it.
    fn peer(greeting: &'static str, replies: &'static [&'static str]) -> UnixStream {
        let (ours, theirs) = UnixStream::pair().unwrap();
        std::thread::spawn(move || {
            let mut reader = BufReader::new(theirs.try_clone().unwrap());
            writeln!(&theirs, "{greeting}").unwrap();
            for reply in replies {
                let mut line = String::new();
                reader.read_line(&mut line).unwrap();
                writeln!(&theirs, "{reply}").unwrap();
            }
        });
        ours
    }

    #[test]
    fn replies_refusals_events_and_the_end() {
        let greeting = r#"{"QMP": {"version": {}}}"#;
        let replies = &[
            r#"{"return": {}}"#,
            "{\"event\": \"RESET\"}\n{\"return\": \"done\\r\\n\"}",
            r#"{"error": {"class": "GenericError", "desc": "no such device"}}"#,
        ];
        let mut qmp = Qmp::new(peer(greeting, replies)).unwrap();
        assert_eq!(qmp.human("info usernet").unwrap(), "done");
        let error = qmp.execute("set_link", json!({})).unwrap_err().to_string();
        assert_eq!(error, "QEMU refused `set_link`: no such device");
        assert!(qmp.execute("quit", json!({})).is_err());
        assert!(Qmp::new(peer(r#"{"hello": 1}"#, &[])).is_err());
    }
}
