//! Which container images are preloaded, and by which references: `/etc/hcl/images.json`, written by the builder.

use std::{collections::BTreeMap, fs, path::Path};

/// Where the file lies under `/etc`.
const FILE: &str = "hcl/images.json";

/// The reference of the image called `name` on a node whose `/etc` is `etc`.
///
/// # Errors
///
/// What is missing and what to do.
pub(super) fn reference(etc: &Path, name: &str) -> Result<String, String> {
    find(etc, name)?.ok_or_else(|| wrong(etc, &format_args!("no image `{name}`")))
}

/// The same for an image that a card may lack; none then.
///
/// # Errors
///
/// What is missing and what to do.
pub(crate) fn find(etc: &Path, name: &str) -> Result<Option<String>, String> {
    let text = fs::read(etc.join(FILE)).map_err(|error| wrong(etc, &error))?;
    let mut all: BTreeMap<String, String> = serde_json::from_slice(&text).map_err(|error| wrong(etc, &error))?;
    Ok(all.remove(name))
}

fn wrong(etc: &Path, why: &dyn std::fmt::Display) -> String {
    format!("{}: {why}: flash an image that was built with its container images", etc.join(FILE).display())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_or_not() {
        let etc = tempfile::tempdir().unwrap();
        let error = reference(etc.path(), "consul").unwrap_err();
        assert!(error.contains("images.json") && error.contains("flash"), "{error}");
        fs::create_dir(etc.path().join("hcl")).unwrap();
        fs::write(etc.path().join(FILE), r#"{"consul":"hcl/consul:1.8.7"}"#).unwrap();
        assert_eq!(reference(etc.path(), "consul").unwrap(), "hcl/consul:1.8.7");
        assert_eq!(find(etc.path(), "consul").unwrap().as_deref(), Some("hcl/consul:1.8.7"));
        assert_eq!(find(etc.path(), "swarm"), Ok(None));
        assert!(reference(etc.path(), "haproxy").unwrap_err().contains("no image `haproxy`"));
    }
}
