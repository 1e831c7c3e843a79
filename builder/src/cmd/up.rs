//! `hcl-image up`.

use std::{path::PathBuf, time::Duration};

use anyhow::Context;
use clap::builder::NonEmptyStringValueParser;

use crate::{
    error::UsageError,
    image::disk::Disk,
    lab::{
        CAPTURE, Lab, Spec, What, console::Sight, folder::Folder, login, machine::Machine, screen::Screen, signals::Signals,
        ssh::Ssh, switch::Faults,
    },
    progress::Reporter,
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
  hcl-image up my.img --nodes 2 --drop-tagged   # a switch that does not pass VLANs")]
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
    #[arg(long, default_value_t = 0.0, value_name = "SHARE", value_parser = share, help_heading = "Faults of the wire")]
    pub loss: f64,
    /// Delay of frames on the way to each node, such as 20ms
    #[arg(long, default_value = "0s", value_name = "TIME", value_parser = time, help_heading = "Faults of the wire")]
    pub delay: Duration,
    /// Additional delay, up to this much at random
    #[arg(long, default_value = "0s", value_name = "TIME", value_parser = time, help_heading = "Faults of the wire")]
    pub jitter: Duration,
    /// Nodes' ports pass nothing for this long after link-up, as with spanning tree
    #[arg(long, default_value = "0s", value_name = "TIME", value_parser = time, help_heading = "Faults of the wire")]
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
            machine: self.machine,
            memory: self.memory,
            disk: self.disk,
            internet: self.internet,
            seed: self.seed,
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

fn share(text: &str) -> Result<f64, String> {
    match text.parse() {
        Ok(share) if (0.0..=1.0).contains(&share) => Ok(share),
        _ => Err("a share is a number from 0 to 1, such as 0.05".into()),
    }
}

fn time(text: &str) -> Result<Duration, String> {
    let wrong = || "a time is a number with ms, s or m, such as 20ms".to_owned();
    let digits = text.bytes().take_while(|byte| byte.is_ascii_digit()).count();
    let number: u64 = text[..digits].parse().map_err(|_| wrong())?;
    let milliseconds = match &text[digits..] {
        "ms" => Some(1),
        "s" => Some(1000),
        "m" => Some(60_000),
        _ => None,
    };
    // A day is more than any fault lasts, and far from where times overflow.
    let total = milliseconds.and_then(|factor| number.checked_mul(factor)).filter(|total| *total <= 86_400_000);
    total.map(Duration::from_millis).ok_or_else(wrong)
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
    let login = {
        let disk = Disk::open(&spec.image, reporter)?;
        login::find(&disk, &args.lab.wish())
    };
    let mut lab = Lab::start(&spec, reporter)?;
    let names: Vec<String> = lab.nodes().map(|node| node.name.clone()).collect();
    let mut screen = Screen::new(reporter, &names);
    screen.line(&format!("  wire and consoles are recorded in {}: {CAPTURE}, node-N.console.log", spec.folder.display()));
    if let Err(error) = &login {
        screen.line(&format!("  no login: {}", crate::error::one_line(error)));
    }
    screen.line("  Ctrl-C ends the nodes");
    while !signals.seen() && lab.running() > 0 {
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
            (What::Sight(Sight::KernelPanic(_) | Sight::Emergency(_)), _) => {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_and_shares() {
        for (text, milliseconds) in [("0s", Some(0)), ("20ms", Some(20)), ("30s", Some(30_000)), ("2m", Some(120_000))] {
            assert_eq!(time(text).ok(), milliseconds.map(Duration::from_millis), "{text}");
        }
        for text in ["", "30", "s", "-1s", "1.5s", "99999999999999999999s", "18446744073709551615m", "2d", "25m5"] {
            assert!(time(text).is_err(), "{text}");
        }
        assert_eq!(share("0.05"), Ok(0.05));
        for text in ["", "1.1", "-0.1", "NaN", "5%"] {
            assert!(share(text).is_err(), "{text}");
        }
    }
}
