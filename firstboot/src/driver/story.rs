//! The story of this boot, for `hcl log`: a bounded file in the run folder, in plain words. The journal has more.

use std::{
    fs::{self, OpenOptions},
    io::{self, Write},
    path::{Path, PathBuf},
};

use crate::{marker::Marker, status::STORY};

/// How long the file may become, in bytes. Where it would, the older half goes.
const LONGEST: usize = 64 << 10;

/// The file, and what is in it.
#[derive(Debug)]
pub(super) struct Story {
    path: PathBuf,
    length: usize,
}

impl Story {
    /// The story in `folder`; an earlier run's goes on.
    pub(super) fn new(folder: &Path) -> Self {
        let path = folder.join(STORY);
        let length = fs::metadata(&path).map_or(0, |about| usize::try_from(about.len()).unwrap_or(LONGEST));
        Self { path, length }
    }

    /// Adds what happened, `uptime_ms` after the boot.
    ///
    /// # Errors
    ///
    /// What the system says.
    pub(super) fn add(&mut self, uptime_ms: u64, text: &str) -> io::Result<()> {
        let line = line(uptime_ms, text);
        if self.length + line.len() > LONGEST {
            let before = fs::read_to_string(&self.path).unwrap_or_default();
            let kept = younger_half(&before);
            let new = self.path.with_extension("new");
            fs::write(&new, kept)?;
            fs::rename(&new, &self.path)?;
            self.length = kept.len();
        }
        if let Some(folder) = self.path.parent() {
            fs::create_dir_all(folder)?;
        }
        // One call: a reader sees whole lines.
        OpenOptions::new().append(true).create(true).open(&self.path)?.write_all(line.as_bytes())?;
        self.length += line.len();
        Ok(())
    }
}

/// One line, cut where a text is absurdly long.
fn line(uptime_ms: u64, text: &str) -> String {
    let time = format!("{}.{}", uptime_ms / 1000, uptime_ms % 1000 / 100);
    let text: String = text.chars().map(|letter| if letter.is_control() { ' ' } else { letter }).take(1000).collect();
    format!("{time:>6} s  {text}\n")
}

/// Whole lines from the middle on.
fn younger_half(text: &str) -> &str {
    let from = text.as_bytes().iter().skip(text.len() / 2).position(|byte| *byte == b'\n').map(|at| text.len() / 2 + at + 1);
    from.and_then(|from| text.get(from..)).unwrap_or_default()
}

/// A marker in plain words.
pub(super) fn words(marker: &Marker) -> String {
    match marker {
        Marker::Boot { version, cluster } => format!("the program started: version {version}, cluster {cluster}"),
        Marker::Host { name } => format!("this node is called {name} now"),
        Marker::Wait { what } => format!("still waiting {what}"),
        Marker::Link { interface } => format!("{interface} has a carrier"),
        Marker::Lost { interface, reason } => format!("{interface} is lost to the cluster: {reason}"),
        Marker::Vlan { interface, id } => format!("VLAN {id} is up as {interface}"),
        Marker::Ready { interface } => format!("the network is ready: the cluster uses {interface}"),
        Marker::Leader { address } => format!("this node leads the cluster, at {address}"),
        Marker::Joined { address, leader } => format!("this node is a member, at {address}; {leader} leads"),
        Marker::Fault { reason } => format!("something is wrong: {reason}"),
        Marker::Grown { from, to } => format!("the root file system grew from {from} to {to} MiB"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines() {
        assert_eq!(line(12_345, "eth0 has a carrier"), "  12.3 s  eth0 has a carrier\n");
        assert_eq!(line(1_234_567, "a\nb"), "1234.5 s  a b\n");
        assert_eq!(line(0, &"é".repeat(2000)).chars().count(), 1000 + "   0.0 s  \n".len());
    }

    #[test]
    fn bounded_and_the_oldest_goes() {
        let folder = tempfile::tempdir().unwrap();
        let run = folder.path().join("run");
        let path = run.join(STORY);
        let mut story = Story::new(&run);
        for number in 0..5000_u64 {
            story.add(number * 1000, &format!("the event with number {number} é")).unwrap();
            assert!(fs::metadata(&path).unwrap().len() <= LONGEST as u64);
            if number == 2500 {
                // The program starts again.
                story = Story::new(&run);
            }
        }
        let text = fs::read_to_string(&path).unwrap();
        let numbers: Vec<u64> = text.lines().map(|line| line.split(' ').rev().nth(1).unwrap().parse().unwrap()).collect();
        assert!(numbers.len() > 500 && numbers.last() == Some(&4999), "{}", numbers.len());
        assert!(numbers.windows(2).all(|pair| pair[0] + 1 == pair[1]), "a gap or half a line");
        assert_eq!(fs::read_dir(&run).unwrap().count(), 1);
    }

    #[test]
    fn halves() {
        assert_eq!(younger_half("aaaa\nbb\ncc\n"), "cc\n");
        assert_eq!(younger_half("ééé"), "");
        assert_eq!(younger_half(""), "");
    }
}
