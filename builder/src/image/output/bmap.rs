//! Block maps: `bmaptool` writes only the blocks that they list, and checks each range.
//!
//! Version 2.0 of the format, as bmap-tools documents it in the files that it writes: ranges of mapped blocks with
//! the SHA-256 of each, and a SHA-256 of the file itself, computed with zeros in its own place.

use std::fmt::Write as _;

use sha2::{Digest as _, Sha256};

use crate::{
    image::sparse::BLOCK,
    units::{Bytes, Digest},
};

/// Collects ranges as the image passes.
#[derive(Debug, Default)]
pub(super) struct BlockMap {
    ranges: Vec<(u64, u64, Digest)>,
    open: Option<(u64, Sha256)>,
    mapped: u64,
}

impl BlockMap {
    /// Takes block `number`, the successor of the last one. `data` is shorter than a block only at the end.
    pub(super) fn push(&mut self, number: u64, data: &[u8], mapped: bool) {
        if !mapped {
            self.close(number);
            return;
        }
        self.mapped += 1;
        self.open.get_or_insert_with(|| (number, Sha256::new())).1.update(data);
    }

    fn close(&mut self, end: u64) {
        if let Some((first, hasher)) = self.open.take() {
            self.ranges.push((first, end - 1, Digest::finish(hasher)));
        }
    }

    /// The file for an image of `size` bytes.
    pub(super) fn finish(mut self, size: Bytes) -> String {
        let blocks = size.0.div_ceil(BLOCK as u64);
        self.close(blocks);
        let zeros = "0".repeat(64);
        let share = if blocks == 0 { 0.0 } else { self.mapped as f64 * 100.0 / blocks as f64 };
        let mut text = format!(
            "<?xml version=\"1.0\" ?>\n\
             <!-- Block map of an image: the blocks that must be written to a card. The others hold nothing that matters\n     \
             and need not be written. `bmaptool copy IMAGE DEVICE` reads this file. -->\n\
             <bmap version=\"2.0\">\n    \
             <!-- Image size: {size} -->\n    \
             <ImageSize> {} </ImageSize>\n    \
             <BlockSize> {BLOCK} </BlockSize>\n    \
             <BlocksCount> {blocks} </BlocksCount>\n    \
             <!-- Mapped: {} or {share:.1}% -->\n    \
             <MappedBlocksCount> {} </MappedBlocksCount>\n    \
             <ChecksumType> sha256 </ChecksumType>\n    \
             <!-- Of this file, with zeros here -->\n    \
             <BmapFileChecksum> {zeros} </BmapFileChecksum>\n    \
             <BlockMap>\n",
            size.0,
            Bytes(self.mapped * BLOCK as u64),
            self.mapped
        );
        for (first, last, digest) in &self.ranges {
            let range = if first == last { first.to_string() } else { format!("{first}-{last}") };
            let _ = writeln!(text, "        <Range chksum=\"{digest}\"> {range} </Range>");
        }
        text.push_str("    </BlockMap>\n</bmap>\n");
        let digest = Digest::of(text.as_bytes()).to_string();
        text.replacen(&zeros, &digest, 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_joined_and_the_file_sums_itself() {
        let mut map = BlockMap::default();
        let block = [1; BLOCK];
        for (number, mapped) in [true, false, true, true, false].into_iter().enumerate() {
            map.push(number as u64, &block, mapped);
        }
        map.push(5, &block[..100], true);
        let text = map.finish(Bytes(5 * BLOCK as u64 + 100));
        let two = Digest::of(&[1; 2 * BLOCK]);
        for part in [
            "<BlocksCount> 6 <",
            "<MappedBlocksCount> 4 <",
            "> 0 </Range>",
            &format!("<Range chksum=\"{two}\"> 2-3 </Range>"),
            &format!("<Range chksum=\"{}\"> 5 </Range>", Digest::of(&[1; 100])),
        ] {
            assert!(text.contains(part), "{part} in {text}");
        }
        let at = text.find("<BmapFileChecksum> ").expect("a checksum") + "<BmapFileChecksum> ".len();
        let sum = &text[at..at + 64];
        assert_eq!(Digest::of(text.replacen(sum, &"0".repeat(64), 1).as_bytes()).to_string(), sum);
    }
}
