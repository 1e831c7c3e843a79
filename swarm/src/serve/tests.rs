//! Real TLS: who gets in, and what becomes of connections.

use std::{
    collections::BTreeMap,
    net::{Ipv4Addr, SocketAddr},
    pin::pin,
};

use hcl_firstboot::trust::Issued;
use http::StatusCode;
use tempfile::TempDir;
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWriteExt as _},
    net::{UnixListener, UnixStream},
    sync::mpsc,
    time::Instant,
};
use tokio_rustls::{TlsConnector, client::TlsStream as Shown};

use super::*;
use crate::{
    transport::{
        self, Client, Endpoint, hijack,
        tests::{certificates, head, run},
        tls,
    },
    users::Rule,
};

const HERE: Ipv4Addr = Ipv4Addr::LOCALHOST;

/// Tells who asks; passes upgrades and what begins with `/pass` on to an engine; takes its time for `/slow`.
#[derive(Clone)]
struct Echo(Client);

impl Handler for Echo {
    async fn handle(&self, user: User, request: Request<Incoming>) -> Response<Body> {
        if transport::wants_upgrade(request.headers()) || request.uri().path().starts_with("/pass") {
            return hijack(&self.0, request).await.unwrap();
        }
        if request.uri().path() == "/slow" {
            sleep(Duration::from_millis(500)).await;
        }
        let body = if request.method() == http::Method::HEAD { String::new() } else { user.name };
        Response::new(transport::full(body))
    }
}

struct Server {
    address: SocketAddr,
    users: Arc<Users>,
    stop: watch::Sender<bool>,
    ended: mpsc::Receiver<()>,
    engine: mpsc::Receiver<UnixStream>,
    _folders: [TempDir; 2],
}

impl Server {
    /// A server of the cluster 1 with an engine whose connections come out of `engine`.
    async fn start() -> Self {
        let folder = certificates::folder(&certificates::trust(1), HERE);
        let listener = TcpListener::bind((HERE, 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let users = Users::new();
        users.set_rules(BTreeMap::new());
        let (stop, stopped) = watch::channel(false);
        let sockets = tempfile::tempdir().unwrap();
        let path = sockets.path().join("engine");
        let connections = UnixListener::bind(&path).unwrap();
        let (comes, engine) = mpsc::channel(8);
        tokio::spawn(async move {
            while let Ok((stream, _)) = connections.accept().await {
                comes.send(stream).await.unwrap();
            }
        });
        let handler = Echo(Client::new("node-1", Endpoint::Unix(path), None));
        let tls = tls::to_users(folder.path()).unwrap();
        let (end, ended) = mpsc::channel(1);
        let serving = serve(listener, tls, Arc::clone(&users), handler, stopped);
        tokio::spawn(async move {
            serving.await;
            let _ = end.send(()).await;
        });
        Self { address, users, stop, ended, engine, _folders: [folder, sockets] }
    }

    async fn connect(&self, shown: Option<&Issued>) -> io::Result<Shown<TcpStream>> {
        let config = certificates::config(&certificates::trust(1), shown);
        let name = rustls::pki_types::ServerName::IpAddress(std::net::IpAddr::V4(HERE).into());
        TlsConnector::from(config).connect(name, TcpStream::connect(self.address).await?).await
    }

    async fn gordon(&self) -> Shown<TcpStream> {
        self.connect(Some(&certificates::user(&certificates::trust(1), "gordon", 1))).await.unwrap()
    }

    fn remove(&self, name: &str) {
        let rule = Rule { removed: true, kept: Vec::new() };
        self.users.set_rules([(name.to_owned(), rule)].into());
    }
}

/// One exchange: the status, and the body where there is one.
async fn ask(
    stream: &mut (impl AsyncRead + tokio::io::AsyncWrite + Unpin),
    method: &str,
    path: &str,
) -> io::Result<(StatusCode, String)> {
    stream.write_all(format!("{method} {path} HTTP/1.1\r\nHost: master\r\n\r\n").as_bytes()).await?;
    let head = head(stream).await;
    if head.is_empty() {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    let status = head[9..12].parse().unwrap();
    let length = head.to_lowercase().lines().find_map(|line| line.strip_prefix("content-length: ").map(|n| n.parse().unwrap()));
    let mut body = vec![0; if method == "HEAD" { 0 } else { length.unwrap_or_default() }];
    stream.read_exact(&mut body).await?;
    Ok((status, String::from_utf8(body).unwrap()))
}

/// An open session between a user and its engine.
async fn shell(server: &mut Server) -> (Shown<TcpStream>, UnixStream) {
    let mut user = server.gordon().await;
    let text = "POST /exec/x/start HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n\r\n{}";
    user.write_all(text.as_bytes()).await.unwrap();
    let mut engine = server.engine.recv().await.unwrap();
    assert!(head(&mut engine).await.to_lowercase().contains("content-length: 2\r\n"));
    engine.read_exact(&mut [0; 2]).await.unwrap();
    engine.write_all(b"HTTP/1.1 101 UPGRADED\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n\r\n").await.unwrap();
    assert!(head(&mut user).await.starts_with("HTTP/1.1 101"));
    (user, engine)
}

#[test]
fn users_are_known_by_name() {
    run(async {
        let server = Server::start().await;
        let mut stream = server.gordon().await;
        for method in ["GET", "POST", "HEAD"] {
            let (status, body) = ask(&mut stream, method, "/x").await.unwrap();
            assert_eq!((status, body.as_str()), (StatusCode::OK, if method == "HEAD" { "" } else { "gordon" }));
        }
    });
}

#[test]
fn everybody_else_is_refused() {
    run(async {
        let server = Server::start().await;
        let (ours, theirs) = (certificates::trust(1), certificates::trust(2));
        let nobody = [
            None,
            Some(certificates::node(&ours, HERE)),
            Some(certificates::user(&theirs, "gordon", 1)),
            // The authority itself is no user.
            Some(certificates::node(&theirs, HERE)),
        ];
        for shown in &nobody {
            let refused = async {
                let mut stream = server.connect(shown.as_ref()).await?;
                // The server's word comes after the client's part of the handshake (RFC 8446 section 4.4.2.4).
                stream.write_all(b"GET /x HTTP/1.1\r\nHost: x\r\n\r\n").await?;
                stream.read_u8().await
            };
            let error = refused.await.unwrap_err().to_string();
            assert!(
                error.contains("alert") || error.contains("closed") || error.contains("reset") || error.contains("pipe"),
                "{error}"
            );
        }
        // And in the clear nobody gets a word of HTTP.
        let mut plain = TcpStream::connect(server.address).await.unwrap();
        plain.write_all(b"GET /x HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap();
        let mut said = Vec::new();
        let _ = plain.read_to_end(&mut said).await;
        assert!(!said.starts_with(b"HTTP"), "{said:?}");
    });
}

#[test]
fn a_removed_user_hears_so_for_every_method() {
    run(async {
        let server = Server::start().await;
        server.remove("gordon");
        for method in ["GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "PATCH"] {
            let (status, body) = ask(&mut server.gordon().await, method, "/v1.45/containers/json").await.unwrap();
            assert_eq!(status, StatusCode::FORBIDDEN);
            let expected = "{\"message\":\"user gordon was removed: ask for a new certificate (hcl user add gordon)\"}\n";
            assert_eq!(body, if method == "HEAD" { "" } else { expected });
        }
        // Others, and those whom the name was given again.
        let mut ada = server.connect(Some(&certificates::user(&certificates::trust(1), "ada", 2))).await.unwrap();
        assert_eq!(ask(&mut ada, "GET", "/x").await.unwrap().1, "ada");
        server.users.set_rules(BTreeMap::new());
        assert_eq!(ask(&mut server.gordon().await, "GET", "/x").await.unwrap().1, "gordon");
    });
}

#[test]
fn nobody_gets_in_while_the_rules_are_unknown() {
    run(async {
        let folder = certificates::folder(&certificates::trust(1), HERE);
        let listener = TcpListener::bind((HERE, 0)).await.unwrap();
        let mut server = Server::start().await;
        server.address = listener.local_addr().unwrap();
        let handler = Echo(Client::new("node-1", Endpoint::Unix("/nowhere".into()), None));
        tokio::spawn(serve(listener, tls::to_users(folder.path()).unwrap(), Users::new(), handler, server.stop.subscribe()));
        let (status, body) = ask(&mut server.gordon().await, "GET", "/x").await.unwrap();
        assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE);
        assert!(body.contains("its Consul does not answer"), "{body}");
    });
}

/// Whoever is removed loses what is under way: an open shell too.
#[test]
fn removal_ends_connections_and_streams() {
    run(async {
        let mut server = Server::start().await;
        let mut idle = server.gordon().await;
        assert_eq!(ask(&mut idle, "GET", "/x").await.unwrap().0, StatusCode::OK);
        let (mut shell, mut engine) = shell(&mut server).await;
        server.remove("gordon");
        for stream in [&mut idle, &mut shell] {
            // No end that TLS has for what is complete.
            assert_eq!(stream.read_u8().await.unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
        }
        let mut rest = Vec::new();
        engine.read_to_end(&mut rest).await.unwrap();
    });
}

/// `docker run -i … < file` over TLS: the end of the input goes through, and the output comes after it.
#[test]
fn half_close_over_tls() {
    run(async {
        let mut server = Server::start().await;
        let (mut user, mut engine) = shell(&mut server).await;
        user.write_all(b"input").await.unwrap();
        user.shutdown().await.unwrap();
        let mut input = String::new();
        engine.read_to_string(&mut input).await.unwrap();
        assert_eq!(input, "input");
        engine.write_all(b"output").await.unwrap();
        drop(engine);
        let mut output = String::new();
        user.read_to_string(&mut output).await.unwrap();
        assert_eq!(output, "output", "and its end is one that TLS knows");
    });
}

/// An engine that dies in the middle of `docker logs -f` or `docker save`: the client must not take the rest for the end.
#[test]
fn a_stream_that_is_cut_is_not_complete() {
    run(async {
        let mut server = Server::start().await;
        let mut user = server.gordon().await;
        user.write_all(b"GET /pass/logs HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap();
        let mut engine = server.engine.recv().await.unwrap();
        head(&mut engine).await;
        engine.write_all(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nline\n\r\n").await.unwrap();
        assert!(head(&mut user).await.to_lowercase().contains("transfer-encoding: chunked\r\n"));
        // Each line comes when it is there.
        let mut line = [0; 10];
        user.read_exact(&mut line).await.unwrap();
        assert_eq!(&line, b"5\r\nline\n\r\n");
        drop(engine);
        let mut rest = Vec::new();
        let end = user.read_to_end(&mut rest).await;
        assert!(end.is_err() && rest.is_empty(), "{end:?} {rest:?}");
    });
}

#[test]
fn the_end_waits_for_what_is_under_way() {
    run(async {
        let mut server = Server::start().await;
        let (mut slow, mut idle) = (server.gordon().await, server.gordon().await);
        assert_eq!(ask(&mut idle, "GET", "/x").await.unwrap().0, StatusCode::OK);
        let asked = Instant::now();
        let mut answer = pin!(ask(&mut slow, "GET", "/slow"));
        assert!(timeout(Duration::from_millis(100), answer.as_mut()).await.is_err());
        server.stop.send_replace(true);
        assert_eq!(answer.await.unwrap(), (StatusCode::OK, "gordon".to_owned()));
        assert_eq!(idle.read(&mut [0; 1]).await.unwrap(), 0, "an idle one ends at once, in order");
        server.ended.recv().await.unwrap();
        assert!(asked.elapsed() < Duration::from_secs(3), "{:?}", asked.elapsed());
        assert!(TcpStream::connect(server.address).await.is_err());
    });
}

#[test]
fn the_end_does_not_wait_for_ever() {
    run(async {
        let mut server = Server::start().await;
        let (mut shell, mut engine) = shell(&mut server).await;
        server.stop.send_replace(true);
        shell.write_all(b"still here").await.unwrap();
        engine.read_exact(&mut [0; 10]).await.unwrap();
        tokio::time::pause();
        let began = Instant::now();
        server.ended.recv().await.unwrap();
        assert!(began.elapsed() <= GRACE + Duration::from_millis(10), "{:?}", began.elapsed());
    });
}

/// Those who never say who they are do not keep out those who do.
#[test]
fn silence_keeps_nobody_out() {
    run(async {
        let server = Server::start().await;
        let mut silent = Vec::new();
        for _ in 0..HANDSHAKES / 2 {
            silent.push(TcpStream::connect(server.address).await.unwrap());
        }
        let mut user = server.gordon().await;
        assert_eq!(ask(&mut user, "GET", "/x").await.unwrap().0, StatusCode::OK);
        // One too many is sent away, and the users that are in stay.
        for _ in 0..HANDSHAKES {
            silent.push(TcpStream::connect(server.address).await.unwrap());
        }
        assert_eq!(ask(&mut user, "GET", "/x").await.unwrap().0, StatusCode::OK);
    });
}
