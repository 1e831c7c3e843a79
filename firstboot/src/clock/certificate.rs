//! When a certificate starts: as much of PEM (RFC 7468) and X.509 (RFC 5280 section 4.1) as that takes.

use std::time::SystemTime;

use super::from_civil;

const BEGIN: &str = "-----BEGIN CERTIFICATE-----";
const END: &str = "-----END CERTIFICATE-----";
/// More than any certificate is long, in characters.
const LONGEST: usize = 64 << 10;

/// Tags of DER (ITU-T X.690).
const INTEGER: u8 = 0x02;
const UTC_TIME: u8 = 0x17;
const GENERALIZED_TIME: u8 = 0x18;
const SEQUENCE: u8 = 0x30;
const VERSION: u8 = 0xa0;

/// The start of the first certificate in a PEM file; none where there is no whole one.
pub(super) fn start(pem: &str) -> Option<SystemTime> {
    let (_, rest) = pem.split_once(BEGIN)?;
    let (text, _) = rest.split_once(END)?;
    let bytes = base64(text.get(..LONGEST.min(text.len()))?)?;
    let mut all = Der(&bytes);
    let mut certificate = all.value(SEQUENCE)?;
    let mut signed = certificate.value(SEQUENCE)?;
    // Absent in the first version of certificates.
    signed.value(VERSION);
    signed.value(INTEGER)?;
    // The signature's algorithm and the issuer.
    signed.value(SEQUENCE)?;
    signed.value(SEQUENCE)?;
    let mut validity = signed.value(SEQUENCE)?;
    match validity.value(UTC_TIME) {
        Some(Der(time)) => {
            // Two digits of the year: 50 is 1950.
            let century: &[u8] = if *time.first()? < b'5' { b"20" } else { b"19" };
            moment(&[century, time].concat())
        }
        None => moment(validity.value(GENERALIZED_TIME)?.0),
    }
}

/// `YYYYMMDDhhmmssZ`.
fn moment(text: &[u8]) -> Option<SystemTime> {
    let digits = text.strip_suffix(b"Z").filter(|digits| digits.len() == 14)?;
    let number = |from: usize, to: usize| {
        digits[from..to].iter().try_fold(0, |sum, digit| digit.is_ascii_digit().then(|| sum * 10 + u64::from(digit - b'0')))
    };
    from_civil([number(0, 4)?, number(4, 6)?, number(6, 8)?, number(8, 10)?, number(10, 12)?, number(12, 14)?])
}

/// DER that was not read yet.
struct Der<'a>(&'a [u8]);

impl<'a> Der<'a> {
    /// The next value, if it has this tag.
    fn value(&mut self, tag: u8) -> Option<Self> {
        let (first, rest) = self.0.split_first()?;
        let (length, rest) = rest.split_first()?;
        let (length, rest): (usize, &'a [u8]) = match *length {
            short @ 0..=0x7f => (short.into(), rest),
            // The length of the length.
            count @ 0x81..=0x83 => {
                let (bytes, rest) = rest.split_at_checked((count & 0x7f).into())?;
                (bytes.iter().fold(0, |sum, byte| sum << 8 | usize::from(*byte)), rest)
            }
            _ => return None,
        };
        let (value, rest) = rest.split_at_checked(length)?;
        if *first != tag {
            return None;
        }
        self.0 = rest;
        Some(Self(value))
    }
}

/// RFC 4648 section 4, with line ends anywhere.
fn base64(text: &str) -> Option<Vec<u8>> {
    let mut bytes = Vec::new();
    let (mut bits, mut count) = (0_u32, 0);
    for character in text.bytes().filter(|byte| !byte.is_ascii_whitespace() && *byte != b'=') {
        let value = match character {
            b'A'..=b'Z' => character - b'A',
            b'a'..=b'z' => character - b'a' + 26,
            b'0'..=b'9' => character - b'0' + 52,
            b'+' => 62,
            b'/' => 63,
            _ => return None,
        };
        bits = bits << 6 | u32::from(value);
        count += 6;
        if count >= 8 {
            count -= 8;
            bytes.push((bits >> count) as u8);
        }
    }
    Some(bytes)
}

/// Of a real swarm's node.
#[cfg(test)]
pub(super) const EXAMPLE: &str = "\
-----BEGIN CERTIFICATE-----\n\
MIICNTCCAdugAwIBAgIUCjzEbT3EkYgerwZOEeV9CRTZ3tUwCgYIKoZIzj0EAwIw\n\
EzERMA8GA1UEAxMIc3dhcm0tY2EwHhcNMjYxMTI0MTcxOTAwWhcNMjcwMjIyMTgx\n\
OTAwWjBgMSIwIAYDVQQKExlqY2ZmdnFpdXNvemowYXR6ZzdwbGluZWl4MRYwFAYD\n\
VQQLEw1zd2FybS1tYW5hZ2VyMSIwIAYDVQQDExlsdnZtMjl2aG9jM3o5aW0xbWV6\n\
ZXpwdWdmMFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAE0GIuHLpI/yXfWvXjsrWQ\n\
5moXbifNkHfmNgs53ko5Pf0VZkDluockrgNVKz6sbW9SlQLtK0HkizpOVJi88rRi\n\
QaOBvzCBvDAOBgNVHQ8BAf8EBAMCBaAwHQYDVR0lBBYwFAYIKwYBBQUHAwEGCCsG\n\
AQUFBwMCMAwGA1UdEwEB/wQCMAAwHQYDVR0OBBYEFLMEMeWv/VOhVKxh6LKgjBIu\n\
c3b7MB8GA1UdIwQYMBaAFLlNk2rNANEnnEKb7MIKEYJGEPXCMD0GA1UdEQQ2MDSC\n\
DXN3YXJtLW1hbmFnZXKCGWx2dm0yOXZob2MzejlpbTFtZXplenB1Z2aCCHN3YXJt\n\
LWNhMAoGCCqGSM49BAMCA0gAMEUCIQDK2su3XjKd3G/ynC4z/en8Bbnaevwwe1S7\n\
SUnWZePHGQIgcLxGXVEIVvTve1mjjw9fZ4JFqauY/4q2rJM5nUx7AsI=\n\
-----END CERTIFICATE-----\n\
";

#[cfg(test)]
mod tests {
    use std::time::{Duration, UNIX_EPOCH};

    use super::*;

    #[test]
    fn of_a_real_one() {
        let wanted = Some(UNIX_EPOCH + Duration::from_secs(1795540740));
        assert_eq!(start(EXAMPLE), wanted);
        assert_eq!(start(&format!("text before\n{EXAMPLE}{EXAMPLE}")), wanted, "the first of a chain");
        assert_eq!(start(&EXAMPLE.replace('\n', "\r\n")), wanted);
    }

    #[test]
    fn no_damage_is_more_than_none() {
        // A cut at any place: never a panic, and a time only with all that comes before it.
        for length in 0..EXAMPLE.len() - 1 {
            let cut = format!("{}{END}", &EXAMPLE[..length]);
            assert!(start(&cut).is_none_or(|time| Some(time) == start(EXAMPLE)) && start(&EXAMPLE[..length]).is_none());
        }
        for index in BEGIN.len()..EXAMPLE.len() - END.len() - 1 {
            let mut damaged = EXAMPLE.as_bytes().to_vec();
            damaged[index] = b'/';
            start(std::str::from_utf8(&damaged).unwrap());
        }
    }

    #[test]
    fn both_kinds_of_time() {
        assert_eq!(moment(b"19700101000000Z"), Some(UNIX_EPOCH));
        assert_eq!([&b"19700101000000"[..], b"197001010000Z", b"1970x101000000Z", b""].map(moment), [None; 4]);
        let mut time = Der(&[0x30, 0x81, 0x02, 1, 2, 9]);
        assert_eq!((time.value(SEQUENCE).unwrap().0, time.0), (&[1, 2][..], &[9][..]));
        assert!(Der(&[0x30, 0x84, 0, 0, 0, 1, 1]).value(SEQUENCE).is_none() && Der(&[0x30, 2, 1]).value(SEQUENCE).is_none());
    }
}
