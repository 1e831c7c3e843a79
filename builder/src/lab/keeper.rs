//! Keeps a lab as a snapshot, once it has formed and where nobody meddled with it before.

use std::{
    sync::mpsc::{Receiver, TryRecvError, channel},
    time::Duration,
};

use super::{Lab, freeze::Frozen, shelf::Shelf};
use crate::{error::one_line, units::Bytes};

/// How long the end of the lab waits for a snapshot that is being written.
const LAST: Duration = Duration::from_secs(120);

/// What becomes of the snapshot.
#[derive(Debug)]
pub enum Keeper {
    /// There will be none, or there is one.
    Done,
    /// The lab of this many nodes has not formed yet.
    Waiting(Shelf, usize),
    /// It is on its way to the disk; the nodes stood still for so long.
    Writing(Receiver<anyhow::Result<Bytes>>, Duration),
}

impl Keeper {
    /// For a lab that has just started with its first `nodes` nodes; with it what to say where it cannot be kept.
    pub fn new(shelf: Option<Shelf>, lab: &Lab, nodes: usize) -> (Self, Option<String>) {
        let Some(shelf) = shelf else { return (Self::Done, None) };
        if lab.snapshot().is_some() {
            return (Self::Done, None);
        }
        match lab.subject(nodes) {
            Ok(_) => (Self::Waiting(shelf, nodes), None),
            Err(why) => (Self::Done, Some(format!("snapshot: none: {}", one_line(&why)))),
        }
    }

    /// Somebody changed the lab; what to say of it.
    pub fn meddled(&mut self) -> Option<String> {
        if !matches!(self, Self::Waiting(..)) {
            return None;
        }
        *self = Self::Done;
        Some("snapshot: none, since the lab was changed before it had formed".to_owned())
    }

    /// It has formed; what to say of it.
    pub fn formed(&mut self, lab: &mut Lab) -> Option<String> {
        let Self::Waiting(shelf, nodes) = std::mem::replace(self, Self::Done) else { return None };
        let frozen = lab.subject(nodes).and_then(|subject| match shelf.begin(subject)? {
            Some(draft) => lab.freeze(draft).map(Some),
            None => Ok(None),
        });
        match frozen {
            Ok(Some(frozen)) => {
                self.write(frozen);
                None
            }
            Ok(None) => Some("snapshot: another lab has it, or makes it".to_owned()),
            Err(error) => Some(format!("snapshot: none: {}", one_line(&error))),
        }
    }

    fn write(&mut self, frozen: Frozen) {
        let (sender, result) = channel();
        let held = frozen.held;
        std::thread::spawn(move || {
            // Nobody waits any more when the lab ended meanwhile.
            let _ = sender.send(frozen.keep());
        });
        *self = Self::Writing(result, held);
    }

    /// What to say since it is on the disk, or since that failed.
    pub fn news(&mut self) -> Option<String> {
        let Self::Writing(result, held) = self else { return None };
        let line = match result.try_recv() {
            Ok(Ok(size)) => {
                format!("snapshot: next `up` starts formed ({size}; the nodes stood still for {:.1} s)", held.as_secs_f64())
            }
            Ok(Err(error)) => format!("snapshot: none: {}", one_line(&error)),
            Err(TryRecvError::Empty) => return None,
            Err(TryRecvError::Disconnected) => "snapshot: none: its thread ended".to_owned(),
        };
        *self = Self::Done;
        Some(line)
    }

    /// Waits for what is being written; what to say of it.
    pub fn finish(self) -> Option<String> {
        let Self::Writing(result, _) = self else { return None };
        match result.recv_timeout(LAST) {
            Ok(Ok(size)) => Some(format!("snapshot: next `up` starts formed ({size})")),
            Ok(Err(error)) => Some(format!("snapshot: none: {}", one_line(&error))),
            Err(_) => Some(format!("snapshot: none: not written after {} s", LAST.as_secs())),
        }
    }
}
