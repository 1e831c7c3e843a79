//! `WWW-Authenticate` of a registry: where a token is to be had (RFC 6750, 3; Docker's token specification).

use anyhow::{Context, Result, bail, ensure};

/// A challenge for a bearer token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Challenge {
    /// Whom to ask.
    pub realm: String,
    /// For which service.
    pub service: Option<String>,
}

impl Challenge {
    /// Reads the value of the header.
    pub fn parse(header: &str) -> Result<Self> {
        let (scheme, rest) = header.split_once(' ').unwrap_or((header, ""));
        if !scheme.eq_ignore_ascii_case("bearer") {
            bail!("the registry wants a login ({scheme}), which is not supported: save the image to a file, and use `archive`");
        }
        let mut challenge = Self { realm: String::new(), service: None };
        for (key, value) in parameters(rest).context("the registry's answer says badly where a token is to be had")? {
            match key.to_ascii_lowercase().as_str() {
                "realm" => challenge.realm = value,
                "service" => challenge.service = Some(value),
                _ => {}
            }
        }
        let url = challenge.realm.starts_with("https://") || challenge.realm.starts_with("http://");
        ensure!(url, "the registry's answer does not say where a token is to be had");
        Ok(challenge)
    }

    /// The question for a token of `scope`.
    pub fn url(&self, scope: &str) -> String {
        let separator = if self.realm.contains('?') { '&' } else { '?' };
        let service = self.service.as_ref().map(|service| format!("service={}&", escape(service))).unwrap_or_default();
        format!("{}{separator}{service}scope={}", self.realm, escape(scope))
    }
}

/// `key="value",key=value` as pairs.
fn parameters(text: &str) -> Option<Vec<(String, String)>> {
    let mut found = Vec::new();
    let mut rest = text.trim_start_matches([' ', ',']);
    while !rest.is_empty() {
        let (key, after) = rest.split_once('=')?;
        let (value, after) = if let Some(quoted) = after.strip_prefix('"') {
            let mut value = String::new();
            let mut letters = quoted.char_indices();
            let end = loop {
                match letters.next()? {
                    (at, '"') => break at + 1,
                    (_, '\\') => value.push(letters.next()?.1),
                    (_, letter) => value.push(letter),
                }
            };
            (value, &quoted[end..])
        } else {
            let end = after.find(',').unwrap_or(after.len());
            (after[..end].trim().to_owned(), &after[end..])
        };
        found.push((key.trim().to_owned(), value));
        rest = after.trim_start_matches([' ', ',']);
    }
    Some(found)
}

/// Percent-encoding for a query (RFC 3986, 2.3: what is unreserved stays).
fn escape(text: &str) -> String {
    let byte = |byte: u8| {
        if byte.is_ascii_alphanumeric() || b"-._~/:".contains(&byte) {
            char::from(byte).to_string()
        } else {
            format!("%{byte:02X}")
        }
    };
    text.bytes().map(byte).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn challenges() {
        let header = r#"Bearer realm="https://a.example/token",service="a registry",scope="repository:x:pull,push",x=y"#;
        let challenge = Challenge::parse(header).unwrap();
        assert_eq!(
            challenge.url("repository:lab/x:pull"),
            "https://a.example/token?service=a%20registry&scope=repository:lab/x:pull"
        );
        assert_eq!(Challenge::parse("bearer realm=http://a/?b=c").unwrap().url("s"), "http://a/?b=c&scope=s");
        for bad in ["Basic realm=\"x\"", "Bearer", "Bearer realm=\"https://a", "Bearer realm=\"file:///x\"", "Bearer x", ""] {
            assert!(Challenge::parse(bad).is_err(), "{bad}");
        }
    }
}
