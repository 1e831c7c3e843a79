//! Upgraded connections, end to end.

use std::convert::Infallible;

use hyper::{server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;

use super::*;

const ATTACH: &str =
    "POST /containers/x/attach?stream=1 HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n\r\n";
const UPGRADED: &str =
    "HTTP/1.1 101 UPGRADED\r\nContent-Type: application/vnd.docker.raw-stream\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n\r\n";

/// A user's end of a connection whose requests are passed to `client`.
fn user(client: Client) -> UnixStream {
    let (user, here) = UnixStream::pair().unwrap();
    tokio::spawn(async move {
        let service = service_fn(move |request| {
            let client = client.clone();
            async move { Ok::<_, Infallible>(hijack(&client, request).await.unwrap()) }
        });
        let _ = http1::Builder::new().serve_connection(TokioIo::new(here), service).with_upgrades().await;
    });
    user
}

async fn attach(client: Client) -> UnixStream {
    let mut user = user(client);
    say(&mut user, ATTACH).await;
    let head = head(&mut user).await.to_lowercase();
    assert!(head.starts_with("http/1.1 101 "), "{head}");
    assert!(head.contains("content-type: application/vnd.docker.raw-stream\r\n"), "{head}");
    assert!(head.contains("connection: upgrade\r\n") && head.contains("upgrade: tcp\r\n"), "{head}");
    user
}

/// `echo … | docker run -i … sort`: the container hears that there is no more input, and answers after that.
#[test]
fn the_end_of_input_reaches_the_container_while_output_goes_on() {
    run(async {
        let (_folder, client, _) = engine(|_, mut stream| async move {
            let head = head(&mut stream).await.to_lowercase();
            assert!(head.contains("connection: upgrade\r\n") && head.contains("upgrade: tcp\r\n"), "{head}");
            say(&mut stream, UPGRADED).await;
            say(&mut stream, "ready\n").await;
            let mut input = String::new();
            stream.read_to_string(&mut input).await.unwrap();
            sleep(Duration::from_millis(100)).await;
            say(&mut stream, &input.to_uppercase()).await;
        });
        let mut user = attach(client).await;
        let mut first = [0; 6];
        user.read_exact(&mut first).await.unwrap();
        assert_eq!(&first, b"ready\n");
        say(&mut user, "some words").await;
        user.shutdown().await.unwrap();
        let mut output = String::new();
        user.read_to_string(&mut output).await.unwrap();
        assert_eq!(output, "SOME WORDS");
    });
}

/// The other way round: a container that ended its output may still take input.
#[test]
fn the_end_of_output_reaches_the_user_while_input_goes_on() {
    run(async {
        let (heard, mut hears) = tokio::sync::mpsc::channel(1);
        let (_folder, client, _) = engine(move |_, mut stream| {
            let heard = heard.clone();
            async move {
                head(&mut stream).await;
                say(&mut stream, UPGRADED).await;
                stream.shutdown().await.unwrap();
                let mut input = String::new();
                stream.read_to_string(&mut input).await.unwrap();
                heard.send(input).await.unwrap();
            }
        });
        let mut user = attach(client).await;
        assert_eq!(user.read(&mut [0; 1]).await.unwrap(), 0);
        say(&mut user, "late words").await;
        drop(user);
        assert_eq!(hears.recv().await.as_deref(), Some("late words"));
    });
}

#[test]
fn words_come_one_by_one() {
    run(async {
        let (_folder, client, _) = engine(|_, mut stream| async move {
            head(&mut stream).await;
            say(&mut stream, UPGRADED).await;
            let mut byte = [0; 1];
            while stream.read_exact(&mut byte).await.is_ok() {
                stream.write_all(&byte).await.unwrap();
            }
        });
        let mut user = attach(client).await;
        for key in b"ls -l\x04" {
            user.write_all(&[*key]).await.unwrap();
            assert_eq!(user.read_u8().await.unwrap(), *key);
        }
    });
}

#[test]
fn an_engine_that_dies_ends_the_session() {
    run(async {
        let (_folder, client, _) = engine(|_, mut stream| async move {
            head(&mut stream).await;
            say(&mut stream, UPGRADED).await;
            say(&mut stream, "half a wo").await;
        });
        let mut user = attach(client).await;
        let mut output = String::new();
        user.read_to_string(&mut output).await.unwrap();
        assert_eq!(output, "half a wo");
        // Nobody takes input any more: the connection breaks, rather than swallow it for ever.
        while user.write_all(&[7; 4096]).await.is_ok() {
            sleep(Duration::from_millis(1)).await;
        }
    });
}

/// BuildKit's session: HTTP/2 after the upgrade, megabytes both ways at once.
#[test]
fn both_ways_at_once_without_a_limit() {
    const MUCH: usize = 16 << 20;
    run(async {
        let (_folder, client, _) = engine(|_, mut stream| async move {
            let head = head(&mut stream).await.to_lowercase();
            assert!(head.contains("upgrade: h2c\r\n") && head.contains("x-docker-expose-session-uuid: 7\r\n"), "{head}");
            say(&mut stream, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n").await;
            let (mut read, mut write) = stream.split();
            let copied = tokio::io::copy(&mut read, &mut write).await.unwrap();
            assert_eq!(copied, MUCH as u64);
        });
        let mut user = user(client);
        say(
            &mut user,
            "POST /session HTTP/1.1\r\nHost: x\r\nConnection: upgrade\r\nUpgrade: h2c\r\nX-Docker-Expose-Session-Uuid: 7\r\n\r\n",
        )
        .await;
        assert!(head(&mut user).await.starts_with("HTTP/1.1 101 "));
        let (mut read, mut write) = user.split();
        let sending = async {
            for part in 0..MUCH / 65536 {
                write.write_all(&[part as u8; 65536]).await.unwrap();
            }
            write.shutdown().await.unwrap();
        };
        let hearing = async {
            let mut all = Vec::new();
            read.read_to_end(&mut all).await.unwrap();
            all
        };
        let ((), all) = tokio::join!(sending, hearing);
        assert_eq!(all.len(), MUCH);
        assert!(all.chunks(65536).enumerate().all(|(part, chunk)| chunk.iter().all(|&byte| byte == part as u8)));
    });
}

#[test]
fn an_engine_that_refuses_is_heard_and_the_connection_goes_on() {
    run(async {
        let (_folder, client, _) = engine(|_, mut stream| async move {
            while !head(&mut stream).await.is_empty() {
                say(&mut stream, "HTTP/1.1 409 Conflict\r\nContent-Length: 13\r\n\r\n{\"message\":7}").await;
            }
        });
        let mut user = user(client);
        for _ in 0..2 {
            say(&mut user, ATTACH).await;
            assert!(head(&mut user).await.starts_with("HTTP/1.1 409 Conflict\r\n"));
            let mut body = [0; 13];
            user.read_exact(&mut body).await.unwrap();
            assert_eq!(&body, b"{\"message\":7}");
        }
    });
}

/// Whoever did not ask for an upgrade gets the stream as an answer (`docker-py`, old programs), and sees when it is cut.
#[test]
fn raw_streams_without_an_upgrade() {
    run(async {
        let (_folder, client, _) = engine(|_, mut stream| async move {
            let head = head(&mut stream).await.to_lowercase();
            assert!(!head.contains("upgrade"), "{head}");
            say(&mut stream, "HTTP/1.1 200 OK\r\nContent-Type: application/vnd.docker.raw-stream\r\n\r\nsome").await;
            sleep(Duration::from_millis(50)).await;
            say(&mut stream, " output").await;
        });
        let mut user = user(client);
        say(&mut user, "POST /containers/x/attach HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n").await;
        let mut all = String::new();
        let mut bytes = [0; 512];
        while !all.contains("output") {
            let count = user.read(&mut bytes).await.unwrap();
            assert_ne!(count, 0, "{all}");
            all += std::str::from_utf8(&bytes[..count]).unwrap();
        }
        assert!(all.starts_with("HTTP/1.1 200 OK\r\n"), "{all}");
    });
}
