use std::{
    io::{Read, Write},
    net::Shutdown,
    os::unix::net::UnixStream,
    thread,
};

use super::*;

const PEER: IpAddr = IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);

fn limits() -> Limits {
    Limits { request: Duration::from_millis(400), idle: Duration::from_millis(400), body: 1000, ..Limits::default() }
}

/// Answers with what it saw.
fn echo(request: &Request) -> Response {
    let Request { method, path, query, host, body, .. } = request;
    let text = format!("{method} {path} {query:?} {host:?} {}", String::from_utf8_lossy(body));
    Response::new(200, "text/plain", text)
}

/// A client's end of a connection that is served.
fn connect(crowded: bool) -> (UnixStream, thread::JoinHandle<()>) {
    let (mine, mut theirs) = UnixStream::pair().unwrap();
    // Longer than any limit of the server.
    mine.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    let server = thread::spawn(move || serve_connection(&mut theirs, PEER, &limits(), &|| crowded, &echo));
    (mine, server)
}

/// All that is answered to `sent`.
fn talk(sent: &[u8]) -> String {
    let (mut stream, server) = connect(false);
    // It may have ended already.
    let _ = stream.write_all(sent);
    let _ = stream.shutdown(Shutdown::Write);
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer);
    server.join().unwrap();
    String::from_utf8(answer).unwrap()
}

/// Statuses and bodies of all answers.
fn answers(sent: &[u8]) -> Vec<(u16, String)> {
    let text = talk(sent);
    let mut rest = text.as_str();
    let mut all = Vec::new();
    while let Some((head, after)) = rest.split_once("\r\n\r\n") {
        let status = head[9..12].parse().unwrap();
        let length =
            head.lines().find_map(|line| line.strip_prefix("Content-Length: ")).map_or(0, |length| length.parse().unwrap());
        all.push((status, after[..length].to_owned()));
        rest = &after[length..];
    }
    assert_eq!(rest, "");
    all
}

fn statuses(sent: &[u8]) -> Vec<u16> {
    answers(sent).into_iter().map(|(status, _)| status).collect()
}

#[test]
fn what_a_handler_sees() {
    let cases: [(&str, &str); 9] = [
        ("GET /a?b=c HTTP/1.1\r\nHost: x\r\n\r\n", r#"GET /a Some("b=c") Some("x") "#),
        ("\r\n\r\nGET / HTTP/1.1\r\nhOST: x:1\r\n\r\n", r#"GET / None Some("x:1") "#),
        ("GET / HTTP/1.0\r\n\r\n", "GET / None None "),
        ("GET http://y/z HTTP/1.1\r\nHost: x\r\n\r\n", r#"GET /z None Some("y") "#),
        ("GET HTTP://y?q HTTP/1.1\r\nHost: x\r\n\r\n", r#"GET / Some("q") Some("y") "#),
        ("OPTIONS * HTTP/1.1\r\nHost: x\r\n\r\n", r#"OPTIONS * None Some("x") "#),
        ("PUT / HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nhello", r#"PUT / None Some("x") hello"#),
        (
            "PUT / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: Chunked\r\n\r\n2\r\nhe\r\n03 ;x=\"y\"\r\nllo\r\n0\r\nTrailer: t\r\n\r\n",
            r#"PUT / None Some("x") hello"#,
        ),
        ("PUT / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", r#"PUT / None Some("x") "#),
    ];
    for (sent, seen) in cases {
        assert_eq!(answers(sent.as_bytes()), [(200, seen.to_owned())], "{sent:?}");
    }
}

#[test]
fn what_is_refused_ends_the_connection() {
    let long = "a".repeat(LONGEST_HEAD);
    let fields = "A: b\r\n".repeat(100);
    let cases: [(String, u16); 24] = [
        ("\x16\x03\x01\x02\x00\x01\x00\x01".into(), 400),
        ("SSH-2.0-OpenSSH\r\n".into(), 400),
        ("GET / HTTP/1.1\nHost: x\n\n".into(), 400),
        ("GET / HTTP/1.1\r\nHost: x\r\nA: b\rc\r\n\r\n".into(), 400),
        ("GET / HTTP/1.1\r\nHost: x\r\nA: b\r\n c\r\n\r\n".into(), 400),
        ("GET / HTTP/1.1\r\nHost : x\r\n\r\n".into(), 400),
        ("GET / HTTP/1.1\r\n\r\n".into(), 400),
        ("GET / HTTP/1.1\r\nHost: x\r\nHost: y\r\n\r\n".into(), 400),
        ("GET x HTTP/1.1\r\nHost: x\r\n\r\n".into(), 400),
        ("GET /#a HTTP/1.1\r\nHost: x\r\n\r\n".into(), 400),
        ("GET * HTTP/1.1\r\nHost: x\r\n\r\n".into(), 400),
        ("CONNECT x:1 HTTP/1.1\r\nHost: x\r\n\r\n".into(), 501),
        ("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".into(), 505),
        ("GET / HTTP/0.9\r\nHost: x\r\n\r\n".into(), 505),
        (format!("GET /{long} HTTP/1.1\r\nHost: x\r\n\r\n"), 414),
        (format!("GET / HTTP/1.1\r\nHost: x\r\nA: {long}\r\n\r\n"), 431),
        (format!("GET / HTTP/1.1\r\nHost: x\r\n{fields}\r\n"), 431),
        ("GET / HTTP/1.1\r\nHost: x\r\nExpect: tea\r\n\r\n".into(), 417),
        ("PUT / HTTP/1.1\r\nHost: x\r\nContent-Length: 1001\r\n\r\n".into(), 413),
        ("PUT / HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999999999999999999\r\n\r\n".into(), 413),
        ("PUT / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n3e9\r\n".into(), 413),
        ("PUT / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nfffffffffffffffff\r\n".into(), 413),
        (format!("PUT / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n1;{long}\r\na\r\n0\r\n\r\n"), 400),
        (format!("PUT / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nA: {long}\r\n\r\n"), 400),
    ];
    for (sent, status) in cases {
        // What follows is no request of its own.
        let sent = format!("{sent}GET /after HTTP/1.1\r\nHost: x\r\n\r\n");
        assert_eq!(statuses(sent.as_bytes()), [status], "{}", &sent[..sent.len().min(200)]);
    }
}

/// Of each pair the first is taken, with the request behind it; the second differs in what two readers could read differently.
#[test]
fn smuggling_pairs() {
    let cases = [
        ("Content-Length: 5\r\n\r\nhello", "Content-Length: 5\r\nContent-Length: 0\r\n\r\nhello"),
        ("Content-Length: 5\r\n\r\nhello", "Content-Length: 5\r\nContent-Length: 5\r\n\r\nhello"),
        ("Content-Length: 5\r\n\r\nhello", "Content-Length: 5, 5\r\n\r\nhello"),
        ("Content-Length: 5\r\n\r\nhello", "Content-Length: +5\r\n\r\nhello"),
        ("Content-Length: 5\r\n\r\nhello", "Content-Length: 0x5\r\n\r\nhello"),
        ("Content-Length: 5\r\n\r\nhello", "Content-Length: 5 5\r\n\r\nhello"),
        ("Content-Length: 5\r\n\r\nhello", "Content-Length: \r\n\r\nhello"),
        ("Content-Length: 5\r\n\r\nhello", "Content-Length : 5\r\n\r\nhello"),
        ("Content-Length: 5\r\n\r\nhello", "Content-Length: 5\n\r\nhello"),
        ("Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n", "Transfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n"),
        ("Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n", "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"),
        (
            "Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
            "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        ),
        ("Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n", "Transfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n"),
        ("Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n", "Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n"),
        ("Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n", "Transfer-Encoding:\x0bchunked\r\n\r\n0\r\n\r\n"),
        ("Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n", "Transfer-Encoding : chunked\r\n\r\n0\r\n\r\n"),
        ("Transfer-Encoding: chunked\r\n\r\n1\r\na\r\n0\r\n\r\n", "Transfer-Encoding: chunked\r\n\r\n1\na\r\n0\r\n\r\n"),
        ("Transfer-Encoding: chunked\r\n\r\n1\r\na\r\n0\r\n\r\n", "Transfer-Encoding: chunked\r\n\r\n1\r\nab\r\n0\r\n\r\n"),
        ("Transfer-Encoding: chunked\r\n\r\n1\r\na\r\n0\r\n\r\n", "Transfer-Encoding: chunked\r\n\r\n0x1\r\na\r\n0\r\n\r\n"),
        ("Transfer-Encoding: chunked\r\n\r\n1\r\na\r\n0\r\n\r\n", "Transfer-Encoding: chunked\r\n\r\n-1\r\na\r\n0\r\n\r\n"),
        ("Transfer-Encoding: chunked\r\n\r\n1\r\na\r\n0\r\n\r\n", "Transfer-Encoding: chunked\r\n\r\n\r\na\r\n0\r\n\r\n"),
        ("Transfer-Encoding: chunked\r\n\r\n1;a\r\na\r\n0\r\n\r\n", "Transfer-Encoding: chunked\r\n\r\n1;a\rb\r\na\r\n0\r\n\r\n"),
    ];
    let request = |rest: &str| format!("PUT / HTTP/1.1\r\nHost: x\r\n{rest}GET /after HTTP/1.1\r\nHost: x\r\n\r\n").into_bytes();
    for (good, evil) in cases {
        assert_eq!(statuses(&request(good)), [200, 200], "{good:?}");
        let refused = statuses(&request(evil));
        assert!(matches!(refused[..], [400 | 501]), "{evil:?}: {refused:?}");
    }
    let old = "PUT / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n";
    assert_eq!(statuses(old.as_bytes()), [400]);
}

#[test]
fn pipelined_requests_are_answered_in_order() {
    let many: String = (0..50).map(|n| format!("GET /{n} HTTP/1.1\r\nHost: x\r\n\r\n")).collect();
    let all = answers(format!("{many}GET /last HTTP/1.1\r\nHost: x\r\nConnection: x, Close\r\n\r\n{many}").as_bytes());
    assert_eq!(all.len(), 51);
    for (n, (_, body)) in all[..50].iter().enumerate() {
        assert_eq!(*body, format!("GET /{n} None Some(\"x\") "));
    }
}

#[test]
fn a_connection_ends_after_so_many_requests() {
    let many = "GET / HTTP/1.1\r\nHost: x\r\n\r\n".repeat(MOST_REQUESTS + 10);
    let text = talk(many.as_bytes());
    assert_eq!(text.matches("HTTP/1.1 200 OK").count(), MOST_REQUESTS);
    assert_eq!(text.matches("Connection: close").count(), 1);
}

#[test]
fn head_has_the_length_and_no_body() {
    let text = talk(b"HEAD / HTTP/1.1\r\nHost: x\r\n\r\nGET / HTTP/1.0\r\n\r\n");
    let (head, rest) = text.split_once("\r\n\r\n").unwrap();
    assert!(head.contains("Content-Length: 22") && !head.contains("close"), "{head}");
    assert!(rest.starts_with("HTTP/1.1 200 OK\r\n") && rest.contains("\r\nConnection: close\r\n"), "{rest}");
}

#[test]
fn who_waits_for_continue_gets_it_once_the_head_is_right() {
    let head = "PUT / HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n";
    let (mut stream, server) = connect(false);
    stream.write_all(head.as_bytes()).unwrap();
    let mut news = [0; 25];
    stream.read_exact(&mut news).unwrap();
    assert_eq!(&news, b"HTTP/1.1 100 Continue\r\n\r\n");
    stream.write_all(b"hello").unwrap();
    stream.shutdown(Shutdown::Write).unwrap();
    let mut rest = String::new();
    stream.read_to_string(&mut rest).unwrap();
    assert!(rest.starts_with("HTTP/1.1 200 OK\r\n") && rest.ends_with("hello"), "{rest}");
    server.join().unwrap();
    assert_eq!(statuses(head.replace("5", "1001").as_bytes()), [413]);
    assert_eq!(statuses(format!("{head}hello").as_bytes()), [200]);
}

/// A byte at a time, always in time for the next, is over when the request's time is; so is a client that does not read.
#[test]
fn slow_ones_end_in_time() {
    for (start, drip) in
        [("", "GET / HTTP/1.1\r\nHost: x\r\nA: "), ("PUT / HTTP/1.1\r\nHost: x\r\nContent-Length: 900\r\n\r\n", "")]
    {
        let (mut stream, server) = connect(false);
        let since = Instant::now();
        stream.write_all(start.as_bytes()).unwrap();
        for byte in drip.bytes().chain(std::iter::repeat(b'a')) {
            // The server's limit with room for a busy machine.
            assert!(since.elapsed() < Duration::from_secs(10), "still open");
            if stream.write_all(&[byte]).is_err() {
                break;
            }
            thread::sleep(Duration::from_millis(20));
        }
        let mut answer = String::new();
        let _ = stream.read_to_string(&mut answer);
        assert!(answer.starts_with("HTTP/1.1 408 Request Timeout\r\n"), "{answer}");
        server.join().unwrap();
    }
    let (mine, mut theirs) = UnixStream::pair().unwrap();
    let large = |_: &Request| Response::new(200, "text/plain", vec![b'a'; 8 << 20]);
    let since = Instant::now();
    (&mine).write_all(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
    serve_connection(&mut theirs, PEER, &limits(), &|| false, &large);
    assert!(since.elapsed() < Duration::from_secs(10));
}

#[test]
fn an_idle_connection_ends_without_a_word_and_makes_way() {
    let (mut stream, server) = connect(false);
    assert_eq!(stream.read(&mut [0]).unwrap(), 0);
    server.join().unwrap();
    for (crowded, expected) in [(false, 2), (true, 1)] {
        let (mut stream, server) = connect(crowded);
        stream.write_all(b"GET / HTTP/1.1\r\nHost: x\r\n\r\nGET / HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
        let mut text = String::new();
        stream.read_to_string(&mut text).unwrap();
        server.join().unwrap();
        assert_eq!(text.matches("200 OK").count(), expected);
        assert_eq!(text.contains("Connection: close"), crowded);
    }
}

#[test]
fn an_answer_is_one_answer() {
    let (mine, mut theirs) = UnixStream::pair().unwrap();
    let split = |_: &Request| {
        Response::new(200, "text/plain\r\nX-Evil: 1", "a")
            .with("X\r\nY", "z")
            .with("Content-Length", "9")
            .with("connection", "keep")
            .with("Good", "g")
    };
    (&mine).write_all(b"GET / HTTP/1.0\r\n\r\n").unwrap();
    serve_connection(&mut theirs, PEER, &limits(), &|| false, &split);
    drop(theirs);
    let mut text = String::new();
    (&mine).read_to_string(&mut text).unwrap();
    assert_eq!(text, "HTTP/1.1 200 OK\r\nGood: g\r\nContent-Length: 1\r\nConnection: close\r\n\r\na");
}

/// Whatever is changed in a good request: an answer or an end, in time, and never a second answer that was not asked for.
#[test]
fn bytes_changed_anywhere() {
    let good =
        b"PUT /a HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n3\r\nabc\r\n0\r\n\r\n".to_vec();
    let mut read = 0;
    for at in 0..good.len() {
        for byte in [b'\0', b'\n', b'\r', b' ', b':', b'9', 0xff] {
            let mut changed = good.clone();
            changed[at] = byte;
            let (mut stream, mut theirs) = UnixStream::pair().unwrap();
            stream.write_all(&changed).unwrap();
            stream.shutdown(Shutdown::Write).unwrap();
            serve_connection(&mut theirs, PEER, &limits(), &|| false, &echo);
            drop(theirs);
            let mut text = Vec::new();
            let _ = stream.read_to_end(&mut text);
            let text = String::from_utf8_lossy(&text).into_owned();
            assert!(text.matches("HTTP/1.1 ").count() <= 1, "{}: {text}", changed.escape_ascii());
            read += usize::from(text.starts_with("HTTP/1.1 200"));
        }
    }
    assert!(read > 0, "some changes do not matter");
}

/// A connection whose other side has said all that it will.
struct Told<'a> {
    left: &'a [u8],
    /// How many bytes come at once, one after the other, again and again.
    pieces: Vec<usize>,
    reads: usize,
    answers: Vec<u8>,
}

impl Read for Told<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let count = self.pieces[self.reads % self.pieces.len()].min(self.left.len()).min(buffer.len());
        self.reads += 1;
        buffer[..count].copy_from_slice(&self.left[..count]);
        self.left = &self.left[count..];
        Ok(count)
    }
}

impl Write for Told<'_> {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.answers.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl Stream for Told<'_> {
    fn limit(&self, _: Duration) -> std::io::Result<()> {
        Ok(())
    }
}

/// Requests put together from what is right, what is nearly right and what is noise: what the handler sees does not depend on how
/// the bytes are cut, and nothing is answered after a refusal.
#[test]
fn however_it_is_cut() {
    const PARTS: [&str; 24] = [
        "GET / HTTP/1.1\r\n",
        "PUT /a?b HTTP/1.1\r\n",
        "GET / HTTP/1.0\r\n",
        "GET /\r\n",
        "Host: x\r\n",
        "host:x\r\n",
        "Content-Length: 5\r\n",
        "Content-Length: 05\r\n",
        "Content-Length: 0\r\n",
        "Content-Length: 6, 5\r\n",
        "Transfer-Encoding: chunked\r\n",
        "Transfer-Encoding: gzip\r\n",
        "Connection: close\r\n",
        "Connection: keep-alive\r\n",
        "\r\n",
        "\r\n\r\n",
        "\n",
        "hello",
        "5\r\nhello\r\n",
        "0\r\n\r\n",
        "5;a=b\r\n",
        " ",
        "\0",
        "\r",
    ];
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut random = |below: usize| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state % below as u64) as usize
    };
    let (mut taken, mut refused) = (0, 0);
    for case in 0..20_000 {
        let mut sent = String::new();
        for _ in 0..1 + random(3) {
            // A good beginning often enough, or nothing gets far.
            if random(4) > 0 {
                sent += [PARTS[0], PARTS[1]][random(2)];
                sent += PARTS[4];
            }
            for _ in 0..random(6) {
                sent += PARTS[random(PARTS.len())];
            }
            sent += ["\r\n", "\r\nhello", "\r\n5\r\nhello\r\n0\r\n\r\n", ""][random(4)];
        }
        let pieces: Vec<usize> = (0..3).map(|_| 1 + random(9)).collect();
        let seen = [vec![usize::MAX], vec![1], pieces].map(|pieces| {
            let mut told = Told { left: sent.as_bytes(), pieces, reads: 0, answers: Vec::new() };
            let all = std::cell::RefCell::new(Vec::new());
            let limits = Limits { request: Duration::from_secs(60), ..limits() };
            serve_connection(&mut told, PEER, &limits, &|| false, &|request| {
                all.borrow_mut().push(request.clone());
                echo(request)
            });
            let answers = String::from_utf8_lossy(&told.answers).into_owned();
            let statuses: Vec<_> =
                answers.match_indices("HTTP/1.1 ").map(|(at, _)| answers[at + 9..at + 12].to_owned()).collect();
            let good = statuses.iter().take_while(|status| *status == "200").count();
            let all = all.into_inner();
            assert_eq!(good, all.len(), "case {case}: {sent:?}");
            assert!(statuses.len() - good <= 1, "case {case}: {sent:?}: {statuses:?}");
            (all, statuses.len() - good)
        });
        assert!(seen[0] == seen[1] && seen[1] == seen[2], "case {case}: {sent:?}: {seen:#?}");
        taken += seen[0].0.len();
        refused += seen[0].1;
    }
    assert!(taken > 2000 && refused > 2000, "{taken} {refused}");
}
