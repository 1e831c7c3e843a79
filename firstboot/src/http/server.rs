//! The server: exchanges on one connection, whatever carries it.
//!
//! It reads strictly where two readers could disagree on where a request ends (RFC 9112, section 11.2): two lengths, a length
//! beside a transfer coding, a line that ends with LF alone. Such a request gets its status, and the connection ends.

mod head;

use std::{
    net::IpAddr,
    time::{Duration, Instant},
};

use self::head::{Framing, Head};
use super::{
    LONGEST_HEAD, Response, Stream,
    timed::{Timed, Wrong},
};

/// The most requests on one connection.
const MOST_REQUESTS: usize = 1000;
/// How long one look for a next request lasts: so much later a connection makes way for one that waits.
const LOOK: Duration = Duration::from_millis(250);
/// What a new connection has at least for its first byte, others waiting or not.
const GRACE: Duration = Duration::from_millis(500);
/// After a refusal so much more is read and dropped, for so long: closing over unread bytes would take the answer back (RFC 9112,
/// section 9.6).
const LINGER: (usize, Duration) = (256 << 10, Duration::from_secs(1));

/// What a server takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// How many connections are served at once: a thread each.
    pub workers: usize,
    /// How many more may wait for their turn.
    pub waiting: usize,
    /// How many connections one address may have, those that wait included.
    pub per_peer: usize,
    /// How long a request may take to come, from its first byte on; and an answer to go.
    pub request: Duration,
    /// How long a connection may wait for a next request.
    pub idle: Duration,
    /// The longest body, in bytes.
    pub body: usize,
}

impl Default for Limits {
    /// For a few browsers. A browser opens six connections, so that one peer never has all workers.
    fn default() -> Self {
        Self {
            workers: 16,
            waiting: 32,
            per_peer: 8,
            request: Duration::from_secs(10),
            idle: Duration::from_secs(10),
            body: 1 << 20,
        }
    }
}

/// A request that came whole.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// The method, as it came: methods have case.
    pub method: String,
    /// The path, beginning with `/`, percent-encoding and all; `*` for `OPTIONS *`.
    pub path: String,
    /// What follows the `?`, where there is one.
    pub query: Option<String>,
    /// Whom it was sent to: of the target where that is absolute, else the field `Host`; none from HTTP/1.0.
    pub host: Option<String>,
    /// The header fields in their order, names as they came.
    pub fields: Vec<(String, String)>,
    /// The body, without its transfer coding.
    pub body: Vec<u8>,
    /// Who sent it.
    pub peer: IpAddr,
}

impl Request {
    /// The first field of this name, whatever its case.
    pub fn field(&self, name: &str) -> Option<&str> {
        self.fields.iter().find(|(there, _)| there.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
    }
}

impl Response {
    /// An answer with a body of the type `kind`, such as `application/json`.
    pub fn new(status: u16, kind: &str, body: impl Into<Vec<u8>>) -> Self {
        Self { status, fields: vec![("Content-Type".to_owned(), kind.to_owned())], body: body.into() }
    }

    /// The same with one field more.
    #[must_use]
    pub fn with(mut self, name: &str, value: &str) -> Self {
        self.fields.push((name.to_owned(), value.to_owned()));
        self
    }

    /// A status with its words, and why, as one line of text.
    pub fn refusal(status: u16, why: &str) -> Self {
        Self::new(status, "text/plain; charset=utf-8", format!("{status} {}: {why}\n", reason(status)))
    }
}

/// Serves one connection until either side ends it. It makes way as soon as `crowded` says that others wait.
pub fn serve_connection(
    stream: &mut dyn Stream,
    peer: IpAddr,
    limits: &Limits,
    crowded: &dyn Fn() -> bool,
    handler: &dyn Fn(&Request) -> Response,
) {
    let mut connection = Connection { io: Timed::new(stream, Instant::now()), peer, limits };
    for count in 1..=MOST_REQUESTS {
        let grace = if count == 1 { GRACE } else { Duration::ZERO };
        if !connection.wait(grace, crowded) {
            return;
        }
        connection.io.until = Instant::now() + limits.request;
        match connection.request() {
            Ok((request, keep)) => {
                let keep = keep && count < MOST_REQUESTS && !crowded();
                let response = handler(&request);
                if connection.answer(&response, &request.method, keep).is_err() || !keep {
                    return;
                }
            }
            Err(End::Gone) => return,
            Err(End::Refused(status, why)) => {
                // Whoever went away need not know.
                if connection.answer(&Response::refusal(status, why), "GET", false).is_ok() {
                    connection.linger();
                }
                return;
            }
        }
    }
}

/// Why there is no request.
#[derive(Debug, PartialEq, Eq)]
enum End {
    /// The other side went away.
    Gone,
    /// It gets this status, and why.
    Refused(u16, &'static str),
}

struct Connection<'a> {
    io: Timed<'a>,
    peer: IpAddr,
    limits: &'a Limits,
}

impl Connection<'_> {
    /// Waits for the first byte of a request; whether there is one.
    fn wait(&mut self, grace: Duration, crowded: &dyn Fn() -> bool) -> bool {
        let since = Instant::now();
        while self.io.buffer.is_empty() {
            let waited = since.elapsed();
            if waited >= self.limits.idle || waited >= grace && crowded() {
                return false;
            }
            self.io.until = Instant::now() + LOOK.min(self.limits.idle - waited);
            match self.io.fill() {
                Ok(true) => {}
                Err(error) if is_late(&error) => {}
                _ => return false,
            }
        }
        true
    }

    /// Reads one request, and whether another may follow.
    fn request(&mut self) -> Result<(Request, bool), End> {
        let Head { method, path, query, host, fields, framing, keep, expects } = self.head()?;
        let too_long = End::Refused(413, "the body is longer than this server takes");
        match framing {
            Framing::Length(length) if length > self.limits.body as u64 => return Err(too_long),
            Framing::Length(0) => {}
            _ if expects && self.io.buffer.is_empty() => {
                self.io.send(b"HTTP/1.1 100 Continue\r\n\r\n").map_err(|_| End::Gone)?;
            }
            _ => {}
        }
        let body = match framing {
            Framing::Length(length) => self.io.take(length as usize).map_err(|error| late(&error))?,
            Framing::Chunked => {
                self.io.take_chunks(self.limits.body).map_err(|error| late(&error))?.map_err(|wrong| match wrong {
                    Wrong::TooLong => too_long,
                    Wrong::Malformed(what) => End::Refused(400, what),
                })?
            }
        };
        Ok((Request { method, path, query, host, fields, body, peer: self.peer }, keep))
    }

    fn head(&mut self) -> Result<Head, End> {
        let mut seen = 0;
        loop {
            // A line may end a request that went before (RFC 9112, section 2.2).
            while self.io.buffer.starts_with(b"\r\n") {
                self.io.buffer.drain(..2);
                seen = 0;
            }
            let buffer = &self.io.buffer;
            let end = buffer[seen..].windows(4).position(|four| four == b"\r\n\r\n").map(|at| seen + at + 4);
            let head = &buffer[..end.unwrap_or(buffer.len())];
            if head.len() > LONGEST_HEAD {
                return Err(match head[..LONGEST_HEAD].contains(&b'\n') {
                    true => End::Refused(431, "the header fields are longer than this server takes"),
                    false => End::Refused(414, "the target is longer than this server takes"),
                });
            }
            let length = head.len();
            // What is no HTTP is seen at once, and not looked at again and again where it comes byte by byte.
            if end.is_some() || length <= 1024 {
                if let Some(head) = Head::parse(head)? {
                    self.io.buffer.drain(..length);
                    return Ok(head);
                }
            }
            seen = length.saturating_sub(3);
            self.io.more().map_err(|error| late(&error))?;
        }
    }

    fn answer(&mut self, response: &Response, method: &str, keep: bool) -> std::io::Result<()> {
        // Only this connection's own words on how it goes on, and nothing that would begin a line of its own. No date: a board
        // without a clock has none to give (RFC 9110, section 6.6.1).
        let ours = ["connection", "keep-alive", "content-length", "transfer-encoding", "trailer", "upgrade"];
        let whole = |text: &str| !text.contains(['\r', '\n', '\0']);
        let mut head = format!("HTTP/1.1 {} {}\r\n", response.status, reason(response.status));
        for (name, value) in &response.fields {
            if whole(name) && whole(value) && !ours.contains(&name.to_ascii_lowercase().as_str()) {
                head += &format!("{name}: {value}\r\n");
            }
        }
        let bare = matches!(response.status, 100..=199 | 204 | 304);
        if !bare {
            head += &format!("Content-Length: {}\r\n", response.body.len());
        }
        if !keep {
            head += "Connection: close\r\n";
        }
        head += "\r\n";
        let mut bytes = head.into_bytes();
        if !bare && method != "HEAD" {
            bytes.extend_from_slice(&response.body);
        }
        self.io.until = Instant::now() + self.limits.request;
        self.io.send(&bytes)
    }

    fn linger(&mut self) {
        let (most, limit) = LINGER;
        self.io.until = Instant::now() + limit;
        let mut dropped = 0;
        while dropped < most {
            self.io.buffer.clear();
            if !matches!(self.io.fill(), Ok(true)) {
                return;
            }
            dropped += self.io.buffer.len();
        }
    }
}

fn is_late(error: &std::io::Error) -> bool {
    matches!(error.kind(), std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut)
}

fn late(error: &std::io::Error) -> End {
    if is_late(error) { End::Refused(408, "the request did not come whole in time") } else { End::Gone }
}

/// The words for a status (RFC 9110, section 15); they are for people only.
fn reason(status: u16) -> &'static str {
    match status {
        200 => "OK",
        204 => "No Content",
        301 => "Moved Permanently",
        304 => "Not Modified",
        400 => "Bad Request",
        403 => "Forbidden",
        404 => "Not Found",
        405 => "Method Not Allowed",
        408 => "Request Timeout",
        409 => "Conflict",
        413 => "Content Too Large",
        414 => "URI Too Long",
        417 => "Expectation Failed",
        421 => "Misdirected Request",
        431 => "Request Header Fields Too Large",
        500 => "Internal Server Error",
        501 => "Not Implemented",
        502 => "Bad Gateway",
        503 => "Service Unavailable",
        504 => "Gateway Timeout",
        505 => "HTTP Version Not Supported",
        _ => "",
    }
}

#[cfg(test)]
mod tests;
