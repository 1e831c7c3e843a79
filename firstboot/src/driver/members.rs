//! Who may speak to what the members have among themselves: one nftables table, apart from the guard's, and replaced only when the
//! members change, so that a restart of the program cuts nobody off.
//!
//! The engine starts after this program has closed what nobody is known for yet: a swarm that was there before a power cut would be
//! open to all until the members were heard.
//!
//! The engine's overlay networks carry what containers say, with no check of who sends it (VXLAN, RFC 7348, section 7), and leave by
//! the route's own choice of address, on the leader perhaps the leader's: that is let in as well.

use std::{collections::BTreeSet, io, net::Ipv4Addr};

use super::guard::{list, nft};

/// Of the overlay networks, of the engines' gossip (both, 7946), and of Consul's (8301, and 8302, which a configuration of a user's own
/// may open).
const UDP: &str = "4789, 7946, 8301, 8302";
/// Of the engines as `hcl-swarm` carries them, of the managers, of the engines' gossip, of Consul's servers and of its gossip.
const TCP: &str = "2376, 2377, 7946, 8300, 8301, 8302";
/// The table's name.
const TABLE: &str = "hcl_members";

/// Lets nobody in but this node itself, until the first members are known. A table that is there stays: it is an earlier run's.
///
/// # Errors
///
/// What `nft` says; then everybody is let in.
pub(super) fn close() -> io::Result<()> {
    if list(TABLE).is_ok() {
        return Ok(());
    }
    nft(&table("", ""))
}

/// Lets `members` in, on the interface `cluster` and nobody else anywhere.
///
/// # Errors
///
/// What `nft` says; then all is as it was.
pub(super) fn admit(cluster: &str, members: &BTreeSet<Ipv4Addr>) -> io::Result<()> {
    let members: Vec<String> = members.iter().map(ToString::to_string).collect();
    let elements = format!("    elements = {{ {} }}\n", members.join(", "));
    let rule = format!("    iifname \"{cluster}\" ip saddr @members accept\n");
    // The first lines make the second never fail. One transaction: there is no moment without rules.
    nft(&format!("table inet {TABLE} {{}}\ndelete table inet {TABLE}\n{}", table(&elements, &rule)))
}

/// Encrypted overlays come as ESP, and once more as VXLAN once they are opened. What containers publish is forwarded, not taken in.
fn table(elements: &str, admitted: &str) -> String {
    format!(
        "table inet {TABLE} {{
  set members {{
    type ipv4_addr
{elements}  }}
  chain services {{
    type filter hook input priority filter; policy accept;
    iifname \"lo\" accept
{admitted}    udp dport {{ {UDP} }} drop
    tcp dport {{ {TCP} }} drop
    meta l4proto esp drop
  }}
}}
"
    )
}

/// Who is let in.
///
/// # Errors
///
/// The table is not there, or has no rules; there is no `nft`, or it may not look.
pub(super) fn admitted() -> io::Result<BTreeSet<Ipv4Addr>> {
    let listed = list(TABLE)?;
    if listed.matches(" drop").count() < 3 {
        return Err(io::Error::other(format!("the table inet {TABLE} lacks a rule")));
    }
    let elements = listed.split_once("elements = {").and_then(|(_, rest)| rest.split_once('}')).map_or("", |(all, _)| all);
    Ok(elements.split(',').filter_map(|address| address.trim().parse().ok()).collect())
}

/// Lets everybody in again; whether there was anything to undo.
///
/// # Errors
///
/// What `nft` says.
pub(super) fn drop_table() -> io::Result<bool> {
    match nft("delete table inet hcl_members\n") {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}
