//! What a run is given that is wrong, and what comes of it.

use std::time::Duration;

/// What is made wrong on purpose.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mutation {
    None,
    /// What is to be kept is kept last.
    PersistLast,
    /// A frame counts as heard at once.
    NoSilenceRule,
    /// Nobody sees what others claim.
    NoTieBreak,
    /// Whoever asks for the role has it.
    NoLock,
    /// The quorum says that it has what it has not.
    EarlyAnswer,
}

/// How a run ended.
#[derive(Debug, Default)]
pub struct Outcome {
    /// The rule that was broken, and how.
    pub broken: Option<String>,
    pub foundings: usize,
    /// From the first node's power to a leader.
    pub leader_after: Option<Duration>,
    /// From the leader, or the node's own power, to a lease; each follower.
    pub follower_after: Vec<Duration>,
    /// What a node is woken for once all has settled, and the bytes that it writes then; all nodes together.
    pub wakes: u64,
    pub written: u64,
    /// How many machines led by a grant.
    pub leaders: usize,
    pub trace: String,
}
