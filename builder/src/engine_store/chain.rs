//! Names in the store. All of them follow from the layers' digests, so that the same images give the same bytes.

use crate::units::Digest;

/// Letters of RFC 4648 base 32.
const BASE32: &[u8; 32] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZ234567";
/// Letters of a short name. The driver makes them so long that 128 of them fit into mount options of one page.
const LINK: usize = 26;

/// A layer together with all below it: OCI image specification, "Layer ChainID".
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ChainId(Digest);

impl ChainId {
    /// Of the layer `diff_id` on top of `below`.
    pub fn new(below: Option<Self>, diff_id: Digest) -> Self {
        match below {
            None => Self(diff_id),
            Some(Self(below)) => Self(Digest::of(format!("sha256:{below} sha256:{diff_id}").as_bytes())),
        }
    }

    /// Of each layer of an image, lowest first.
    pub fn all(diff_ids: &[Digest]) -> Vec<Self> {
        let mut below = None;
        let chain = diff_ids.iter().map(|diff_id| {
            let chain = Self::new(below, *diff_id);
            below = Some(chain);
            chain
        });
        chain.collect()
    }

    /// The digest itself.
    pub fn digest(self) -> Digest {
        self.0
    }

    /// Name of the driver's folder of the layer. An engine draws 64 hexadecimal digits; any will do, so these are the chain id's.
    pub(super) fn cache_id(self) -> String {
        self.0.to_string()
    }

    /// The driver's short name of the folder: 130 bits of the chain id.
    pub(super) fn link(self) -> String {
        let bytes = self.0.bytes();
        let letter = |at: usize| {
            let (byte, shift) = (at * 5 / 8, at * 5 % 8);
            let pair = u16::from_be_bytes([bytes[byte], bytes[byte + 1]]);
            char::from(BASE32[usize::from(pair >> (11 - shift) & 31)])
        };
        (0..LINK).map(letter).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Ids as a real engine computed them for three layers.
    #[test]
    fn chain_ids_are_the_engines() {
        let diff_ids = [
            "6230806145cd04b0a35d5266821545e76689e81e3916b9ca32d74770ac2d66fd",
            "fc007dc79f8e17a604e70709e7f2892e6f642d595f7192501bc12ed2905b3cc5",
            "84ff92691f909a05b224e1c56abb4864f01b4f8e3c854e4bb4c7baf1d3f6d652",
        ]
        .map(|text| text.parse::<Digest>().unwrap());
        let chains: Vec<String> = ChainId::all(&diff_ids).iter().map(|chain| chain.digest().to_string()).collect();
        assert_eq!(
            chains,
            [
                "6230806145cd04b0a35d5266821545e76689e81e3916b9ca32d74770ac2d66fd",
                "324aef5775a9144dd187d502aa79b8cec6762016eecfbb755ba21fd040e4b1f2",
                "7ed529ace835dfda8b9f2e0169cc3289dd669eacafee2202b65c57fb8df0cbb8",
            ]
        );
    }

    /// RFC 4648, section 10: "foobar" is MZXW6YTBOI.
    #[test]
    fn a_link_is_base_32() {
        let mut digits = hex::encode(b"foobar");
        digits.push_str(&"00".repeat(26));
        let chain = ChainId(digits.parse().unwrap());
        assert_eq!(chain.link(), format!("MZXW6YTBOI{}", "A".repeat(16)));
    }
}
