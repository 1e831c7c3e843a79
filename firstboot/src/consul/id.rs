//! Ids as Consul writes them.

use crate::{
    identity::NodeId,
    key::{hex, unhex},
};

/// `bytes` in the form of a UUID (RFC 9562 section 4). All 128 bits are kept, so that the way back exists; Consul looks at the
/// form only.
pub fn uuid(bytes: [u8; 16]) -> String {
    let digits = hex(&bytes);
    [&digits[..8], &digits[8..12], &digits[12..16], &digits[16..20], &digits[20..]].join("-")
}

/// The node whose id Consul writes like this; none where it is no id of ours.
pub fn node_id(uuid: &str) -> Option<NodeId> {
    let parts: Vec<&str> = uuid.split('-').collect();
    let lengths: Vec<usize> = parts.iter().map(|part| part.len()).collect();
    if lengths != [8, 4, 4, 4, 12] {
        return None;
    }
    unhex(&parts.concat()).map(NodeId)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_and_back() {
        let node = NodeId(std::array::from_fn(|place| 0xf0 + place as u8));
        let text = uuid(node.0);
        assert_eq!(text, "f0f1f2f3-f4f5-f6f7-f8f9-fafbfcfdfeff");
        assert_eq!(node_id(&text), Some(node));
        for bad in ["", &text[1..], &text.replace('-', ""), &text.replace('f', "g"), "f0f1f2f3f4f5-f6f7-f8f9-fafb-fcfdfeff"] {
            assert_eq!(node_id(bad), None, "{bad}");
        }
    }
}
