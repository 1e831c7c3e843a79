//! The seal of a member: option 224 of its DHCP messages.
//!
//! | bytes | what |
//! | --- | --- |
//! | 1 | version, 1 |
//! | 1 | flags: bit 0, an incarnation is named |
//! | 16 | the node's id |
//! | 16 | the incarnation; zero where none is named |
//! | 16 | the tag |
//!
//! The tag covers the 34 bytes before it, the cluster's id, and of the message what either side acts on as a promise: kind,
//! transaction, hardware address, the three addresses, server, lease and client id. Seconds and the broadcast flag change how a
//! message travels, mask and times are the same for all members; they are not covered.

use crate::{
    identity::{Incarnation, NodeId},
    key::{Seals, Use},
    wire::dhcp::{Kind, Message},
};

/// Who sealed a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Seal {
    /// The sender.
    pub node: NodeId,
    /// The founding that it means, where it means one.
    pub incarnation: Option<Incarnation>,
}

const VERSION: u8 = 1;
const HAS_INCARNATION: u8 = 1;
/// Version, flags, node, incarnation.
const HEAD: usize = 34;

/// Seals `message` in the name of `who`. Nothing that the tag covers may change afterwards.
pub fn seal(seals: &Seals, message: &mut Message, who: &Seal) {
    let mut option = vec![VERSION, if who.incarnation.is_some() { HAS_INCARNATION } else { 0 }];
    option.extend(who.node.0);
    option.extend(who.incarnation.map_or([0; 16], |incarnation| incarnation.0));
    let tag = seals.tag(Use::Dhcp, &covered(seals, message, &option));
    option.extend(tag);
    message.seal = Some(option);
}

/// Who sealed `message`; none where it has no seal, or one that is not of this cluster and this message.
pub fn open(seals: &Seals, message: &Message) -> Option<Seal> {
    let (head, tag) = message.seal.as_deref()?.split_first_chunk::<HEAD>()?;
    if !seals.is_right(Use::Dhcp, &covered(seals, message, head), tag) {
        return None;
    }
    let [VERSION, flags @ (0 | HAS_INCARNATION), rest @ ..] = head else { return None };
    let (node, incarnation) = rest.split_first_chunk()?;
    let incarnation = Incarnation(incarnation.try_into().ok()?);
    Some(Seal { node: NodeId(*node), incarnation: (*flags == HAS_INCARNATION).then_some(incarnation) })
}

fn covered(seals: &Seals, message: &Message, head: &[u8]) -> Vec<u8> {
    // Every field has a fixed length or its length before it: no two messages give the same bytes.
    let mut bytes = Vec::with_capacity(128);
    bytes.extend(seals.cluster().0);
    bytes.extend(head);
    bytes.push(kind_number(message.kind));
    bytes.extend(message.xid.to_be_bytes());
    bytes.extend(message.chaddr.0);
    bytes.extend(message.ciaddr.octets());
    bytes.extend(message.yiaddr.octets());
    let numbers = [message.requested.map(u32::from), message.server.map(u32::from), message.lease];
    for number in numbers {
        bytes.push(number.is_some().into());
        bytes.extend(number.unwrap_or_default().to_be_bytes());
    }
    bytes.push(message.client_id.is_some().into());
    let client_id = message.client_id.as_deref().unwrap_or_default();
    bytes.extend((client_id.len() as u64).to_be_bytes());
    bytes.extend(client_id);
    bytes
}

/// As option 53 has it.
fn kind_number(kind: Kind) -> u8 {
    match kind {
        Kind::Discover => 1,
        Kind::Offer => 2,
        Kind::Request => 3,
        Kind::Decline => 4,
        Kind::Ack => 5,
        Kind::Nak => 6,
        Kind::Release => 7,
        Kind::Inform => 8,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{key::ClusterKey, link::Mac};

    fn message() -> Message {
        Message {
            ciaddr: [192, 168, 200, 20].into(),
            yiaddr: [192, 168, 200, 21].into(),
            requested: Some([192, 168, 200, 22].into()),
            server: Some([192, 168, 200, 1].into()),
            lease: Some(3600),
            client_id: Some(vec![255, 1, 2]),
            ..Message::new(Kind::Ack, 7, Mac([2, 0, 0, 0, 0, 1]))
        }
    }

    fn seals() -> Seals {
        ClusterKey::new([1; 32]).seals()
    }

    #[test]
    fn there_and_back() {
        for incarnation in [None, Some(Incarnation([3; 16])), Some(Incarnation([0; 16]))] {
            let who = Seal { node: NodeId([2; 16]), incarnation };
            let mut message = message();
            assert_eq!(open(&seals(), &message), None, "no seal");
            seal(&seals(), &mut message, &who);
            assert_eq!(message.seal.as_ref().map(Vec::len), Some(50));
            assert_eq!(open(&seals(), &message), Some(who));
            assert_eq!(open(&ClusterKey::new([9; 32]).seals(), &message), None, "another key");
        }
    }

    #[test]
    fn one_field_wrong() {
        let mut right = message();
        seal(&seals(), &mut right, &Seal { node: NodeId([2; 16]), incarnation: None });
        type Change = fn(&mut Message);
        let changes: &[(&str, Change)] = &[
            ("kind", |it| it.kind = Kind::Offer),
            ("xid", |it| it.xid += 1),
            ("chaddr", |it| it.chaddr.0[5] ^= 1),
            ("ciaddr", |it| it.ciaddr = [192, 168, 200, 99].into()),
            ("yiaddr", |it| it.yiaddr = [192, 168, 200, 99].into()),
            ("requested", |it| it.requested = Some([192, 168, 200, 99].into())),
            ("no requested", |it| it.requested = None),
            ("server", |it| it.server = Some([192, 168, 200, 99].into())),
            ("no server", |it| it.server = None),
            ("requested and server swapped", |it| std::mem::swap(&mut it.requested, &mut it.server)),
            ("lease", |it| it.lease = Some(3601)),
            ("no lease", |it| it.lease = None),
            ("client id", |it| it.client_id = Some(vec![255, 1, 3])),
            ("longer client id", |it| it.client_id = Some(vec![255, 1, 2, 0])),
            ("no client id", |it| it.client_id = None),
            ("no seal", |it| it.seal = None),
            ("empty seal", |it| it.seal = Some(Vec::new())),
            ("short seal", |it| it.seal = it.seal.take().map(|seal| seal[..49].to_vec())),
            ("long seal", |it| it.seal.iter_mut().for_each(|seal| seal.push(0))),
        ];
        for (what, change) in changes {
            let mut changed = right.clone();
            change(&mut changed);
            assert_ne!(changed, right, "{what}");
            assert_eq!(open(&seals(), &changed), None, "{what}");
        }
        for place in 0..50 {
            let mut changed = right.clone();
            changed.seal.as_mut().unwrap()[place] ^= 1;
            assert_eq!(open(&seals(), &changed), None, "byte {place} of the seal");
        }
    }

    #[test]
    fn sealed_by_a_later_version() {
        for (version, flags) in [(2, 0), (1, 2), (0, 0)] {
            let mut message = message();
            let mut option = vec![0; HEAD];
            (option[0], option[1]) = (version, flags);
            option.extend(seals().tag(Use::Dhcp, &covered(&seals(), &message, &option)));
            message.seal = Some(option);
            assert_eq!(open(&seals(), &message), None);
        }
    }
}
