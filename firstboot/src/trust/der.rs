//! As much of DER (X.690) as certificates need: definite lengths, tags of one byte.
//!
//! Written by hand, because the authorities' certificates must be the same bytes on every card for all time, whatever becomes of a
//! library's taste. What is written here is read by openssl and webpki in the tests.

pub(super) const BOOLEAN: u8 = 0x01;
pub(super) const INTEGER: u8 = 0x02;
pub(super) const BIT_STRING: u8 = 0x03;
pub(super) const OCTET_STRING: u8 = 0x04;
pub(super) const OID: u8 = 0x06;
pub(super) const UTF8_STRING: u8 = 0x0c;
pub(super) const UTC_TIME: u8 = 0x17;
pub(super) const GENERALIZED_TIME: u8 = 0x18;
pub(super) const SEQUENCE: u8 = 0x30;
pub(super) const SET: u8 = 0x31;

/// Context-specific, primitive: `[number] IMPLICIT` of a string.
pub(super) const fn implicit(number: u8) -> u8 {
    0x80 | number
}

/// Context-specific, constructed: `[number] EXPLICIT`.
pub(super) const fn explicit(number: u8) -> u8 {
    0xa0 | number
}

/// A value of `tag` whose content is `parts`, one after the other.
pub(super) fn value(tag: u8, parts: &[&[u8]]) -> Vec<u8> {
    let length: usize = parts.iter().map(|part| part.len()).sum();
    let mut out = Vec::with_capacity(length + 6);
    out.push(tag);
    match length {
        0..=0x7f => out.push(length as u8),
        0x80..=0xff => out.extend([0x81, length as u8]),
        0x100..=0xffff => out.extend([0x82, (length >> 8) as u8, length as u8]),
        _ => unreachable!("no certificate of ours is longer than 65535 bytes"),
    }
    for part in parts {
        out.extend_from_slice(part);
    }
    out
}

/// Reads values one after the other.
#[derive(Clone, Copy)]
pub(super) struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    pub(super) fn is_empty(self) -> bool {
        self.0.is_empty()
    }

    /// The next value: its tag and content. `None` at the end, and for what is no DER.
    pub(super) fn next(&mut self) -> Option<(u8, &'a [u8])> {
        let (&[tag, first], rest) = self.0.split_first_chunk()?;
        let (length, rest) = match first {
            0..=0x7f => (usize::from(first), rest),
            0x81 => rest.split_first().map(|(&length, rest)| (usize::from(length), rest)).filter(|(length, _)| *length > 0x7f)?,
            0x82 => rest
                .split_first_chunk()
                .map(|(&length, rest)| (usize::from(u16::from_be_bytes(length)), rest))
                .filter(|(length, _)| *length > 0xff)?,
            _ => return None,
        };
        let (content, rest) = rest.split_at_checked(length)?;
        self.0 = rest;
        Some((tag, content))
    }

    /// The content of the next value, which must be of `tag`.
    pub(super) fn expect(&mut self, tag: u8) -> Option<&'a [u8]> {
        self.next().filter(|(found, _)| *found == tag).map(|(_, content)| content)
    }

    /// A reader of the content of the next value, which must be of `tag`.
    pub(super) fn enter(&mut self, tag: u8) -> Option<Self> {
        self.expect(tag).map(Self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths() {
        for length in [0, 1, 0x7f, 0x80, 0xff, 0x100, 0xffff] {
            let content = vec![7; length];
            let der = value(OCTET_STRING, &[&content]);
            let mut reader = Reader::new(&der);
            assert_eq!(reader.expect(OCTET_STRING), Some(&content[..]));
            assert!(reader.is_empty() && reader.next().is_none());
            for short in 0..der.len().min(300) {
                assert!(Reader::new(&der[..short]).next().is_none(), "{short} of {length}");
            }
        }
    }

    #[test]
    fn what_is_no_der() {
        // Indefinite; four bytes of length; lengths that have a shorter form.
        for bad in [&[4, 0x80, 0, 0][..], &[4, 0x84, 0, 0, 0, 0], &[4, 0x81, 1, 0], &[4, 0x82, 0, 1, 0]] {
            assert!(Reader::new(bad).next().is_none(), "{bad:?}");
        }
        assert!(Reader::new(&[4, 0]).expect(SEQUENCE).is_none());
    }
}
