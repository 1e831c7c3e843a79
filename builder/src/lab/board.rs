//! The board `virt` with a serial number, as every Raspberry Pi has one.
//!
//! A node knows its card in another board by that number. QEMU gives `virt` none, but it says which device tree it would have
//! made, and takes one: ours is that with one property more. Format: Devicetree Specification 0.4, chapter 5.

use std::{fs, path::Path, process::Command};

use anyhow::{Context, ensure};

use super::{frame::Mac, machine::NodeSpec, process::find, router::escaped};

const MAGIC: u32 = 0xd00d_feed;
const HEADER: usize = 40;
const BEGIN_NODE: u32 = 1;
const PROP: u32 = 3;

/// Writes the device tree of a node's board to `path`.
///
/// # Errors
///
/// QEMU is missing or makes none, or it cannot be written.
pub(super) fn device_tree(spec: &NodeSpec<'_>, path: &Path) -> anyhow::Result<()> {
    let output = Command::new(find(spec.program(), "qemu-system-arm")?)
        .args(["-nodefaults", "-no-user-config", "-display", "none"])
        .args(spec.virt(&format!(",dumpdtb={}", escaped(path))))
        .output()
        .context("starting QEMU")?;
    ensure!(
        output.status.success(),
        "QEMU's device tree: {}",
        String::from_utf8_lossy(&output.stderr).trim().replace('\n', "; ")
    );
    let tree = fs::read(path).with_context(|| format!("reading {}", path.display()))?;
    let mut serial = serial(spec.mac).into_bytes();
    serial.push(0);
    let tree = with_property(&tree, "serial-number", &serial).context("QEMU's device tree is none")?;
    fs::write(path, tree).with_context(|| format!("writing {}", path.display()))
}

/// As on the boards before the Pi 4: the last three bytes are those of the network card.
fn serial(Mac(mac): Mac) -> String {
    format!("00000000{:02x}{:02x}{:02x}{:02x}", mac[2], mac[3], mac[4], mac[5])
}

/// `tree` with one property more in its root; `None` when it is no device tree.
fn with_property(tree: &[u8], name: &str, value: &[u8]) -> Option<Vec<u8>> {
    let word = |at: usize| tree.get(at..at + 4)?.try_into().map(u32::from_be_bytes).ok();
    let field = |index: usize| word(4 * index).map(|word| word as usize);
    let part = |from: usize, length: usize| tree.get(from..from.checked_add(length)?);
    let (structure, strings) = (part(field(2)?, field(9)?)?, part(field(3)?, field(8)?)?);
    let reserved = tree.get(field(4)?..)?;
    // Its last entry is zero.
    let entries = reserved.chunks_exact(16).position(|entry| entry.iter().all(|byte| *byte == 0))? + 1;
    // The root has no name: after its token follow four zero bytes.
    let root = structure.get(..8)?;
    if word(0)? != MAGIC || root != [BEGIN_NODE.to_be_bytes(), [0; 4]].concat() {
        return None;
    }
    let mut property = Vec::new();
    for word in [PROP, value.len() as u32, strings.len() as u32] {
        property.extend(word.to_be_bytes());
    }
    property.extend(value);
    property.resize(property.len().next_multiple_of(4), 0);

    let mut new = vec![0; HEADER];
    let reserved_at = new.len();
    new.extend(&reserved[..entries * 16]);
    let structure_at = new.len();
    new.extend(root);
    new.extend(property);
    new.extend(&structure[8..]);
    let strings_at = new.len();
    new.extend(strings);
    new.extend(name.as_bytes());
    new.push(0);
    let header = [
        MAGIC,
        new.len() as u32,
        structure_at as u32,
        strings_at as u32,
        reserved_at as u32,
        word(20)?,
        word(24)?,
        word(28)?,
        (new.len() - strings_at) as u32,
        (strings_at - structure_at) as u32,
    ];
    new[..HEADER].copy_from_slice(&header.map(u32::to_be_bytes).concat());
    Some(new)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tree_gets_one_property_more() {
        // A root with nothing in it, and the word that ends all.
        let structure = [1_u32, 0, 2, 9].map(u32::to_be_bytes).concat();
        let mut tree: Vec<u8> = [MAGIC, 72, 56, 72, 40, 17, 16, 0, 0, 16].map(u32::to_be_bytes).concat();
        tree.extend([0; 16]);
        tree.extend(&structure);
        let new = with_property(&tree, "a", b"bc\0").unwrap();
        let words = |from: usize, count: usize| -> Vec<u32> {
            new[from..from + 4 * count].chunks(4).map(|word| u32::from_be_bytes(word.try_into().unwrap())).collect()
        };
        assert_eq!(words(0, 10), [MAGIC, 90, 56, 88, 40, 17, 16, 0, 2, 32]);
        assert_eq!(words(56, 8), [1, 0, 3, 3, 0, u32::from_be_bytes(*b"bc\0\0"), 2, 9]);
        assert_eq!(&new[88..], b"a\0");
        // And once more: the second name lies behind the first.
        assert!(with_property(&new, "d", b"e").unwrap().ends_with(b"a\0d\0"));
        for length in 0..tree.len() {
            assert_eq!(with_property(&tree[..length], "a", b"b"), None, "{length}");
        }
        assert_eq!(serial(Mac([0xb8, 0x27, 0xeb, 0x4c, 0, 3])), "00000000eb4c0003");
    }
}
