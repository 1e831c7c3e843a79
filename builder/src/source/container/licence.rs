//! What a Debian package's copyright file says of its licences, as SPDX takes it.
//!
//! Most are in the machine-readable format 1.0 (DEP-5): stanzas, of which those with `Files:` (and the first) have a
//! `License:` whose first line is a short name. Others are prose: there the package is under what its file says, and no more
//! is claimed.

use std::collections::BTreeSet;

/// The short names in a machine-readable copyright file, sorted, each once; `None` when it is prose.
pub fn short_names(copyright: &str) -> Option<Vec<String>> {
    let mut stanzas = copyright.split("\n\n");
    let first = stanzas.next()?;
    if !first.lines().any(|line| line.starts_with("Format:") || line.starts_with("Format-Specification:")) {
        return None;
    }
    let mut names = BTreeSet::new();
    for stanza in std::iter::once(first).chain(stanzas) {
        let about_files = std::ptr::eq(stanza, first) || stanza.lines().any(|line| line.starts_with("Files:"));
        let name = stanza.lines().find_map(|line| line.strip_prefix("License:")).map(str::trim).filter(|name| !name.is_empty());
        if let Some(name) = name.filter(|_| about_files) {
            names.insert(name.to_owned());
        }
    }
    (!names.is_empty()).then(|| names.into_iter().collect())
}

/// One Debian short name (or several, joined by `and` and `or`) as an SPDX licence expression. What SPDX has no name for
/// becomes a `LicenseRef-deb-…`.
pub fn expression(name: &str) -> String {
    if let Some(id) = spdx(name) {
        return id.to_owned();
    }
    let words: Vec<&str> = name.split_whitespace().map(|word| word.trim_end_matches(',')).collect();
    // `and` binds weaker than `or` here and there, so what mixes them is not taken apart.
    for (word, joint) in [("or", " OR "), ("and", " AND ")] {
        if words.contains(&word) && !words.iter().any(|other| matches!(*other, "or" | "and" | "with") && *other != word) {
            let parts: Vec<String> = words.split(|other| *other == word).map(|part| expression(&part.join(" "))).collect();
            return format!("({})", parts.join(joint));
        }
    }
    reference(name)
}

/// `LicenseRef-deb-…`: letters, digits, `.` and `-` only.
fn reference(name: &str) -> String {
    let fits = |letter: char| if letter.is_ascii_alphanumeric() || letter == '.' { letter } else { '-' };
    format!("LicenseRef-deb-{}", name.replace('+', ".p").chars().map(fits).collect::<String>().trim_matches('-'))
}

/// The SPDX identifier of a licence that Debian calls so.
fn spdx(name: &str) -> Option<&'static str> {
    Some(match name.to_ascii_lowercase().as_str() {
        "expat" | "mit" => "MIT",
        "apache-2.0" | "apache-2" => "Apache-2.0",
        "mpl-2.0" | "mpl-2" => "MPL-2.0",
        "mpl-1.1" => "MPL-1.1",
        "bsd-2-clause" => "BSD-2-Clause",
        "bsd-3-clause" => "BSD-3-Clause",
        "bsd-4-clause" => "BSD-4-Clause",
        "isc" => "ISC",
        "zlib" => "Zlib",
        "gpl-1" => "GPL-1.0-only",
        "gpl-1+" => "GPL-1.0-or-later",
        "gpl-2" => "GPL-2.0-only",
        "gpl-2+" => "GPL-2.0-or-later",
        "gpl-3" => "GPL-3.0-only",
        "gpl-3+" => "GPL-3.0-or-later",
        "lgpl-2" => "LGPL-2.0-only",
        "lgpl-2+" => "LGPL-2.0-or-later",
        "lgpl-2.1" => "LGPL-2.1-only",
        "lgpl-2.1+" => "LGPL-2.1-or-later",
        "lgpl-3" => "LGPL-3.0-only",
        "lgpl-3+" => "LGPL-3.0-or-later",
        "gfdl-1.2" => "GFDL-1.2-only",
        "gfdl-1.3" => "GFDL-1.3-only",
        "gfdl-1.3+" => "GFDL-1.3-or-later",
        "cc0" | "cc0-1.0" => "CC0-1.0",
        "cc-by-3.0" => "CC-BY-3.0",
        "cc-by-4.0" => "CC-BY-4.0",
        "cc-by-sa-3.0" => "CC-BY-SA-3.0",
        "cc-by-sa-4.0" => "CC-BY-SA-4.0",
        "openssl" => "OpenSSL",
        "psf-2" => "PSF-2.0",
        "ofl-1.1" => "OFL-1.1",
        "busl-1.1" => "BUSL-1.1",
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stanzas_of_files_count() {
        let text = "Format: https://example.invalid/1.0/\nUpstream-Name: x\n\nFiles: *\nCopyright: a\nLicense: MPL-2.0\n\n\
                    Files: b\n c\nLicense: Expat\n The text.\n\nLicense: MPL-2.0\n The text of it\n .\n License: no\n";
        assert_eq!(short_names(text), Some(vec!["Expat".to_owned(), "MPL-2.0".to_owned()]));
        assert_eq!(short_names("This package was debianized by hand.\nLicense: GPL"), None);
        assert_eq!(short_names(""), None);
    }

    #[test]
    fn names_become_expressions() {
        for (name, expected) in [
            ("Expat", "MIT"),
            ("GPL-2+", "GPL-2.0-or-later"),
            ("GPL-2+ or Artistic", "(GPL-2.0-or-later OR LicenseRef-deb-Artistic)"),
            ("BSD-3-clause, and Expat", "(BSD-3-Clause AND MIT)"),
            ("GPL-2+ with OpenSSL exception", "LicenseRef-deb-GPL-2.p-with-OpenSSL-exception"),
            ("A and B or C", "LicenseRef-deb-A-and-B-or-C"),
            ("public-domain", "LicenseRef-deb-public-domain"),
        ] {
            assert_eq!(expression(name), expected);
        }
    }
}
