//! The paper's second use case, as the files on the card say.

use std::{
    collections::BTreeMap,
    net::Ipv4Addr,
    path::Path,
    process::Command,
    sync::{Arc, Mutex},
    thread,
    time::{Duration, Instant},
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    runtime::Runtime,
    task::JoinHandle,
    time::{interval, timeout},
};

use super::{
    dns,
    host::{Host, enter, run, until},
};

/// What is laid into every card.
const OVERLAY: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../overlays/common/usr/share");
/// Requests are sent so far apart: 50 a second.
const APART: Duration = Duration::from_millis(20);

/// HAProxy 3.0 as the manifest makes it, for this machine's processor.
fn haproxy(host: &Host) {
    let root = run(concat!(env!("CARGO_MANIFEST_DIR"), "/../scripts/haproxy"), &[]);
    let users =
        "echo root:x:0:0:root:/root:/bin/sh >etc/passwd; echo haproxy:x:99:99:HAProxy:/var/lib/haproxy:/bin/false >>etc/passwd
        echo root:x:0: >etc/group; echo haproxy:x:99: >>etc/group";
    let fill = format!("cp -a {root}/. .; ln -s usr/lib lib; ln -s usr/lib64 lib64; mkdir -p etc var/lib/haproxy\n{users}");
    let changes = [r#"ENTRYPOINT ["/usr/sbin/haproxy"]"#, r#"CMD ["-W", "-db", "-f", "/etc/haproxy/haproxy.cfg"]"#];
    host.image("hcl/haproxy:3.0", &fill, &changes);
}

/// Compose 2.26, as on a card.
fn compose(host: &Host, arguments: &str) {
    let programs = run(concat!(env!("CARGO_MANIFEST_DIR"), "/../scripts/docker-cli"), &[]);
    let output = Command::new(Path::new(&programs).join("docker-compose"))
        .current_dir(Path::new(OVERLAY).join("hcl/demo/loadbalancing_with_haproxy"))
        .args(["-p", "loadbalancing"])
        .args(arguments.split_whitespace())
        .env_remove("DOCKER_TLS_VERIFY")
        .env("DOCKER_HOST", format!("unix://{}", host.socket().display()))
        .output()
        .unwrap();
    assert!(output.status.success(), "{arguments}\n{}", String::from_utf8_lossy(&output.stderr));
}

/// One request as a browser sends it, without its connection being kept: the page, or what went wrong.
async fn fetch(address: Ipv4Addr) -> Result<String, String> {
    let exchange = async {
        let mut stream = TcpStream::connect((address, 80)).await?;
        stream.write_all(b"GET / HTTP/1.1\r\nHost: master.local\r\nConnection: close\r\n\r\n").await?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await?;
        Ok::<_, std::io::Error>(answer)
    };
    let answer = timeout(Duration::from_secs(20), exchange)
        .await
        .map_err(|error| error.to_string())?
        .map_err(|error| error.to_string())?;
    match answer.split_once("\r\n\r\n") {
        Some((head, page)) if head.starts_with("HTTP/1.1 200 ") && page.trim_end().ends_with("</h1>") => {
            Ok(page.trim().to_owned())
        }
        _ => Err(answer),
    }
}

/// What came of each request: when it was sent, and the page.
type Log = Arc<Mutex<Vec<(Instant, Result<String, String>)>>>;

struct Load {
    log: Log,
    task: JoinHandle<()>,
}

impl Load {
    fn start(runtime: &Runtime, address: Ipv4Addr) -> Self {
        let log = Log::default();
        let kept = log.clone();
        let task = runtime.spawn(async move {
            let mut ticks = interval(APART);
            loop {
                ticks.tick().await;
                let log = kept.clone();
                tokio::spawn(async move {
                    let sent = Instant::now();
                    let page = fetch(address).await;
                    log.lock().unwrap().push((sent, page));
                });
            }
        });
        Self { log, task }
    }

    /// How many answered with each page since then; and what went wrong.
    fn since(&self, since: Instant) -> (BTreeMap<String, usize>, Vec<String>) {
        let (mut pages, mut wrong) = (BTreeMap::new(), Vec::new());
        for (_, page) in self.log.lock().unwrap().iter().filter(|(sent, _)| *sent >= since) {
            match page {
                Ok(page) => *pages.entry(page.clone()).or_default() += 1,
                Err(error) => wrong.push(error.clone()),
            }
        }
        (pages, wrong)
    }
}

#[test]
fn ten_web_servers_behind_one_address() {
    let runtime = enter();
    let mut host = Host::new();
    host.start_consul();
    // The engine sees the card's files where they are on a card.
    host.start_engine(&format!("mount -t overlay overlay -o lowerdir={OVERLAY}:/usr/share /usr/share;"));
    haproxy(&host);
    host.start_join(&runtime);
    compose(&host, "up -d");
    let address = host.address();
    until("a page", || runtime.block_on(fetch(address)).ok());

    let load = Load::start(&runtime, address);
    let all = Instant::now();
    compose(&host, "scale demo-hostname=10");
    let scaled = Instant::now();
    let registered = dns::ports("demo-hostname").len();
    let (_, took) = until("ten pages", || (load.since(scaled).0.len() == 10).then_some(()));
    eprintln!("figure: ten containers answer {took:?} after `scale` returned, {registered} of them were in Consul by then");
    assert!(took < Duration::from_secs(10), "{took:?}");
    assert_eq!(dns::ports("demo-hostname").len(), 10);
    // Consul gives three to who does not say that more fit.
    assert_eq!(dns::ask("_demo-hostname._tcp.service.consul", None).unwrap().len(), 3);

    // One after the other.
    let steady = Instant::now();
    thread::sleep(Duration::from_secs(4));
    let (pages, _) = load.since(steady);
    let (least, most) = (pages.values().min().unwrap(), pages.values().max().unwrap());
    assert!(pages.len() == 10 && most - least <= 3, "{pages:?}");

    // Fewer of them.
    compose(&host, "scale demo-hostname=7");
    let fewer = Instant::now();
    thread::sleep(Duration::from_secs(3));
    let (pages, _) = load.since(fewer);
    assert_eq!(pages.len(), 7, "{pages:?}");
    let (pages, wrong) = load.since(all);
    eprintln!(
        "figure: {} requests while 1, 10, 7 containers answered, {} of them failed",
        pages.values().sum::<usize>(),
        wrong.len()
    );
    assert_eq!(wrong, [""; 0]);

    // One goes without a word.
    let killed = Instant::now();
    let one = host.docker(&["ps", "-q", "--filter", "label=com.docker.compose.service=demo-hostname", "-n", "1"]);
    host.docker(&["update", "--restart", "no", &one]);
    host.docker(&["kill", &one]);
    thread::sleep(Duration::from_secs(4));
    let (pages, wrong) = load.since(killed);
    eprintln!("figure: one of seven was killed: {} requests, {} of them failed", pages.values().sum::<usize>(), wrong.len());
    // What is half sent cannot be asked anew.
    assert!(wrong.len() <= 2, "{wrong:?}");
    load.task.abort();
    compose(&host, "down");
    assert_eq!(dns::ports("demo-hostname"), [0; 0]);
    host.stop_join(&runtime);
}
