//! Against sockets: scripted engines that say byte for byte what a test needs.

pub(crate) mod certificates;
mod hijacking;
mod tls;

use std::{
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use http::{Method, Request, StatusCode, Uri};
use http_body_util::BodyExt as _;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _},
    net::{UnixListener, UnixStream},
    time::{sleep, timeout},
};

use super::*;

/// Nothing here takes longer.
pub(crate) const LIMIT: Duration = Duration::from_secs(20);

/// Runs `test` with a limit.
pub(crate) fn run(test: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async { timeout(LIMIT, test).await.expect("in time") });
}

/// Everything up to the empty line.
pub(crate) async fn head(stream: &mut (impl AsyncRead + Unpin)) -> String {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        match stream.read_u8().await {
            Ok(byte) => head.push(byte),
            Err(_) => return String::new(),
        }
    }
    String::from_utf8(head).unwrap()
}

fn client(path: &Path) -> Client {
    Client::new("node-1", Endpoint::Unix(path.to_owned()), None)
}

fn get(path: &str) -> Request<Body> {
    let mut request = Request::new(empty());
    *request.uri_mut() = path.parse().unwrap();
    request
}

/// A socket on which each connection is given to `serve`, with its number.
fn engine<F>(serve: impl Fn(usize, UnixStream) -> F + Send + 'static) -> (TempDir, Client, Arc<AtomicUsize>)
where
    F: Future<Output = ()> + Send + 'static,
{
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("engine");
    let listener = UnixListener::bind(&path).unwrap();
    let count = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&count);
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(serve(counted.fetch_add(1, Ordering::SeqCst), stream));
        }
    });
    (folder, client(&path), count)
}

async fn say(stream: &mut (impl AsyncWrite + Unpin), text: &str) {
    stream.write_all(text.as_bytes()).await.unwrap();
}

#[test]
fn where_an_engine_is() {
    assert_eq!("unix:///run/docker.sock".parse(), Ok(Endpoint::Unix("/run/docker.sock".into())));
    assert_eq!("tls://192.168.200.12:2376".parse(), Ok(Endpoint::Tls("192.168.200.12:2376".parse().unwrap())));
    for bad in [
        "",
        "unix://",
        "unix://run/docker.sock",
        "tls://node-1:2376",
        "tls://[::1]:2376",
        "tcp://1.2.3.4:2375",
        "/run/docker.sock",
    ] {
        let error = bad.parse::<Endpoint>().unwrap_err();
        assert!(error.contains("unix:///PATH or tls://A.B.C.D:PORT"), "{error}");
    }
}

#[test]
fn one_connection_serves_many_requests() {
    run(async {
        let (_folder, client, connections) = engine(|_, mut stream| async move {
            while !head(&mut stream).await.is_empty() {
                say(&mut stream, "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n{\"a\": [7]}").await;
            }
        });
        for _ in 0..5 {
            assert_eq!(client.read::<Value>("/info").await.unwrap(), json!({ "a": [7] }));
            // Its driver has a moment to see that it is ready.
            sleep(Duration::from_millis(20)).await;
        }
        assert_eq!(connections.load(Ordering::SeqCst), 1);
    });
}

#[test]
fn a_connection_that_ended_while_it_waited_is_replaced() {
    run(async {
        let (_folder, client, connections) = engine(|_, mut stream| async move {
            head(&mut stream).await;
            let mut body = [0; 9];
            stream.read_exact(&mut body).await.unwrap();
            assert_eq!(&body, b"{\"n\":[1]}");
            // Ended right after the answer, without a word about it.
            say(&mut stream, "HTTP/1.1 201 Created\r\nContent-Length: 2\r\n\r\n{}").await;
        });
        for made in 1..=5 {
            let answer = client.json(Method::POST, "/containers/create", Some(&json!({ "n": [1] }))).await.unwrap();
            assert_eq!(answer, (StatusCode::CREATED, json!({})));
            assert_eq!(connections.load(Ordering::SeqCst), made, "sent once");
        }
    });
}

#[test]
fn what_is_between_two_ends_stays_there() {
    run(async {
        let (_folder, client, _) = engine(|_, mut stream| async move {
            let head = head(&mut stream).await.to_lowercase();
            let answer = json!(head).to_string();
            let text = format!(
                "HTTP/1.1 200 OK\r\nKeep-Alive: 5\r\nX-Docker: yes\r\nTransfer-Encoding: chunked\r\n\r\n{:x}\r\n{answer}\r\n0\r\n\r\n",
                answer.len()
            );
            say(&mut stream, &text).await;
        });
        let mut request = get("https://master:2378/v1.45/info?x=%2F");
        for (name, value) in
            [("connection", "keep-alive, x"), ("te", "trailers"), ("host", "master:2378"), ("x-registry-auth", "e30=")]
        {
            request.headers_mut().insert(name, value.parse().unwrap());
        }
        let response = client.send(request).await.unwrap();
        assert_eq!(response.headers().keys().collect::<Vec<_>>(), ["x-docker"]);
        let head: String = serde_json::from_slice(&response.into_body().collect().await.unwrap().to_bytes()).unwrap();
        assert!(head.starts_with("get /v1.45/info?x=%2f http/1.1\r\n"), "{head}");
        assert!(head.contains("host: docker\r\n") && head.contains("x-registry-auth: e30=\r\n"), "{head}");
        assert!(!head.contains("connection:") && !head.contains("te:"), "{head}");
    });
}

#[test]
fn an_answer_that_breaks_off_is_an_error() {
    for (what, cut) in [
        ("in the head", "HTTP/1.1 200 OK\r\nContent-"),
        ("before a chunk", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\n\"ab\"\r\n"),
        ("in a chunk", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n9\r\n\"ab\""),
        ("in a body", "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n\"ab\""),
        ("before it", ""),
    ] {
        run(async move {
            let (_folder, client, _) = engine(move |_, mut stream| async move {
                head(&mut stream).await;
                say(&mut stream, cut).await;
            });
            let error = client.read::<Value>("/images/json").await.unwrap_err().to_string();
            assert!(error.starts_with("node-1 (unix://") && error.contains("GET /images/json: "), "{what}: {error}");
        });
    }
}

#[test]
fn refusals_and_nonsense() {
    let answer = |status: &str, body: &str| format!("HTTP/1.1 {status}\r\nContent-Length: {}\r\n\r\n{body}", body.len());
    for (answer, expected) in [
        (answer("404 Not Found", "{\"message\":\"No such container: x\"}"), "GET /x: 404: No such container: x"),
        (answer("503 Unavailable", "the engine\n is away"), "GET /x: 503: the engine is away"),
        (answer("200 OK", "[1"), "GET /x: EOF while parsing a list"),
        ("SSH-2.0-OpenSSH_9.2p1\r\n\r\n".to_owned(), "GET /x: invalid HTTP version parsed"),
    ] {
        run(async move {
            let (_folder, client, _) = engine(move |_, mut stream| {
                let answer = answer.clone();
                async move {
                    head(&mut stream).await;
                    say(&mut stream, &answer).await;
                }
            });
            let error = client.read::<Vec<u8>>("/x").await.unwrap_err();
            assert!(error.to_string().contains(expected), "{error}");
            assert!(!error.is_unreached());
        });
    }
}

#[test]
fn nobody_there() {
    run(async {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("engine");
        let error = client(&path).read::<Value>("/info").await.unwrap_err();
        assert!(error.is_unreached());
        let expected = format!("node-1 (unix://{}): cannot connect: No such file or directory (os error 2)", path.display());
        assert_eq!(error.to_string(), expected);
        assert!(client(&path).send(get("/info")).await.unwrap_err().is_unreached());
    });
}

/// An answer whose reader has no room for more holds the engine back, and one that is dropped ends the engine's part.
#[test]
fn back_pressure() {
    run(async {
        let written = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&written);
        let (_folder, client, _) = engine(move |_, mut stream| {
            let written = Arc::clone(&counted);
            async move {
                head(&mut stream).await;
                say(&mut stream, "HTTP/1.1 200 OK\r\nContent-Length: 1000000000\r\n\r\n").await;
                while stream.write_all(&[7; 4096]).await.is_ok() {
                    written.fetch_add(4096, Ordering::SeqCst);
                }
                written.store(usize::MAX, Ordering::SeqCst);
            }
        });
        let mut body = client.send(get("/images/get")).await.unwrap().into_body();
        let first = body.frame().await.unwrap().unwrap().into_data().unwrap();
        assert!(!first.is_empty());
        sleep(Duration::from_millis(300)).await;
        let before = written.load(Ordering::SeqCst);
        assert!(before < 2 << 20, "{before} bytes of a stream that nobody reads");
        sleep(Duration::from_millis(300)).await;
        assert_eq!(written.load(Ordering::SeqCst), before, "it waits");
        drop(body);
        while written.load(Ordering::SeqCst) != usize::MAX {
            sleep(Duration::from_millis(10)).await;
        }
    });
}

/// Whoever no longer waits for an answer takes the connection away, as one who hangs up on `docker wait`.
#[test]
fn hanging_up() {
    run(async {
        let (gone, mut seen) = tokio::sync::mpsc::channel(1);
        let (_folder, client, _) = engine(move |_, mut stream| {
            let gone = gone.clone();
            async move {
                head(&mut stream).await;
                let end = stream.read(&mut [0; 1]).await;
                gone.send(end.unwrap_or_default()).await.unwrap();
            }
        });
        let waiting = tokio::spawn(async move { client.send(get("/containers/x/wait")).await.map(drop) });
        sleep(Duration::from_millis(100)).await;
        waiting.abort();
        assert_eq!(seen.recv().await, Some(0));
    });
}

#[test]
fn paths_that_are_none() {
    run(async {
        let client = client(Path::new("/nowhere"));
        for bad in ["", "with space", "/%\u{7f}", "\r\n"] {
            let error = client.json(Method::GET, bad, None).await.unwrap_err();
            assert!(error.to_string().contains("this is no path"), "{bad:?}: {error}");
        }
        assert!(wants(&[("connection", "keep-alive, Upgrade"), ("upgrade", "tcp")]));
        assert!(!wants(&[("connection", "upgrade")]) && !wants(&[("upgrade", "tcp")]) && !wants(&[]));
    });
}

fn wants(headers: &[(&'static str, &'static str)]) -> bool {
    let header = |(name, value): &(&'static str, &str)| (http::HeaderName::from_static(name), value.parse().unwrap());
    wants_upgrade(&headers.iter().map(header).collect())
}

#[test]
fn the_client_does_not_panic_on_a_path_without_slash() {
    run(async {
        let mut request = Request::new(empty());
        *request.uri_mut() = Uri::from_static("master:2378");
        *request.method_mut() = Method::CONNECT;
        assert!(client(Path::new("/nowhere")).send(request).await.unwrap_err().is_unreached());
    });
}
