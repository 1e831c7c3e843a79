//! One HTTP request, and what its failure means.

use std::{
    io::{self, Read},
    time::Duration,
};

use anyhow::{Context, Result};
use ureq::{
    Agent, Proxy, Timeout,
    http::{HeaderMap, StatusCode},
    tls::{RootCerts, TlsConfig},
};

use super::{Patience, origin::host};
use crate::error::UsageError;

/// Why a request or an answer failed.
#[derive(Debug)]
pub(super) struct Failure {
    /// What went wrong, in a few words.
    pub(super) text: String,
    pub(super) worth: Worth,
    /// How long the server wants to be left alone.
    pub(super) after: Option<Duration>,
}

/// Whether trying again is worth it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Worth {
    /// It would fail again.
    Nothing,
    /// It may be a typing error as well as a moment without network.
    Little,
    /// It comes and goes.
    Much,
}

impl Failure {
    fn new(text: impl Into<String>, worth: Worth) -> Self {
        Self { text: text.into(), worth, after: None }
    }

    /// The connection ended before the bytes did.
    pub(super) fn cut() -> Self {
        Self::new("the connection was cut", Worth::Much)
    }

    /// The server does not do as the protocol says.
    pub(super) fn protocol(text: impl Into<String>) -> Self {
        Self::new(text, Worth::Much)
    }
}

/// An answer with a body that is (a part of) the file.
pub(super) struct Answer {
    pub(super) status: StatusCode,
    pub(super) headers: HeaderMap,
    pub(super) body: Box<dyn Read + Send>,
}

impl Answer {
    /// A header as text.
    pub(super) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }

    /// How many bytes the body has, where the server says so.
    pub(super) fn length(&self) -> Option<u64> {
        self.header("content-length")?.parse().ok()
    }

    /// Start and total of `Content-Range: bytes START-END/TOTAL` or `bytes */TOTAL` (RFC 9110, 14.4).
    pub(super) fn range(&self) -> Option<(Option<u64>, Option<u64>)> {
        let (range, total) = self.header("content-range")?.strip_prefix("bytes ")?.split_once('/')?;
        let start = range.split_once('-').and_then(|(start, _)| start.trim().parse().ok());
        Some((start, total.trim().parse().ok()))
    }
}

/// An agent for `url`.
pub(super) fn agent(url: &str, patience: &Patience) -> Result<Agent> {
    let config = Agent::config_builder()
        .http_status_as_error(false)
        .proxy(proxy(url, |name| std::env::var(name).ok())?)
        .tls_config(TlsConfig::builder().root_certs(RootCerts::PlatformVerifier).build())
        .user_agent(concat!("hcl-image/", env!("CARGO_PKG_VERSION")))
        // Bytes as they lie on the server, or digest and ranges mean nothing.
        .accept_encoding("identity")
        .timeout_resolve(Some(patience.connect))
        .timeout_connect(Some(patience.connect))
        .timeout_per_read(Some(patience.silence))
        .timeout_per_write(Some(patience.silence))
        .timeout_recv_response(Some(patience.silence))
        .build();
    Ok(config.new_agent())
}

/// Asks for `url` from byte `start` on, under the condition that it is still what `validator` stands for.
pub(super) fn get(
    agent: &Agent,
    url: &str,
    start: u64,
    validator: Option<&str>,
    authorization: Option<&str>,
) -> Result<Answer, Failure> {
    let mut request = agent.get(url);
    // Where the answer leads to another host, it is not sent there.
    if let Some(authorization) = authorization {
        request = request.header("Authorization", authorization);
    }
    if start > 0 {
        request = request.header("Range", format!("bytes={start}-"));
        if let Some(validator) = validator {
            request = request.header("If-Range", validator);
        }
    }
    let response = request.call().map_err(|error| failure(&error))?;
    let (parts, body) = response.into_parts();
    let status = parts.status;
    let ok = [StatusCode::OK, StatusCode::PARTIAL_CONTENT, StatusCode::RANGE_NOT_SATISFIABLE].contains(&status);
    let answer = Answer { status, headers: parts.headers, body: Box::new(body.into_reader()) };
    if ok {
        return Ok(answer);
    }
    let worth = worth(status);
    let reason = status.canonical_reason().unwrap_or("no reason given");
    let after = answer.header("retry-after").and_then(|text| text.parse().ok()).map(Duration::from_secs);
    Err(Failure { text: format!("the server answered {} {reason}", status.as_u16()), worth, after })
}

fn worth(status: StatusCode) -> Worth {
    match status.as_u16() {
        408 | 425 | 429 | 500 | 502..=504 => Worth::Much,
        _ => Worth::Nothing,
    }
}

/// An answer that is no file.
pub struct Told {
    /// Its status.
    pub status: u16,
    /// `WWW-Authenticate`, where it is there.
    pub challenge: Option<String>,
    /// What it says.
    pub body: Box<dyn Read + Send>,
}

/// Asks for a document once. A refusal is an answer too; what may pass by itself is an error that is worth another attempt.
///
/// # Errors
///
/// What went wrong in a few words, and whether another attempt is worth it.
pub fn ask(url: &str, accept: &str, authorization: Option<&str>, patience: &Patience) -> Result<Told, (String, Worth)> {
    let agent = agent(url, patience).map_err(|error| (crate::error::one_line(&error), Worth::Nothing))?;
    let mut request = agent.get(url).header("Accept", accept);
    if let Some(authorization) = authorization {
        request = request.header("Authorization", authorization);
    }
    let response = request.call().map_err(|error| failure(&error)).map_err(|failure| (failure.text, failure.worth))?;
    let (parts, body) = response.into_parts();
    if worth(parts.status) != Worth::Nothing {
        return Err((format!("the server answered {}", parts.status), Worth::Much));
    }
    let challenge = parts.headers.get("www-authenticate").and_then(|value| value.to_str().ok()).map(str::to_owned);
    Ok(Told { status: parts.status.as_u16(), challenge, body: Box::new(body.into_reader()) })
}

/// What an error while reading a body means.
pub(super) fn body_failure(error: &io::Error) -> Failure {
    match error.get_ref().and_then(|inner| inner.downcast_ref::<ureq::Error>()) {
        Some(error) => failure(error),
        None => io_failure(error),
    }
}

fn failure(error: &ureq::Error) -> Failure {
    use ureq::Error;
    match error {
        Error::HostNotFound => Failure::new("the host is not known", Worth::Little),
        Error::Timeout(Timeout::Resolve) => Failure::new("the host's name was not resolved in time", Worth::Much),
        Error::Timeout(Timeout::Connect) => Failure::new("the host did not take the connection in time", Worth::Much),
        Error::Timeout(_) => Failure::new("the server has gone silent", Worth::Much),
        Error::Io(error) => io_failure(error),
        Error::Rustls(error) => Failure::new(format!("TLS: {error}{}", TRUST), Worth::Nothing),
        Error::Tls(text) => Failure::new(format!("TLS: {text}"), Worth::Nothing),
        Error::ConnectProxyFailed(text) => Failure::new(format!("the proxy refused: {text}"), Worth::Little),
        Error::Protocol(error) => Failure::new(format!("the answer is not HTTP as it should be: {error}"), Worth::Much),
        Error::ConnectionFailed => Failure::new("no connection came about", Worth::Much),
        Error::TooManyRedirects => Failure::new("it is redirected in circles", Worth::Nothing),
        other => Failure::new(other.to_string(), Worth::Nothing),
    }
}

const TRUST: &str = " (a company's own authority goes into SSL_CERT_FILE)";

fn io_failure(error: &io::Error) -> Failure {
    // What rustls refuses comes as invalid data, a certificate most of all.
    if error.kind() == io::ErrorKind::InvalidData {
        return Failure::new(format!("TLS: {error}{TRUST}"), Worth::Nothing);
    }
    match error.kind() {
        io::ErrorKind::UnexpectedEof
        | io::ErrorKind::ConnectionReset
        | io::ErrorKind::ConnectionAborted
        | io::ErrorKind::BrokenPipe => Failure::cut(),
        io::ErrorKind::ConnectionRefused => Failure::new("the host refused the connection", Worth::Little),
        io::ErrorKind::TimedOut | io::ErrorKind::WouldBlock => Failure::new("the server has gone silent", Worth::Much),
        _ if error.to_string().contains("lookup") => Failure::new("the host's name cannot be resolved", Worth::Little),
        _ => Failure::new(error.to_string(), Worth::Much),
    }
}

/// The proxy for `url`, from the environment. ureq's own choice takes one for all schemes and for the own machine too.
fn proxy(url: &str, variable: impl Fn(&str) -> Option<String>) -> Result<Option<Proxy>> {
    let (scheme, rest) = url.split_once("://").unwrap_or(("", url));
    let authority = host(rest);
    let name = match authority.strip_prefix('[') {
        Some(bracketed) => bracketed.split(']').next().unwrap_or_default(),
        None => authority.split(':').next().unwrap_or_default(),
    };
    let own = name.eq_ignore_ascii_case("localhost") || name.parse().is_ok_and(|address: std::net::IpAddr| address.is_loopback());
    let names: &[&str] = if scheme.eq_ignore_ascii_case("https") {
        &["https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"]
    } else {
        &["http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"]
    };
    let found = names.iter().find_map(|name| variable(name).filter(|value| !value.is_empty()).map(|value| (name, value)));
    let (Some((variable_name, value)), false) = (found, own) else { return Ok(None) };
    let parsed = Proxy::new(&value).map_err(|error| {
        UsageError::new(format!("{variable_name} names no proxy ({error}): it has the form http://HOST:PORT"))
    })?;
    let mut builder = Proxy::builder(parsed.protocol()).host(parsed.host()).port(parsed.port());
    if let Some(name) = parsed.username() {
        builder = builder.username(name);
    }
    if let Some(password) = parsed.password() {
        builder = builder.password(password);
    }
    let except = ["no_proxy", "NO_PROXY"].iter().find_map(|name| variable(name)).unwrap_or_default();
    for pattern in except.split(',').map(str::trim).filter(|pattern| !pattern.is_empty()) {
        builder = builder.no_proxy(pattern);
    }
    builder.build().map(Some).with_context(|| format!("using the proxy that {variable_name} names"))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    #[test]
    fn the_proxy_comes_from_the_environment() {
        let with = |url: &str, variables: &[(&str, &str)]| {
            let variables: BTreeMap<_, _> =
                variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
            proxy(url, move |name| variables.get(name).cloned()).map(|found| {
                let uri = url.parse().expect("a URL");
                found.filter(|proxy| !proxy.is_no_proxy(&uri)).map(|proxy| format!("{}:{}", proxy.host(), proxy.port()))
            })
        };
        let both = [("https_proxy", "http://s:1"), ("HTTP_PROXY", "http://p:2"), ("NO_PROXY", "b.example, .c.example")];
        for (url, variables, found) in [
            ("https://a.example/", &both[..], Some("s:1")),
            ("http://a.example/", &both, Some("p:2")),
            ("http://b.example/", &both, None),
            ("http://x.c.example/", &both, None),
            ("http://127.0.0.1:80/", &both, None),
            ("http://[::1]:80/", &both, None),
            ("http://localhost/", &both, None),
            ("http://a.example/", &[("ALL_PROXY", "socks5://q:3")], Some("q:3")),
            ("http://a.example/", &[("HTTPS_PROXY", "http://s:1")], None),
            ("http://a.example/", &[("HTTP_PROXY", "")], None),
            ("http://a.example/", &[], None),
        ] {
            assert_eq!(with(url, variables).expect("a proxy or none").as_deref(), found, "{url} {variables:?}");
        }
        assert!(with("http://a.example/", &[("HTTP_PROXY", "::")]).is_err());
    }
}
