//! X.509 certificates (RFC 5280) with Ed25519 (RFC 8410), written out.

use ring::signature::Ed25519KeyPair;
use sha2::{Digest, Sha256};

use super::{
    UnixSeconds,
    der::{self, BIT_STRING, BOOLEAN, GENERALIZED_TIME, INTEGER, OCTET_STRING, OID, SEQUENCE, SET, UTC_TIME, UTF8_STRING, value},
};

/// From when to when a certificate says it is good, both ends included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Validity {
    /// The first second.
    pub from: UnixSeconds,
    /// The last second, at most that of the year 9999.
    pub until: UnixSeconds,
}

impl Validity {
    /// 1970-01-01T00:00:00Z to 2199-12-31T23:59:59Z: a board without a clock starts in 1970, and a lab may lie in a drawer.
    pub const LIFE: Self = Self { from: 0, until: 7_258_118_399 };
}

/// What a certificate says.
pub(super) struct Content<'a> {
    /// A positive number, big-endian, at most 20 bytes; the first byte is 1 to 127.
    pub(super) serial: &'a [u8],
    /// The issuer's common name.
    pub(super) issuer: &'a str,
    /// The common name.
    pub(super) subject: &'a str,
    pub(super) validity: Validity,
    /// The public key.
    pub(super) key: &'a [u8],
    pub(super) extensions: &'a [Vec<u8>],
}

impl Content<'_> {
    /// The certificate, signed by `signer`.
    pub(super) fn sign(&self, signer: &Ed25519KeyPair) -> Vec<u8> {
        let algorithm = ed25519();
        let to_sign = value(
            SEQUENCE,
            &[
                // v3
                &value(der::explicit(0), &[&value(INTEGER, &[&[2]])]),
                &value(INTEGER, &[self.serial]),
                &algorithm,
                &common_name(self.issuer),
                &value(SEQUENCE, &[&time(self.validity.from), &time(self.validity.until)]),
                &common_name(self.subject),
                &value(SEQUENCE, &[&algorithm, &bits(self.key)]),
                &value(der::explicit(3), &[&value(SEQUENCE, &[&self.extensions.concat()])]),
            ],
        );
        let signature = signer.sign(&to_sign);
        value(SEQUENCE, &[&to_sign, &algorithm, &bits(signature.as_ref())])
    }
}

const BASIC_CONSTRAINTS: &[u8] = &[0x55, 0x1d, 0x13];
const KEY_USAGE: &[u8] = &[0x55, 0x1d, 0x0f];
const EXTENDED_KEY_USAGE: &[u8] = &[0x55, 0x1d, 0x25];
const SUBJECT_KEY: &[u8] = &[0x55, 0x1d, 0x0e];
const AUTHORITY_KEY: &[u8] = &[0x55, 0x1d, 0x23];
const ALTERNATIVE_NAMES: &[u8] = &[0x55, 0x1d, 0x11];
const SERVER_AUTH: &[u8] = &[0x2b, 6, 1, 5, 5, 7, 3, 1];
const CLIENT_AUTH: &[u8] = &[0x2b, 6, 1, 5, 5, 7, 3, 2];

/// The extensions of an authority that issues to ends only.
pub(super) fn authority_extensions(key: &[u8]) -> Vec<Vec<u8>> {
    // cA, pathLenConstraint 0.
    let constraints = value(SEQUENCE, &[&value(BOOLEAN, &[&[0xff]]), &value(INTEGER, &[&[0]])]);
    vec![
        extension(BASIC_CONSTRAINTS, true, &constraints),
        // keyCertSign, cRLSign: bits 5 and 6, so one bit of the byte is unused.
        extension(KEY_USAGE, true, &value(BIT_STRING, &[&[1, 0b0000_0110]])),
        extension(SUBJECT_KEY, false, &value(OCTET_STRING, &[&key_identifier(key)])),
    ]
}

/// What an end may do.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Usage {
    /// Serve, and ask.
    Both,
    /// Ask.
    Client,
    /// Serve.
    Server,
}

/// The extensions of an end. `names` are GeneralNames, each written out; `issuer` is the authority's public key.
pub(super) fn end_extensions(key: &[u8], issuer: &[u8], usage: Usage, names: &[Vec<u8>]) -> Vec<Vec<u8>> {
    let client = value(OID, &[CLIENT_AUTH]);
    let uses = match usage {
        Usage::Both => value(SEQUENCE, &[&value(OID, &[SERVER_AUTH]), &client]),
        Usage::Client => value(SEQUENCE, &[&client]),
        Usage::Server => value(SEQUENCE, &[&value(OID, &[SERVER_AUTH])]),
    };
    vec![
        extension(BASIC_CONSTRAINTS, true, &value(SEQUENCE, &[])),
        // digitalSignature: bit 0.
        extension(KEY_USAGE, true, &value(BIT_STRING, &[&[7, 0b1000_0000]])),
        extension(EXTENDED_KEY_USAGE, false, &uses),
        extension(SUBJECT_KEY, false, &value(OCTET_STRING, &[&key_identifier(key)])),
        extension(AUTHORITY_KEY, false, &value(SEQUENCE, &[&value(der::implicit(0), &[&key_identifier(issuer)])])),
        extension(ALTERNATIVE_NAMES, false, &value(SEQUENCE, &[&names.concat()])),
    ]
}

/// The GeneralNames of `certificate`, which was verified before: what is looked for is ours, and nothing else is understood.
pub(super) fn alternative_names(certificate: &[u8]) -> Option<der::Reader<'_>> {
    let mut certificate = der::Reader::new(certificate).enter(SEQUENCE)?;
    let mut fields = certificate.enter(SEQUENCE)?;
    let mut extensions = loop {
        let (tag, content) = fields.next()?;
        if tag == der::explicit(3) {
            break der::Reader::new(content).enter(SEQUENCE)?;
        }
    };
    let mut found = None;
    while !extensions.is_empty() {
        let mut extension = extensions.enter(SEQUENCE)?;
        if extension.expect(OID)? != ALTERNATIVE_NAMES {
            continue;
        }
        let content = match extension.next()? {
            (BOOLEAN, _) => extension.expect(OCTET_STRING)?,
            (OCTET_STRING, content) => content,
            _ => return None,
        };
        if found.replace(der::Reader::new(content).enter(SEQUENCE)?).is_some() {
            return None;
        }
    }
    found
}

/// A private key as PKCS #8 (RFC 8410 section 7), which openssl, Go and ring read.
pub(super) fn private_key(seed: &[u8; 32]) -> Vec<u8> {
    value(SEQUENCE, &[&value(INTEGER, &[&[0]]), &ed25519(), &value(OCTET_STRING, &[&value(OCTET_STRING, &[seed])])])
}

/// `der` as text (RFC 7468).
pub(super) fn pem(label: &str, der: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = format!("-----BEGIN {label}-----\n");
    for line in der.chunks(48) {
        for group in line.chunks(3) {
            let bits = group.iter().fold(0, |bits, byte| bits << 8 | u32::from(*byte)) << (8 * (3 - group.len()));
            for place in 0..4 {
                let digit = DIGITS[(bits >> (18 - 6 * place)) as usize & 63];
                text.push(if place <= group.len() { char::from(digit) } else { '=' });
            }
        }
        text.push('\n');
    }
    text + &format!("-----END {label}-----\n")
}

fn ed25519() -> Vec<u8> {
    value(SEQUENCE, &[&value(OID, &[&[0x2b, 0x65, 0x70]])])
}

fn bits(bytes: &[u8]) -> Vec<u8> {
    value(BIT_STRING, &[&[0], bytes])
}

fn common_name(name: &str) -> Vec<u8> {
    let attribute = value(SEQUENCE, &[&value(OID, &[&[0x55, 4, 3]]), &value(UTF8_STRING, &[name.as_bytes()])]);
    value(SEQUENCE, &[&value(SET, &[&attribute])])
}

fn extension(id: &[u8], critical: bool, content: &[u8]) -> Vec<u8> {
    let critical = if critical { value(BOOLEAN, &[&[0xff]]) } else { Vec::new() };
    value(SEQUENCE, &[&value(OID, &[id]), &critical, &value(OCTET_STRING, &[content])])
}

/// The leftmost 160 bits of the SHA-256 (RFC 7093 section 2, method 1).
fn key_identifier(key: &[u8]) -> [u8; 20] {
    let mut id = [0; 20];
    id.copy_from_slice(&Sha256::digest(key)[..20]);
    id
}

/// UTCTime up to 2049, GeneralizedTime from then on (RFC 5280 section 4.1.2.5).
fn time(seconds: UnixSeconds) -> Vec<u8> {
    const LAST: UnixSeconds = 253_402_300_799;
    let seconds = seconds.min(LAST);
    let (year, month, day) = date(seconds / 86400);
    let (hour, minute, second) = (seconds / 3600 % 24, seconds / 60 % 60, seconds % 60);
    let rest = format!("{month:02}{day:02}{hour:02}{minute:02}{second:02}Z");
    if year < 2050 {
        value(UTC_TIME, &[format!("{:02}", year % 100).as_bytes(), rest.as_bytes()])
    } else {
        value(GENERALIZED_TIME, &[format!("{year:04}").as_bytes(), rest.as_bytes()])
    }
}

/// Year, month and day of the `days`-th day after 1970-01-01: years that begin in March, so that the leap day is the last one.
fn date(days: u64) -> (u64, u64, u64) {
    // Days since 0000-03-01.
    let days = days + 719_468;
    let (era, day_of_era) = (days / 146_097, days % 146_097);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month + 2) / 5 + 1;
    let (month, next) = if month < 10 { (month + 3, 0) } else { (month - 9, 1) };
    (era * 400 + year_of_era + next, month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times() {
        // As `date -u -d @SECONDS` says.
        for (seconds, tag, text) in [
            (0, UTC_TIME, "700101000000Z"),
            (951_782_400, UTC_TIME, "000229000000Z"),
            (2_524_607_999, UTC_TIME, "491231235959Z"),
            (2_524_608_000, GENERALIZED_TIME, "20500101000000Z"),
            (4_107_542_400, GENERALIZED_TIME, "21000301000000Z"),
            (Validity::LIFE.until, GENERALIZED_TIME, "21991231235959Z"),
            (u64::MAX, GENERALIZED_TIME, "99991231235959Z"),
        ] {
            let der = time(seconds);
            assert_eq!((der[0], &der[2..]), (tag, text.as_bytes()), "{seconds}");
        }
    }

    #[test]
    fn text_form() {
        // RFC 4648 section 10.
        for (bytes, text) in [("f", "Zg=="), ("fo", "Zm8="), ("foo", "Zm9v"), ("foobar", "Zm9vYmFy")] {
            assert_eq!(pem("X", bytes.as_bytes()), format!("-----BEGIN X-----\n{text}\n-----END X-----\n"));
        }
        assert!(pem("X", &[0; 100]).lines().all(|line| line.len() <= 64));
    }
}
