//! A running lab put aside: all nodes held at one instant, each card and each memory written down, all nodes let go again.
//!
//! The card: what the node wrote so far stays in its layer, which nobody writes any more, and the node goes on in a new layer over it.
//! The memory: QEMU's migration into a file. Nothing of the image is copied, and a lab that starts from it reads the layers where they lie.

use std::{
    fs::{self, File},
    net::Ipv4Addr,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use anyhow::{Context, bail};
use serde_json::json;

use super::{
    Lab,
    node::{Below, Common, Node, make_layer},
    qmp::Qmp,
    shelf::Draft,
};
use crate::{cache::remove_if_there, image::sparse::copy_sparse, units::Bytes};

/// How long writing or reading a node's memory may take: a gigabyte on a slow and busy disk.
pub(super) const LIMIT: Duration = Duration::from_secs(180);
/// How often QEMU is asked how far it is.
pub(super) const TICK: Duration = Duration::from_millis(20);
/// As fast as the disk takes it: QEMU's own limit, 128 MiB/s, is for a network. Bytes a second.
const SPEED: u64 = 1 << 40;

/// What [`Lab::freeze`] has put aside; the cards are not in the draft yet.
#[derive(Debug)]
pub struct Frozen {
    draft: Draft,
    cards: Vec<PathBuf>,
    addresses: Vec<Option<Ipv4Addr>>,
    /// For how long the nodes stood still.
    pub held: Duration,
}

impl Frozen {
    /// Puts the cards to the rest and makes it a snapshot; how many bytes it has. May take as long as the disk needs to write them: the lab
    /// runs meanwhile.
    ///
    /// # Errors
    ///
    /// The disk is full.
    pub fn keep(self) -> anyhow::Result<Bytes> {
        for (index, card) in self.cards.iter().enumerate() {
            let to = self.draft.disk(index);
            // Another file system: then it takes a copy.
            if fs::hard_link(card, &to).is_err() {
                let copied = File::open(card).and_then(|from| copy_sparse(&from, &File::create(&to)?));
                copied.with_context(|| format!("copying {} to {}", card.display(), to.display()))?;
            }
        }
        self.draft.commit(&self.addresses)
    }
}

impl Lab {
    /// Puts all nodes that are on aside; those are to be the first ones. Whatever comes of it, they run on.
    ///
    /// # Errors
    ///
    /// QEMU cannot write it down, or the disk is full.
    pub fn freeze(&mut self, draft: Draft) -> anyhow::Result<Frozen> {
        let nodes: Vec<_> = (0..self.nodes.len()).filter(|node| !self.nodes[*node].ended).collect();
        let addresses = nodes.iter().map(|node| self.address(*node)).collect();
        let began = Instant::now();
        let cards = self.put_down(&draft, &nodes);
        for node in nodes {
            self.nodes[node].node.go()?;
        }
        Ok(Frozen { draft, cards: cards?, addresses, held: began.elapsed() })
    }

    fn put_down(&mut self, draft: &Draft, nodes: &[usize]) -> anyhow::Result<Vec<PathBuf>> {
        for index in nodes {
            self.nodes[*index].node.qmp()?.execute("stop", json!({}))?;
        }
        let mut cards = Vec::new();
        for index in nodes {
            let node = &mut self.nodes[*index].node;
            cards.push(put_aside(node, &self.common).with_context(|| format!("keeping the card of {}", node.name))?);
        }
        let saving = |index: usize| move || format!("saving the memory of node-{}", index + 1);
        for index in nodes {
            write(self.nodes[*index].node.qmp()?, &draft.state(*index)).with_context(saving(*index))?;
        }
        // At the same time, since each waits for the disk.
        let deadline = Instant::now() + LIMIT;
        for index in nodes {
            written(self.nodes[*index].node.qmp()?, deadline).with_context(saving(*index))?;
        }
        Ok(cards)
    }
}

/// Leaves what the node wrote in a layer that nobody writes any more, which is returned; the node has a new one over it. Neither may get
/// another name while QEMU runs, which opens them again by name when it hands them over to its state.
fn put_aside(node: &mut Node, common: &Common) -> anyhow::Result<PathBuf> {
    let (kept, next) = (node.layer(common), node.next_layer(common));
    fs::set_permissions(&kept, fs::Permissions::from_mode(0o600))?;
    remove_if_there(&next)?;
    make_layer(Below::Layer(&kept), &next, common.disk)?;
    let arguments = json!({ "device": "card", "snapshot-file": next, "format": "qcow2", "mode": "existing" });
    node.qmp()?.execute("blockdev-snapshot-sync", arguments)?;
    node.stands_on_next_layer();
    Ok(kept)
}

/// Begins to write a node's memory and devices to `path`.
fn write(qmp: &mut Qmp, path: &Path) -> anyhow::Result<()> {
    // Ours alone from the start: the shell opens what is there already.
    let file = File::create(path).with_context(|| format!("creating {}", path.display()))?;
    file.set_permissions(fs::Permissions::from_mode(0o600))?;
    qmp.execute("migrate-set-parameters", json!({ "max-bandwidth": SPEED }))?;
    qmp.execute("migrate", json!({ "uri": format!("exec:cat > {}", quoted(path)) })).map(drop)
}

/// Waits until it is written.
fn written(qmp: &mut Qmp, deadline: Instant) -> anyhow::Result<()> {
    while Instant::now() < deadline {
        let progress = qmp.execute("query-migrate", json!({}))?;
        match progress["status"].as_str().unwrap_or_default() {
            "completed" => return Ok(()),
            "failed" | "cancelled" => {
                bail!("{}", progress["error-desc"].as_str().unwrap_or("the file could not be written; is the disk full?"))
            }
            _ => std::thread::sleep(TICK),
        }
    }
    // It would hold the node for ever.
    qmp.execute("migrate_cancel", json!({}))?;
    bail!("not done after {} s", LIMIT.as_secs())
}

/// For the shell that QEMU starts.
pub(super) fn quoted(path: &Path) -> String {
    format!("'{}'", path.display().to_string().replace('\'', r"'\''"))
}
