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
    last: String,
}

impl Story {
    /// The story in `folder`; an earlier run's goes on.
    pub(super) fn new(folder: &Path) -> Self {
        let path = folder.join(STORY);
        let length = fs::metadata(&path).map_or(0, |about| usize::try_from(about.len()).unwrap_or(LONGEST));
        Self { path, length, last: String::new() }
    }

    /// A transition in plain words, unless its reason was just told with a marker.
    pub(super) fn news(&self, [from, to, reason]: [&str; 3]) -> Option<String> {
        (!self.last.ends_with(reason)).then(|| changed(from, to, reason))
    }

    /// Adds what happened, `uptime_ms` after the boot.
    ///
    /// # Errors
    ///
    /// What the system says.
    pub(super) fn add(&mut self, uptime_ms: u64, text: &str) -> io::Result<()> {
        text.clone_into(&mut self.last);
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

/// One line, cut where a text is absurdly long. The black box has the same lines.
pub(super) fn line(uptime_ms: u64, text: &str) -> String {
    let seconds = uptime_ms / 1000;
    let time = format!("{}:{:02}:{:02}.{}", seconds / 3600, seconds / 60 % 60, seconds % 60, uptime_ms % 1000 / 100);
    let text: String = text.chars().map(|letter| if letter.is_control() { ' ' } else { letter }).take(1000).collect();
    format!("{time:>11}  {text}\n")
}

/// Whole lines from the middle on.
fn younger_half(text: &str) -> &str {
    let from = text.as_bytes().iter().skip(text.len() / 2).position(|byte| *byte == b'\n').map(|at| text.len() / 2 + at + 1);
    from.and_then(|from| text.get(from..)).unwrap_or_default()
}

/// A marker in plain words; none where the transition that comes with it says the same.
pub(super) fn marked(marker: &Marker) -> Option<String> {
    Some(match marker {
        Marker::Boot { version, cluster } => format!("hcl-firstboot {version} started, for the cluster {cluster}"),
        Marker::Host { name } => format!("this node is called {name} now"),
        Marker::Wait { what } => format!("still waiting {what}"),
        Marker::Link { interface } => format!("{interface} has a carrier"),
        Marker::Lost { interface, reason } => format!("{interface} {reason}"),
        Marker::Vlan { .. } | Marker::Ready { .. } => return None,
        Marker::Leader { address } => format!("this node leads the cluster, at {address}"),
        Marker::Joined { address, leader } => format!("this node is a member, at {address}; {leader} leads"),
        Marker::Fault { reason } => format!("something is wrong: {reason}"),
        Marker::Grown { from, to } => format!("the root file system grew from {from} to {to} MiB"),
    })
}

/// A transition in plain words. One into the same state brings a reason only.
pub(super) fn changed(from: &str, to: &str, reason: &str) -> String {
    let doing = match to {
        _ if from == to => return reason.to_owned(),
        "addressing" => return reason.to_owned(),
        "searching" => "looking for a wired interface",
        "attaching" => "setting up the network",
        "ready" => "the network is ready",
        "faulted" => "the network cannot be set up",
        "off" => "in no cluster",
        "aside" => "standing aside",
        "browsing" => "looking for the cluster",
        "claiming" => "about to found a cluster",
        "reclaiming" => "coming back",
        "joining" => "asking for an address",
        "succeeding" => "about to lead",
        "dormant" => "not leading any more",
        other => other,
    };
    format!("{doing}: {reason}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines() {
        assert_eq!(line(12_345, "eth0 has a carrier"), "  0:00:12.3  eth0 has a carrier\n");
        assert_eq!(line(400_000_000, "a\nb"), "111:06:40.0  a b\n");
        assert_eq!(line(0, &"é".repeat(2000)).chars().count(), 1000 + "  0:00:00.0  \n".len());
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
    fn nothing_is_told_twice() {
        let folder = tempfile::tempdir().unwrap();
        let mut story = Story::new(folder.path());
        let mut tell = |marker: &Marker, change: [&str; 3]| {
            if let Some(text) = marked(marker) {
                story.add(0, &text).unwrap();
            }
            if let Some(text) = story.news(change) {
                story.add(0, &text).unwrap();
            }
        };
        let (interface, reason) = ("eth0".to_owned(), "lost its carrier".to_owned());
        tell(&Marker::Link { interface: interface.clone() }, ["searching", "attaching", "eth0 has a carrier"]);
        tell(&Marker::Ready { interface: interface.clone() }, ["attaching", "ready", "eth0 is up"]);
        tell(&Marker::Lost { interface, reason }, ["ready", "searching", "eth0 lost its carrier"]);
        tell(&Marker::Fault { reason: "this and that".to_owned() }, ["browsing", "aside", "this and that"]);
        let text = fs::read_to_string(folder.path().join(STORY)).unwrap();
        let told: Vec<&str> = text.lines().filter_map(|line| line.split("  ").last()).collect();
        let wanted = [
            "eth0 has a carrier",
            "the network is ready: eth0 is up",
            "eth0 lost its carrier",
            "something is wrong: this and that",
        ];
        assert_eq!(told, wanted);
    }

    #[test]
    fn halves() {
        assert_eq!(younger_half("aaaa\nbb\ncc\n"), "cc\n");
        assert_eq!(younger_half("ééé"), "");
        assert_eq!(younger_half(""), "");
    }
}
