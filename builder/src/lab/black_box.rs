//! What the black box of a node under test must say.

use std::io::Read;

use base64::{Engine, prelude::BASE64_STANDARD};
use flate2::read::GzDecoder;
use hcl_firstboot::blackbox::{BlackBox, SIZE};

use super::probe::{Answer, Expected};

/// Waits until the node has written that it belongs to its cluster, two minutes at most, and prints the file: packed, since it is mostly
/// blank, and a login's lines are not kept as they are.
pub(super) const SCRIPT: &str = r#"
    file=/boot/firmware/hcl-log.txt
    end=$(($(cut -d. -f1 /proc/uptime) + 120))
    while ! grep -sqE '^Role: (leader|follower)' $file && [ "$(cut -d. -f1 /proc/uptime)" -lt "$end" ]; do sleep 1; done
    ls -l $file >&2 && gzip -c $file | base64 -w 0"#;

/// The last boot was ready, on the cluster's VLAN.
pub(super) fn judge(answer: &Answer, expected: &Expected) -> Result<String, String> {
    let packed = answer.output.lines().last().unwrap_or_default();
    let file = unpacked(packed).map_err(|error| format!("no file of a black box ({error}): {}", answer.output))?;
    let known = BlackBox::parse(&file).map_err(|error| error.to_string())?;
    let boots = known.boots();
    let last = boots.first().ok_or("the node has written nothing")?;
    let entry = &last.entry;
    let seen = format!(
        "boot {}, {} on VLAN {} at {}, {} lines of story, write {}",
        last.boot,
        entry.role,
        entry.vlan,
        entry.address,
        entry.story.len(),
        entry.writes
    );
    match &entry.trouble {
        Some(trouble) => Err(format!("{seen}; fault {}: {}", trouble.kind.number(), trouble.text)),
        None if !entry.is_ready() || entry.vlan != expected.vlan.to_string() || entry.story.is_empty() => Err(seen),
        None if known.damaged() > 0 => Err(format!("{seen}; {} slots are damaged", known.damaged())),
        None => Ok(seen),
    }
}

fn unpacked(text: &str) -> Result<Vec<u8>, Box<dyn std::error::Error>> {
    let packed = BASE64_STANDARD.decode(text.trim())?;
    let mut file = Vec::new();
    GzDecoder::new(&packed[..]).take(SIZE as u64 + 1).read_to_end(&mut file)?;
    Ok(file)
}

#[cfg(test)]
pub(super) mod tests {
    use std::{io::Write, time::Duration};

    use flate2::{Compression, write::GzEncoder};
    use hcl_firstboot::{
        blackbox::{Entry, Record, SLOT},
        config::Addresses,
        trouble::{Kind, Trouble},
    };

    use super::*;
    use crate::units::Bytes;

    /// What the script prints of a node whose last boot was so.
    pub fn output(entry: Option<Entry>, damage: bool) -> String {
        let mut file = BlackBox::blank();
        if let Some(entry) = entry {
            file[SLOT..2 * SLOT].copy_from_slice(&Record { number: 3, boot: 1, entry }.to_slot());
        }
        if damage {
            file[3 * SLOT] = b'x';
        }
        let mut packer = GzEncoder::new(Vec::new(), Compression::default());
        packer.write_all(&file).unwrap();
        let packed = BASE64_STANDARD.encode(packer.finish().unwrap());
        format!("-rwx------ 1 root root 65536 hcl-log.txt\n{packed}")
    }

    /// A boot that went well.
    pub fn good() -> Entry {
        Entry { state: "ready".into(), role: "follower".into(), vlan: "200".into(), story: vec!["a".into()], ..Entry::default() }
    }

    fn judged(entry: Option<Entry>, damage: bool) -> Result<String, String> {
        said(&output(entry, damage))
    }

    fn said(output: &str) -> Result<String, String> {
        let expected = Expected {
            kernel: String::new(),
            userland: String::new(),
            vlan: 200,
            disk: Bytes(0),
            addresses: Addresses::DEFAULT,
            nodes: 1,
        };
        judge(&Answer { code: 0, output: output.to_owned(), took: Duration::ZERO }, &expected)
    }

    #[test]
    fn yes_and_no() {
        let good = good();
        assert!(judged(Some(good.clone()), false).unwrap().starts_with("boot 1, follower on VLAN 200 at "));
        let trouble = Some(Trouble::new(Kind::Switch, "x"));
        let bad = [
            Entry { role: "none".into(), ..good.clone() },
            Entry { vlan: "off".into(), ..good.clone() },
            Entry { story: Vec::new(), ..good.clone() },
            Entry { trouble, ..good.clone() },
        ];
        for entry in bad {
            assert!(judged(Some(entry.clone()), false).is_err(), "{entry:?}");
        }
        assert!(judged(Some(good), true).unwrap_err().ends_with("1 slots are damaged"));
        assert!(judged(None, false).unwrap_err().contains("written nothing"));
        assert!(said("ls: cannot access '/boot/firmware/hcl-log.txt'").unwrap_err().starts_with("no file of a black box"));
    }
}
