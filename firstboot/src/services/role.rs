//! The leader's role: this node's part in Consul's lock, told to `hcl-firstboot run` over its socket.
//!
//! Two threads. One stands for the lock while this node is a server, and tells what becomes of it; the other one takes ledgers to be
//! kept by the quorum. Nothing here decides who leads on the wire: a grant that is not renewed ends there by itself. A node that holds
//! the lock and does not come to lead gives it back, so that another one can.

use std::{
    io::{self, BufRead, BufReader, Read, Write},
    os::unix::net::UnixStream,
    path::PathBuf,
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    thread,
    time::{Duration, Instant},
};

use serde::Deserialize;
use serde_json::{Value, json};

use crate::{
    consul::{
        Client,
        keys::{LEADER, LEDGER},
        kv::{Freshness, If},
        lock::{Change, Lock, Owner},
    },
    identity::Incarnation,
    record::Ledger,
    status::uptime_ms,
};

/// The name of the other process's socket.
const ROLE_SOCKET: &str = "role.sock";
/// Between two attempts to reach the other process.
const RETRY: Duration = Duration::from_secs(1);
/// The longest line from it, in bytes.
const LONGEST: u64 = 1 << 20;
/// The longest that the lock's thread sleeps: it looks then whether it shall still stand.
const NAP: Duration = Duration::from_secs(1);

/// How long a node may hold the lock before it leads: ten seconds until the leader before has lost the address, some probes, a slow
/// card; and then enough for all of it to happen once more.
pub const PATIENCE: Duration = Duration::from_secs(40);
/// For how long one that gave the lock back leaves it to others.
pub const REST: Duration = Duration::from_secs(60);

/// What the node stands for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Candidate {
    /// What Consul calls it.
    pub name: String,
    /// What the lock shall say of it.
    pub owner: Owner,
    /// The founding that it belongs to.
    pub incarnation: Incarnation,
}

/// The role, as far as this process has to do with it.
#[derive(Debug)]
pub struct Role {
    shared: Arc<Shared>,
    fit: Fit,
}

/// Whether this node is fit to lead: it is, unless it held the lock and nothing came of it.
#[derive(Debug, Default)]
struct Fit {
    /// Since when it holds the lock and does not lead.
    idle: Option<Instant>,
    rests_until: Option<Instant>,
}

impl Fit {
    /// Whether it stands at `now`, and whether it has just given up.
    fn look(&mut self, holds: bool, leads: bool, now: Instant) -> (bool, bool) {
        if self.rests_until.is_some_and(|until| now < until) {
            return (false, false);
        }
        self.rests_until = None;
        if leads || !holds {
            self.idle = None;
            return (true, false);
        }
        if now < *self.idle.get_or_insert(now) + PATIENCE {
            return (true, false);
        }
        *self = Self { idle: None, rests_until: Some(now + REST) };
        (false, true)
    }
}

#[derive(Debug)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
    client: Client,
    socket: PathBuf,
}

#[derive(Debug, Default)]
struct State {
    candidate: Option<Candidate>,
    /// To the other process, while it listens.
    line: Option<UnixStream>,
    /// The grant whose ledger it has.
    told: Option<u64>,
    /// The session that holds the lock, and the grant.
    held: Option<(String, u64)>,
    /// Whether this node has the lock, with a grant that is good or without.
    holds: bool,
    established: bool,
}

impl Role {
    /// Starts both threads. `run_dir` has the socket; `client` may write keys and hold sessions.
    ///
    /// # Errors
    ///
    /// There can be no more threads.
    pub fn start(run_dir: &std::path::Path, client: Client) -> io::Result<Self> {
        let shared =
            Arc::new(Shared { state: Mutex::default(), changed: Condvar::new(), client, socket: run_dir.join(ROLE_SOCKET) });
        let of_lock = Arc::clone(&shared);
        thread::Builder::new().name("role-lock".to_owned()).spawn(move || of_lock.hold())?;
        let of_line = Arc::clone(&shared);
        thread::Builder::new().name("role-line".to_owned()).spawn(move || of_line.listen())?;
        Ok(Self { shared, fit: Fit::default() })
    }

    /// Stands from now on, or does not; `leads` says whether this node leads on the wire. One that holds the lock for [`PATIENCE`] and
    /// does not lead gives it back, for [`REST`]; whether it did so now.
    pub fn stand(&mut self, candidate: Option<Candidate>, leads: bool, now: Instant) -> bool {
        let mut state = self.shared.lock();
        let (fit, gave_up) = self.fit.look(state.holds, leads, now);
        let candidate = candidate.filter(|_| fit);
        if state.candidate != candidate {
            state.candidate = candidate;
            self.shared.changed.notify_all();
        }
        gave_up
    }

    /// The cluster holds something that a user would miss.
    pub fn establish(&self) {
        let mut state = self.shared.lock();
        if !std::mem::replace(&mut state.established, true) {
            state.say(&json!({ "established": true }));
        }
    }
}

impl State {
    /// Says it, if anybody listens. Who does not is told again once it does.
    fn say(&mut self, what: &Value) {
        let Some(line) = &mut self.line else { return };
        if line.write_all(format!("{what}\n").as_bytes()).is_err() {
            self.line = None;
        }
    }
}

fn since_boot() -> Duration {
    Duration::from_millis(uptime_ms())
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Stands for the lock, without end.
    fn hold(&self) {
        let mut lock: Option<(Candidate, Lock)> = None;
        loop {
            let wanted = self.lock().candidate.clone();
            if lock.as_ref().map(|(candidate, _)| candidate) != wanted.as_ref() {
                if let Some((_, old)) = &mut lock {
                    let mut state = self.lock();
                    (state.held, state.holds) = (None, false);
                    drop(state);
                    // On the wire first, then in Consul.
                    self.tell(old.stand(false), &None);
                    old.turn(&self.client, since_boot);
                }
                lock = wanted.map(|candidate| {
                    let mut lock = Lock::new(&candidate.name, &candidate.owner);
                    lock.stand(true);
                    (candidate, lock)
                });
            }
            let wait = match &mut lock {
                None => NAP,
                Some((candidate, lock)) => {
                    let turn = lock.turn(&self.client, since_boot);
                    let held = lock.held().map(|(session, index)| (session.to_owned(), index));
                    let mut state = self.lock();
                    (state.held, state.holds) = (held, lock.holds());
                    drop(state);
                    self.tell(turn.change, &Some(candidate.incarnation));
                    turn.next.map_or(NAP, |at| at.saturating_sub(since_boot()).min(NAP))
                }
            };
            if !wait.is_zero() {
                let state = self.lock();
                drop(self.changed.wait_timeout(state, wait).unwrap_or_else(PoisonError::into_inner));
            }
        }
    }

    fn tell(&self, change: Option<Change>, incarnation: &Option<Incarnation>) {
        match change {
            None => {}
            Some(Change::Lost) => {
                let mut state = self.lock();
                state.told = None;
                state.say(&json!({ "lost": true }));
            }
            Some(Change::Granted { index, asked_at, valid_for }) => {
                let first = self.lock().told != Some(index);
                // Without the ledger of those before, the role is not for this node yet.
                let Ok(ledger) = self.ledger(first) else { return };
                let mut state = self.lock();
                state.say(&json!({ "granted": {
                    "index": index,
                    "asked_at_ms": asked_at.as_millis() as u64,
                    "valid_ms": valid_for.as_millis() as u64,
                    "ledger": ledger,
                    "incarnation": incarnation,
                } }));
                state.told = state.line.is_some().then_some(index);
            }
        }
    }

    /// What the quorum keeps, where it has to be told.
    fn ledger(&self, wanted: bool) -> Result<Option<Ledger>, ()> {
        if !wanted {
            return Ok(None);
        }
        let entry = self.client.value(LEDGER, Freshness::Consistent).map_err(drop)?;
        let Some(entry) = entry else { return Ok(None) };
        // With another one than the last leader's an address could be lent twice.
        let read = serde_json::from_slice(&entry.value).map(Some);
        read.map_err(|error| println!("this node cannot lead: the key {LEDGER} is damaged: {error}"))
    }

    /// Connects to the other process, again and again, and takes what it says.
    fn listen(&self) {
        loop {
            if let Ok(stream) = UnixStream::connect(&self.socket) {
                if let Ok(out) = stream.try_clone() {
                    {
                        let mut state = self.lock();
                        state.line = Some(out);
                        state.told = None;
                        if state.established {
                            state.say(&json!({ "established": true }));
                        }
                    }
                    self.read(stream);
                    self.lock().line = None;
                }
            }
            thread::sleep(RETRY);
        }
    }

    fn read(&self, stream: UnixStream) {
        let mut reader = BufReader::new(stream);
        loop {
            let mut line = String::new();
            match reader.by_ref().take(LONGEST).read_line(&mut line) {
                Ok(count) if count > 0 => {}
                _ => return,
            }
            let Ok(Said { replicate }) = serde_json::from_str::<Said>(&line) else { continue };
            if self.replicate(&replicate) {
                self.lock().say(&json!({ "replicated": replicate.seq }));
            }
        }
    }

    /// Has the quorum keep a ledger, as the holder of the lock and as nobody else. One after the other, each over the one before: a write
    /// that comes late after a time-out must not take a newer one's place.
    fn replicate(&self, what: &Replicate) -> bool {
        let held = self.lock().held.clone();
        let Some((session, _)) = held.filter(|(_, index)| what.index.is_none_or(|wanted| wanted == *index)) else { return false };
        let written = || {
            let before = self.client.value(LEDGER, Freshness::Consistent)?;
            let condition = before.map_or(If::Absent, |entry| If::Unchanged(entry.modified));
            self.client.put_as_holder(LEDGER, what.ledger.to_string().as_bytes(), condition, LEADER, &session)
        };
        written().unwrap_or_else(|error: crate::consul::Error| {
            println!("the ledger is not kept by the quorum yet: {error}");
            false
        })
    }
}

#[derive(Debug, Deserialize)]
struct Said {
    replicate: Replicate,
}

#[derive(Debug, Deserialize)]
struct Replicate {
    seq: u64,
    index: Option<u64>,
    ledger: Value,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_that_cannot_lead_leaves_it_to_others() {
        let start = Instant::now();
        let at = |seconds: u64| start + Duration::from_secs(seconds);
        let (patience, rest) = (PATIENCE.as_secs(), REST.as_secs());
        // (when, holds the lock, leads, stands, gave up)
        let table = [
            (0, false, false, true, false),
            // It was granted the role, led, and lost the address for a while.
            (100, true, false, true, false),
            (100 + patience - 1, true, false, true, false),
            (100 + patience, true, true, true, false),
            (200, true, false, true, false),
            (199 + patience, true, false, true, false),
            (200 + patience, true, false, false, true),
            // The lock's thread may not have given it back yet.
            (201 + patience, true, false, false, false),
            (199 + patience + rest, false, false, false, false),
            (200 + patience + rest, false, false, true, false),
            (300 + patience + rest, true, false, true, false),
            (300 + 2 * patience + rest, true, false, false, true),
        ];
        let mut fit = Fit::default();
        for (seconds, holds, leads, stands, gave_up) in table {
            assert_eq!(fit.look(holds, leads, at(seconds)), (stands, gave_up), "at {seconds} s");
        }
    }
}
