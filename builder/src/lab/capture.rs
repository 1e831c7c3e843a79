//! The capture: every frame that the switch saw, as pcapng with one interface a port.
//!
//! A frame stands there once as it came in (direction *inbound* on its port; a comment says when it was
//! refused or lost and why) and once for each port that it left by (*outbound*). In Wireshark
//! `frame.packet_flags_direction == 1`, here [`Sighting::inbound`], shows what each station sent.

use std::{
    borrow::Cow,
    fs::File,
    io::{BufReader, BufWriter, Write},
    path::{Path, PathBuf},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use anyhow::Context;
use pcap_file::{
    DataLink,
    pcapng::{
        Block, PcapNgReader, PcapNgWriter,
        blocks::{
            enhanced_packet::{EnhancedPacketBlock, EnhancedPacketOption},
            interface_description::{InterfaceDescriptionBlock, InterfaceDescriptionOption},
        },
    },
};

use super::{frame::LONGEST, switch::PortId};

/// `if_tsresol`: timestamps count nanoseconds.
const NANOSECONDS: u8 = 9;
/// `epb_flags`, bits 0 and 1: the direction.
const INBOUND: u32 = 1;
const OUTBOUND: u32 = 2;
/// What a packet takes in the file beyond its own bytes, roughly.
const OVERHEAD: u64 = 52;

/// A capture being written.
pub struct Capture {
    path: PathBuf,
    writer: PcapNgWriter<BufWriter<File>>,
    epoch: Duration,
    left: u64,
    full: bool,
}

impl Capture {
    /// Creates the file with one interface for each of `ports`. `limit` bounds its size in bytes:
    /// beyond it nothing more is recorded, see [`Self::full`].
    pub fn create(path: &Path, ports: &[String], limit: u64) -> anyhow::Result<Self> {
        let context = || format!("writing the capture {}", path.display());
        let file = File::create(path).with_context(context)?;
        let mut writer = PcapNgWriter::new(BufWriter::with_capacity(1 << 16, file)).with_context(context)?;
        for port in ports {
            let mut interface = InterfaceDescriptionBlock::new(DataLink::ETHERNET, LONGEST as u32);
            interface.options.push(InterfaceDescriptionOption::IfName(Cow::Owned(port.clone())));
            interface.options.push(InterfaceDescriptionOption::IfTsResol(NANOSECONDS));
            writer.write_pcapng_block(interface).with_context(context)?;
        }
        let epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Ok(Self { path: path.to_owned(), writer, epoch, left: limit, full: false })
    }

    /// Records a frame that came in by `port` at `now` (counted from the creation of the capture).
    pub fn inbound(&mut self, now: Duration, port: PortId, frame: &[u8], comment: Option<String>) -> anyhow::Result<()> {
        self.record(now, port, frame, INBOUND, comment)
    }

    /// Records a frame that left by `port`.
    pub fn outbound(&mut self, now: Duration, port: PortId, frame: &[u8]) -> anyhow::Result<()> {
        self.record(now, port, frame, OUTBOUND, None)
    }

    fn record(
        &mut self,
        now: Duration,
        port: PortId,
        frame: &[u8],
        direction: u32,
        comment: Option<String>,
    ) -> anyhow::Result<()> {
        let size = frame.len() as u64 + OVERHEAD + comment.as_ref().map_or(0, |text| text.len() as u64);
        self.full |= size > self.left;
        if self.full {
            return Ok(());
        }
        self.left -= size;
        let mut options = vec![EnhancedPacketOption::Flags(direction)];
        options.extend(comment.map(|text| EnhancedPacketOption::Comment(Cow::Owned(text))));
        let packet = EnhancedPacketBlock {
            interface_id: port.0 as u32,
            timestamp: self.epoch + now,
            original_len: frame.len() as u32,
            data: Cow::Borrowed(frame),
            options,
        };
        self.writer.write_pcapng_block(packet).with_context(|| format!("writing the capture {}", self.path.display()))?;
        Ok(())
    }

    /// Hands everything so far to the system, so that a reader sees it.
    pub fn flush(&mut self) -> anyhow::Result<()> {
        self.writer.get_mut().flush().with_context(|| format!("writing the capture {}", self.path.display()))
    }

    /// The limit was reached and frames are missing at the end.
    pub fn full(&self) -> bool {
        self.full
    }
}

/// One frame of a capture that was read back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sighting {
    /// Since 1970.
    pub at: Duration,
    /// The port's name.
    pub port: String,
    /// It came in by that port; otherwise it left by it.
    pub inbound: bool,
    /// What the switch had to say about it.
    pub comment: Option<String>,
    /// The frame.
    pub frame: Vec<u8>,
}

/// Reads a capture that this module wrote, and hands each frame to `visit` in order.
///
/// # Errors
///
/// The file cannot be read or is no pcapng.
pub fn read(path: &Path, mut visit: impl FnMut(Sighting)) -> anyhow::Result<()> {
    let context = || format!("reading the capture {}", path.display());
    let file = File::open(path).with_context(context)?;
    let mut reader = PcapNgReader::new(BufReader::new(file)).with_context(context)?;
    let mut names: Vec<String> = Vec::new();
    while let Some(block) = reader.next_block() {
        match block.with_context(context)? {
            Block::InterfaceDescription(interface) => {
                let name = interface.options.iter().find_map(|option| match option {
                    InterfaceDescriptionOption::IfName(name) => Some(name.to_string()),
                    _ => None,
                });
                names.push(name.unwrap_or_default());
            }
            Block::EnhancedPacket(packet) => {
                let mut sighting = Sighting {
                    at: packet.timestamp,
                    port: names.get(packet.interface_id as usize).cloned().unwrap_or_default(),
                    inbound: false,
                    comment: None,
                    frame: packet.data.to_vec(),
                };
                for option in &packet.options {
                    match option {
                        EnhancedPacketOption::Flags(flags) => sighting.inbound = flags & 3 == INBOUND,
                        EnhancedPacketOption::Comment(text) => sighting.comment = Some(text.to_string()),
                        _ => {}
                    }
                }
                visit(sighting);
            }
            _ => {}
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_written_is_read_back() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("wire.pcapng");
        let mut capture = Capture::create(&path, &["node-1".into(), "router".into()], 400).unwrap();
        let at = Duration::from_nanos(1_500_000_001);
        capture.inbound(at, PortId(0), &[1; 61], Some("lost at router: port cut".into())).unwrap();
        capture.outbound(at, PortId(1), &[2; 60]).unwrap();
        assert!(!capture.full());
        capture.inbound(at, PortId(0), &[3; 300], None).unwrap();
        assert!(capture.full());
        capture.flush().unwrap();

        let mut seen = Vec::new();
        read(&path, |sighting| seen.push(sighting)).unwrap();
        assert_eq!(seen.len(), 2);
        assert_eq!((seen[0].port.as_str(), seen[0].inbound, seen[0].frame.len()), ("node-1", true, 61));
        assert_eq!(seen[0].comment.as_deref(), Some("lost at router: port cut"));
        assert_eq!((seen[1].port.as_str(), seen[1].inbound, seen[1].comment.as_deref()), ("router", false, None));
        assert_eq!(seen[0].at.subsec_nanos(), (capture.epoch + at).subsec_nanos());

        std::fs::write(&path, b"no capture").unwrap();
        assert!(read(&path, |_| ()).is_err());
    }
}
