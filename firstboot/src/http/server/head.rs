//! The head of a request: from bytes to what it asks and where it ends.

use super::{super::MOST_FIELDS, End};

/// A head that is right.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Head {
    pub(super) method: String,
    pub(super) path: String,
    pub(super) query: Option<String>,
    pub(super) host: Option<String>,
    pub(super) fields: Vec<(String, String)>,
    pub(super) framing: Framing,
    /// Whether another request may follow.
    pub(super) keep: bool,
    /// Whether it waits for `100 Continue`.
    pub(super) expects: bool,
}

/// How the body ends (RFC 9112, section 6.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Framing {
    /// After so many bytes.
    Length(u64),
    /// With its last chunk.
    Chunked,
}

impl Head {
    /// Parses what came so far; nothing where more must come.
    pub(super) fn parse(bytes: &[u8]) -> Result<Option<Self>, End> {
        // The parser would take LF alone.
        let lines = bytes.iter().zip(bytes.iter().skip(1));
        if bytes.first() == Some(&b'\n') || lines.into_iter().any(|(before, byte)| *byte == b'\n' && *before != b'\r') {
            return bad("a line that does not end with CRLF");
        }
        let mut fields = [httparse::EMPTY_HEADER; MOST_FIELDS];
        let mut request = httparse::Request::new(&mut fields);
        match request.parse(bytes) {
            Ok(httparse::Status::Complete(_)) => {}
            Ok(httparse::Status::Partial) => return Ok(None),
            Err(httparse::Error::TooManyHeaders) => return Err(End::Refused(431, "more header fields than this server takes")),
            Err(httparse::Error::Version) => return Err(End::Refused(505, "this server speaks HTTP/1.1")),
            Err(_) => return bad("this is not HTTP"),
        }
        let old = request.version == Some(0);
        let value = |bytes| String::from_utf8_lossy(bytes).into_owned();
        let fields = request.headers.iter().map(|field| (field.name.to_owned(), value(field.value)));
        let fields = Fields(fields.collect());
        let method = request.method.unwrap_or_default().to_owned();
        let (path, query, authority) = target(&method, request.path.unwrap_or_default())?;
        let host = match (fields.only("host")?, old) {
            (None, false) => return bad("a request without `Host`"),
            (host, _) => authority.or(host.map(str::to_owned)),
        };
        let expects = match fields.only("expect")? {
            None => false,
            Some(what) if what.eq_ignore_ascii_case("100-continue") => !old,
            Some(_) => return Err(End::Refused(417, "this server knows `100-continue` only")),
        };
        let closes =
            fields.all("connection").flat_map(|value| value.split(',')).any(|word| word.trim().eq_ignore_ascii_case("close"));
        let framing = fields.framing(old)?;
        Ok(Some(Self { method, path, query, host, framing, keep: !old && !closes, expects, fields: fields.0 }))
    }
}

fn bad<T>(why: &'static str) -> Result<T, End> {
    Err(End::Refused(400, why))
}

/// Path, query, and the authority of a target in absolute form (RFC 9112, section 3.2).
fn target(method: &str, target: &str) -> Result<(String, Option<String>, Option<String>), End> {
    if method == "CONNECT" {
        return Err(End::Refused(501, "this is no proxy"));
    }
    if target == "*" && method == "OPTIONS" {
        return Ok(("*".to_owned(), None, None));
    }
    if target.contains('#') {
        return bad("a target with a fragment");
    }
    let scheme = |name: &str| target.get(..name.len()).filter(|start| start.eq_ignore_ascii_case(name)).map(str::len);
    let (authority, rest) = match scheme("http://").or_else(|| scheme("https://")) {
        Some(length) => {
            let rest = &target[length..];
            let (authority, rest) = rest.split_at(rest.find(['/', '?']).unwrap_or(rest.len()));
            (Some(authority.to_owned()), rest)
        }
        None if target.starts_with('/') => (None, target),
        None => return bad("a target that is no path"),
    };
    let (path, query) = match rest.split_once('?') {
        Some((path, query)) => (path, Some(query.to_owned())),
        None => (rest, None),
    };
    Ok((if path.is_empty() { "/" } else { path }.to_owned(), query, authority))
}

struct Fields(Vec<(String, String)>);

impl Fields {
    fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        self.0.iter().filter(move |(there, _)| there.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
    }

    /// The only field of this name.
    fn only(&self, name: &'static str) -> Result<Option<&str>, End> {
        let mut all = self.all(name);
        match (all.next(), all.next()) {
            (first, None) => Ok(first),
            _ => bad("a field twice that may stand once"),
        }
    }

    fn framing(&self, old: bool) -> Result<Framing, End> {
        let length = self.only("content-length")?;
        match (self.only("transfer-encoding")?, length) {
            (None, None) => Ok(Framing::Length(0)),
            // No sign, no list, no other base; a number that is too large for the type is one that is too large.
            (None, Some(digits)) if !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit()) => {
                Ok(Framing::Length(digits.parse().unwrap_or(u64::MAX)))
            }
            (None, Some(_)) => bad("a length that is no number"),
            (Some(_), Some(_)) => bad("a length beside a transfer coding"),
            (Some(_), None) if old => bad("a transfer coding in HTTP/1.0"),
            (Some(coding), None) if coding.eq_ignore_ascii_case("chunked") => Ok(Framing::Chunked),
            (Some(_), None) => Err(End::Refused(501, "this server knows the transfer coding `chunked` only")),
        }
    }
}
