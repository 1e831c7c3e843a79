//! One node: its layer over the image, its QEMU, its console.

use std::{
    fs::File,
    io::{BufWriter, ErrorKind, Read, Write},
    os::unix::net::UnixStream,
    path::{Path, PathBuf},
    process::Command,
    sync::mpsc::Sender,
    thread::JoinHandle,
    time::{Duration, Instant},
};

use anyhow::{Context, bail};
use serde_json::json;

use super::{
    Event, What, board,
    boot::BootFiles,
    console::{Fresh, Lines, Sight, classify, classify_prompt},
    frame::Mac,
    machine::{Machine, NodeSpec},
    process::{Process, find, listen},
    qmp::Qmp,
    router::START,
};
use crate::units::Bytes;

/// What all nodes of a lab have in common.
#[derive(Debug)]
pub struct Common {
    /// The board.
    pub machine: Machine,
    /// What they boot.
    pub boot: BootFiles,
    /// The image below their disks.
    pub image: PathBuf,
    /// Size of their disks.
    pub disk: Bytes,
    /// Memory of each.
    pub memory: Bytes,
    /// Processors of each.
    pub processors: usize,
    /// Sockets go here.
    pub sockets: PathBuf,
    /// Disk layers go here.
    pub layers: PathBuf,
    /// Layers are kept.
    pub keep: bool,
    /// Console logs go here.
    pub logs: PathBuf,
    /// When the lab's time began.
    pub origin: Instant,
}

/// What a node's clock says when it is switched on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Clock {
    /// This machine's time: a board with a battery.
    #[default]
    Host,
    /// The first second of 1970: a board without one.
    Epoch,
}

/// A node, switched on or off.
#[derive(Debug)]
pub struct Node {
    /// `node-1` and so on: its name in the lab. What it calls itself is its own affair.
    pub name: String,
    /// Its network card.
    pub mac: Mac,
    /// Its console log.
    pub console: PathBuf,
    index: usize,
    /// Its switch port.
    wire: PathBuf,
    /// How many layers of its card were put aside.
    layers: u32,
    running: Option<Qemu>,
}

#[derive(Debug)]
struct Qemu {
    process: Process,
    qmp: Qmp,
    reader: Option<JoinHandle<()>>,
}

/// What a new layer stands on.
#[derive(Clone, Copy, Debug)]
pub enum Below<'a> {
    /// The image.
    Image(&'a Path),
    /// Another layer.
    Layer(&'a Path),
}

impl Node {
    /// A node that is off, the `index`th from 0, on the switch port `wire`.
    pub fn new(index: usize, common: &Common, wire: PathBuf) -> Self {
        let name = format!("node-{}", index + 1);
        let (mac, console) = (common.machine.mac_of_node(index as u16 + 1), common.logs.join(format!("{name}.console.log")));
        Self { name, mac, console, index, wire, layers: 0, running: None }
    }

    /// Its switch port.
    pub fn wire(&self) -> &Path {
        &self.wire
    }

    /// Its layer over the image: its card.
    pub fn layer(&self, common: &Common) -> PathBuf {
        self.nth_layer(common, self.layers)
    }

    /// Where its layer is to be once the present one was put aside.
    pub(super) fn next_layer(&self, common: &Common) -> PathBuf {
        self.nth_layer(common, self.layers + 1)
    }

    /// It writes to [`Self::next_layer`] now.
    pub(super) fn stands_on_next_layer(&mut self) {
        self.layers += 1;
    }

    fn nth_layer(&self, common: &Common, number: u32) -> PathBuf {
        common.layers.join(match number {
            0 => format!("{}.qcow2", self.name),
            _ => format!("{}.{number}.qcow2", self.name),
        })
    }

    /// Makes the layer where there is none and starts QEMU with stopped processors ([`Self::go`] lets
    /// them run); sights are sent to `events`. With `state` it does not boot but goes on from that file, which must be of the very
    /// layer (`thaw` says when it is read).
    ///
    /// # Errors
    ///
    /// QEMU is missing, refuses its arguments, or the layer cannot be made.
    pub fn power_on(&mut self, common: &Common, clock: Clock, state: Option<&Path>, events: Sender<Event>) -> anyhow::Result<()> {
        self.kill();
        let name = &self.name;
        let layer = self.layer(common);
        if !layer.exists() {
            make_layer(Below::Image(&common.image), &layer, common.disk).with_context(|| format!("making the disk of {name}"))?;
        }
        let socket = |kind: &str| common.sockets.join(format!("{name}.{kind}"));
        let (console_path, qmp_path) = (socket("console"), socket("qmp"));
        for old in [&console_path, &qmp_path] {
            // Of the time before it was off; mostly there is none.
            let _ = std::fs::remove_file(old);
        }
        let (console_listener, qmp_listener) = (listen(&console_path)?, listen(&qmp_path)?);
        let mut spec = NodeSpec {
            machine: common.machine,
            boot: &common.boot,
            device_tree: common.boot.device_tree.as_deref(),
            disk: &layer,
            throwaway: !common.keep,
            memory: common.memory,
            processors: common.processors,
            mac: self.mac,
            clock,
            state,
            wire: &self.wire,
            console: &console_path,
            qmp: &qmp_path,
        };
        let tree = socket("dtb");
        if common.machine == Machine::Virt {
            board::device_tree(&spec, &tree).with_context(|| format!("making the board of {name}"))?;
            spec.device_tree = Some(&tree);
        }
        let errors = common.logs.join(format!("{name}.qemu.log"));
        let title = format!("the QEMU of {name}");
        let mut process = Process::spawn(&title, spec.program(), "qemu-system-arm", &spec.arguments(), errors)?;
        // QEMU makes its character devices one after the other: first the console, then the control socket.
        let stream = process.accept(&console_listener, START)?;
        let reader = Reader::new(self.index, common.origin, stream, &self.console, events)?;
        let reader = std::thread::Builder::new().name(format!("{name} console")).spawn(move || reader.run())?;
        let qmp = Qmp::new(process.accept(&qmp_listener, START)?).with_context(|| format!("starting {name}"))?;
        self.running = Some(Qemu { process, qmp, reader: Some(reader) });
        Ok(())
    }

    /// How its QEMU ended, where it has: the exit code, and its last words if it was not 0. `None` for a node that is off.
    pub fn ended(&mut self) -> anyhow::Result<Option<Result<(), String>>> {
        let Some(qemu) = &mut self.running else { return Ok(None) };
        let Some(status) = qemu.process.ended()? else { return Ok(None) };
        let words = qemu.process.last_words();
        Ok(Some(match status.success() {
            true => Ok(()),
            false if words.is_empty() => Err(status.to_string()),
            false => Err(format!("{status}: {words}")),
        }))
    }

    /// Lets the processors run: QEMU starts with them stopped, so that nothing is missed and all nodes
    /// begin together.
    ///
    /// # Errors
    ///
    /// QEMU does not answer.
    pub fn go(&mut self) -> anyhow::Result<()> {
        self.ask("cont", json!({})).with_context(|| format!("starting {}", self.name))
    }

    /// Plugs or unplugs the network cable as the node sees it (carrier).
    pub fn set_carrier(&mut self, up: bool) -> anyhow::Result<()> {
        self.ask("set_link", json!({ "name": "wire", "up": up }))
    }

    /// Its QEMU's control socket.
    ///
    /// # Errors
    ///
    /// The node is off.
    pub(super) fn qmp(&mut self) -> anyhow::Result<&mut Qmp> {
        match &mut self.running {
            Some(qemu) => Ok(&mut qemu.qmp),
            None => bail!("{} is off", self.name),
        }
    }

    /// Presses the power button.
    pub fn power_button(&mut self) -> anyhow::Result<()> {
        self.ask("system_powerdown", json!({}))
    }

    /// Pulls the power: what the card was given stays, what it was not is lost. QEMU is asked to end, since what a card has
    /// taken may be in QEMU's memory still; one that does not answer is killed.
    pub fn pull(&mut self) {
        let asked = self.ask("stop", json!({})).and_then(|()| self.ask("quit", json!({})));
        if let (Ok(()), Some(qemu)) = (asked, &mut self.running) {
            let _ = qemu.process.wait(START);
        }
        self.kill();
    }

    /// Ends QEMU at once and completes the console log.
    pub fn kill(&mut self) {
        let Some(mut qemu) = self.running.take() else { return };
        qemu.process.kill();
        if let Some(reader) = qemu.reader.take() {
            // It ends with the socket; a panic there has been printed already.
            let _ = reader.join();
        }
    }

    /// The process id of its QEMU, while it is on.
    pub fn id(&self) -> Option<u32> {
        self.running.as_ref().map(|qemu| qemu.process.id())
    }

    fn ask(&mut self, command: &str, arguments: serde_json::Value) -> anyhow::Result<()> {
        self.qmp()?.execute(command, arguments).map(drop)
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        self.kill();
    }
}

/// An empty layer of `size` over `below`, which is never written.
///
/// # Errors
///
/// qemu-img is missing or cannot make it.
pub(super) fn make_layer(below: Below<'_>, layer: &Path, size: Bytes) -> anyhow::Result<()> {
    let (format, path) = match below {
        Below::Image(path) => ("raw", path),
        Below::Layer(path) => ("qcow2", path),
    };
    let path = std::path::absolute(path)?;
    let output = Command::new(find("qemu-img", "qemu-utils")?)
        // Not opened (-u): a QEMU may have locked it.
        .args(["create", "-q", "-u", "-f", "qcow2", "-F", format, "-b"])
        .arg(&path)
        .arg(layer)
        .arg(size.0.to_string())
        .output()
        .context("starting qemu-img")?;
    if !output.status.success() {
        bail!("qemu-img: {}", String::from_utf8_lossy(&output.stderr).trim().replace('\n', "; "));
    }
    Ok(())
}

/// Reads a console until its end.
struct Reader {
    node: usize,
    origin: Instant,
    stream: UnixStream,
    log: BufWriter<File>,
    events: Sender<Event>,
    fresh: Fresh,
}

impl Reader {
    fn new(node: usize, origin: Instant, stream: UnixStream, log: &Path, events: Sender<Event>) -> anyhow::Result<Self> {
        // An old log of a kept node goes on.
        let file = File::options().create(true).append(true).open(log);
        let file = file.with_context(|| format!("creating {}", log.display()))?;
        Ok(Self { node, origin, stream, log: BufWriter::new(file), events, fresh: Fresh::default() })
    }

    fn run(mut self) {
        let mut lines = Lines::default();
        let mut buffer = [0; 4096];
        let mut prompted = false;
        loop {
            let count = match self.stream.read(&mut buffer) {
                Ok(0) => break,
                Ok(count) => count,
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(_) => break,
            };
            let at = self.origin.elapsed();
            lines.feed(&buffer[..count], |line| {
                prompted = false;
                self.note(at, line);
                for sight in classify(line) {
                    self.tell(at, sight);
                }
            });
            if !prompted && let Some(sight) = classify_prompt(lines.unfinished()) {
                prompted = true;
                self.tell(at, sight);
            }
            // Somebody may be reading along.
            let _ = self.log.flush();
        }
        if !lines.unfinished().is_empty() {
            let last = lines.unfinished().to_owned();
            self.note(self.origin.elapsed(), &last);
        }
        let _ = self.log.flush();
    }

    /// A log that cannot be written (disk full) must not stop the node: its sights matter more.
    fn note(&mut self, at: Duration, line: &str) {
        let _ = writeln!(self.log, "{:9.3}  {line}", at.as_secs_f64());
    }

    fn tell(&mut self, at: Duration, sight: Sight) {
        if !self.fresh.is(&sight) {
            return;
        }
        // Nobody listens any more when the lab is ending.
        let _ = self.events.send(Event { at, node: Some(self.node), what: What::Sight(sight) });
    }
}
