//! The nodes' SD cards: of what image and size, and moved from node to node while they are off.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::Context;

use super::{Lab, Spec, folder::Folder, machine::Machine, node, off};
use crate::{error::UsageError, image::disk::Disk, progress::Reporter, units::Bytes};

impl Lab {
    /// Copies a node's card for another node, both of them off.
    ///
    /// # Errors
    ///
    /// One of them is on or does not exist, or the copy fails.
    pub fn copy_card(&mut self, from: usize, to: usize) -> anyhow::Result<()> {
        let (from, to) = (self.card(from)?, self.card(to)?);
        fs::copy(&from, &to).with_context(|| format!("copying {} to {}", from.display(), to.display()))?;
        Ok(())
    }

    /// Puts a node's card into another node, both of them off. The first has a fresh one then.
    ///
    /// # Errors
    ///
    /// One of them is on or does not exist, or has no card.
    pub fn move_card(&mut self, from: usize, to: usize) -> anyhow::Result<()> {
        let (from, to) = (self.card(from)?, self.card(to)?);
        fs::rename(&from, &to).with_context(|| format!("moving {} to {}", from.display(), to.display()))
    }

    /// Gives a node that is off a card with another image, whose kernel and command line must be those of the lab's image.
    ///
    /// # Errors
    ///
    /// The node is on or does not exist, or the card cannot be made.
    pub fn other_card(&mut self, node: usize, image: &Path) -> anyhow::Result<()> {
        let card = self.card(node)?;
        node::make_layer(node::Below::Image(image), &card, self.common.disk)
            .with_context(|| format!("making a card of {}", image.display()))
    }

    fn card(&mut self, node: usize) -> anyhow::Result<PathBuf> {
        Ok(off(&mut self.nodes, node)?.node.layer(&self.common))
    }
}

/// A compressed image is written out once, sparse, for QEMU to read.
pub(super) fn unpack(disk: &Disk, work: &Folder, spec: &Spec, reporter: &Reporter) -> anyhow::Result<PathBuf> {
    if spec.keep {
        return Err(UsageError::new("--keep needs an image that is not compressed: the layers stand on it".to_owned()));
    }
    let path = work.path().join("image.raw");
    let context = || format!("unpacking {} to {}", spec.image.display(), path.display());
    let step = reporter.bytes("Unpacking the image", disk.size());
    let mut reader = disk.whole().reader();
    let mut file = fs::File::create(&path).with_context(context)?;
    let mut block = vec![0; 1 << 20];
    loop {
        let count = std::io::Read::read(&mut reader, &mut block).with_context(context)?;
        if count == 0 {
            break;
        }
        if block[..count].iter().all(|byte| *byte == 0) {
            std::io::Seek::seek_relative(&mut file, count as i64).with_context(context)?;
        } else {
            std::io::Write::write_all(&mut file, &block[..count]).with_context(context)?;
        }
        step.advance(count as u64);
    }
    file.set_len(disk.size().0).with_context(context)?;
    step.done("");
    Ok(path)
}

/// QEMU's SD card takes powers of two only.
pub(super) fn size(image: Bytes, spec: &Spec) -> anyhow::Result<Bytes> {
    let size = match spec.machine {
        Machine::Virt => spec.disk.round_up(512),
        Machine::Raspi3b => Bytes(spec.disk.0.next_power_of_two()),
    };
    if size < image {
        return Err(UsageError::new(format!("--disk {} is smaller than the image, which has {image}", spec.disk)));
    }
    Ok(size)
}
