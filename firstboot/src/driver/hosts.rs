//! The names of the cluster's hosts in `/etc/hosts`: a block of our own, everything else stays as it is.

use std::{fs, io, net::Ipv4Addr, path::Path};

use crate::durable;

const BEGIN: &str = "# hcl begin";
const END: &str = "# hcl end";

/// Makes `names` the names in our block of `etc/hosts`; whether the file has changed.
///
/// # Errors
///
/// The file cannot be read or written.
pub(super) fn set(etc: &Path, names: &[(Ipv4Addr, String)]) -> io::Result<bool> {
    let path = etc.join("hosts");
    let before = match fs::read_to_string(&path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => String::new(),
        Err(error) => return Err(error),
    };
    let after = with_block(&before, names);
    if after == before {
        return Ok(false);
    }
    durable::replace(&path, after.as_bytes(), 0o644)?;
    Ok(true)
}

/// `hosts` with a block of `names` in place of the one before, at the end where there was none. Without names there is no block.
fn with_block(hosts: &str, names: &[(Ipv4Addr, String)]) -> String {
    let mut block: Vec<String> = names.iter().map(|(address, name)| format!("{address}\t{name}")).collect();
    if !block.is_empty() {
        block.insert(0, BEGIN.to_owned());
        block.push(END.to_owned());
    }
    let lines: Vec<&str> = hosts.lines().collect();
    let begin = lines.iter().position(|line| line.trim_end() == BEGIN);
    // Without its end the block is the one line: what follows may be somebody else's.
    let (head, tail) = match begin {
        None => (&lines[..], &lines[..0]),
        Some(begin) => {
            let length = lines[begin..].iter().position(|line| line.trim_end() == END).unwrap_or(0) + 1;
            (&lines[..begin], &lines[begin + length..])
        }
    };
    let mut text = String::new();
    for line in head.iter().copied().chain(block.iter().map(String::as_str)).chain(tail.iter().copied()) {
        text.push_str(line);
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names() -> Vec<(Ipv4Addr, String)> {
        vec![([192, 168, 200, 1].into(), "master".into()), ([192, 168, 200, 77].into(), "node-1".into())]
    }

    const BLOCK: &str = "# hcl begin\n192.168.200.1\tmaster\n192.168.200.77\tnode-1\n# hcl end\n";

    #[test]
    fn the_block() {
        let table = [
            ("", BLOCK.to_owned()),
            ("127.0.0.1 localhost", format!("127.0.0.1 localhost\n{BLOCK}")),
            ("a\n# hcl begin\n1.2.3.4 old\n# hcl end\nb\n", format!("a\n{BLOCK}b\n")),
            // A block that somebody cut in two takes nothing with it.
            ("a\n# hcl begin\nb\n", format!("a\n{BLOCK}b\n")),
        ];
        for (before, after) in table {
            assert_eq!(with_block(before, &names()), after);
            assert_eq!(with_block(&after, &names()), after);
        }
        assert_eq!(with_block(&format!("a\n{BLOCK}b\n"), &[]), "a\nb\n");
    }

    #[test]
    fn the_file_is_written_when_it_differs() {
        let etc = tempfile::tempdir().unwrap();
        fs::write(etc.path().join("hosts"), "127.0.0.1\tlocalhost\n").unwrap();
        assert!(set(etc.path(), &names()).unwrap());
        assert!(!set(etc.path(), &names()).unwrap());
        let text = fs::read_to_string(etc.path().join("hosts")).unwrap();
        assert_eq!(text, format!("127.0.0.1\tlocalhost\n{BLOCK}"));
    }
}
