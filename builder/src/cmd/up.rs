//! `hcl-image up`.

use std::{
    path::PathBuf,
    sync::mpsc::{Receiver, channel},
    time::Duration,
};

use anyhow::Context;
use clap::builder::NonEmptyStringValueParser;

use crate::{
    error::UsageError,
    image::disk::Disk,
    lab::{
        CAPTURE, Lab, Spec, What,
        folder::Folder,
        login,
        machine::Machine,
        node::Clock,
        order::{self, Order},
        screen::Screen,
        signals::Signals,
        ssh::Ssh,
        switch::Faults,
    },
    progress::{Mode, Reporter},
    units::Bytes,
};

/// From the power button to the end, with `--keep`.
const POWER_OFF: Duration = Duration::from_secs(180);

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

While it runs, type what should go wrong: cut 2, plug 2, split 1,2 3, loss 0.1, delay 50ms, heal, off 1; `help` explains.")]
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
    let spec = args.lab.spec(image, folder, args.keep);
    let disk = Disk::open(&spec.image, reporter)?;
    let login = login::find(&disk, &args.lab.wish());
    let mut lab = Lab::start(&spec, disk, reporter)?;
    let names: Vec<String> = lab.nodes().map(|node| node.name.clone()).collect();
    let mut screen = Screen::new(reporter, &names);
    screen.line(&format!("  wire and consoles are recorded in {}: {CAPTURE}, node-N.console.log", spec.folder.display()));
    if let Err(error) = &login {
        screen.line(&format!("  no login: {}", crate::error::one_line(error)));
    }
    screen.line("  Ctrl-C ends the nodes; type `help` for what can be done to the wire");
    let typed = typed_lines();
    while !signals.seen() && lab.running() > 0 {
        while let Ok(line) = typed.try_recv() {
            obey(&line, &mut lab, &screen, reporter);
        }
        let Some(event) = lab.next(Duration::from_millis(250))? else { continue };
        let name = event.node.map(|node| names[node].clone());
        screen.show(&event, name.as_deref());
        match (&event.what, &login) {
            (What::Ssh(port), Ok(login)) => {
                let command = Ssh { login: login.clone(), port: *port }.to_type();
                screen.line(&format!("  {}: {command}", name.as_deref().unwrap_or_default()));
                reporter.emit(&serde_json::json!({"event": "ssh", "node": name, "port": port, "command": command}));
            }
            (What::Broken(words), _) => anyhow::bail!("{words}"),
            (What::Sight(sight), _) if sight.is_fatal() => {
                let log = event.node.and_then(|node| lab.nodes().nth(node)).map(|node| node.console.display().to_string());
                screen.line(&format!("  its console: {}", log.unwrap_or_default()));
            }
            _ => {}
        }
    }
    if args.keep && lab.running() > 0 {
        power_off(&mut lab, &mut screen)?;
    }
    screen.close();
    lab.finish().context("completing the capture")?;
    if args.dir.is_some() {
        reporter.note(format!("recorded in {}", spec.folder.display()));
    }
    Ok(())
}

/// Lines from standard input, as long as there are any. A thread of its own sits in the reading; it ends with
/// the program.
fn typed_lines() -> Receiver<String> {
    let (sender, lines) = channel();
    std::thread::spawn(move || {
        for line in std::io::stdin().lines() {
            let Ok(line) = line else { break };
            if sender.send(line).is_err() {
                break;
            }
        }
    });
    lines
}

fn obey(line: &str, lab: &mut Lab, screen: &Screen, reporter: &Reporter) {
    if line.trim().is_empty() {
        return;
    }
    let answer = match line.parse::<Order>() {
        Err(_) if line.trim() == "help" => order::HELP.to_owned(),
        Err(wrong) => wrong,
        Ok(order) => order.apply(lab).unwrap_or_else(|error| crate::error::one_line(&error)),
    };
    reporter.emit(&serde_json::json!({"event": "order", "line": line, "answer": answer}));
    if reporter.mode() == Mode::Text {
        answer.lines().for_each(|line| screen.line(&format!("  {line}")));
    }
}

/// Kept disks deserve an orderly end; who cannot wait presses Ctrl-C again.
fn power_off(lab: &mut Lab, screen: &mut Screen) -> anyhow::Result<()> {
    screen.line("  powering off, so that the kept disks are in order (Ctrl-C again: at once)");
    let deadline = std::time::Instant::now() + POWER_OFF;
    for node in 0..lab.nodes().count() {
        // A node that is off already has nobody to press.
        let _ = lab.node_mut(node).map(crate::lab::node::Node::power_button);
    }
    while lab.running() > 0 && std::time::Instant::now() < deadline {
        if let Some(event) = lab.next(Duration::from_millis(250))? {
            let name = event.node.and_then(|node| lab.nodes().nth(node)).map(|node| node.name.clone());
            screen.show(&event, name.as_deref());
        }
    }
    if lab.running() > 0 {
        screen.line(&format!("  {} nodes were not off after {} s and were ended", lab.running(), POWER_OFF.as_secs()));
    }
    Ok(())
}
