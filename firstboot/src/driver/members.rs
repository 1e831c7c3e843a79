//! Who may speak to what the members have among themselves: one nftables table, apart from the guard's, and replaced only when the
//! members change, so that a restart of the program cuts nobody off.
//!
//! The engine's overlay networks carry what containers say, with no check of who sends it (VXLAN, RFC 7348, section 7), and leave by
//! the route's own choice of address, on the leader perhaps the leader's: that is let in as well.

use std::{collections::BTreeSet, io, net::Ipv4Addr};

use super::guard::nft;

/// Of the overlay networks, of the engines' gossip (both, 7946), and of Consul's (8301).
const UDP: &str = "4789, 7946, 8301";
/// Of the managers, of the engines' gossip, of Consul's servers and of its gossip.
const TCP: &str = "2377, 7946, 8300, 8301";

const NO_TABLE: &str = "table inet hcl_members {}\ndelete table inet hcl_members\n";

/// Lets `members` in, on the interface `cluster` and nobody else anywhere.
///
/// # Errors
///
/// What `nft` says; then all is as it was.
pub(super) fn admit(cluster: &str, members: &BTreeSet<Ipv4Addr>) -> io::Result<()> {
    let members: Vec<String> = members.iter().map(ToString::to_string).collect();
    // Encrypted overlays come as ESP, and once more as VXLAN once they are opened. What containers publish is forwarded, not taken in.
    nft(&format!(
        "{NO_TABLE}table inet hcl_members {{
  set members {{
    type ipv4_addr
    elements = {{ {} }}
  }}
  chain services {{
    type filter hook input priority filter; policy accept;
    iifname \"lo\" accept
    iifname \"{cluster}\" ip saddr @members accept
    udp dport {{ {UDP} }} drop
    tcp dport {{ {TCP} }} drop
    meta l4proto esp drop
  }}
}}
",
        members.join(", ")
    ))
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
