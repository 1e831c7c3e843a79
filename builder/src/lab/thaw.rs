//! A lab that starts where another one was put aside ([`super::freeze`]).

use std::{
    path::Path,
    process::Command,
    time::{Duration, Instant},
};

use anyhow::{Context, bail, ensure};
use serde_json::json;

use super::{
    Lab,
    boot::BootFiles,
    freeze::{LIMIT, TICK, quoted},
    machine::{Machine, NodeSpec},
    node::{Below, Clock, Common, Node, make_layer},
    process::find,
    renew::renew,
    shelf::{Identity, Snapshot, Subject},
};
use crate::cache::remove_if_there;

/// Its last words come right after a QEMU has closed its control socket.
const LAST_WORDS: Duration = Duration::from_secs(5);

impl Lab {
    /// What a snapshot of this lab's first `nodes` nodes, as they were started, is of.
    ///
    /// # Errors
    ///
    /// It cannot be saved, for this reason.
    pub fn subject(&self, nodes: usize) -> anyhow::Result<Subject> {
        let common = &self.common;
        ensure!(common.machine != Machine::Raspi3b, "QEMU cannot save a raspi3b, since its usb-net cannot be");
        ensure!(!common.keep, "kept disks go on by themselves");
        ensure!(!common.image.starts_with(self.work()), "a compressed image is unpacked anew each time");
        let nodes = &self.nodes[..nodes];
        let image = Identity::of(&common.image)?;
        let arguments: Vec<_> = nodes.iter().map(|running| arguments(common, &running.node)).collect();
        Ok(Subject { image, disk: common.disk.0, qemu: version(&arguments[0][0])?, arguments })
    }

    /// Starts the first nodes from `snapshot`, on a router that has just started.
    ///
    /// # Errors
    ///
    /// QEMU does not take it. The nodes are off then, with no cards.
    pub(super) fn go_on(&mut self, snapshot: &Snapshot) -> anyhow::Result<()> {
        let result = self.thaw(snapshot);
        if result.is_err() {
            for running in &mut self.nodes {
                running.node.kill();
                (running.ended, running.told) = (true, true);
                remove_if_there(&running.node.layer(&self.common))?;
            }
        }
        result
    }

    fn thaw(&mut self, snapshot: &Snapshot) -> anyhow::Result<()> {
        let count = snapshot.record.nodes.len();
        for (index, kept) in snapshot.record.nodes.iter().enumerate() {
            let running = &mut self.nodes[index];
            let node = &mut running.node;
            make_layer(Below::Layer(&snapshot.disk(index)), &node.layer(&self.common), self.common.disk)?;
            if let Some(address) = kept.address {
                renew(node.wire(), node.mac, address)?;
            }
            node.power_on(&self.common, Clock::Host, Some(&snapshot.state(index)), self.sender.clone())?;
            (running.ended, running.told) = (false, false);
        }
        // They read at the same time; then all go on within milliseconds.
        for running in &mut self.nodes[..count] {
            arrived(&mut running.node)?;
        }
        self.nodes[..count].iter_mut().try_for_each(|running| running.node.go())
    }
}

/// Program and arguments of a node that boots, with names in the place of paths.
fn arguments(common: &Common, node: &Node) -> Vec<String> {
    let boot = BootFiles {
        kernel: "kernel".into(),
        initrd: common.boot.initrd.as_ref().map(|_| "initrd".into()),
        device_tree: None,
        ..common.boot.clone()
    };
    let spec = NodeSpec {
        machine: common.machine,
        boot: &boot,
        device_tree: Some(Path::new("dtb")),
        disk: Path::new("disk"),
        throwaway: !common.keep,
        memory: common.memory,
        processors: common.processors,
        mac: node.mac,
        clock: Clock::Host,
        state: None,
        wire: Path::new("wire"),
        console: Path::new("console"),
        qmp: Path::new("qmp"),
    };
    let mut arguments = vec![spec.program().to_owned()];
    arguments.extend(spec.arguments());
    arguments
}

/// The first line of what `program` says of itself, the distribution's revision included.
fn version(program: &str) -> anyhow::Result<String> {
    let output = Command::new(find(program, "qemu-system-arm")?).arg("--version").output().context("starting QEMU")?;
    Ok(String::from_utf8_lossy(&output.stdout).lines().next().unwrap_or_default().to_owned())
}

/// What QEMU is told to begin with the state at `path`.
pub(super) fn incoming(path: &Path) -> String {
    format!("exec:cat {}", quoted(path))
}

/// Waits until a node's memory is read.
///
/// # Errors
///
/// QEMU could not make sense of it, which ends it.
fn arrived(node: &mut Node) -> anyhow::Result<()> {
    let deadline = Instant::now() + LIMIT;
    while Instant::now() < deadline {
        match node.qmp()?.execute("query-status", json!({})) {
            Ok(status) if status["status"] == "inmigrate" => std::thread::sleep(TICK),
            Ok(status) if status["status"] == "paused" => return Ok(()),
            Ok(status) => bail!("{} is {} and not held after its memory was read", node.name, status["status"]),
            Err(error) => return Err(end(node)?.unwrap_or(error)),
        }
    }
    bail!("{} has not read its memory after {} s", node.name, LIMIT.as_secs())
}

/// Why a QEMU that does not answer has ended, once it has.
fn end(node: &mut Node) -> anyhow::Result<Option<anyhow::Error>> {
    let deadline = Instant::now() + LAST_WORDS;
    while Instant::now() < deadline {
        if let Some(end) = node.ended()? {
            let words = end.err().unwrap_or_else(|| "QEMU ended".to_owned());
            return Ok(Some(anyhow::anyhow!("{} cannot go on from its memory: {words}", node.name)));
        }
        std::thread::sleep(TICK);
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_in_the_shell() {
        assert_eq!(incoming(Path::new("/a b/it's")), r"exec:cat '/a b/it'\''s'");
    }
}
