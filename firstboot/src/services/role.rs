//! The leader's role: this node's part in Consul's lock, told to `hcl-firstboot run` over its socket.
//!
//! Two threads. One stands for the lock while this node is a server, and tells what becomes of it; the other one takes ledgers to be
//! kept by the quorum. Nothing here decides who leads on the wire: a grant that is not renewed ends there by itself.

use std::{
    io::{self, BufRead, BufReader, Read, Write},
    os::unix::net::UnixStream,
    path::PathBuf,
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    thread,
    time::Duration,
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

/// What the node stands for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Candidate {
    /// What Consul calls it.
    pub(super) name: String,
    pub(super) owner: Owner,
    pub(super) incarnation: Incarnation,
}

/// The role, as far as this process has to do with it.
#[derive(Debug)]
pub(super) struct Role {
    shared: Arc<Shared>,
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
    established: bool,
}

impl Role {
    /// Starts both threads. `run_dir` has the socket; `client` may write keys and hold sessions.
    ///
    /// # Errors
    ///
    /// There can be no more threads.
    pub(super) fn start(run_dir: &std::path::Path, client: Client) -> io::Result<Self> {
        let shared =
            Arc::new(Shared { state: Mutex::default(), changed: Condvar::new(), client, socket: run_dir.join(ROLE_SOCKET) });
        let of_lock = Arc::clone(&shared);
        thread::Builder::new().name("role-lock".to_owned()).spawn(move || of_lock.hold())?;
        let of_line = Arc::clone(&shared);
        thread::Builder::new().name("role-line".to_owned()).spawn(move || of_line.listen())?;
        Ok(Self { shared })
    }

    /// Stands from now on, or does not.
    pub(super) fn stand(&self, candidate: Option<Candidate>) {
        let mut state = self.shared.lock();
        if state.candidate != candidate {
            state.candidate = candidate;
            self.shared.changed.notify_all();
        }
    }

    /// The cluster holds something that a user would miss.
    pub(super) fn establish(&self) {
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
                    self.lock().held = lock.held().map(|(session, index)| (session.to_owned(), index));
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
