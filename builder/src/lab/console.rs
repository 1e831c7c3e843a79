//! A node's serial console: kept with times, and read for what it means.
//!
//! [`classify`] knows what the kernel, initramfs-tools, systemd and our own programs print there, and
//! turns a line into a [`Sight`]. Everything else in the lab acts on sights, never on console text.

use serde::Serialize;

/// Something that a console line means.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case", tag = "kind", content = "what")]
pub enum Sight {
    /// The kernel started (again after a reboot).
    Kernel,
    /// The initramfs looks for the root file system.
    Initrd,
    /// systemd started.
    Systemd,
    /// A target was reached, such as `multi-user`.
    Target(String),
    /// A marker of our own programs, `@hcl:NAME@ details`: the name, and the details behind it.
    Marker(String),
    /// A login prompt stands there.
    Login,
    /// The kernel switches the power off.
    PowerDown,
    /// A unit failed; the node goes on.
    FailedUnit(String),
    /// The kernel ran out of memory and killed something; the node goes on.
    OutOfMemory(String),
    /// The kernel gave up.
    KernelPanic(String),
    /// A shell that waits for somebody to repair the node.
    Emergency(String),
    /// Something asks a question on the console, and the boot waits for the answer.
    Question(String),
}

impl Sight {
    /// Something is wrong.
    pub fn is_trouble(&self) -> bool {
        matches!(self, Self::FailedUnit(_) | Self::OutOfMemory(_)) || self.is_fatal()
    }

    /// The node will not come up any more.
    pub fn is_fatal(&self) -> bool {
        matches!(self, Self::KernelPanic(_) | Self::Emergency(_) | Self::Question(_))
    }

    /// In a few words, for tables and timelines.
    pub fn label(&self) -> String {
        match self {
            Self::Kernel => "kernel".into(),
            Self::Initrd => "initrd".into(),
            Self::Systemd => "systemd".into(),
            Self::Target(target) => target.clone(),
            Self::Marker(marker) => marker.clone(),
            Self::Login => "login".into(),
            Self::PowerDown => "power off".into(),
            Self::FailedUnit(unit) => format!("failed unit: {unit}"),
            Self::OutOfMemory(what) => format!("out of memory: {what}"),
            Self::KernelPanic(why) => format!("kernel panic: {why}"),
            Self::Emergency(why) => format!("emergency shell: {why}"),
            Self::Question(what) => format!("waits for an answer on the console: {what}"),
        }
    }
}

/// Tells the first sight of a milestone from its repetitions in the same boot: the kernel and the initramfs
/// both announce the latter, systemd starts once there and once on the root, and each logout prompts again.
#[derive(Debug, Default)]
pub struct Fresh(Vec<Sight>);

impl Fresh {
    /// Whether `sight` is new in this boot, or one of a kind that may come again.
    pub fn is(&mut self, sight: &Sight) -> bool {
        match sight {
            Sight::Kernel => {
                self.0.clear();
                true
            }
            Sight::Initrd | Sight::Systemd | Sight::Login | Sight::PowerDown | Sight::Target(_) => {
                let new = !self.0.contains(sight);
                if new {
                    self.0.push(sight.clone());
                }
                new
            }
            _ => true,
        }
    }
}

/// Targets worth a milestone; systemd reaches dozens.
const TARGETS: [&str; 5] = ["local-fs", "network", "network-online", "multi-user", "graphical"];

/// What `line` means; most lines mean nothing. Markers may stand anywhere, more than one to a line.
pub fn classify(line: &str) -> Vec<Sight> {
    let mut sights: Vec<Sight> = markers(line).map(Sight::Marker).collect();
    let after = |pattern: &str| line.split_once(pattern).map(|(_, rest)| rest.trim());
    let sight = if let Some(why) = after("Kernel panic - not syncing:") {
        // "end Kernel panic - not syncing: …" repeats it.
        (!line.contains("end Kernel panic")).then(|| Sight::KernelPanic(why.to_owned()))
    } else if line.contains("Booting Linux on physical CPU") {
        Some(Sight::Kernel)
    } else if line.contains("Run /init as init process") || line.starts_with("Loading, please wait...") {
        Some(Sight::Initrd)
    } else if line.contains("systemd[1]: systemd ") || line.starts_with("Welcome to ") {
        Some(Sight::Systemd)
    } else if let Some(target) = after("Reached target ") {
        target_name(target).map(|name| Sight::Target(name.to_owned()))
    } else if let Some(unit) = failed_unit(line) {
        Some(Sight::FailedUnit(unit.to_owned()))
    } else if let Some(victim) = after("Out of memory: Killed process ") {
        Some(Sight::OutOfMemory(victim.to_owned()))
    } else if let Some(alert) = after("ALERT!") {
        Some(Sight::Emergency(alert.trim_end_matches("Dropping to a shell!").trim().to_owned()))
    } else if line.contains("You are in emergency mode") || line.contains("You are in rescue mode") {
        Some(Sight::Emergency("systemd stopped for a person".into()))
    } else if line.contains("Cannot open access to console, the root account is locked") {
        Some(Sight::Emergency("systemd stopped for a person, and root has no password".into()))
    } else if line.contains("-- Press any key to proceed --") {
        Some(Sight::Question("systemd-firstboot wants this system configured; mask systemd-firstboot.service".into()))
    } else if line.contains("reboot: Power down") || line.contains("reboot: System halted") {
        Some(Sight::PowerDown)
    } else {
        None
    };
    sights.extend(sight);
    sights
}

/// What an unfinished line means: prompts have no line end.
pub fn classify_prompt(text: &str) -> Option<Sight> {
    let text = text.trim_end();
    if text.ends_with(" login:") {
        Some(Sight::Login)
    } else if text.ends_with("(initramfs)") {
        Some(Sight::Emergency("the initramfs found no root file system".into()))
    } else if text.ends_with("(or press Control-D to continue):") || text.ends_with("Press Enter for maintenance") {
        Some(Sight::Emergency("systemd stopped for a person".into()))
    } else {
        None
    }
}

/// `@hcl:NAME@ details` gives `NAME details`; the details end with the line or where the next marker begins.
fn markers(line: &str) -> impl Iterator<Item = String> {
    line.split("@hcl:").skip(1).filter_map(|part| {
        let (name, details) = part.split_once('@')?;
        (!name.is_empty()).then(|| format!("{name} {}", details.trim()).trim_end().to_owned())
    })
}

/// The name without `.target` where it is one of [`TARGETS`]. systemd writes
/// `multi-user.target - Multi-User System.`
fn target_name(text: &str) -> Option<&'static str> {
    let unit = text.split([' ', '\u{2026}']).next()?.trim_end_matches('.');
    TARGETS.into_iter().find(|target| unit.strip_suffix(".target") == Some(target))
}

fn failed_unit(line: &str) -> Option<&str> {
    let status = line.trim_start().strip_prefix("[FAILED]").or_else(|| line.split_once("systemd[1]:").map(|(_, rest)| rest))?;
    Some(status.split_once("Failed to start ")?.1.trim().trim_end_matches('.'))
}

/// Cuts a console's bytes into lines, without carriage returns and terminal control sequences.
#[derive(Debug, Default)]
pub struct Lines {
    line: String,
    escape: Escape,
    bytes: Vec<u8>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Escape {
    #[default]
    None,
    /// After ESC.
    Start,
    /// Inside ESC [ … up to its final byte (ECMA-48, 5.4).
    Control,
    /// Inside ESC ] … or ESC P …, a string up to BEL or ESC \.
    Text,
}

/// A line without an end is cut here, so that garbage cannot fill the memory.
const LONGEST: usize = 4096;

impl Lines {
    /// Takes more bytes and hands each finished line to `line`.
    pub fn feed(&mut self, bytes: &[u8], mut line: impl FnMut(&str)) {
        for &byte in bytes {
            self.escape = match (self.escape, byte) {
                (Escape::Start, b'[') => Escape::Control,
                (Escape::Start, b']' | b'P') => Escape::Text,
                (Escape::Start, _) => Escape::None,
                (Escape::Control, 0x40..=0x7e) => Escape::None,
                (Escape::Text, 0x07) => Escape::None,
                (_, 0x1b) => Escape::Start,
                (Escape::Control, _) => Escape::Control,
                (Escape::Text, _) => Escape::Text,
                (Escape::None, b'\n') => {
                    self.settle();
                    line(&self.line);
                    self.line.clear();
                    Escape::None
                }
                (Escape::None, b'\t' | 0x20..) => {
                    self.bytes.push(byte);
                    Escape::None
                }
                (Escape::None, _) => Escape::None,
            };
            if self.line.len() + self.bytes.len() >= LONGEST {
                self.settle();
                line(&self.line);
                self.line.clear();
            }
        }
        self.settle();
    }

    /// What came since the last line end.
    pub fn unfinished(&self) -> &str {
        &self.line
    }

    /// Moves whole characters into the line; a character that is cut waits for its rest.
    fn settle(&mut self) {
        let cut = match std::str::from_utf8(&self.bytes) {
            Err(error) if error.error_len().is_none() => error.valid_up_to(),
            _ => self.bytes.len(),
        };
        self.line.push_str(&String::from_utf8_lossy(&self.bytes[..cut]));
        self.bytes.drain(..cut);
    }
}

#[cfg(test)]
#[path = "console_tests.rs"]
mod tests;
