//! The cluster's link: a wired interface with a carrier and the VLAN on it. Pure, as all of [`crate::node`].
//!
//! ```text
//!               carrier on a wired link                 cluster link is up
//!  ┌─► Searching ─────────────────────► Attaching ─────────────────────────► Ready
//!  │       ▲                             ▲   │ refused, or nothing in 5 s       │
//!  │       │ carrier or link gone        │   ▼                                  │
//!  │       ├─────────────────────────────┼── Faulted ◄──────────────────────────┤ cluster link is
//!  │       │                             └─────┘ after 1, 2, 4 … 60 s           │ gone or down:
//!  └───────┴────────────────────────────────────────────────────────────────────┘ Attaching again
//! ```
//!
//! After its carrier went a link is preferred for ten seconds: a cable put into another port of the switch must not move the
//! cluster to another interface.

mod links;
mod steps;

use std::time::{Duration, Instant};

use crate::{
    config::{HostName, NodeConfig},
    link::Mac,
    marker::Marker,
    node::{Action, Event},
};

use self::links::Links;

/// Why the network cannot be made. Each says what to do.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// The kernel knows no VLANs.
    #[error("this kernel cannot make VLANs: module 8021q is missing; install it, or set vlan = \"off\" in /etc/hcl/node.toml")]
    NoVlanModule,
    /// The interface below can carry no VLAN.
    #[error(
        "{interface} can carry no VLAN, says the kernel ({error}): name another interface, or set vlan = \"off\", in /etc/hcl/node.toml"
    )]
    NoVlanHere {
        /// Its name.
        interface: String,
        /// What the kernel said.
        error: String,
    },
    /// Something else has the name of our VLAN.
    #[error("{name} exists and is no VLAN but {kind}: rename or remove it")]
    NameTaken {
        /// The name.
        name: String,
        /// What it is.
        kind: String,
    },
    /// The named interface is wireless.
    #[error("{interface} is wireless and can carry no cluster: set interface = \"auto\" or a wired one in /etc/hcl/node.toml")]
    Wireless {
        /// Its name.
        interface: String,
    },
    /// The kernel said no.
    #[error("{what}: {error}")]
    Kernel {
        /// What was tried.
        what: String,
        /// What it said.
        error: String,
    },
    /// Somebody undoes what we do.
    #[error("{interface} was removed or set down by somebody else; making it again after a pause")]
    Undone {
        /// The interface.
        interface: String,
    },
    /// The kernel took the request and nothing came of it.
    #[error("{what} is not up 5 s after it was asked for; trying again")]
    Silent {
        /// The interface.
        what: String,
    },
}

/// How long one link is preferred after it lost its carrier.
const PREFERENCE: Duration = Duration::from_secs(10);
/// How long nothing is said about what is waited for.
const PATIENCE: Duration = Duration::from_secs(10);
/// How long the kernel may take to set a link up.
const ATTACH: Duration = Duration::from_secs(5);
/// How long starting may take where there is no wired interface: USB adapters come late.
const STARTUP: Duration = Duration::from_secs(5);
/// The longest pause between two tries.
const LONGEST_PAUSE: Duration = Duration::from_secs(60);
/// How long the network must have been good for the pauses to begin at one second again.
const GOOD: Duration = Duration::from_secs(60);

/// The way to the cluster's link. See the module for its states.
#[derive(Debug)]
pub struct Attachment {
    config: NodeConfig,
    links: Links,
    state: State,
    since: Instant,
    reason: String,
    /// When starting is over at the latest; none once it is.
    startup_until: Option<Instant>,
    host_name_given: bool,
    /// Links that were set up once by us. Somebody who sets one down again has a reason.
    raised: Vec<u32>,
    failures: u32,
    /// The name of the link in use, known even when it is gone.
    parent_name: Option<String>,
    /// What was last told on the console, which need not hear it again every minute.
    told: Option<Fault>,
}

/// A link that is ready.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ready {
    /// The index of the wired interface.
    pub parent: u32,
    /// The index of the interface that the cluster uses; the same with `vlan = "off"`.
    pub cluster: u32,
    /// The hardware address of the latter.
    pub mac: Mac,
    /// Its name.
    pub interface: String,
}

/// What `hcl status` shows of a link.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Summary {
    /// The state's name.
    pub state: &'static str,
    /// Since when it has been in it.
    pub since: Instant,
    /// Why it is in it.
    pub reason: String,
    /// The wired interface in use.
    pub interface: Option<String>,
    /// The interface that the cluster uses: the VLAN's, or the wired one itself.
    pub cluster_interface: Option<String>,
    /// What is wrong, also while it is tried again.
    pub fault: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum State {
    /// No link is good enough.
    Searching {
        /// The name of the link that the cluster was on, and until when no other one will do. A name, since an adapter that
        /// comes back has another index.
        preferred: Option<(String, Instant)>,
        /// When to say what is waited for; none once said.
        say_at: Option<Instant>,
    },
    /// Making the cluster's link on `parent`.
    Attaching { parent: u32, deadline: Instant, asked: Option<Ask> },
    /// The cluster has its link.
    Ready { parent: u32, cluster: u32 },
    /// It did not work.
    Faulted { parent: Option<u32>, retry_at: Instant },
}

/// What the kernel was last asked for while attaching, so that it is asked once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ask {
    Create,
    Raise(u32),
    Remove(u32),
}

impl State {
    fn name(&self) -> &'static str {
        match self {
            Self::Searching { .. } => "searching",
            Self::Attaching { .. } => "attaching",
            Self::Ready { .. } => "ready",
            Self::Faulted { .. } => "faulted",
        }
    }
}

impl Attachment {
    /// A node that just started, and what to do first. [`Event::Listed`] comes next.
    pub fn start(config: NodeConfig, now: Instant) -> (Self, Vec<Action>) {
        let marker = Marker::Boot { version: crate::VERSION.to_owned(), cluster: config.cluster.to_string() };
        let mut actions = vec![Action::Mark(marker)];
        let mut node = Self {
            links: Links::default(),
            state: State::Searching { preferred: None, say_at: Some(now + PATIENCE) },
            since: now,
            reason: "just started".to_owned(),
            startup_until: Some(now + STARTUP),
            host_name_given: false,
            raised: Vec::new(),
            failures: 0,
            parent_name: None,
            told: None,
            config,
        };
        if let HostName::Named(name) = &node.config.hostname {
            actions.push(Action::SetHostName(name.clone()));
            node.host_name_given = true;
        }
        (node, actions)
    }

    /// Takes `event`, returns what to do about it, in this order.
    pub fn handle(&mut self, now: Instant, event: &Event) -> Vec<Action> {
        let mut actions = Vec::new();
        match event {
            Event::Listed(links) => self.links.replace(links.clone()),
            Event::LinkChanged(link) => self.links.put(link.clone()),
            Event::LinkRemoved { index } => self.links.remove(*index),
            Event::Refused(fault) => self.refused(now, fault.clone(), &mut actions),
            _ => {}
        }
        self.raised.retain(|index| self.links.at(*index).is_some());
        self.prepare(now, &mut actions);
        self.advance(now, &mut actions);
        actions
    }

    /// When [`Event::Timeout`] is due, and what for.
    pub fn next_timeout(&self) -> Option<(Instant, &'static str)> {
        let of_state = match &self.state {
            State::Searching { preferred, say_at } => {
                let preferred = preferred.as_ref().map(|(_, until)| (*until, "the preferred link's time is over"));
                let say = say_at.map(|at| (at, "say what is waited for"));
                preferred.into_iter().chain(say).min()
            }
            State::Attaching { deadline, .. } => Some((*deadline, "the kernel's time is over")),
            State::Ready { .. } => (self.failures > 0).then(|| (self.since + GOOD, "the network is good")),
            State::Faulted { retry_at, .. } => Some((*retry_at, "try again")),
        };
        let startup = self.startup_until.map(|at| (at, "starting is over"));
        of_state.into_iter().chain(startup).min()
    }

    /// The link, while it is ready.
    pub fn ready(&self) -> Option<Ready> {
        let State::Ready { parent, cluster } = self.state else { return None };
        let link = self.links.at(cluster)?;
        Some(Ready { parent, cluster, mac: link.mac?, interface: link.name.clone() })
    }

    /// The link for people.
    pub fn summary(&self) -> Summary {
        let name = |index: u32| self.links.at(index).map(|link| link.name.clone());
        let (parent, cluster) = match &self.state {
            State::Searching { preferred, .. } => (preferred.as_ref().map(|(name, _)| name.clone()), None),
            State::Attaching { parent, .. } => (name(*parent), None),
            State::Ready { parent, cluster } => (name(*parent), name(*cluster)),
            State::Faulted { parent, .. } => (parent.and_then(name), None),
        };
        Summary {
            state: self.state.name(),
            since: self.since,
            reason: self.reason.clone(),
            interface: parent,
            cluster_interface: cluster,
            fault: self.told.as_ref().map(ToString::to_string),
        }
    }

    /// What is done whatever the state: host name, carriers made visible, readiness.
    fn prepare(&mut self, now: Instant, actions: &mut Vec<Action>) {
        for index in self.links.down_candidates(&self.config.interface) {
            // A device that is down knows nothing of its carrier.
            if !self.raised.contains(&index) {
                self.raised.push(index);
                actions.push(Action::BringUp { index });
            }
        }
        let first = self.links.first_candidate(&self.config.interface);
        if let (false, Some(mac)) = (self.host_name_given, first.and_then(|link| link.mac)) {
            actions.push(Action::SetHostName(mac.host_name()));
            self.host_name_given = true;
        }
        let over = first.is_some() || self.startup_until.is_some_and(|until| now >= until);
        if over && self.startup_until.take().is_some() {
            actions.push(Action::TellReady);
        }
    }

    /// Goes through states until one stays.
    fn advance(&mut self, now: Instant, actions: &mut Vec<Action>) {
        // Searching → Attaching → Ready is the longest way without waiting.
        for _ in 0..4 {
            let before = self.state.clone();
            match before.clone() {
                State::Searching { preferred, say_at } => self.search(now, preferred, say_at, actions),
                State::Attaching { parent, deadline, asked } => self.attach(now, parent, deadline, asked, actions),
                State::Ready { parent, cluster } => self.watch(now, parent, cluster, actions),
                State::Faulted { parent, retry_at } => self.retry(now, parent, retry_at, actions),
            }
            if self.state.name() == before.name() {
                break;
            }
        }
    }
}

#[cfg(test)]
mod tests;
