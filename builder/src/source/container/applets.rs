//! The programs that a busybox is, read from the binary itself.

use anyhow::{Context, Result};

/// A busybox has more than this many, and nothing else in it looks like such a list.
const LEAST: usize = 20;
/// No busybox has more.
const MOST: usize = 1000;

/// The names of the programs in a busybox.
///
/// Busybox finds its programs by a binary search in one text (`applet_names`, include/applet_tables.h): names in the order of
/// their bytes, each ended by a zero, the whole ended by another zero. The first are `[` and `[[`, where the shell's test is in it.
///
/// # Errors
///
/// There is no such list in it.
pub fn names(program: &[u8]) -> Result<Vec<String>> {
    const FIRST: &[u8] = b"[\0[[\0";
    let mut from = 0;
    while let Some(found) = program.get(from..).and_then(|rest| rest.windows(FIRST.len()).position(|window| window == FIRST)) {
        let start = from + found;
        if let Some(names) = list(&program[start..]) {
            return Ok(names);
        }
        from = start + 1;
    }
    None.context("it has no list of programs as a busybox has")
}

/// The list that begins here, if it is one.
fn list(bytes: &[u8]) -> Option<Vec<String>> {
    let mut names: Vec<String> = Vec::new();
    let mut read = 0;
    for name in bytes.split(|byte| *byte == 0).take(MOST) {
        if name.is_empty() {
            // What ends with the file has no second zero.
            return (names.len() > LEAST && read < bytes.len()).then_some(names);
        }
        read += name.len() + 1;
        let name = std::str::from_utf8(name).ok()?;
        let fits = |byte: u8| byte.is_ascii_alphanumeric() || b"[_-+.".contains(&byte);
        if !name.bytes().all(fits) || names.last().is_some_and(|last| last.as_str() >= name) {
            return None;
        }
        names.push(name.to_owned());
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_whole_sorted_list_counts() {
        let whole: String = (0..30).map(|number| format!("p{number:02}\0")).collect();
        let program = format!("x[\0[[\0no list\0\0 [\0[[\0{whole}\0tail");
        let found = names(program.as_bytes()).unwrap();
        assert_eq!((found.len(), found[0].as_str(), found[31].as_str()), (32, "[", "p29"));
        for bad in [String::new(), "[\0[[\0a\0\0".to_owned(), format!("[\0[[\0{whole}"), format!("[\0[[\0z\0{whole}\0")] {
            assert!(names(bad.as_bytes()).is_err(), "{bad:?}");
        }
    }
}
