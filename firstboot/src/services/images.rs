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
    let path = etc.join(FILE);
    let wrong = |why: &dyn std::fmt::Display| {
        format!("{}: {why}: flash an image that was built with its container images", path.display())
    };
    let text = fs::read(&path).map_err(|error| wrong(&error))?;
    let mut all: BTreeMap<String, String> = serde_json::from_slice(&text).map_err(|error| wrong(&error))?;
    all.remove(name).ok_or_else(|| wrong(&format_args!("no image `{name}`")))
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
        assert!(reference(etc.path(), "haproxy").unwrap_err().contains("no image `haproxy`"));
    }
}
