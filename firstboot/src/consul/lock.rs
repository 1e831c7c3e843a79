//! The lock that makes a node lead.
//!
//! [`Lock`] is a pure state machine: it says what to ask next, is told what came of it and when that was asked, and tells in turn
//! what became of the role. [`Lock::turn`] does one exchange with Consul.
//!
//! ```text
//!             ┌──────────── held by another ─────────────┐
//!             ▼                                          │
//!  Off ──► Looking ──► Whose (ours from before a restart?) ──► Holding ──► renewed every 2 s
//!             │ free                                     ▲        │
//!             └──► Creating a session ──► Acquiring ─────┘        └── no longer ours: Looking
//! ```
//!
//! **What is granted.** A renewal counts from *before* it was asked for, and for [`VALID`]. It is two requests: the session is
//! renewed, then the key is read where a majority of servers confirms that the one who answers leads them. So at some moment after
//! `asked_at` the lock was this node's; whoever gets it next gets it later than that, and has to wait [`VALID`] before it acts. No
//! promise of Consul about times is needed for that. Nodes' clocks have to run alike for eight seconds, not to agree.

use std::{net::Ipv4Addr, time::Duration};

use serde::{Deserialize, Serialize};

use super::{
    Client, Error,
    keys::LEADER,
    kv::{Entry, Freshness, Watched},
    session::Session,
};
use crate::identity::NodeId;

/// How long a renewal counts, from before it was asked for; and how long a new owner waits before it acts.
pub const VALID: Duration = Duration::from_secs(8);
/// How often the lock is renewed. Nothing is written for it.
pub const RENEWAL: Duration = Duration::from_secs(2);
/// How long a node that does not hold the lock waits for it to be free before it looks at its own wishes again.
const WAIT: Duration = Duration::from_secs(10);
/// Between two tries of what failed.
const PAUSE: Duration = Duration::from_millis(500);
/// What our sessions are called.
const NAME: &str = LEADER;

/// Whoever holds the lock: what the key's value says, as JSON.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Owner {
    /// Which node.
    pub node: NodeId,
    /// Its own address.
    pub address: Ipv4Addr,
}

/// What became of the role. All times count from the boot of this node, suspended or not (`CLOCK_BOOTTIME`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// It is this node's.
    Granted {
        /// Greater for each time that the lock goes to somebody.
        index: u64,
        /// From when on it counts.
        asked_at: Duration,
        /// For how long.
        valid_for: Duration,
    },
    /// It no longer is, or may no longer be.
    Lost,
}

/// What to ask Consul.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ask {
    /// What is in the key, once it is another thing than at `index`.
    Watch {
        /// What was seen last; zero for nothing.
        index: u64,
    },
    /// Whose session this is.
    Whose(String),
    /// A new session.
    Create,
    /// The lock, with this session.
    Acquire(String),
    /// That the session goes on; then what is in the key, by a majority.
    Renew(String),
    /// That the session ends, and the lock with it.
    Destroy(String),
}

/// What to do next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Next {
    /// Ask this.
    Ask(Ask),
    /// Nothing before this time.
    At(Duration),
    /// Nothing before [`Lock::stand`].
    Nothing,
}

/// What Consul answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Heard {
    /// To [`Ask::Watch`].
    Watched(Watched),
    /// To [`Ask::Whose`]; none for one that is over.
    Whose(Option<Session>),
    /// To [`Ask::Create`]: its id.
    Created(String),
    /// To [`Ask::Acquire`]: whether it did.
    Acquired(bool),
    /// To [`Ask::Renew`]: what is in the key; none where session or key are no more.
    Renewed(Option<Entry>),
    /// To [`Ask::Destroy`].
    Destroyed,
    /// To any of them: nothing that helps. It may have been done all the same.
    Failed,
}

/// One node's part in who leads.
#[derive(Clone, Debug)]
pub struct Lock {
    name: String,
    value: Vec<u8>,
    stands: bool,
    state: State,
    /// Nothing is asked before.
    not_before: Duration,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum State {
    /// No session, and nothing to do with it.
    Off,
    /// Somebody else holds the lock, or nobody. `spare` is a session that did not get it.
    Looking { index: u64, spare: Option<String> },
    /// Somebody holds the lock, perhaps this node, before it was started again.
    Whose { session: String, index: u64 },
    /// Nobody does.
    Creating,
    /// This node may get it.
    Acquiring { session: String },
    /// This node got it.
    Holding { session: String, granted: Option<Granted> },
    /// It is given back.
    Leaving { session: String },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Granted {
    index: u64,
    asked_at: Duration,
    /// Whoever was told that it is over is not told again.
    told: bool,
}

impl Lock {
    /// A node that Consul calls `name`, and which does not stand for the role.
    pub fn new(name: &str, owner: &Owner) -> Self {
        // Hexadecimal digits and dots: nothing in it can fail.
        let value = serde_json::to_vec(owner).unwrap_or_default();
        Self { name: name.to_owned(), value, stands: false, state: State::Off, not_before: Duration::ZERO }
    }

    /// Whether the node stands for the role from now on. One that no longer does gives it back, after the caller has heard that it
    /// is lost: the role has to be given up on the wire before the next exchange with Consul.
    pub fn stand(&mut self, stands: bool) -> Option<Change> {
        if std::mem::replace(&mut self.stands, stands) == stands {
            return None;
        }
        self.not_before = Duration::ZERO;
        if stands {
            if self.state == State::Off {
                self.state = looking(None);
            }
            return None;
        }
        let was = std::mem::replace(&mut self.state, State::Off);
        let (session, lost) = match was {
            State::Holding { session, granted } => (Some(session), granted.is_some_and(|granted| !granted.told)),
            State::Acquiring { session } | State::Leaving { session } => (Some(session), false),
            State::Looking { spare, .. } => (spare, false),
            State::Off | State::Creating | State::Whose { .. } => (None, false),
        };
        if let Some(session) = session {
            self.state = State::Leaving { session };
        }
        lost.then_some(Change::Lost)
    }

    /// Until when the role is this node's; none where it is not.
    pub fn valid_until(&self) -> Option<Duration> {
        match &self.state {
            State::Holding { granted: Some(granted), .. } if !granted.told => Some(granted.asked_at + VALID),
            _ => None,
        }
    }

    /// The session that holds the lock and the index of its grant, while that stands.
    pub fn held(&self) -> Option<(&str, u64)> {
        match &self.state {
            State::Holding { session, granted: Some(granted) } if !granted.told => Some((session, granted.index)),
            _ => None,
        }
    }

    /// Whether the lock is this node's as far as it knows, also where no renewal came in time.
    pub fn holds(&self) -> bool {
        matches!(self.state, State::Holding { .. })
    }

    /// What to do at `now`.
    pub fn next(&self, now: Duration) -> Next {
        let ask = match &self.state {
            State::Off => return Next::Nothing,
            State::Looking { index, .. } => Ask::Watch { index: *index },
            State::Whose { session, .. } => Ask::Whose(session.clone()),
            State::Creating => Ask::Create,
            State::Acquiring { session } => Ask::Acquire(session.clone()),
            State::Holding { session, .. } => Ask::Renew(session.clone()),
            State::Leaving { session } => Ask::Destroy(session.clone()),
        };
        if now < self.not_before { Next::At(self.not_before) } else { Next::Ask(ask) }
    }

    /// Takes in what came, until `now`, of what was asked at `asked_at`.
    pub fn heard(&mut self, asked_at: Duration, now: Duration, heard: Heard) -> Option<Change> {
        let was = std::mem::replace(&mut self.state, State::Off);
        if heard == Heard::Failed {
            self.failed(was, now);
            return self.expired(now);
        }
        let mut change = None;
        self.state = match (was, heard) {
            (State::Looking { spare, .. }, Heard::Watched(Watched { entry, index })) => looked(spare, entry, index),
            (State::Whose { session, index }, Heard::Whose(found)) => match found {
                Some(found) if found.node == self.name && found.name == NAME => State::Holding { session, granted: None },
                Some(_) => State::Looking { index, spare: None },
                None => looking(None),
            },
            (State::Creating, Heard::Created(session)) => State::Acquiring { session },
            (State::Acquiring { session }, Heard::Acquired(true)) => State::Holding { session, granted: None },
            // Somebody was faster, or the lock may not be had for a moment.
            (State::Acquiring { session }, Heard::Acquired(false)) => {
                self.not_before = now + PAUSE;
                looking(Some(session))
            }
            (State::Holding { session, granted }, Heard::Renewed(entry)) => {
                match entry.filter(|entry| entry.session.as_deref() == Some(&session)) {
                    Some(entry) => {
                        let index = granted.map_or(entry.modified, |granted| granted.index);
                        self.not_before = asked_at + RENEWAL;
                        change = Some(Change::Granted { index, asked_at, valid_for: VALID });
                        State::Holding { session, granted: Some(Granted { index, asked_at, told: false }) }
                    }
                    None => {
                        change = granted.filter(|granted| !granted.told).map(|_| Change::Lost);
                        looking(None)
                    }
                }
            }
            (State::Leaving { .. }, Heard::Destroyed) if self.stands => looking(None),
            (State::Leaving { .. }, Heard::Destroyed) => State::Off,
            // An answer to what is no longer asked.
            (was, _) => was,
        };
        // A grant that came too late is none.
        self.expired(now).or(change)
    }

    /// Whether what was granted is over by `now`.
    pub fn expired(&mut self, now: Duration) -> Option<Change> {
        let State::Holding { granted: Some(granted), .. } = &mut self.state else { return None };
        if granted.told || now < granted.asked_at + VALID {
            return None;
        }
        granted.told = true;
        Some(Change::Lost)
    }

    fn failed(&mut self, was: State, now: Duration) {
        self.not_before = now + PAUSE;
        self.state = match was {
            // The session may be over, or may have got the lock: the key tells, as after a start.
            State::Acquiring { .. } | State::Whose { .. } | State::Creating => looking(None),
            // What is left of it ends by itself.
            State::Leaving { .. } if !self.stands => State::Off,
            State::Leaving { .. } => looking(None),
            State::Looking { spare, .. } => looking(spare),
            was => was,
        };
    }
}

fn looked(spare: Option<String>, entry: Option<Entry>, index: u64) -> State {
    match (entry.and_then(|entry| entry.session), spare) {
        // Nothing came of acquiring, or of its answer.
        (Some(holder), Some(spare)) if holder == spare => State::Holding { session: spare, granted: None },
        (Some(_), Some(spare)) => State::Leaving { session: spare },
        (None, Some(spare)) => State::Acquiring { session: spare },
        (Some(holder), None) => State::Whose { session: holder, index },
        (None, None) => State::Creating,
    }
}

fn looking(spare: Option<String>) -> State {
    State::Looking { index: 0, spare }
}

/// What one turn came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Turn {
    /// What became of the role.
    pub change: Option<Change>,
    /// When the next turn is due, at the latest; none where nothing is before [`Lock::stand`].
    pub next: Option<Duration>,
}

impl Lock {
    /// Does one exchange with Consul, if one is due: up to [`VALID`] where this node holds the lock, up to ten seconds and a while where
    /// another does. `now` tells the time since boot.
    pub fn turn(&mut self, client: &Client, now: impl Fn() -> Duration) -> Turn {
        let asked_at = now();
        let mut change = self.expired(asked_at);
        if let Next::Ask(ask) = self.next(asked_at) {
            let heard = self.exchange(client, &ask, asked_at, &now).unwrap_or(Heard::Failed);
            change = self.heard(asked_at, now(), heard).or(change);
        }
        let next = match self.next(now()) {
            Next::Ask(_) => Some(now()),
            Next::At(time) => Some(self.valid_until().map_or(time, |until| time.min(until))),
            Next::Nothing => None,
        };
        Turn { change, next }
    }

    fn exchange(&self, client: &Client, ask: &Ask, asked_at: Duration, now: &impl Fn() -> Duration) -> Result<Heard, Error> {
        // What is granted must not be over before that is noticed. An answer that is late is still worth more than another
        // question, which the same busy server would have to answer: so the first of two requests may take half of what is left, and
        // the second one all of the rest. What comes later than a grant would be good for is none.
        let quick = |part: u32| {
            let left = self.valid_until().unwrap_or(asked_at + VALID).saturating_sub(now());
            client.within((left / part).max(Duration::from_millis(100)))
        };
        Ok(match ask {
            Ask::Watch { index } => Heard::Watched(client.watch(LEADER, *index, WAIT)?),
            Ask::Whose(session) => Heard::Whose(client.session(session)?),
            Ask::Create => Heard::Created(client.create_session(NAME)?),
            Ask::Acquire(session) => Heard::Acquired(client.acquire(LEADER, session, &self.value)?),
            Ask::Renew(session) if quick(2).renew_session(session)? => {
                Heard::Renewed(quick(1).value(LEADER, Freshness::Consistent)?)
            }
            Ask::Renew(_) => Heard::Renewed(None),
            Ask::Destroy(session) => {
                quick(2).destroy_session(session)?;
                Heard::Destroyed
            }
        })
    }
}

impl Client {
    /// Who holds the lock, as far as this node can tell without asking a majority.
    ///
    /// # Errors
    ///
    /// Consul does not say, or the key's value is none of ours.
    pub fn owner(&self) -> Result<Option<Owner>, Error> {
        let Some(entry) = self.value(LEADER, Freshness::Default)?.filter(|entry| entry.session.is_some()) else {
            return Ok(None);
        };
        let owner = serde_json::from_slice(&entry.value);
        owner.map(Some).map_err(|error| Error::Unexpected { what: format!("GET /v1/kv/{LEADER}"), why: error.to_string() })
    }
}

#[cfg(test)]
#[path = "lock_tests.rs"]
mod tests;
