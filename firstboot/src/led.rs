//! What the activity LED says: a pure mapping from status to blinks.
//!
//! `docs/boot-partition.md` has the table for people. The kernel blinks by itself (its LED trigger `pattern`): the program wakes up for
//! changes only, and what was shown last goes on when the program has ended.

use std::{fmt::Write, time::Duration};

use crate::{
    status::Status,
    trouble::{Kind, Trouble},
};

/// What a node shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Signal {
    /// No network yet: no cable, or no interface.
    Searching,
    /// The network is there, the cluster is looked for.
    Looking,
    /// A member that follows.
    Follower,
    /// The leader.
    Leader,
    /// A person must see to something.
    Fault(Kind),
}

impl Signal {
    /// What a node with this status shows.
    pub fn of(status: &Status) -> Self {
        match (&status.trouble, status.is_ready(), status.role.as_str()) {
            (Some(Trouble { kind, .. }), ..) => Self::Fault(*kind),
            (None, false, _) => Self::Searching,
            (None, true, "leader") => Self::Leader,
            (None, true, "follower") => Self::Follower,
            (None, true, _) => Self::Looking,
        }
    }

    /// On and off, and how long each; from the beginning again after the last.
    pub fn blinks(self) -> Vec<(bool, Duration)> {
        let on = |ms| (true, Duration::from_millis(ms));
        let off = |ms| (false, Duration::from_millis(ms));
        match self {
            Self::Searching => vec![on(100), off(100)],
            Self::Looking => vec![on(500), off(500)],
            // Two beats and a rest.
            Self::Follower => vec![on(80), off(170), on(80), off(1170)],
            // Always on but for a gap, so that nobody takes it for a board that hangs.
            Self::Leader => vec![on(1850), off(150)],
            Self::Fault(kind) => {
                let mut blinks = [on(500), off(400)].repeat(kind.number().into());
                blinks.push(off(2000));
                blinks
            }
        }
    }

    /// The same for the kernel's `pattern` file: brightness and milliseconds. Each step is followed by one of no time, or the kernel
    /// would fade from one brightness to the next (Documentation/devicetree/bindings/leds/leds-trigger-pattern.txt).
    pub fn pattern(self, max_brightness: u32) -> String {
        let mut pattern = String::new();
        for (on, time) in self.blinks() {
            let brightness = if on { max_brightness } else { 0 };
            // Writing to a String cannot fail.
            let _ = write!(pattern, "{brightness} {} {brightness} 0 ", time.as_millis());
        }
        pattern.trim_end().to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_status_shows() {
        let status = |state: &str, role: &str, trouble: Option<Kind>| Status {
            state: state.into(),
            role: role.into(),
            trouble: trouble.map(|kind| Trouble::new(kind, "x")),
            ..Status::default()
        };
        let table = [
            (status("searching", "none", None), Signal::Searching),
            (status("attaching", "none", None), Signal::Searching),
            (status("ready", "none", None), Signal::Looking),
            (status("ready", "follower", None), Signal::Follower),
            (status("ready", "leader", None), Signal::Leader),
            // A leader that lost its cable is none to look at.
            (status("searching", "leader", None), Signal::Searching),
            (status("ready", "leader", Some(Kind::Switch)), Signal::Fault(Kind::Switch)),
            (status("faulted", "none", Some(Kind::Network)), Signal::Fault(Kind::Network)),
        ];
        for (status, signal) in table {
            assert_eq!(Signal::of(&status), signal, "{} {}", status.state, status.role);
        }
    }

    #[test]
    fn signals_can_be_told_apart() {
        let faults = Kind::ALL.map(Signal::Fault);
        let all = [&[Signal::Searching, Signal::Looking, Signal::Follower, Signal::Leader][..], &faults].concat();
        for (at, one) in all.iter().enumerate() {
            for other in &all[at + 1..] {
                assert_ne!(one.blinks(), other.blinks());
            }
            let whole: Duration = one.blinks().iter().map(|(_, time)| *time).sum();
            assert!(whole < Duration::from_secs(10), "nobody counts so long: {one:?}");
            // The kernel takes steps of less than 50 ms for none, and 1024 numbers at most.
            assert!(one.blinks().iter().all(|(_, time)| time.as_millis() >= 50));
        }
        for kind in Kind::ALL {
            let blinks = Signal::Fault(kind).blinks();
            assert_eq!(blinks.iter().filter(|(on, _)| *on).count(), usize::from(kind.number()));
        }
    }

    #[test]
    fn as_the_kernel_wants_it() {
        assert_eq!(Signal::Leader.pattern(255), "255 1850 255 0 0 150 0 0");
        assert_eq!(Signal::Fault(Kind::Configuration).pattern(1), "1 500 1 0 0 400 0 0 0 2000 0 0");
    }
}
