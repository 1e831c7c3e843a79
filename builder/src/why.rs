//! Why a card did not come up: what its boot partition tells, judged.
//!
//! [`Report::gather`] reads black box and overrides, and, where the black box is empty, whether Linux ever started; [`Report::render`] says
//! it in plain words.

mod words;

use anyhow::{Context, Result};
use hcl_firstboot::{
    blackbox::{BlackBox, Entry, FILE, NotOurs, SIZE},
    config::{LONGEST_OVERRIDES, OVERRIDES, Overrides},
    trouble::Kind,
};
use serde::Serialize;

use crate::image::disk::{Disk, Fat, Tree};

/// What is to be said of the card as a whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Verdict {
    /// The last boot ended as a member of its cluster, with nothing wrong.
    Ready,
    /// The last boot did not.
    Failed,
    /// Nothing was ever written: the card never booted.
    NeverBooted,
    /// Linux has started from the card, but the node program has written nothing.
    NeverReported,
    /// There is a black box, and nothing in it can be read.
    Damaged,
    /// There is none: the image is not ours, or somebody has removed it.
    NoBlackBox,
}

/// One boot.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Boot {
    /// Which, counted from 1.
    pub number: u64,
    /// Whether it ended as a member of its cluster, with nothing wrong.
    pub ready: bool,
    /// What the node wrote last.
    #[serde(flatten)]
    pub entry: Entry,
}

/// What `hcl.toml` says now, which need not be what the last boot read.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Override {
    /// There is none, or it sets nothing.
    Nothing,
    /// It sets this.
    Sets(String),
    /// It is wrong: the next boot will stop at it.
    Wrong(String),
}

/// Everything about a card.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Report {
    /// In one word.
    pub verdict: Verdict,
    /// The verdict in one line.
    pub says: String,
    /// What a person can do, a line each.
    pub advice: Vec<String>,
    /// `hcl.toml`.
    pub overrides: Override,
    /// How many slots of the black box cannot be read.
    pub damaged_slots: usize,
    /// The last boots, the latest first.
    pub boots: Vec<Boot>,
}

impl Report {
    /// Reads the card or image.
    ///
    /// # Errors
    ///
    /// There is no boot partition, or it cannot be read.
    pub fn gather(disk: &Disk) -> Result<Self> {
        let fat = disk.boot()?;
        let fat = fat.with_context(|| {
            format!("{} has no FAT boot partition: no Pi starts from it; is it the right card?", disk.path().display())
        })?;
        let overrides = overrides(&fat)?;
        let mut report = match black_box(&fat)? {
            None => Self::without(&overrides),
            Some(Err(error)) => Self::unreadable(&error),
            Some(Ok(known)) => Self::of(&known, disk),
        };
        report.compare(&overrides);
        report.overrides = overrides;
        Ok(report)
    }

    /// What `hcl.toml` says now against what the last boot found in it.
    fn compare(&mut self, overrides: &Override) {
        let stopped_at = self.boots.first().and_then(|boot| boot.entry.trouble.as_ref());
        let stopped_at = stopped_at.filter(|trouble| trouble.kind == Kind::Configuration && trouble.text.contains(OVERRIDES));
        match (overrides, stopped_at) {
            (Override::Wrong(reason), Some(trouble)) if trouble.text.ends_with(reason) => {
                self.advice.push("mend that line in hcl.toml on this card, or put a # in front of it".to_owned());
            }
            (Override::Wrong(reason), _) => self.advice.push(format!("the next boot will stop at hcl.toml: {reason}")),
            (_, Some(_)) => self.advice.push("hcl.toml was changed since and is right now: put the card back".to_owned()),
            _ => {}
        }
    }

    fn new(verdict: Verdict, says: impl Into<String>, advice: Vec<String>) -> Self {
        Self { verdict, says: says.into(), advice, overrides: Override::Nothing, damaged_slots: 0, boots: Vec::new() }
    }

    fn without(overrides: &Override) -> Self {
        let ours = *overrides != Override::Nothing;
        let says = format!("the boot partition has no black box ({FILE})");
        let advice = if ours {
            format!("{OVERRIDES} is there, so {FILE} was removed: the card goes on without; flash it anew to have one")
        } else {
            "the card was written from another image, or from one of before the black box: build one with `hcl-image build`"
                .to_owned()
        };
        Self::new(Verdict::NoBlackBox, says, vec![advice])
    }

    fn unreadable(error: &NotOurs) -> Self {
        let advice = "only a card that is flashed anew has a black box again; `hcl report` on the node tells more".to_owned();
        Self::new(Verdict::Damaged, format!("the black box cannot be read: {FILE} {error}"), vec![advice])
    }

    fn of(known: &BlackBox, disk: &Disk) -> Self {
        let boots = known.boots().into_iter().map(|record| Boot {
            number: record.boot,
            ready: record.entry.is_ready(),
            entry: record.entry.clone(),
        });
        let boots: Vec<Boot> = boots.collect();
        let mut report = match boots.first() {
            Some(last) => Self::new(
                if last.ready { Verdict::Ready } else { Verdict::Failed },
                words::outcome(last),
                words::advice(&last.entry),
            ),
            None if known.damaged() > 0 => Self::new(
                Verdict::Damaged,
                "the card has booted, but nothing in the black box can be read any more",
                vec!["a power cut tears one entry, not all: the card may be worn out; try another one".to_owned()],
            ),
            None => Self::silent(disk),
        };
        report.damaged_slots = known.damaged();
        report.boots = boots;
        report
    }

    /// Nothing was ever written: how far did it come?
    fn silent(disk: &Disk) -> Self {
        if has_started(disk) {
            return Self::new(
                Verdict::NeverReported,
                "Linux has started from this card, but the node program never came to write a word",
                vec![
                    "look for a damaged root file system or boot partition: `hcl-image check` on this card".to_owned(),
                    "with a screen or a serial cable the console says what hangs; `hcl-image test` tries the same image in QEMU"
                        .to_owned(),
                ],
            );
        }
        Self::new(
            Verdict::NeverBooted,
            "this card never booted: Linux has not started from it",
            vec![
                "check that the board has power (red LED), and that the card sits tight: a green LED that never lights up has found no card"
                    .to_owned(),
                "check that the board is one that the image is for: `hcl-image check` on this card names them".to_owned(),
                "check that it was written whole: `hcl-image check` on this card, and write it once more".to_owned(),
            ],
        )
    }
}

/// The black box, if there is one; what is wrong with it, if it is none.
fn black_box(fat: &Fat) -> Result<Option<Result<BlackBox, NotOurs>>> {
    let Some(about) = fat.metadata(FILE)? else { return Ok(None) };
    if about.size != SIZE as u64 {
        return Ok(Some(Err(NotOurs::Length(usize::try_from(about.size).unwrap_or(usize::MAX)))));
    }
    Ok(fat.try_read(FILE)?.map(|file| BlackBox::parse(&file)))
}

/// What `hcl.toml` says.
///
/// # Errors
///
/// The boot partition cannot be read.
pub fn overrides(fat: &Fat) -> Result<Override> {
    let Some(about) = fat.metadata(OVERRIDES)? else { return Ok(Override::Nothing) };
    if about.size > LONGEST_OVERRIDES as u64 {
        return Ok(Override::Wrong(format!(
            "{OVERRIDES} has more than {LONGEST_OVERRIDES} bytes: leave only the lines that you need"
        )));
    }
    let file = fat.try_read(OVERRIDES)?.unwrap_or_default();
    Ok(match Overrides::parse(&file, OVERRIDES) {
        Ok(overrides) if overrides.is_empty() => Override::Nothing,
        Ok(overrides) => Override::Sets(overrides.describe()),
        Err(error) => Override::Wrong(error.to_string()),
    })
}

/// Whether systemd has given the machine its id, or the root file system was in use when the power went. What cannot be read says nothing.
fn has_started(disk: &Disk) -> bool {
    let Ok(Some(root)) = disk.root() else { return false };
    let id = root.try_read("/etc/machine-id").ok().flatten().unwrap_or_default();
    let named = id.len() >= 32 && id[..32].iter().all(u8::is_ascii_hexdigit);
    named || root.superblock().needs_recovery
}
