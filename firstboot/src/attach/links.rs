//! The links there are.

use std::collections::BTreeMap;

use crate::{
    config::WiredInterface,
    link::{Link, LinkKind},
};

/// All links, by index: the order in which the kernel found them.
#[derive(Debug, Default)]
pub(super) struct Links(BTreeMap<u32, Link>);

impl Links {
    pub(super) fn replace(&mut self, links: Vec<Link>) {
        self.0 = links.into_iter().map(|link| (link.index, link)).collect();
    }

    pub(super) fn put(&mut self, link: Link) {
        self.0.insert(link.index, link);
    }

    pub(super) fn remove(&mut self, index: u32) {
        self.0.remove(&index);
    }

    pub(super) fn at(&self, index: u32) -> Option<&Link> {
        self.0.get(&index)
    }

    pub(super) fn named(&self, name: &str) -> Option<&Link> {
        self.0.values().find(|link| link.name == name)
    }

    pub(super) fn names(&self) -> Vec<&str> {
        self.0.values().map(|link| link.name.as_str()).collect()
    }

    /// VLAN `id` on `parent`, whatever its name.
    pub(super) fn vlan(&self, wanted: u16, on: u32) -> Option<&Link> {
        self.0.values().find(|link| link.kind == LinkKind::Vlan { id: wanted, parent: on })
    }

    /// The VLANs `id` on other links than `parent`.
    pub(super) fn vlans_elsewhere(&self, wanted: u16, not_on: u32) -> impl Iterator<Item = (&Link, &Link)> {
        self.0.values().filter_map(move |link| match link.kind {
            LinkKind::Vlan { id, parent } if id == wanted && parent != not_on => Some((link, self.at(parent)?)),
            _ => None,
        })
    }

    /// The links that may carry the cluster. A named one may be of any kind but wireless: whoever names a bond means it.
    pub(super) fn candidates(&self, interface: &WiredInterface) -> impl Iterator<Item = &Link> {
        self.0.values().filter(move |link| match interface {
            WiredInterface::Auto => link.kind == LinkKind::Wired,
            WiredInterface::Named(name) => link.name == name.as_str() && link.kind != LinkKind::Wireless,
        })
    }

    pub(super) fn first_candidate(&self, interface: &WiredInterface) -> Option<&Link> {
        self.candidates(interface).next()
    }

    pub(super) fn down_candidates(&self, interface: &WiredInterface) -> Vec<u32> {
        self.candidates(interface).filter(|link| !link.up).map(|link| link.index).collect()
    }
}
