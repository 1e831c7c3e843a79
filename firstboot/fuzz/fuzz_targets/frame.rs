//! Any frame: no panic, and what is understood says the same once more.
//!
//! Checksums are put right first, or hardly any change would get past them.

#![no_main]

use hcl_firstboot::wire::{decode, encode};
use libfuzzer_sys::fuzz_target;

const ETHERNET: usize = 14;

fuzz_target!(|data: &[u8]| {
    stable(data);
    let mut frame = data.to_vec();
    if set_checksums(&mut frame).is_some() {
        stable(&frame);
    }
});

fn stable(frame: &[u8]) {
    if let Ok(packet) = decode(frame) {
        assert_eq!(decode(&encode(&packet)), Ok(packet));
    }
}

/// Sums the IPv4 header, and says that nobody summed the datagram.
fn set_checksums(frame: &mut [u8]) -> Option<()> {
    let packet = frame.get_mut(ETHERNET..)?;
    let length = 4 * usize::from(packet.first()? & 0xf);
    let header = packet.get_mut(..length).filter(|header| header.len() >= 20)?;
    header[10..12].fill(0);
    let mut sum = header.chunks(2).map(|word| u32::from(word[0]) << 8 | u32::from(word[1])).sum::<u32>();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    header[10..12].copy_from_slice(&(!sum as u16).to_be_bytes());
    packet.get_mut(length + 6..length + 8)?.fill(0);
    Some(())
}
