//! A machine.

use std::{collections::BTreeMap, net::Ipv4Addr, time::Duration};

use hcl_firstboot::{identity::Hardware, key::ClusterKey, link::Mac, node::Node, record::Record};

/// A machine with its card, its cable and its kernel's addresses.
pub(super) struct Host {
    pub(super) key: ClusterKey,
    pub(super) mac: Mac,
    pub(super) hardware: Hardware,
    pub(super) node: Option<Node>,
    /// Counts starts; what belongs to an earlier one is void.
    pub(super) life: u32,
    pub(super) powered_at: Duration,
    pub(super) mute_until: Duration,
    pub(super) busy_until: Duration,
    pub(super) disk: Option<Record>,
    pub(super) addresses: BTreeMap<Ipv4Addr, Option<Duration>>,
    pub(super) follows: bool,
    /// Whether its cable is in, and how often it was put in.
    pub(super) carrier: bool,
    pub(super) plugged: u32,
    pub(super) quiet: bool,
    /// Until when the leader's role is granted at the latest, if ever.
    pub(super) granted_until: Option<Duration>,
    /// Until when the program that asks for the role does nothing.
    pub(super) agent_hangs_until: Duration,
    /// How fast its clock runs, in thousandths.
    pub(super) pace: u32,
}

impl Host {
    /// One without power.
    pub(super) fn new(key: ClusterKey, mac: Mac, hardware: Hardware) -> Self {
        Self {
            key,
            mac,
            hardware,
            node: None,
            life: 0,
            powered_at: Duration::ZERO,
            mute_until: Duration::ZERO,
            busy_until: Duration::ZERO,
            disk: None,
            addresses: BTreeMap::new(),
            follows: false,
            carrier: true,
            plugged: 0,
            quiet: false,
            granted_until: None,
            agent_hangs_until: Duration::ZERO,
            pace: 1000,
        }
    }

    /// What its clock shows when it is `now`.
    pub(super) fn clock(&self, now: Duration) -> Duration {
        now * self.pace / 1000
    }

    /// When its clock shows `shown`, rounded up.
    pub(super) fn when(&self, shown: Duration) -> Duration {
        shown * 1000 / self.pace + Duration::from_nanos(1)
    }
}
