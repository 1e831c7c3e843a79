//! Takes out what would identify a board, and counts it.

/// Counts what it takes out.
#[derive(Debug, Default)]
pub struct Redactor {
    macs: usize,
    node_names: usize,
}

impl Redactor {
    /// `text` with the last three bytes of each MAC address (`b8:27:eb:12:34:02`, `enxb827eb123402`) and of each node name
    /// (`node-123402`, which are the same bytes) as `x`.
    pub fn redact(&mut self, text: &str) -> String {
        let mut out = String::with_capacity(text.len());
        let mut rest = text;
        while let Some(next) = rest.chars().next() {
            let boundary = !out.ends_with(|last: char| last.is_ascii_alphanumeric() || last == ':');
            let taken = if !boundary {
                None
            } else if is_mac(rest) {
                self.macs += 1;
                Some((9, 17, "xx:xx:xx"))
            } else if follows(rest, "enx", 12) {
                self.macs += 1;
                Some((9, 15, "xxxxxx"))
            } else if follows(rest, "node-", 6) {
                self.node_names += 1;
                Some((5, 11, "xxxxxx"))
            } else {
                None
            };
            match taken {
                Some((kept, end, instead)) => {
                    out.push_str(&rest[..kept]);
                    out.push_str(instead);
                    rest = &rest[end..];
                }
                None => {
                    out.push(next);
                    rest = &rest[next.len_utf8()..];
                }
            }
        }
        out
    }

    /// What was left out, in words.
    pub fn summary(&self) -> String {
        let plural = |count: usize| if count == 1 { "" } else { "es" };
        format!(
            "serial numbers of board and card, host name, addresses on the home network (never asked for); the last three bytes of {} MAC address{}; \
             the digits of {} node name{} of the form node-123abc. The cluster's own addresses, 192.168.200.x unless you chose others, are shown",
            self.macs,
            plural(self.macs),
            self.node_names,
            if self.node_names == 1 { "" } else { "s" }
        )
    }
}

fn is_mac(text: &str) -> bool {
    let Some(mac) = text.as_bytes().get(..17) else { return false };
    let shape = mac.iter().enumerate().all(|(at, byte)| if at % 3 == 2 { *byte == b':' } else { byte.is_ascii_hexdigit() });
    shape && text.as_bytes().get(17) != Some(&b':') && ends_word(text, 17)
}

/// Whether `text` is `prefix`, then `digits` hexadecimal digits, then the end of a word.
fn follows(text: &str, prefix: &str, digits: usize) -> bool {
    let Some(rest) = text.strip_prefix(prefix) else { return false };
    rest.as_bytes().get(..digits).is_some_and(|part| part.iter().all(u8::is_ascii_hexdigit)) && ends_word(rest, digits)
}

fn ends_word(text: &str, at: usize) -> bool {
    text.as_bytes().get(at).is_none_or(|byte| !byte.is_ascii_alphanumeric())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_identifies() {
        let table = [
            ("mac b8:27:eb:12:34:02, up", "mac b8:27:eb:xx:xx:xx, up"),
            ("=B8:27:EB:12:34:02", "=B8:27:EB:xx:xx:xx"),
            ("enxb827eb123402.200 is up", "enxb827ebxxxxxx.200 is up"),
            ("host node-123402 and node-12340", "host node-xxxxxx and node-12340"),
            ("2001:db8:27:eb:12:34:02:1", "2001:db8:27:eb:12:34:02:1"),
            ("12:34:56 °C", "12:34:56 °C"),
            ("", ""),
        ];
        for (before, after) in table {
            assert_eq!(Redactor::default().redact(before), after);
        }
    }
}
