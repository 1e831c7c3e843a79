//! Engines behind mutual TLS.

use std::{net::Ipv4Addr, path::Path};

use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

use super::{certificates::*, *};

const HERE: Ipv4Addr = Ipv4Addr::LOCALHOST;

/// An engine at 127.0.0.1 with the certificates of `folder`; its answer is always the same.
async fn serve(folder: &Path) -> Endpoint {
    let acceptor = TlsAcceptor::from(super::super::tls::from_nodes(folder).unwrap());
    let listener = TcpListener::bind((HERE, 0)).await.unwrap();
    let std::net::SocketAddr::V4(address) = listener.local_addr().unwrap() else { unreachable!() };
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let acceptor = acceptor.clone();
            tokio::spawn(async move {
                let Ok(mut stream) = acceptor.accept(stream).await else { return };
                assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"http/1.1"[..]));
                head(&mut stream).await;
                say(&mut stream, "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\ntrue").await;
                stream.shutdown().await.unwrap();
            });
        }
    });
    Endpoint::Tls(address)
}

fn asking(folder: &Path, endpoint: Endpoint) -> Client {
    Client::new("node-1", endpoint, Some(super::super::tls::to_nodes(folder).unwrap()))
}

#[test]
fn nodes_believe_each_other() {
    run(async {
        let trust = trust(1);
        let (there, here) = (folder(&trust, HERE), folder(&trust, [127, 0, 0, 2].into()));
        let endpoint = serve(there.path()).await;
        assert_eq!(endpoint.address(), HERE);
        assert!(asking(here.path(), endpoint).read::<bool>("/x").await.unwrap());
    });
}

#[test]
fn and_nobody_else() {
    run(async {
        let (ours, theirs) = (trust(1), trust(2));
        let (here, other) = (folder(&ours, HERE), folder(&theirs, HERE));
        let elsewhere = folder(&ours, [127, 0, 0, 9].into());
        // A node of another cluster; the right cluster's node at another address.
        for (folder, why) in [(&other, "UnknownIssuer"), (&elsewhere, "not valid for name")] {
            let endpoint = serve(folder.path()).await;
            let error = asking(here.path(), endpoint.clone()).read::<bool>("/x").await.unwrap_err();
            assert!(error.to_string().starts_with(&format!("node-1 ({endpoint}): TLS: ")), "{error}");
            assert!(error.to_string().contains(why) && error.is_unreached(), "{error}");
        }
        // A user shows its certificate to the nodes' listener, which says so after the handshake (RFC 8446 section 4.4.2.4).
        let endpoint = serve(here.path()).await;
        for shown in [Some(user(&ours, "gordon", 7)), None] {
            let client = Client::new("node-1", endpoint.clone(), Some(config(&ours, shown.as_ref())));
            client.read::<bool>("/x").await.unwrap_err();
        }
        // Nothing to show at all.
        let error = Client::new("node-1", endpoint, None).read::<bool>("/x").await.unwrap_err();
        assert!(error.to_string().contains("--tls"), "{error}");
    });
}

#[test]
fn nobody_at_the_address() {
    run(async {
        let here = folder(&trust(1), HERE);
        let listener = TcpListener::bind((HERE, 0)).await.unwrap();
        let std::net::SocketAddr::V4(address) = listener.local_addr().unwrap() else { unreachable!() };
        drop(listener);
        let error = asking(here.path(), Endpoint::Tls(address)).read::<bool>("/x").await.unwrap_err();
        assert!(error.to_string().contains("cannot connect: Connection refused"), "{error}");
    });
}

/// It is there, and says nothing: what a node is like that has no power, as far as handshakes go.
#[test]
fn a_handshake_has_a_limit() {
    run(async {
        tokio::time::pause();
        let here = folder(&trust(1), HERE);
        let listener = TcpListener::bind((HERE, 0)).await.unwrap();
        let std::net::SocketAddr::V4(address) = listener.local_addr().unwrap() else { unreachable!() };
        let error = asking(here.path(), Endpoint::Tls(address)).read::<bool>("/x").await.unwrap_err();
        assert!(error.to_string().ends_with("cannot connect: no answer within 5 s"), "{error}");
    });
}

#[test]
fn files_that_do_not_do() {
    let trust = trust(1);
    let damage: [(&str, Option<&str>, &str); 4] = [
        ("nodes-ca.pem", None, "No such file"),
        ("nodes-ca.pem", Some("hello\n"), "there is no certificate in it"),
        ("node-key.pem", Some("hello\n"), ""),
        ("node.pem", Some(&trust.nodes.certificate_pem()), ""),
    ];
    for (name, text, why) in damage {
        let folder = folder(&trust, HERE);
        match text {
            Some(text) => write(folder.path(), name, text),
            None => std::fs::remove_file(folder.path().join(name)).unwrap(),
        }
        let error = super::super::tls::to_nodes(folder.path()).unwrap_err();
        assert_eq!(error.file, folder.path().join(name).display().to_string());
        assert!(error.why.contains(why), "{error}");
    }
}
