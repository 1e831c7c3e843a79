//! `hcl-image up`.

use std::{
    path::{Path, PathBuf},
    sync::mpsc::{Receiver, channel},
    time::{Duration, Instant},
};

use anyhow::Context;
use clap::builder::NonEmptyStringValueParser;
use hcl_firstboot::status::duration;
use serde_json::json;

use crate::{
    cache::Cache,
    error::{UsageError, one_line},
    image::disk::Disk,
    lab::{
        CAPTURE, Event, Lab, Spec, What, clock,
        control::{Answer, Inbox, Request},
        folder::{self, Folder},
        keeper::Keeper,
        login::{self, Login},
        machine::Machine,
        node::{Clock, Node},
        order::{self, Order},
        reach::Reach,
        router::CLIENTS,
        screen::Screen,
        shelf::Shelf,
        signals::Signals,
        ssh::Ssh,
        switch::Faults,
    },
    progress::{Mode, Reporter},
    units::Bytes,
};

/// From the power button to the end, with `--keep`.
const POWER_OFF: Duration = Duration::from_secs(180);
/// How often orders are looked for.
const TICK: Duration = Duration::from_millis(250);

/// Arguments of `up`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Each node has one network card on one switch, which is this program, and a home router gives it an address. \
Everything on the wire is recorded in FOLDER/wire.pcapng (open it in Wireshark while it grows), the consoles in \
FOLDER/node-N.console.log. The image itself is never written to.

Examples:
  hcl-image up out/hcl-debian-trixie-armhf.img --nodes 3
  hcl-image up my.img --dir lab --keep          # disks stay in lab/, the next `up` goes on with them
  hcl-image up my.img --nodes 3 --mute 30s      # a managed switch: ports are silent at first
  hcl-image up my.img --nodes 2 --drop-tagged   # a switch that does not pass VLANs

Once all nodes have formed a cluster, the lab is kept as a snapshot, and the next `up` of the same image with as many nodes starts
there, within seconds.

While it runs, type what should happen: add, pull 2, on 2, cut 2, plug 2, split 1,2 3, loss 0.1, delay 50ms, heal, off 1, status; `help`
explains. `hcl-image lab` does the same from a second terminal.")]
pub struct Args {
    /// What to boot, and how
    #[command(flatten)]
    pub lab: LabArgs,
    /// Where logs, capture and kept disks go [default: a temporary folder]
    #[arg(long, value_name = "FOLDER")]
    pub dir: Option<PathBuf>,
    /// Keep the nodes' disks in --dir; there already, they are used again
    #[arg(long, requires = "dir")]
    pub keep: bool,
    /// Boot the nodes, and keep that as the snapshot once they have formed
    #[arg(long)]
    pub fresh: bool,
    /// Neither start from a snapshot nor keep one
    #[arg(long, conflicts_with = "fresh")]
    pub no_snapshot: bool,
    /// Folder for snapshots, instead of the one in your cache folder
    #[arg(long, value_name = "FOLDER")]
    pub cache: Option<PathBuf>,
}

/// What `up` and `test` have in common.
#[derive(Debug, clap::Args)]
pub struct LabArgs {
    /// The image to boot: .img, also compressed [default: the newest in out/]
    #[arg(value_name = "IMAGE")]
    pub image: Option<PathBuf>,
    /// How many nodes, 1 to 16
    #[arg(long, short, default_value_t = 1, value_name = "N")]
    pub nodes: usize,
    /// Which board QEMU plays
    #[arg(long, value_enum, default_value_t)]
    pub machine: Machine,
    /// Memory of each node (a raspi3b always has 1G)
    #[arg(long, default_value = "768M", value_name = "SIZE", value_parser = size)]
    pub memory: Bytes,
    /// Size of each node's card; the root file system grows to it
    #[arg(long, default_value = "8G", value_name = "SIZE", value_parser = size)]
    pub disk: Bytes,
    /// User to log in as [default: the one whose key is found]
    #[arg(long, value_name = "NAME", value_parser = NonEmptyStringValueParser::new())]
    pub user: Option<String>,
    /// Private SSH key to log in with [default: the one that fits, of the clusters' and your own]
    #[arg(long, visible_alias = "ssh-key", value_name = "FILE")]
    pub identity: Option<PathBuf>,
    /// Folder with the clusters' keys [default: hcl-image in your configuration folder]
    #[arg(long, value_name = "FOLDER")]
    pub keys: Option<PathBuf>,
    /// Let the nodes reach the internet through this machine
    #[arg(long)]
    pub internet: bool,
    /// Share of frames lost on the way to each node, such as 0.05
    #[arg(long, default_value_t = 0.0, value_name = "SHARE", value_parser = order::share, help_heading = "Faults of the wire")]
    pub loss: f64,
    /// Delay of frames on the way to each node, such as 20ms
    #[arg(long, default_value = "0s", value_name = "TIME", value_parser = order::time, help_heading = "Faults of the wire")]
    pub delay: Duration,
    /// Additional delay, up to this much at random
    #[arg(long, default_value = "0s", value_name = "TIME", value_parser = order::time, help_heading = "Faults of the wire")]
    pub jitter: Duration,
    /// Nodes' ports pass nothing for this long after link-up, as with spanning tree
    #[arg(long, default_value = "0s", value_name = "TIME", value_parser = order::time, help_heading = "Faults of the wire")]
    pub mute: Duration,
    /// The switch drops tagged frames, as some cheap ones do
    #[arg(long, help_heading = "Faults of the wire")]
    pub drop_tagged: bool,
    /// Decides what is lost and how delays vary; the same seed, the same wire
    #[arg(long, default_value_t = 1, value_name = "NUMBER", help_heading = "Faults of the wire")]
    pub seed: u64,
    /// The capture stops at this size
    #[arg(long, default_value = "1G", value_name = "SIZE", value_parser = size)]
    pub capture_limit: Bytes,
}

impl LabArgs {
    /// The image: as named, or the newest of `out/`.
    ///
    /// # Errors
    ///
    /// None is named and there is none.
    pub fn image(&self) -> anyhow::Result<PathBuf> {
        if let Some(image) = &self.image {
            return Ok(image.clone());
        }
        let images = std::fs::read_dir("out").into_iter().flatten().flatten().map(|entry| entry.path());
        let images = images.filter(|path| path.extension().is_some_and(|extension| extension == "img"));
        let newest = images.max_by_key(|path| path.metadata().and_then(|metadata| metadata.modified()).ok());
        newest.ok_or_else(|| UsageError::new("no image named and none in out/: name one, or build one with `hcl-image build`"))
    }

    /// Who logs in.
    pub fn wish(&self) -> login::Wish {
        login::Wish { user: self.user.clone(), identity: self.identity.clone(), keys: self.keys.clone() }
    }

    /// The lab, with its files in `folder`.
    pub fn spec(&self, image: PathBuf, folder: PathBuf, keep: bool) -> Spec {
        Spec {
            image,
            nodes: self.nodes,
            spare: 0,
            stations: Vec::new(),
            machine: self.machine,
            memory: self.memory,
            disk: self.disk,
            internet: self.internet,
            seed: self.seed,
            clock: Clock::Host,
            kernel_words: String::new(),
            faults: Faults {
                loss: self.loss,
                delay: self.delay,
                jitter: self.jitter,
                mute: self.mute,
                drops_tagged: self.drop_tagged,
                cut: false,
            },
            folder,
            keep,
            capture_limit: self.capture_limit.0,
        }
    }
}

fn size(text: &str) -> Result<Bytes, String> {
    text.parse().map_err(|error: crate::units::BadSize| error.to_string())
}

/// Runs `up`.
///
/// # Errors
///
/// The lab could not be started or its router broke.
pub fn run(args: Args, reporter: &Reporter) -> anyhow::Result<()> {
    let signals = Signals::watch()?;
    let image = args.lab.image()?;
    // Lives until the end when no folder was named.
    let temporary = if args.dir.is_none() { Some(Folder::create()?) } else { None };
    let folder = args.dir.clone().or_else(|| temporary.as_ref().map(|folder| folder.path().to_owned())).unwrap_or_default();
    let spec = Spec { spare: CLIENTS.saturating_sub(args.lab.nodes), ..args.lab.spec(image, folder, args.keep) };
    let disk = Disk::open(&spec.image, reporter)?;
    let login = login::find(&disk, &args.lab.wish());
    let shelf = if args.keeps_snapshots(&spec) { shelf(args.cache.as_deref(), reporter) } else { None };
    let lab = match &shelf {
        Some(shelf) if !args.fresh => Lab::start_from(&spec, shelf, disk, reporter)?,
        _ => Lab::start(&spec, disk, reporter)?,
    };
    let mut session = Session::new(lab, &spec, login, shelf, reporter)?;
    while !signals.seen() && session.lab.running() > 0 {
        session.step()?;
    }
    session.end(args.keep)?;
    if args.dir.is_some() {
        reporter.note(format!("recorded in {}", spec.folder.display()));
    }
    Ok(())
}

/// The shelf of snapshots. A lab can do without.
fn shelf(cache: Option<&Path>, reporter: &Reporter) -> Option<Shelf> {
    match Cache::open(cache).and_then(|cache| Shelf::open(&cache)) {
        Ok(shelf) => Some(shelf),
        Err(error) => {
            reporter.note(format!("  snapshot: none: {}", one_line(&error)));
            None
        }
    }
}

impl Args {
    /// Kept disks go on by themselves, and who wants a bad wire from the start wants to see the start.
    fn keeps_snapshots(&self, spec: &Spec) -> bool {
        !self.no_snapshot && !self.keep && spec.faults == Faults::default()
    }
}

/// A lab that somebody looks at and gives orders to.
struct Session<'a> {
    lab: Lab,
    names: Vec<String>,
    screen: Screen,
    inbox: Inbox,
    reach: Reach,
    keeper: Keeper,
    login: anyhow::Result<Login>,
    /// How many nodes there were at the start.
    nodes: usize,
    /// Ways into the nodes that go on from a snapshot, until all of them are known.
    late: Vec<(String, Ssh)>,
    clocks: Option<Receiver<String>>,
    reporter: &'a Reporter,
}

impl<'a> Session<'a> {
    fn new(
        lab: Lab,
        spec: &Spec,
        login: anyhow::Result<Login>,
        shelf: Option<Shelf>,
        reporter: &'a Reporter,
    ) -> anyhow::Result<Self> {
        let names: Vec<String> = lab.nodes().take(spec.nodes).map(|node| node.name.clone()).collect();
        let screen = Screen::new(reporter, &names);
        let line = |text: &str| screen.line(&format!("  {text}"));
        line(&format!("wire and consoles are recorded in {}: {CAPTURE}, node-N.console.log", spec.folder.display()));
        if let Err(error) = &login {
            line(&format!("no login: {}", one_line(error)));
        }
        line(&format!(
            "Ctrl-C ends the nodes; type `help` for what can be done, or elsewhere `hcl-image lab help` (this is lab {})",
            folder::name(lab.work())
        ));
        if let Some(snapshot) = lab.snapshot() {
            let age = duration(snapshot.age().as_millis() as u64);
            line(&format!("snapshot: the nodes go on from where they were {age} ago (--fresh boots them anew)"));
            reporter.emit(&json!({"event": "snapshot", "used": true, "age_seconds": snapshot.age().as_secs()}));
            if login.is_err() {
                line(&format!("clocks: {age} behind, since nobody can log in to set them"));
            }
        }
        let (keeper, words) = Keeper::new(shelf, &lab, spec.nodes);
        if let Some(words) = words {
            line(&words);
        }
        let inbox = Inbox::open(lab.work())?;
        let reach = Reach::new(spec.nodes)?;
        let (nodes, late, clocks) = (spec.nodes, Vec::new(), None);
        Ok(Self { lab, names, screen, inbox, reach, keeper, login, nodes, late, clocks, reporter })
    }

    /// Whatever happens within a quarter of a second.
    fn step(&mut self) -> anyhow::Result<()> {
        while let Some(request) = self.inbox.next() {
            self.obey(&request);
        }
        if let Some(event) = self.lab.next(TICK)? {
            self.take(&event)?;
        }
        let screen = &self.screen;
        if self.reach.follow(self.lab.origin().elapsed(), self.reporter, |line| screen.line(&format!("  {line}"))) {
            self.say(|session| session.keeper.formed(&mut session.lab));
        }
        self.say(|session| session.keeper.news());
        self.say(|session| session.clocks.as_ref()?.try_recv().ok());
        Ok(())
    }

    fn say(&mut self, words: impl FnOnce(&mut Self) -> Option<String>) {
        if let Some(words) = words(self) {
            self.screen.line(&format!("  {words}"));
            self.reporter.emit(&json!({"event": "note", "text": words}));
        }
    }

    fn take(&mut self, event: &Event) -> anyhow::Result<()> {
        let name = event.node.map(|node| self.names[node].clone());
        self.screen.show(event, name.as_deref());
        match (&event.what, event.node) {
            (What::Ssh(port), Some(node)) => {
                self.addressed(node, *port);
                match self.reach.addressed(&mut self.lab, node) {
                    Ok(line) => self.say(|_| line),
                    Err(error) => self.screen.line(&format!("  page: no port for it: {}", one_line(&error))),
                }
            }
            (What::Ended(_), Some(node)) => self.reach.gone(node),
            (What::Broken(words), _) => anyhow::bail!("{words}"),
            (What::Sight(sight), Some(node)) if sight.is_fatal() => {
                let log = self.lab.nodes().nth(node).map(|node| node.console.display().to_string());
                self.screen.line(&format!("  its console: {}", log.unwrap_or_default()));
            }
            _ => {}
        }
        Ok(())
    }

    /// A node can be logged into.
    fn addressed(&mut self, node: usize, port: u16) {
        let Ok(login) = &self.login else { return };
        let ssh = Ssh { login: login.clone(), port };
        let (name, command) = (self.names[node].clone(), ssh.to_type());
        self.screen.line(&format!("  {name}: {command}"));
        self.reporter.emit(&json!({"event": "ssh", "node": name, "port": port, "command": command}));
        if self.lab.snapshot().is_none() || self.clocks.is_some() {
            return;
        }
        self.late.push((name, ssh));
        if self.late.len() == self.nodes {
            let (sender, words) = channel();
            self.clocks = Some(words);
            let nodes = std::mem::take(&mut self.late);
            std::thread::spawn(move || {
                // The lab may have ended meanwhile.
                let _ = sender.send(clock::set_all(&nodes));
            });
        }
    }

    fn obey(&mut self, request: &Request) {
        let line = request.line.trim();
        if line.is_empty() {
            return request.answer(&Answer { ok: true, answer: String::new() });
        }
        let answer = match line.parse::<Order>() {
            Err(_) if line == "help" => Ok(order::HELP.to_owned()),
            Err(wrong) => Err(wrong),
            Ok(order) => {
                if !order.only_looks() {
                    self.say(|session| session.keeper.meddled());
                }
                order.apply(&mut self.lab, &self.reach).map_err(|error| one_line(&error))
            }
        };
        let new: Vec<_> = self.lab.nodes().take(self.lab.used()).skip(self.names.len()).map(|node| node.name.clone()).collect();
        for name in new {
            self.screen.add(&name);
            self.names.push(name);
        }
        let (ok, answer) = match answer {
            Ok(answer) => (true, answer),
            Err(wrong) => (false, wrong),
        };
        self.reporter.emit(&json!({"event": "order", "line": request.line, "ok": ok, "answer": answer}));
        if self.reporter.mode() == Mode::Text {
            answer.lines().for_each(|line| self.screen.line(&format!("  {line}")));
        }
        request.answer(&Answer { ok, answer });
    }

    fn end(mut self, keep: bool) -> anyhow::Result<()> {
        let keeper = std::mem::replace(&mut self.keeper, Keeper::Done);
        self.say(|_| keeper.finish());
        if keep && self.lab.running() > 0 {
            self.power_off()?;
        }
        self.screen.close();
        self.lab.finish().context("completing the capture")
    }

    /// Kept disks deserve an orderly end; who cannot wait presses Ctrl-C again.
    fn power_off(&mut self) -> anyhow::Result<()> {
        self.screen.line("  powering off, so that the kept disks are in order (Ctrl-C again: at once)");
        let deadline = Instant::now() + POWER_OFF;
        for node in 0..self.lab.used() {
            // A node that is off already has nobody to press.
            let _ = self.lab.node_mut(node).map(Node::power_button);
        }
        while self.lab.running() > 0 && Instant::now() < deadline {
            if let Some(event) = self.lab.next(TICK)? {
                let name = event.node.map(|node| self.names[node].clone());
                self.screen.show(&event, name.as_deref());
            }
        }
        if self.lab.running() > 0 {
            let (left, limit) = (self.lab.running(), POWER_OFF.as_secs());
            self.screen.line(&format!("  {left} nodes were not off after {limit} s and were ended"));
        }
        Ok(())
    }
}
