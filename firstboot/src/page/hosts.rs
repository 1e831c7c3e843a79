//! Which names a browser may call this node by.

use std::net::{IpAddr, Ipv6Addr};

/// Names that every node has. `master` and `master.local` are the leader's, but a bookmark must not fail while the role moves.
const ALWAYS: [&str; 3] = ["localhost", "master", "master.local"];

/// Whether `host`, as in the field of that name, is an address or one of ours: `names`, with and without `.local`, at any port.
///
/// Any address will do: that a browser names one means that the person, or a link, went to that very address. Only names can be made
/// to resolve to somewhere else.
pub fn is_ours<'a>(host: &str, mut names: impl Iterator<Item = &'a str>) -> bool {
    let Some(name) = without_port(host) else { return false };
    if let Some(inner) = name.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
        // A link-local address may come with its interface.
        return inner.split('%').next().is_some_and(|address| address.parse::<Ipv6Addr>().is_ok());
    }
    if name.parse::<IpAddr>().is_ok_and(|address| address.is_ipv4()) {
        return true;
    }
    let name = name.to_ascii_lowercase();
    let name = name.strip_suffix('.').unwrap_or(&name);
    let short = name.strip_suffix(".local").unwrap_or(name);
    ALWAYS.contains(&name) || !short.is_empty() && names.any(|ours| ours.eq_ignore_ascii_case(short))
}

fn without_port(host: &str) -> Option<&str> {
    let end = host.rfind(']').map_or(0, |at| at + 1);
    match host[end..].split_once(':') {
        None => Some(host),
        Some((name, port)) => port.bytes().all(|byte| byte.is_ascii_digit()).then(|| &host[..end + name.len()]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ours_and_others() {
        let cases = [
            ("localhost:8500", true),
            ("master", true),
            ("Master.Local.:8500", true),
            ("node-1a2b3c", true),
            ("NODE-1A2B3C.local:80", true),
            ("192.168.200.1:8500", true),
            ("[::1]:8500", true),
            ("[fe80::1%25eth0]", true),
            ("127.0.0.1:", true),
            ("", false),
            (":8500", false),
            (".local", false),
            ("evil.example", false),
            ("node-1a2b3c.evil.example", false),
            ("master.local.evil.example", false),
            ("evil.example:8500@localhost", false),
            ("user@localhost", false),
            ("localhost:8500:1", false),
            ("localhost.local", false),
            ("node-ffffff", false),
            ("::1", false),
            ("[localhost]", false),
            ("192.168.200.1.evil.example", false),
            ("192.168.200.256", false),
            ("0x7f.1", false),
        ];
        for (host, expected) in cases {
            assert_eq!(is_ours(host, ["node-1a2b3c"].into_iter()), expected, "{host:?}");
        }
    }

    #[test]
    fn a_node_without_a_name_is_nobody() {
        assert!(!is_ours(".local", [""].into_iter()) && !is_ours("", [""].into_iter()));
    }
}
