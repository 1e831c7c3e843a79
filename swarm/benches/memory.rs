//! How much memory `hcl-swarm manage` needs: 1,000 containers on three engines, and a hundred engines with ten containers each.
//!
//! The engines are played in this process, behind TLS as nodes carry them; `manage` is the real program, as `cargo bench` builds it.
//! Prints a table, and fails above 20 MB.

#![cfg(target_os = "linux")]

use std::{
    convert::Infallible,
    fs,
    net::{Ipv4Addr, SocketAddr},
    path::Path,
    process::{Child, Command},
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use hcl_firstboot::{
    identity::NodeId,
    key::ClusterKey,
    trust::{NodeNames, Trust, Validity},
};
use http::{Request, Response};
use http_body_util::{BodyExt as _, Empty, Full, combinators::UnsyncBoxBody};
use hyper::{body::Incoming, client, server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use rustls::{
    ClientConfig, RootCertStore, ServerConfig,
    crypto::ring,
    pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer, ServerName},
    server::WebPkiClientVerifier,
};
use serde_json::{Value, json};
use tokio::{
    net::{TcpListener, TcpStream},
    time::sleep,
};
use tokio_rustls::{TlsAcceptor, TlsConnector};

const HERE: Ipv4Addr = Ipv4Addr::LOCALHOST;
/// Longer than two times that everything is asked for.
const WATCHED: Duration = Duration::from_secs(75);
/// How often containers are listed.
const LISTS: usize = 50;
/// In KB.
const MOST: u64 = 20_000;

fn main() {
    // `cargo test --benches` and the like only want to know that it builds.
    if !std::env::args().any(|argument| argument == "--bench") {
        return;
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    println!(
        "| engines | containers | all known after | resident | after {} s | after {LISTS} lists | most ever |",
        WATCHED.as_secs()
    );
    println!("| --- | --- | --- | --- | --- | --- | --- |");
    let most = [(3, 1000), (100, 1000)].map(|(engines, containers)| runtime.block_on(measure(engines, containers)));
    assert!(most.iter().all(|most| *most <= MOST), "more than {MOST} KB: {most:?}");
}

async fn measure(engines: usize, containers: usize) -> u64 {
    let trust = Trust::new(&ClusterKey::new([7; 32]));
    let folder = tempfile::tempdir().unwrap();
    certificates(&trust, folder.path());
    let mut command = Command::new(env!("CARGO_BIN_EXE_hcl-swarm"));
    let port = TcpListener::bind((HERE, 0)).await.unwrap().local_addr().unwrap().port();
    let common = format!("manage --listen {HERE}:{port} --name node-0 --address {HERE} --master node-0 --tls");
    command.args(common.split(' ')).arg(folder.path());
    for number in 0..engines {
        let count = containers / engines + usize::from(number < containers % engines);
        let address = engine(&trust, number, count).await;
        command.arg("--engine").arg(format!("node-{number}=tls://{address}"));
    }
    let began = Instant::now();
    let mut program = Program(command.spawn().unwrap());
    let address = SocketAddr::from((HERE, port));
    while list(&trust, address).await.unwrap_or_default() < containers {
        assert!(began.elapsed() < Duration::from_secs(120), "not all containers are known after two minutes");
        sleep(Duration::from_millis(100)).await;
    }
    let known = began.elapsed();
    let first = program.memory("VmRSS");
    sleep(WATCHED).await;
    let later = program.memory("VmRSS");
    for _ in 0..LISTS {
        assert_eq!(list(&trust, address).await, Some(containers));
    }
    let (last, most) = (program.memory("VmRSS"), program.memory("VmHWM"));
    let known = known.as_secs_f32();
    println!("| {engines} | {containers} | {known:.1} s | {first} KB | {later} KB | {last} KB | {most} KB |");
    last
}

/// Ends with this value.
struct Program(Child);

impl Program {
    /// In KB.
    fn memory(&mut self, what: &str) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.0.id())).unwrap();
        let line = status.lines().find(|line| line.starts_with(what)).unwrap();
        line.split_whitespace().nth(1).unwrap().parse().unwrap()
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// What `manage` has. It shows users a node's certificate: all are at one address here.
fn certificates(trust: &Trust, folder: &Path) {
    let names = NodeNames::new(NodeId([1; 16]), HERE, "node-0").unwrap();
    let own = trust.nodes.issue(&names, Validity::LIFE, &[1; 32]);
    let write = |name: &str, text: String| fs::write(folder.join(name), text).unwrap();
    write("nodes-ca.pem", trust.nodes.certificate_pem());
    write("users-ca.pem", trust.users.certificate_pem());
    for name in ["node", "server"] {
        write(&format!("{name}.pem"), own.certificate_pem());
        write(&format!("{name}-key.pem"), own.key_pem());
    }
}

/// How many containers a user is shown; none while nobody answers.
async fn list(trust: &Trust, address: SocketAddr) -> Option<usize> {
    let issued = trust.users.issue(&"gordon".parse().unwrap(), Validity::LIFE, &[2; 32]);
    let mut roots = RootCertStore::empty();
    roots.add(trust.nodes.certificate().to_vec().into()).unwrap();
    let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_client_auth_cert(vec![issued.certificate().to_vec().into()], key(issued.key()))
        .unwrap();
    let name = ServerName::IpAddress(std::net::IpAddr::V4(HERE).into());
    let stream = TcpStream::connect(address).await.ok()?;
    let stream = TlsConnector::from(Arc::new(config)).connect(name, stream).await.ok()?;
    let (mut sender, connection) = client::conn::http1::handshake(TokioIo::new(stream)).await.ok()?;
    tokio::spawn(connection);
    let mut request = Request::new(Empty::<Bytes>::new());
    *request.uri_mut() = "/containers/json?all=1".parse().unwrap();
    request.headers_mut().insert("host", "master".parse().unwrap());
    let body = sender.send_request(request).await.ok()?.into_body().collect().await.ok()?.to_bytes();
    serde_json::from_slice::<Vec<Value>>(&body).ok().map(|list| list.len())
}

fn key(der: &[u8]) -> PrivateKeyDer<'static> {
    PrivatePkcs8KeyDer::from(der.to_vec()).into()
}

/// An engine as `hcl-swarm join` carries it.
async fn engine(trust: &Trust, number: usize, containers: usize) -> SocketAddr {
    let provider = Arc::new(ring::default_provider());
    let mut roots = RootCertStore::empty();
    roots.add(trust.nodes.certificate().to_vec().into()).unwrap();
    let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider)).build().unwrap();
    let names = NodeNames::new(NodeId([1; 16]), HERE, "node-0").unwrap();
    let own = trust.nodes.issue(&names, Validity::LIFE, &[1; 32]);
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_client_cert_verifier(verifier)
        .with_single_cert(vec![own.certificate().to_vec().into()], key(own.key()))
        .unwrap();
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind((HERE, 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    let lists = Arc::new(Lists::new(number, containers));
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let (acceptor, lists) = (acceptor.clone(), Arc::clone(&lists));
            tokio::spawn(async move {
                let Ok(stream) = acceptor.accept(stream).await else { return };
                let service = service_fn(|request: Request<Incoming>| {
                    let body = lists.answer(request.uri().path());
                    async move { Ok::<_, Infallible>(Response::new(body)) }
                });
                let _ = http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
            });
        }
    });
    address
}

/// What an engine says, as long as a real one does.
struct Lists {
    info: Bytes,
    containers: Bytes,
    details: Bytes,
    images: Bytes,
    networks: Bytes,
}

impl Lists {
    fn new(engine: usize, containers: usize) -> Self {
        let id = |number: usize| format!("{engine:032x}{number:032x}");
        let labels = |number: usize| {
            json!({
                "com.docker.compose.config-hash": id(number), "com.docker.compose.container-number": "1",
                "com.docker.compose.depends_on": "", "com.docker.compose.image": format!("sha256:{}", id(1)),
                "com.docker.compose.oneoff": "False", "com.docker.compose.project": "loadbalancing",
                "com.docker.compose.project.config_files": "/home/pirate/loadbalancing/docker-compose.yml",
                "com.docker.compose.project.working_dir": "/home/pirate/loadbalancing",
                "com.docker.compose.service": "demo-hostname", "com.docker.compose.version": "2.26.1"
            })
        };
        let container = |number: usize| {
            json!({
                "Id": id(number), "Names": [format!("/loadbalancing-demo-hostname-{engine}-{number}")],
                "Image": "hypriot/rpi-nano-httpd", "ImageID": format!("sha256:{}", id(1)), "Command": "/bin/httpd -p 80 -h /www",
                "Created": 1_790_000_000 + number, "State": "running", "Status": "Up 3 hours", "Labels": labels(number),
                "Ports": [{ "IP": "0.0.0.0", "PrivatePort": 80, "PublicPort": 32768 + number, "Type": "tcp" }],
                "HostConfig": { "NetworkMode": "loadbalancing_default" }, "Mounts": [],
                "NetworkSettings": { "Networks": { "loadbalancing_default": {
                    "IPAMConfig": null, "Links": null, "Aliases": null, "MacAddress": "02:42:0a:00:01:05", "NetworkID": id(2),
                    "EndpointID": id(3), "Gateway": "", "IPAddress": "10.0.1.5", "IPPrefixLen": 24, "IPv6Gateway": "",
                    "GlobalIPv6Address": "", "GlobalIPv6PrefixLen": 0, "DriverOpts": null, "DNSNames": null
                } } }
            })
        };
        let image = |number: usize| {
            json!({
                "Id": format!("sha256:{}", id(number)), "ParentId": "", "RepoTags": [format!("hypriot/image-{number}:latest")],
                "RepoDigests": [format!("hypriot/image-{number}@sha256:{}", id(number))], "Created": 1_790_000_000, "Size": 4_000_000,
                "SharedSize": -1, "VirtualSize": 4_000_000, "Labels": { "org.opencontainers.image.version": "1.0" }, "Containers": -1
            })
        };
        let network = |number: usize| {
            json!({
                "Name": format!("network-{number}"), "Id": id(number), "Created": "2026-11-24T00:00:00.000000000Z", "Scope": "local",
                "Driver": "bridge", "EnableIPv6": false, "IPAM": { "Driver": "default", "Options": null, "Config": [{ "Subnet": "172.18.0.0/16", "Gateway": "172.18.0.1" }] },
                "Internal": false, "Attachable": false, "Ingress": false, "ConfigFrom": { "Network": "" }, "ConfigOnly": false,
                "Containers": {}, "Options": {}, "Labels": {}
            })
        };
        let info = json!({
            "ID": id(0), "Name": format!("node-{engine}"), "NCPU": 4, "MemTotal": 1_u64 << 30, "OSType": "linux", "Driver": "overlay2",
            "KernelVersion": "6.12.57+deb13-arm64", "OperatingSystem": "Debian GNU/Linux 13 (trixie)", "Architecture": "aarch64",
            "Labels": ["hypriot.arch=armv7l", "hypriot.hierarchy=follower"], "ServerVersion": "26.1.5",
            "Swarm": { "NodeID": id(4), "LocalNodeState": "active", "ControlAvailable": engine < 3 }
        });
        let details = json!({
            "State": { "StartedAt": "2026-11-24T00:00:00.000000000Z", "FinishedAt": "0001-01-01T00:00:00Z", "ExitCode": 0 },
            "HostConfig": { "Memory": 0, "NanoCpus": 0, "CpuShares": 0, "PortBindings": { "80/tcp": [{ "HostIp": "", "HostPort": "" }] } },
            "Config": { "ExposedPorts": { "80/tcp": {} } }
        });
        Self {
            info: info.to_string().into(),
            containers: (0..containers).map(container).collect::<Value>().to_string().into(),
            details: details.to_string().into(),
            images: (0..10).map(image).collect::<Value>().to_string().into(),
            networks: (0..6).map(network).collect::<Value>().to_string().into(),
        }
    }

    fn answer(&self, path: &str) -> UnsyncBoxBody<Bytes, Infallible> {
        let bytes = match path {
            "/events" => return Silent.boxed_unsync(),
            "/info" => self.info.clone(),
            "/version" => Bytes::from_static(br#"{"ApiVersion":"1.45","MinAPIVersion":"1.24"}"#),
            "/containers/json" => self.containers.clone(),
            "/images/json" => self.images.clone(),
            "/networks" => self.networks.clone(),
            "/volumes" => Bytes::from_static(br#"{"Volumes":[],"Warnings":null}"#),
            path if path.ends_with("/json") => self.details.clone(),
            _ => Bytes::from_static(b"OK"),
        };
        Full::new(bytes).boxed_unsync()
    }
}

/// A stream in which nothing happens.
struct Silent;

impl hyper::body::Body for Silent {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        self: std::pin::Pin<&mut Self>,
        _: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<Result<hyper::body::Frame<Bytes>, Infallible>>> {
        std::task::Poll::Pending
    }
}
