//! The client: one exchange on one connection.

use std::{
    fmt, io,
    os::unix::net::UnixStream,
    path::PathBuf,
    sync::Arc,
    time::{Duration, Instant},
};

use super::{
    LONGEST_HEAD, MOST_FIELDS, Stream,
    timed::{Came, Timed, Wrong},
};

/// The most that a body may be long, in bytes: more than any list of a cluster of this size.
const LONGEST_BODY: usize = 16 << 20;

type Connect = dyn Fn(Duration) -> io::Result<Box<dyn Stream>> + Send + Sync;

/// Asks one server. Cheap to clone.
#[derive(Clone)]
pub struct Client {
    name: Arc<str>,
    connect: Arc<Connect>,
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Client of {}", self.name)
    }
}

/// What came back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Response {
    /// The status code.
    pub status: u16,
    /// The header fields in their order, names as they came.
    pub fields: Vec<(String, String)>,
    /// The whole body, without its transfer coding.
    pub body: Vec<u8>,
}

impl Response {
    /// Whether the status says that it was done.
    pub fn is_success(&self) -> bool {
        (200..300).contains(&self.status)
    }

    /// The first field of this name, whatever its case.
    pub fn field(&self, name: &str) -> Option<&str> {
        let of_name = |(there, _): &&(String, String)| there.eq_ignore_ascii_case(name);
        self.fields.iter().find(of_name).map(|(_, value)| value.as_str())
    }

    /// The body as text, for messages: one line, cut where it is long.
    pub fn text(&self) -> String {
        let text = String::from_utf8_lossy(&self.body);
        let line = text.split_whitespace().collect::<Vec<_>>().join(" ");
        line.chars().take(400).collect()
    }
}

/// Why there is no answer. What was asked may have been done all the same.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Nobody takes the connection.
    #[error("{server} is not there: {error}")]
    Connect {
        /// Whom we asked.
        server: String,
        /// What the system said.
        error: io::Error,
    },
    /// The connection broke.
    #[error("{server} went away: {error}")]
    Broken {
        /// Whom we asked.
        server: String,
        /// What the system said.
        error: io::Error,
    },
    /// The time was over.
    #[error("{server} did not answer within {} s", limit.as_secs_f32())]
    TooSlow {
        /// Whom we asked.
        server: String,
        /// How long it had.
        limit: Duration,
    },
    /// What came is no HTTP, or more than we take.
    #[error("{server} answered with {what}")]
    Bad {
        /// Whom we asked.
        server: String,
        /// What is wrong.
        what: String,
    },
}

impl Client {
    /// The server on the unix socket at `path`.
    pub fn unix(path: impl Into<PathBuf>) -> Self {
        let path = path.into();
        let name = path.display().to_string();
        Self::over(&name, move |_| Ok(Box::new(UnixStream::connect(&path)?) as Box<dyn Stream>))
    }

    /// The server that `connect` leads to, which messages call `name`. `connect` is told how much time there is.
    pub fn over(name: &str, connect: impl Fn(Duration) -> io::Result<Box<dyn Stream>> + Send + Sync + 'static) -> Self {
        Self { name: name.into(), connect: Arc::new(connect) }
    }

    /// Sends a request, and waits for the whole answer, for `limit` at most. A server that asks for its name needs a field `Host`. `body` goes with its type, such as
    /// `application/json`.
    ///
    /// # Errors
    ///
    /// There is no answer. A status that is no success is an answer.
    pub fn request(
        &self,
        method: &str,
        path: &str,
        fields: &[(&str, &str)],
        body: Option<(&str, &[u8])>,
        limit: Duration,
    ) -> Result<Response, Error> {
        let until = Instant::now() + limit;
        let mut stream = (self.connect)(limit).map_err(|error| self.failed(error, limit, true))?;
        let mut exchange = Exchange { io: Timed::new(&mut *stream, until) };
        let named = fields.iter().any(|(name, _)| name.eq_ignore_ascii_case("host"));
        let host = if named { "" } else { "Host: hcl\r\n" };
        let mut head = format!("{method} {path} HTTP/1.1\r\n{host}Connection: close\r\n");
        for (name, value) in fields {
            head += &format!("{name}: {value}\r\n");
        }
        if let Some((kind, body)) = body {
            head += &format!("Content-Type: {kind}\r\nContent-Length: {}\r\n", body.len());
        } else if method != "GET" && method != "HEAD" {
            head += "Content-Length: 0\r\n";
        }
        head += "\r\n";
        let mut sent = exchange.io.send(head.as_bytes());
        if let (Ok(()), Some((_, body))) = (&sent, body) {
            sent = exchange.io.send(body);
        }
        // A server that refuses early closes its end: its answer counts.
        match exchange.answer(method) {
            Ok(Ok(response)) => Ok(response),
            Ok(Err(what)) => Err(Error::Bad { server: self.name.to_string(), what }),
            Err(error) => Err(self.failed(sent.err().unwrap_or(error), limit, false)),
        }
    }

    fn failed(&self, error: io::Error, limit: Duration, connecting: bool) -> Error {
        let server = self.name.to_string();
        match error.kind() {
            io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => Error::TooSlow { server, limit },
            _ if connecting => Error::Connect { server, error },
            _ => Error::Broken { server, error },
        }
    }
}

/// One exchange that runs.
struct Exchange<'a> {
    io: Timed<'a>,
}

impl Exchange<'_> {
    fn answer(&mut self, method: &str) -> Came<Response, String> {
        // One that is only news (1xx) comes before the one that counts, and not without end.
        for _ in 0..8 {
            let (status, fields) = match self.head()? {
                Ok(head) => head,
                Err(what) => return Ok(Err(what)),
            };
            if !(100..200).contains(&status) {
                let mut response = Response { status, fields, body: Vec::new() };
                if method == "HEAD" || status == 204 || status == 304 {
                    return Ok(Ok(response));
                }
                return Ok(self.body(&response)?.map(|body| {
                    response.body = body;
                    response
                }));
            }
        }
        Ok(Err("nothing but provisional answers".to_owned()))
    }

    fn head(&mut self) -> Came<(u16, Vec<(String, String)>), String> {
        loop {
            let mut fields = [httparse::EMPTY_HEADER; MOST_FIELDS];
            let mut response = httparse::Response::new(&mut fields);
            match response.parse(&self.io.buffer) {
                Ok(httparse::Status::Complete(length)) => {
                    let value = |bytes| String::from_utf8_lossy(bytes).into_owned();
                    let all = response.headers.iter().map(|field| (field.name.to_owned(), value(field.value))).collect();
                    let status = response.code.unwrap_or_default();
                    self.io.buffer.drain(..length);
                    return Ok(Ok((status, all)));
                }
                Ok(httparse::Status::Partial) if self.io.buffer.len() > LONGEST_HEAD => {
                    return Ok(Err(format!("a head of more than {LONGEST_HEAD} bytes")));
                }
                Ok(httparse::Status::Partial) => self.io.more()?,
                Err(error) => return Ok(Err(format!("no HTTP ({error})"))),
            }
        }
    }

    fn body(&mut self, response: &Response) -> Came<Vec<u8>, String> {
        let coded = response.field("transfer-encoding");
        if coded.is_some_and(|coding| coding.eq_ignore_ascii_case("chunked")) {
            return Ok(self.io.take_chunks(LONGEST_BODY)?.map_err(|wrong| match wrong {
                Wrong::TooLong => format!("more than {LONGEST_BODY} bytes"),
                Wrong::Malformed(what) => what.to_owned(),
            }));
        }
        if let Some(coding) = coded {
            return Ok(Err(format!("the transfer coding {coding}")));
        }
        match response.field("content-length").map(str::parse::<usize>) {
            Some(Ok(length)) if length <= LONGEST_BODY => Ok(Ok(self.io.take(length)?)),
            Some(Ok(length)) => Ok(Err(format!("{length} bytes, more than {LONGEST_BODY}"))),
            Some(Err(_)) => Ok(Err("a length that is no number".to_owned())),
            // Up to the end of the connection.
            None => {
                while self.io.fill()? {
                    if self.io.buffer.len() > LONGEST_BODY {
                        return Ok(Err(format!("more than {LONGEST_BODY} bytes")));
                    }
                }
                Ok(Ok(std::mem::take(&mut self.io.buffer)))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{
        io::{Read, Write},
        os::unix::net::UnixListener,
        thread,
    };

    use super::*;

    const LIMIT: Duration = Duration::from_secs(5);

    /// What the client makes of `answer`, and what it sent.
    fn exchange(method: &'static str, body: Option<&'static [u8]>, answer: &'static [u8]) -> (Result<Response, Error>, String) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("socket");
        let listener = UnixListener::bind(&path).unwrap();
        let server = thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut asked = Vec::new();
            let ends = |asked: &[u8]| match body {
                Some(body) => asked.ends_with(body),
                None => asked.ends_with(b"\r\n\r\n"),
            };
            while !ends(&asked) {
                let mut byte = [0];
                stream.read_exact(&mut byte).unwrap();
                asked.push(byte[0]);
            }
            // In small pieces, as a network may bring it.
            for piece in answer.chunks(3) {
                let _ = stream.write_all(piece);
            }
            String::from_utf8(asked).unwrap()
        });
        let body = body.map(|body| ("application/json", body));
        let got = Client::unix(&path).request(method, "/a?b=c", &[("X-Token", "t")], body, LIMIT);
        (got, server.join().unwrap())
    }

    #[test]
    fn what_is_sent() {
        let (got, asked) = exchange("POST", Some(b"{}"), b"HTTP/1.1 204 No Content\r\nX-Index: 7\r\n\r\n");
        let response = got.unwrap();
        assert_eq!((response.status, response.field("x-index")), (204, Some("7")));
        assert_eq!(
            asked,
            "POST /a?b=c HTTP/1.1\r\nHost: hcl\r\nConnection: close\r\nX-Token: t\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}"
        );
    }

    #[test]
    fn the_ways_a_body_ends() {
        let answers: [&[u8]; 4] = [
            b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello and more",
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhe\r\n3;x=y\r\nllo\r\n0\r\n\r\n",
            b"HTTP/1.0 200 OK\r\n\r\nhello",
            b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello",
        ];
        for answer in answers {
            assert_eq!(exchange("GET", None, answer).0.unwrap().body, b"hello", "{}", answer.escape_ascii());
        }
        let head = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n";
        assert!(exchange("HEAD", None, head).0.unwrap().body.is_empty());
    }

    #[test]
    fn what_is_no_answer() {
        let answers: [(&[u8], &str); 7] = [
            (b"SSH-2.0-x\r\n", "no HTTP"),
            (b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nhello", "went away"),
            (b"HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\nhello", "no number"),
            (b"HTTP/1.1 200 OK\r\nContent-Length: 99999999\r\n\r\n", "more than"),
            (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\nhello", "coding gzip"),
            (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhello", "does not end"),
            (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nfffffff\r\nhello", "more than"),
        ];
        for (answer, expected) in answers {
            let error = exchange("GET", None, answer).0.unwrap_err().to_string();
            assert!(error.contains(expected), "{}: {error}", answer.escape_ascii());
        }
    }

    #[test]
    fn nobody_there_and_nobody_answers() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("socket");
        let client = Client::unix(&path);
        let error = client.request("GET", "/", &[], None, LIMIT).unwrap_err();
        assert!(matches!(error, Error::Connect { .. }), "{error}");
        let _listener = UnixListener::bind(&path).unwrap();
        let error = client.request("GET", "/", &[], None, Duration::from_millis(50)).unwrap_err();
        assert!(matches!(error, Error::TooSlow { .. }), "{error}");
    }
}
