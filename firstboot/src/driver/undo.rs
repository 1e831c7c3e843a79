//! What a node that has stopped left to the system, taken back: addresses, firewall, settings, VLAN, names.

use std::path::Path;

use super::{
    guard, hosts, members,
    netlink::{Kernel, Outcome},
};
use crate::{
    config::{NodeConfig, Vlan, WiredInterface},
    link::{Link, LinkKind, vlan_name},
    status::Status,
};

/// The interfaces of a cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Pair {
    cluster: Link,
    /// The home network's; none with `vlan = "off"`.
    lan: Option<String>,
}

/// Takes back what a node with `config` left, the host name aside. `last` is its last status, where there is one; `etc` has the
/// hosts file. A line for each thing done or, as an error, not done; what is not there needs no line. Idempotent.
pub fn undo(config: &NodeConfig, last: Option<&Status>, etc: &Path) -> Vec<Result<String, String>> {
    let mut lines = Vec::new();
    match Kernel::open().and_then(|mut kernel| kernel.links().map(|links| (kernel, links))) {
        Ok((mut kernel, links)) => {
            for pair in pairs(&links, config, last) {
                give_back(&mut kernel, config, &pair, &mut lines);
            }
        }
        Err(error) => lines.push(Err(format!("listing the network interfaces: {error}"))),
    }
    match guard::drop_table() {
        Ok(true) => lines.push(Ok("removed the firewall's table inet hcl".to_owned())),
        Ok(false) => {}
        Err(error) => lines.push(Err(format!("removing the firewall's table inet hcl: {error}"))),
    }
    match members::drop_table() {
        Ok(true) => lines.push(Ok("removed the firewall's table inet hcl_members".to_owned())),
        Ok(false) => {}
        Err(error) => lines.push(Err(format!("removing the firewall's table inet hcl_members: {error}"))),
    }
    let path = etc.join("hosts");
    match hosts::set(etc, &[]) {
        Ok(true) => lines.push(Ok(format!("removed the cluster's names from {}", path.display()))),
        Ok(false) => {}
        Err(error) => lines.push(Err(format!("removing the cluster's names from {}: {error}", path.display()))),
    }
    lines
}

fn give_back(kernel: &mut Kernel, config: &NodeConfig, pair: &Pair, lines: &mut Vec<Result<String, String>>) {
    let Link { index, name, kind, .. } = &pair.cluster;
    let subnet = config.addresses.subnet();
    let mut addresses = Vec::new();
    match kernel.addresses() {
        Ok(found) => {
            addresses.extend(found.into_iter().filter(|found| found.index == *index && subnet.contains(found.address)));
        }
        Err(error) => lines.push(Err(format!("listing the addresses: {error}"))),
    }
    for address in addresses.into_iter().map(|found| found.address) {
        lines.push(match kernel.drop_address(*index, address) {
            Ok(()) => Ok(format!("took {address} from {name}")),
            Err(error) => Err(format!("taking {address} from {name}: {error}")),
        });
    }
    // Before the VLAN goes, and its settings with it.
    let both = pair.lan.iter().fold(name.clone(), |both, lan| format!("{both} and {lan}"));
    match guard::reset(name, pair.lan.as_deref()) {
        Ok(true) => lines.push(Ok(format!("set the kernel's settings of {both} to the defaults"))),
        Ok(false) => {}
        Err(error) => lines.push(Err(format!("setting the kernel's settings of {both} to the defaults: {error}"))),
    }
    if let (LinkKind::Vlan { .. }, true) = (kind, config.vlan != Vlan::Off) {
        match kernel.remove(*index) {
            Ok(Outcome::Done) => lines.push(Ok(format!("removed the VLAN {name}"))),
            // It went by itself meanwhile, with the adapter.
            Ok(Outcome::Overrun) => {}
            Err(fault) => lines.push(Err(format!("removing the VLAN {name}: {fault}"))),
        }
    }
}

/// The interfaces that the program used: those that it named last, and each VLAN of its id and name, which an unclean end may have left.
fn pairs(links: &[Link], config: &NodeConfig, last: Option<&Status>) -> Vec<Pair> {
    let named = |name: Option<&String>| links.iter().find(|link| Some(&link.name) == name);
    let said = named(last.and_then(|status| status.cluster_interface.as_ref()));
    let Vlan::Id(id) = config.vlan else {
        let configured = match &config.interface {
            WiredInterface::Named(name) => links.iter().find(|link| link.name == name.as_str()),
            WiredInterface::Auto => None,
        };
        return said.or(configured).map(|link| Pair { cluster: link.clone(), lan: None }).into_iter().collect();
    };
    let mut found = Vec::new();
    for link in links {
        let LinkKind::Vlan { id: there, parent } = link.kind else { continue };
        let lan = links.iter().find(|lan| lan.index == parent).map(|lan| lan.name.clone());
        let ours = lan.as_ref().is_some_and(|lan| link.name == vlan_name(lan, id)) || said == Some(link);
        if there == id.number() && ours {
            found.push(Pair { cluster: link.clone(), lan });
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn link(index: u32, name: &str, kind: LinkKind) -> Link {
        Link { index, name: name.into(), kind, mac: None, up: true, carrier: true }
    }

    fn names(config: &str, cluster_interface: Option<&str>) -> Vec<String> {
        let vlan = |id, parent| LinkKind::Vlan { id, parent };
        let links = [
            link(2, "eth0", LinkKind::Wired),
            link(3, "eth1", LinkKind::Wired),
            link(4, "eth0.200", vlan(200, 2)),
            link(5, "eth1.200", vlan(200, 3)),
            link(6, "eth0.7", vlan(7, 2)),
            link(7, "mine", vlan(200, 3)),
        ];
        let last = Status { cluster_interface: cluster_interface.map(str::to_owned), ..Status::default() };
        let found = pairs(&links, &config.parse().unwrap(), Some(&last));
        found.into_iter().map(|pair| format!("{} {}", pair.cluster.name, pair.lan.unwrap_or_default())).collect()
    }

    #[test]
    fn what_was_used() {
        assert_eq!(names("", None), ["eth0.200 eth0", "eth1.200 eth1"]);
        assert_eq!(names("", Some("mine")), ["eth0.200 eth0", "eth1.200 eth1", "mine eth1"]);
        assert_eq!(names("vlan = 7", Some("eth0.200")), ["eth0.7 eth0"], "that of another id is somebody else's");
        assert_eq!(names("vlan = 9", None), [""; 0]);
        assert_eq!(names("vlan = \"off\"", Some("eth1")), ["eth1 "]);
        assert_eq!(names("vlan = \"off\"\ninterface = \"eth0\"", None), ["eth0 "]);
        // Whose addresses those are nobody knows.
        assert_eq!(names("vlan = \"off\"", None), [""; 0]);
    }
}
