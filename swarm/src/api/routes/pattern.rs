//! Patterns of paths: literal text around placeholders in braces.

/// What stands for the placeholders, in order.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Names(Vec<String>);

impl Names {
    /// The first, or nothing.
    pub fn first(&self) -> &str {
        self.0.first().map_or("", String::as_str)
    }

    /// The second, or nothing.
    pub fn second(&self) -> &str {
        self.0.get(1).map_or("", String::as_str)
    }
}

/// What stands for the placeholders of `pattern` in `path`, if it fits. A placeholder takes at least one character; one that has
/// text after it takes as much as it can, so that names may hold slashes.
pub fn names(pattern: &str, path: &str) -> Option<Names> {
    let mut names = Vec::new();
    fits(pattern, path, &mut names).then_some(Names(names))
}

fn fits(pattern: &str, path: &str, names: &mut Vec<String>) -> bool {
    let Some((before, rest)) = pattern.split_once('{') else { return pattern == path };
    let Some((_, after)) = rest.split_once('}') else { return false };
    let Some(path) = path.strip_prefix(before) else { return false };
    if after.is_empty() {
        names.push(path.to_owned());
        return !path.is_empty();
    }
    // The text up to the next placeholder, from the end of the path on.
    let literal = after.split('{').next().unwrap_or_default();
    let last = literal.len() == after.len();
    let found = if last { path.strip_suffix(literal).map(str::len) } else { path.rfind(literal) };
    match found {
        None | Some(0) => false,
        Some(end) => {
            names.push(path[..end].to_owned());
            last || fits(&after[literal.len()..], &path[end + literal.len()..], names)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn table() {
        for (pattern, path, expected) in [
            ("/info", "/info", Some(vec![])),
            ("/info", "/info/", None),
            ("/x/{name}", "/x/a/b", Some(vec!["a/b"])),
            ("/x/{name}", "/x/", None),
            ("/x/{name}/json", "/x/a/json/json", Some(vec!["a/json"])),
            ("/x/{name}/json", "/x//json", None),
            ("/x/{name}/json", "/x/json", None),
            ("/x/{name}/c/{id}", "/x/a/b/c/d", Some(vec!["a/b", "d"])),
            ("/x/{name}/c/{id}", "/x/a/c/", None),
            ("/x/{name}/c/{id}", "/x/c/d", None),
            ("/x/{name}", "/x/ä", Some(vec!["ä"])),
        ] {
            let names = names(pattern, path);
            assert_eq!(names, expected.map(|own| Names(own.into_iter().map(str::to_owned).collect())), "{pattern} {path}");
        }
    }
}
