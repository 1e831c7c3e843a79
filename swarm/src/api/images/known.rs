//! Which image is meant by a reference, among those that an engine has listed.

use crate::cluster::Image;

/// Whether `reference` means the image: its id, the beginning of it, a name with or without a tag, or a name with a digest.
pub fn is(image: &Image, reference: &str) -> bool {
    let bare = image.id.strip_prefix("sha256:").unwrap_or(&image.id);
    let digits = reference.strip_prefix("sha256:").unwrap_or(reference);
    if digits.len() >= 2 && digits.bytes().all(|byte| byte.is_ascii_hexdigit()) && bare.starts_with(digits) {
        return true;
    }
    let reference = familiar(reference);
    if let Some((name, digest)) = reference.split_once('@') {
        let (name, _) = split_tag(name);
        return image
            .digests
            .iter()
            .any(|own| own.split_once('@').is_some_and(|(own, other)| (familiar(own), other) == (name, digest)));
    }
    let (name, tag) = split_tag(reference);
    let tag = if tag.is_empty() { "latest" } else { tag };
    image.tags.iter().any(|own| split_tag(familiar(own)) == (name, tag))
}

/// The name and the tag. A colon before a slash belongs to a registry's port.
pub fn split_tag(reference: &str) -> (&str, &str) {
    reference.rsplit_once(':').filter(|(_, tag)| !tag.contains('/')).unwrap_or((reference, ""))
}

/// Without what Docker leaves out when it prints a name.
fn familiar(reference: &str) -> &str {
    let rest = reference.strip_prefix("docker.io/").or_else(|| reference.strip_prefix("index.docker.io/"));
    match rest {
        Some(rest) => rest.strip_prefix("library/").unwrap_or(rest),
        None => reference.strip_prefix("library/").unwrap_or(reference),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::value::to_raw_value;

    use super::*;

    #[test]
    fn table() {
        let image = Image {
            id: "sha256:0123456789abcdef".to_owned(),
            tags: vec!["nginx:latest".to_owned(), "host:5000/team/web:1.2".to_owned()],
            digests: vec!["nginx@sha256:feed".to_owned()],
            raw: to_raw_value("").expect("JSON"),
        };
        for (reference, expected) in [
            ("sha256:0123456789abcdef", true),
            ("0123456789abcdef", true),
            ("0123", true),
            ("sha256:0123", true),
            ("1234", false),
            ("0", false),
            ("nginx", true),
            ("nginx:latest", true),
            ("library/nginx", true),
            ("docker.io/library/nginx:latest", true),
            ("nginx:1", false),
            ("host:5000/team/web", false),
            ("host:5000/team/web:1.2", true),
            ("nginx@sha256:feed", true),
            ("nginx:x@sha256:feed", true),
            ("nginx@sha256:beef", false),
            ("", false),
            (":", false),
            ("@", false),
        ] {
            assert_eq!(is(&image, reference), expected, "{reference}");
        }
    }
}
