//! A web server on the loopback interface that fails on demand.
//!
//! [`Web::start`] takes a function from each request to a [`Reply`]; [`Web::seen`] tells what was asked and how much
//! was sent. One connection, one request; everything ends with the [`Web`].

use std::{
    io::{BufRead, BufReader, Read, Write},
    net::{Shutdown, SocketAddr, TcpListener, TcpStream},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread::{self, JoinHandle},
};

/// What a client asked for.
#[derive(Clone, Debug)]
pub struct Asked {
    /// How many requests came before it.
    pub number: usize,
    /// The path.
    pub path: String,
    /// N of `Range: bytes=N-`.
    pub from: Option<usize>,
    /// `If-Range`.
    pub if_range: Option<String>,
    /// Bytes of the body that were sent; grows until the connection ends.
    pub sent: Arc<AtomicU64>,
}

/// What the server does. By default it sends `body` as a good server would: ranges, length and `ETag`.
#[derive(Clone, Debug)]
pub struct Reply {
    /// What lies on the server.
    pub body: Arc<Vec<u8>>,
    /// Its version, with the quotes; none is sent without one.
    pub etag: Option<String>,
    /// Instead of 200 or 206.
    pub status: Option<u16>,
    /// `Location`, `Retry-After` and their like.
    pub headers: Vec<(String, String)>,
    /// Sends all of it whatever was asked.
    pub ignore_range: bool,
    /// Says nothing of the length and closes at the end.
    pub no_length: bool,
    /// Another total than the true one.
    pub claimed: Option<usize>,
    /// Closes after so many bytes of the answer's body.
    pub cut_after: Option<usize>,
    /// Says nothing more after so many bytes of the answer's body.
    pub stall_after: Option<usize>,
    /// Sends so many bytes, then a pause of a millisecond, and so on.
    pub pace: Option<usize>,
}

impl Reply {
    /// A good answer.
    pub fn good(body: &Arc<Vec<u8>>) -> Self {
        Self {
            body: Arc::clone(body),
            etag: Some("\"one\"".into()),
            status: None,
            headers: Vec::new(),
            ignore_range: false,
            no_length: false,
            claimed: None,
            cut_after: None,
            stall_after: None,
            pace: None,
        }
    }

    /// An answer with nothing but a status.
    pub fn status(status: u16) -> Self {
        Self { status: Some(status), etag: None, ..Self::good(&Arc::default()) }
    }
}

type Handler = dyn Fn(&Asked) -> Reply + Send + Sync;

/// A running server.
pub struct Web {
    address: SocketAddr,
    seen: Arc<Mutex<Vec<Asked>>>,
    open: Arc<Mutex<Vec<TcpStream>>>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Web {
    /// Starts one on a free port.
    pub fn start(handler: impl Fn(&Asked) -> Reply + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("an address");
        let handler: Arc<Handler> = Arc::new(handler);
        let (seen, open, stop) =
            (Arc::<Mutex<Vec<Asked>>>::default(), Arc::<Mutex<Vec<TcpStream>>>::default(), Arc::new(AtomicBool::new(false)));
        let thread = {
            let (seen, open, stop) = (seen.clone(), open.clone(), stop.clone());
            thread::spawn(move || {
                let mut workers = Vec::new();
                for stream in listener.incoming() {
                    if stop.load(Ordering::SeqCst) {
                        break;
                    }
                    let Ok(stream) = stream else { continue };
                    if let Ok(copy) = stream.try_clone() {
                        open.lock().expect("no panic").push(copy);
                    }
                    let (seen, handler) = (seen.clone(), handler.clone());
                    // A client that went away is what these tests are about.
                    workers.push(thread::spawn(move || drop(serve(&stream, &seen, handler.as_ref()))));
                }
                for worker in workers {
                    drop(worker.join());
                }
            })
        };
        Self { address, seen, open, stop, thread: Some(thread) }
    }

    /// A server of one file, without faults.
    pub fn of(body: &Arc<Vec<u8>>) -> Self {
        let body = Arc::clone(body);
        Self::start(move |_| Reply::good(&body))
    }

    /// The URL of `path`, which starts with a slash.
    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    /// All requests so far.
    pub fn seen(&self) -> Vec<Asked> {
        self.seen.lock().expect("no panic").clone()
    }

    /// Bytes of bodies sent so far.
    pub fn sent(&self) -> u64 {
        self.seen().iter().map(|asked| asked.sent.load(Ordering::SeqCst)).sum()
    }
}

impl Drop for Web {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::SeqCst);
        // Wakes the listener; then whatever stalls or sends.
        drop(TcpStream::connect(self.address));
        for stream in self.open.lock().expect("no panic").drain(..) {
            drop(stream.shutdown(Shutdown::Both));
        }
        if let Some(thread) = self.thread.take() {
            drop(thread.join());
        }
    }
}

fn serve(stream: &TcpStream, seen: &Mutex<Vec<Asked>>, handler: &Handler) -> std::io::Result<()> {
    let mut lines = BufReader::new(stream);
    let mut line = String::new();
    // Somebody speaks TLS to us.
    if lines.fill_buf()?.first() == Some(&0x16) {
        let mut stream = stream;
        return stream.write_all(b"HTTP/1.1 400 Plain HTTP\r\n\r\n");
    }
    lines.read_line(&mut line)?;
    let path = line.split(' ').nth(1).unwrap_or_default().to_owned();
    if path.is_empty() {
        return Ok(());
    }
    let mut asked = Asked { number: 0, path, from: None, if_range: None, sent: Arc::default() };
    loop {
        line.clear();
        lines.read_line(&mut line)?;
        let Some((name, value)) = line.trim_end().split_once(": ") else { break };
        match name.to_ascii_lowercase().as_str() {
            "range" => asked.from = value.strip_prefix("bytes=").and_then(|range| range.strip_suffix('-')?.parse().ok()),
            "if-range" => asked.if_range = Some(value.to_owned()),
            _ => {}
        }
    }
    {
        let mut seen = seen.lock().expect("no panic");
        asked.number = seen.len();
        seen.push(asked.clone());
    }
    let result = answer(stream, &asked, &handler(&asked));
    drop(stream.shutdown(Shutdown::Write));
    result
}

fn answer(mut stream: &TcpStream, asked: &Asked, reply: &Reply) -> std::io::Result<()> {
    let total = reply.claimed.unwrap_or(reply.body.len());
    let fresh = asked.if_range.is_none() || asked.if_range == reply.etag;
    let start = asked.from.filter(|_| !reply.ignore_range && fresh && reply.status.is_none());
    let status = match (reply.status, start) {
        (Some(status), _) => status,
        (None, Some(start)) if start >= reply.body.len() => 416,
        (None, Some(_)) => 206,
        (None, None) => 200,
    };
    let body = if status == 416 { &[][..] } else { &reply.body[start.unwrap_or(0)..] };
    let mut head = format!("HTTP/1.1 {status} As Asked\r\nConnection: close\r\n");
    if status == 206 {
        head += &format!("Content-Range: bytes {}-{}/{total}\r\n", start.unwrap_or(0), total - 1);
    }
    if status == 416 {
        head += &format!("Content-Range: bytes */{total}\r\n");
    }
    if !reply.no_length {
        head += &format!("Content-Length: {}\r\n", if status == 416 { 0 } else { total - start.unwrap_or(0) });
    }
    if let Some(etag) = &reply.etag {
        head += &format!("ETag: {etag}\r\n");
    }
    for (name, value) in &reply.headers {
        head += &format!("{name}: {value}\r\n");
    }
    stream.write_all(format!("{head}\r\n").as_bytes())?;
    let end = [reply.cut_after, reply.stall_after].into_iter().flatten().min().unwrap_or(body.len()).min(body.len());
    for piece in body[..end].chunks(reply.pace.unwrap_or(64 << 10)) {
        stream.write_all(piece)?;
        asked.sent.fetch_add(piece.len() as u64, Ordering::SeqCst);
        if reply.pace.is_some() {
            thread::sleep(std::time::Duration::from_millis(1));
        }
    }
    if reply.stall_after.is_some() {
        // Until the client, or the end of the test, closes the connection.
        drop(stream.read(&mut [0]));
    }
    Ok(())
}
