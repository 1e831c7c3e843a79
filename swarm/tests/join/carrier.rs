//! The engine's socket at the node's address.

use std::{
    fs,
    io::{Read, Write},
    path::Path,
    process::{Command, Stdio},
    sync::Arc,
    time::{Duration, Instant},
};

use hcl_firstboot::{
    identity::NodeId,
    key::ClusterKey,
    trust::{NodeNames, Trust, UserName, Validity},
};
use hcl_swarm::{join::carrier::Carrier, local::Socket, transport::tls};
use rustls::{
    ClientConfig, RootCertStore,
    pki_types::{CertificateDer, PrivateKeyDer, ServerName, pem::PemObject},
};
use sha2::{Digest, Sha256};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, split},
    net::{TcpListener, TcpStream, UnixListener},
    runtime::Runtime,
    time::{sleep, timeout},
};
use tokio_rustls::{TlsConnector, client::TlsStream};

use super::{
    agent::LIMIT,
    host::{Host, IMAGE, enter},
};

const REQUEST: &[u8] = b"GET /_ping HTTP/1.1\r\nHost: x\r\n\r\n";

async fn connect(host: &Host, config: Arc<ClientConfig>) -> std::io::Result<TlsStream<TcpStream>> {
    let begin = Instant::now();
    let stream = loop {
        match TcpStream::connect((host.address(), 2376)).await {
            Ok(stream) => break stream,
            Err(error) => assert!(begin.elapsed() < LIMIT, "{error}"),
        }
        sleep(Duration::from_millis(20)).await;
    };
    TlsConnector::from(config).connect(ServerName::IpAddress(host.address().into()), stream).await
}

/// As a node.
async fn node(host: &Host) -> TlsStream<TcpStream> {
    connect(host, tls::to_nodes(&host.at("tls")).unwrap()).await.unwrap()
}

/// Sends `length` bytes and ends its way, while it reads to the end of the other.
async fn exchange<S: AsyncRead + AsyncWrite + Send + 'static>(stream: S, seed: u8, length: usize) -> (Digests, usize) {
    let (mut read, mut write) = split(stream);
    let sending = tokio::spawn(async move {
        let mut sent = Sha256::new();
        let mut block = vec![0; 61_000];
        let mut left = length;
        let mut state = u64::from(seed) + 1;
        while left > 0 {
            for word in block.chunks_exact_mut(8) {
                // xorshift64
                state ^= state << 13;
                state ^= state >> 7;
                state ^= state << 17;
                word.copy_from_slice(&state.to_le_bytes());
            }
            let now = left.min(block.len());
            write.write_all(&block[..now]).await.unwrap();
            sent.update(&block[..now]);
            left -= now;
        }
        write.shutdown().await.unwrap();
        // Dropped half by half, the whole would be closed with the last.
        (sent.finalize().to_vec(), write)
    });
    let (mut came, mut total) = (Sha256::new(), 0);
    let mut block = vec![0; 50_000];
    loop {
        let now = read.read(&mut block).await.unwrap();
        if now == 0 {
            break;
        }
        total += now;
        came.update(&block[..now]);
    }
    let (sent, _write) = sending.await.unwrap();
    (Digests { sent, came: came.finalize().to_vec() }, total)
}

struct Digests {
    sent: Vec<u8>,
    came: Vec<u8>,
}

/// Half a gigabyte each way at once, where nothing else stands on the other end.
#[test]
fn streams_are_whole_and_end_one_way_at_a_time() {
    const LENGTH: usize = 500_000_000;
    let runtime = enter();
    let host = Host::new();
    let listener = runtime.block_on(async { UnixListener::bind(host.socket()) }).unwrap();
    // Without the registrar, which has its own questions for an engine.
    let carrier = Carrier::new(tls::from_nodes(&host.at("tls")).unwrap(), Socket::new(host.socket()), "node-1");
    let outside = runtime.block_on(TcpListener::bind((host.address(), 2376))).unwrap();
    let carrying = runtime.spawn(async move { carrier.run(outside).await });
    runtime.block_on(async {
        let engine = tokio::spawn(async move {
            let (stream, _) = listener.accept().await.unwrap();
            (exchange(stream, 1, LENGTH).await, listener)
        });
        let begin = Instant::now();
        let (ours, came) = exchange(node(&host).await, 2, LENGTH).await;
        let ((theirs, went), listener) = engine.await.unwrap();
        eprintln!("figure: {LENGTH} bytes each way in {:?}", begin.elapsed());
        assert_eq!((came, went), (LENGTH, LENGTH));
        assert!(ours.sent == theirs.came && theirs.sent == ours.came);

        // What one side says after the other has ended its way arrives.
        let mut stream = node(&host).await;
        stream.write_all(b"asked").await.unwrap();
        stream.shutdown().await.unwrap();
        let (mut engine, _) = timeout(LIMIT, listener.accept()).await.unwrap().unwrap();
        let mut asked = Vec::new();
        timeout(LIMIT, engine.read_to_end(&mut asked)).await.unwrap().unwrap();
        assert_eq!(asked, b"asked");
        sleep(Duration::from_millis(200)).await;
        engine.write_all(b"answered").await.unwrap();
        drop(engine);
        let mut answer = Vec::new();
        timeout(LIMIT, stream.read_to_end(&mut answer)).await.unwrap().unwrap();
        assert_eq!(answer, b"answered");

        // And the other way round.
        let mut stream = node(&host).await;
        stream.write_all(b"a").await.unwrap();
        let (mut engine, _) = timeout(LIMIT, listener.accept()).await.unwrap().unwrap();
        engine.shutdown().await.unwrap();
        let mut nothing = Vec::new();
        timeout(LIMIT, stream.read_to_end(&mut nothing)).await.unwrap().unwrap();
        assert_eq!(nothing, b"");
        stream.write_all(b"bc").await.unwrap();
        stream.shutdown().await.unwrap();
        let mut asked = Vec::new();
        timeout(LIMIT, engine.read_to_end(&mut asked)).await.unwrap().unwrap();
        assert_eq!(asked, b"abc");

        // One that breaks is no end: half an answer is no answer.
        let mut stream = node(&host).await;
        stream.write_all(b"a").await.unwrap();
        let (mut engine, _) = timeout(LIMIT, listener.accept()).await.unwrap().unwrap();
        engine.write_all(b"half").await.unwrap();
        let mut half = [0; 4];
        stream.read_exact(&mut half).await.unwrap();
        // Closed with something unread, a unix socket gives a reset.
        stream.write_all(b"unread").await.unwrap();
        sleep(Duration::from_millis(200)).await;
        drop(engine);
        let broken = timeout(LIMIT, stream.read_to_end(&mut Vec::new())).await.unwrap();
        assert!(broken.is_err(), "{broken:?}");

        // Who reads slowly slows down who writes: what is on its way is no more than buffers hold.
        let mut stream = node(&host).await;
        stream.write_all(b"a").await.unwrap();
        let (mut engine, _) = timeout(LIMIT, listener.accept()).await.unwrap().unwrap();
        let block = vec![0; 1 << 20];
        let mut taken = 0;
        while timeout(Duration::from_secs(1), engine.write_all(&block)).await.is_ok() {
            taken += block.len();
            assert!(taken < 100 << 20, "{taken} bytes, and nobody reads");
        }
    });
    carrying.abort();
}

#[test]
fn an_engine_that_is_away_is_told() {
    let runtime = enter();
    let mut host = Host::new();
    host.start_join(&runtime);
    let answer = runtime.block_on(async {
        let mut stream = node(&host).await;
        stream.write_all(REQUEST).await.unwrap();
        let mut answer = String::new();
        timeout(LIMIT, stream.read_to_string(&mut answer)).await.unwrap().unwrap();
        answer
    });
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    assert!(head.starts_with("HTTP/1.1 503 "), "{head}");
    assert!(head.contains(&format!("Content-Length: {}", body.len())), "{head}");
    let message = serde_json::from_str::<serde_json::Value>(body).unwrap()["message"].to_string();
    assert!(message.contains("the engine of node-1 does not answer") && message.contains("docker.sock"), "{message}");
    // One that has no address to listen at waits for it; one that cannot read its files says which.
    let mut options = host.options();
    options.listen.set_ip("192.168.200.77".parse().unwrap());
    let waits = runtime
        .block_on(async { timeout(Duration::from_millis(300), hcl_swarm::join::run(options, std::future::pending())).await });
    assert!(waits.is_err(), "{waits:?}");
    let mut options = host.options();
    options.tls = host.at("nowhere");
    let error = runtime.block_on(hcl_swarm::join::run(options, std::future::pending())).unwrap_err().to_string();
    assert!(error.contains("nowhere/nodes-ca.pem") && !error.contains('\n'), "{error}");
    let taken = runtime.block_on(hcl_swarm::join::run(host.options(), std::future::pending())).unwrap_err().to_string();
    assert!(taken.contains(&format!("{}:2376", host.address())), "{taken}");
    host.stop_join(&runtime);
}

/// Whoever shows this, with the roots of the cluster.
fn showing(host: &Host, certificate: &str, key: &str) -> Arc<ClientConfig> {
    let mut roots = RootCertStore::empty();
    let authority = fs::read(host.at("tls/nodes-ca.pem")).unwrap();
    roots.add(CertificateDer::from_pem_slice(&authority).unwrap()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots);
    if certificate.is_empty() {
        return Arc::new(config.with_no_client_auth());
    }
    let chain = vec![CertificateDer::from_pem_slice(certificate.as_bytes()).unwrap()];
    let key = PrivateKeyDer::from_pem_slice(key.as_bytes()).unwrap();
    Arc::new(config.with_client_auth_cert(chain, key).unwrap())
}

/// Whether anything comes of asking.
async fn gets_an_answer(host: &Host, config: Arc<ClientConfig>) -> bool {
    let Ok(mut stream) = connect(host, config).await else { return false };
    // A client of TLS 1.3 hears of a refusal when it reads.
    let _ = stream.write_all(REQUEST).await;
    let mut answer = [0; 1];
    matches!(timeout(LIMIT, stream.read(&mut answer)).await.unwrap(), Ok(1))
}

#[test]
fn only_nodes_are_let_in() {
    let runtime = enter();
    let mut host = Host::new();
    // Says how often anybody came as far as the engine.
    let listener = runtime.block_on(async { UnixListener::bind(host.socket()) }).unwrap();
    let reached = Arc::new(std::sync::atomic::AtomicUsize::new(0));
    let count = reached.clone();
    runtime.spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut request = [0; 1024];
            // The registrar's own questions come on the same socket.
            let length = stream.read(&mut request).await.unwrap_or(0);
            if request[..length].starts_with(b"GET /_ping") {
                count.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
                let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nOK").await;
            }
        }
    });
    host.start_join(&runtime);

    let trust = Trust::new(&host.lab.key);
    let other = Trust::new(&ClusterKey::new([0x55; 32]));
    let names = NodeNames::new(NodeId([2; 16]), host.lab.address(2), "node-2").unwrap();
    let user = trust.users.issue(&"anna".parse::<UserName>().unwrap(), Validity::LIFE, &[1; 32]);
    let stranger = other.nodes.issue(&names, Validity::LIFE, &[2; 32]);
    let consul = trust.consul.issue(hcl_firstboot::trust::ConsulRole::Server, host.address(), &[3; 32]);
    let member = trust.nodes.issue(&names, Validity::LIFE, &[4; 32]);
    let over = trust.nodes.issue(&names, Validity { from: 0, until: 86_400 }, &[5; 32]);
    let ask = |certificate: &str, key: &str| runtime.block_on(gets_an_answer(&host, showing(&host, certificate, key)));
    assert!(ask(&member.certificate_pem(), &member.key_pem()));
    let table = [
        ("none", String::new(), String::new()),
        ("a user's", user.certificate_pem(), user.key_pem()),
        ("another cluster's", stranger.certificate_pem(), stranger.key_pem()),
        ("Consul's", consul.certificate_pem(), consul.key_pem()),
        ("one that is over", over.certificate_pem(), over.key_pem()),
    ];
    for (what, certificate, key) in table {
        assert!(!ask(&certificate, &key), "{what}");
    }
    // Words in the clear.
    let clear = runtime.block_on(async {
        let mut stream = TcpStream::connect((host.address(), 2376)).await.unwrap();
        stream.write_all(REQUEST).await.unwrap();
        let mut answer = Vec::new();
        let _ = timeout(LIMIT, stream.read_to_end(&mut answer)).await.unwrap();
        answer
    });
    // At most an alert of TLS.
    assert!(clear.len() <= 7, "{}", String::from_utf8_lossy(&clear));
    assert_eq!(reached.load(std::sync::atomic::Ordering::SeqCst), 1);

    // Those who say nothing are put out after a while.
    runtime.block_on(async {
        let mut silent = Vec::new();
        for _ in 0..40 {
            silent.push(TcpStream::connect((host.address(), 2376)).await.unwrap());
        }
        for stream in &mut silent {
            let mut answer = Vec::new();
            let _ = timeout(LIMIT, stream.read_to_end(&mut answer)).await.expect("silence is put out");
        }
    });
    assert!(ask(&member.certificate_pem(), &member.key_pem()));
    host.stop_join(&runtime);
}

/// Docker's own command line through the carrier, with a node's certificate.
#[test]
fn the_engine_behind_it() {
    let runtime: Runtime = enter();
    let mut host = Host::new();
    host.start_engine("");
    host.start_join(&runtime);
    let folder = host.docker_certificates();
    let docker = |arguments: &[&str], input: &[u8]| {
        let mut child = docker(&host, &folder).args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let mut stdin = child.stdin.take().unwrap();
        std::thread::scope(|scope| {
            scope.spawn(move || stdin.write_all(input).unwrap());
            let mut said = String::new();
            child.stdout.take().unwrap().read_to_string(&mut said).unwrap();
            assert!(child.wait().unwrap().success(), "{arguments:?}: {said}");
            said
        })
    };
    assert_eq!(docker(&["version", "-f", "{{.Server.Os}}"], b"").trim(), "linux");
    // The container's input ends when ours does, and its output comes after that.
    let input: Vec<u8> = (0..20_000_000_u32).map(|number| (number >> 3) as u8).collect();
    let said = docker(&["run", "--rm", "-i", IMAGE, "sha256sum"], &input);
    let expected: String = Sha256::digest(&input).iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!(said.split_whitespace().next().unwrap(), expected);
    host.stop_join(&runtime);
}

fn docker(host: &Host, folder: &Path) -> Command {
    let mut command = Command::new("docker");
    command
        .env_remove("DOCKER_CONTEXT")
        .env("DOCKER_HOST", format!("tcp://{}:2376", host.address()))
        .env("DOCKER_TLS_VERIFY", "1")
        .env("DOCKER_CERT_PATH", folder);
    command
}
