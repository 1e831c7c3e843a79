//! Frames to packets and back.

use super::Packet;

/// Why a frame was not for us.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Dropped {
    /// Another protocol.
    #[error("not a packet of the cluster")]
    Other,
}

/// The packet in an Ethernet `frame`.
///
/// # Errors
///
/// The frame is not for us.
pub fn decode(frame: &[u8]) -> Result<Packet, Dropped> {
    let _ = frame;
    Err(Dropped::Other)
}

/// The Ethernet frame of `packet`.
pub fn encode(packet: &Packet) -> Vec<u8> {
    let _ = packet;
    Vec::new()
}
