//! What `hcl status` shows: a node at one moment, as a table for people and as one JSON object.

use std::fmt::Write;

use serde::Serialize;

use super::{LeaseStatus, MemberStatus, Status, duration};

/// A node at one moment: its status, and what only the moment knows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Snapshot {
    /// The status.
    pub status: Status,
    /// The node's host name.
    pub host_name: String,
    /// Milliseconds since the boot.
    pub uptime_ms: u64,
    /// Engine, Consul and swarm; none while nothing brings them in.
    pub services: Option<Services>,
}

/// How far a node's services are.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Services {
    /// Whether all of them are in.
    pub settled: bool,
    /// What is being done, or waited for.
    pub doing: String,
    /// What does not work.
    pub trouble: Option<String>,
    /// Where the whole cluster is one Docker endpoint, or why it is none; empty before that is known.
    pub endpoint: String,
}

impl Snapshot {
    /// A table for people.
    pub fn table(&self) -> String {
        let status = &self.status;
        let none = || "none".to_owned();
        let lasting = duration(self.uptime_ms.saturating_sub(status.since_uptime_ms));
        let vlan = match (status.vlan, &status.cluster_interface) {
            (None, _) => "off".to_owned(),
            (Some(id), Some(interface)) => format!("{id}, as {interface}"),
            (Some(id), None) => format!("{id}, not up"),
        };
        let mut rows = vec![
            ("Node", self.host_name.clone()),
            ("Cluster", status.cluster.clone()),
            ("Role", role_in_words(status)),
            ("Address", status.address.map_or_else(none, |address| address.to_string())),
            ("Leader", status.leader.as_ref().map_or_else(none, |leader| format!("{}, {}", leader.name, leader.address))),
            ("Lease", status.lease.as_ref().map_or_else(none, |lease| self.lease(lease))),
        ];
        if let Some(grant) = &status.grant {
            let left = duration(grant.until_uptime_ms.saturating_sub(self.uptime_ms));
            rows.push(("Grant", format!("number {} of the leader's role, ends in {left} unless renewed", grant.index)));
        }
        rows.push(("Members", status.members.len().to_string()));
        rows.extend(status.members.iter().map(|member| ("", self.member(member))));
        if status.strangers > 0 {
            rows.push(("Strangers", status.strangers.to_string()));
        }
        rows.push(("Services", self.services.as_ref().map_or("not running".to_owned(), |services| services.doing.clone())));
        if let Some(services) = self.services.as_ref().filter(|services| !services.endpoint.is_empty()) {
            rows.push(("Docker", services.endpoint.clone()));
        }
        rows.extend([
            ("State", format!("{} for {lasting}: {}", status.state, status.reason)),
            ("Interface", status.interface.clone().unwrap_or_else(none)),
            ("VLAN", vlan),
            ("Uptime", duration(self.uptime_ms)),
            ("Version", status.version.clone()),
        ]);
        let mut table = String::new();
        for (name, value) in rows {
            let _ = writeln!(table, "{name:<10} {value}");
        }
        for complaint in &status.complaints {
            let _ = writeln!(table, "! {complaint}");
        }
        if let Some(trouble) = self.services.as_ref().and_then(|services| services.trouble.as_ref()) {
            let _ = writeln!(table, "! {trouble}");
        }
        table
    }

    fn lease(&self, lease: &LeaseStatus) -> String {
        let left = |at: u64| duration(at.saturating_sub(self.uptime_ms));
        let LeaseStatus { server, renew_uptime_ms: renew, ends_uptime_ms: end, .. } = lease;
        format!("from {server}, renewed in {}, ends in {}", left(*renew), left(*end))
    }

    fn member(&self, member: &MemberStatus) -> String {
        let MemberStatus { name, address, .. } = member;
        match member.heard_uptime_ms {
            _ if self.status.address == Some(*address) => format!("{name}, {address}, this node"),
            Some(heard) => format!("{name}, {address}, heard {} ago", duration(self.uptime_ms.saturating_sub(heard))),
            None => format!("{name}, {address}, not heard yet"),
        }
    }

    /// One JSON object: the fields of [`Status`], and `running`, `host_name`, `uptime_ms`, `state_ms`, `services`.
    pub fn json(&self) -> serde_json::Value {
        let mut value = serde_json::to_value(&self.status).unwrap_or_default();
        if let Some(fields) = value.as_object_mut() {
            fields.insert("running".to_owned(), true.into());
            fields.insert("host_name".to_owned(), self.host_name.clone().into());
            fields.insert("uptime_ms".to_owned(), self.uptime_ms.into());
            fields.insert("services".to_owned(), serde_json::to_value(&self.services).unwrap_or_default());
            fields.insert("state_ms".to_owned(), self.uptime_ms.saturating_sub(self.status.since_uptime_ms).into());
        }
        value
    }
}

/// What the node is in the cluster, in words.
fn role_in_words(status: &Status) -> String {
    match status.role.as_str() {
        "none" if !status.is_ready() => "none yet: waiting for the network".to_owned(),
        "none" if status.phase_reason.is_empty() => format!("none yet: {}", status.phase),
        "none" => format!("none yet: {}: {}", status.phase, status.phase_reason),
        role if status.phase_reason.is_empty() => role.to_owned(),
        role => format!("{role}: {}", status.phase_reason),
    }
}

#[cfg(test)]
mod tests {
    use super::{
        super::{
            GrantStatus,
            tests::{member, ready},
        },
        *,
    };

    #[test]
    fn the_table() {
        let snapshot = Snapshot { status: ready(), host_name: "node-123402".into(), uptime_ms: 200_300, services: None };
        let expected = "\
Node       node-123402
Cluster    lab
Role       none yet: browsing: nobody has answered yet
Address    none
Leader     none
Lease      none
Members    0
Services   not running
State      ready for 3 min 5 s: eth0.200 is up
Interface  eth0
VLAN       200, as eth0.200
Uptime     3 min 20 s
Version    0.1.0
";
        assert_eq!(snapshot.table(), expected);
        let waiting = Status {
            state: "searching".into(),
            reason: "waiting for a cable: eth0 has no carrier".into(),
            interface: None,
            cluster_interface: None,
            ..ready()
        };
        let table = Snapshot { status: waiting, ..snapshot }.table();
        assert!(table.contains("\nState      searching for 3 min 5 s: waiting for a cable: eth0 has no carrier\nInterface  none\nVLAN       200, not up\n"));
        assert!(table.contains("\nRole       none yet: waiting for the network\n"));
    }

    #[test]
    fn the_table_of_a_member() {
        let table = Snapshot { status: member(), host_name: "node-2".into(), uptime_ms: 200_300, services: None }.table();
        let middle = "
Role       follower
Address    192.168.200.77
Leader     node-1, 192.168.200.1
Lease      from 192.168.200.1, renewed in 26 min 39 s, ends in 56 min 39 s
Members    3
           node-1, 192.168.200.10, heard 10 s ago
           node-2, 192.168.200.77, this node
           node-3, 192.168.200.78, not heard yet
Strangers  2
Services   not running
State      ";
        assert!(table.contains(middle), "{table}");
        assert!(table.ends_with("\nVersion    0.1.0\n! there is no `nft`\n"), "{table}");
    }

    #[test]
    fn the_table_of_a_leader_by_grant() {
        let grant = Some(GrantStatus { index: 7, until_uptime_ms: 208_300 });
        let status = Status { role: "leader".into(), phase: "leading".into(), lease: None, grant, ..member() };
        let table = Snapshot { status, host_name: "node-1".into(), uptime_ms: 200_300, services: None }.table();
        assert!(table.contains("\nGrant      number 7 of the leader's role, ends in 8 s unless renewed\n"), "{table}");
    }

    #[test]
    fn the_json() {
        let value = Snapshot { status: ready(), host_name: "node-123402".into(), uptime_ms: 200_300, services: None }.json();
        assert_eq!(value["running"], true);
        assert_eq!(value["vlan"], 200);
        assert_eq!(value["state"], "ready");
        assert_eq!(value["state_ms"], 185_100);
        assert_eq!(value["host_name"], "node-123402");
        assert_eq!(value["role"], "none");
        let value = Snapshot { status: member(), host_name: "node-2".into(), uptime_ms: 200_300, services: None }.json();
        assert_eq!(value["role"], "follower");
        assert_eq!(value["address"], "192.168.200.77");
        assert_eq!(value["leader"]["name"], "node-1");
        assert_eq!(value["lease"]["ends_uptime_ms"], 3_600_000);
        assert_eq!(value["members"][0]["heard_uptime_ms"], 190_300);
    }
}
