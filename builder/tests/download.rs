//! Downloads against a server that fails in every way we could think of.

#[path = "common/web.rs"]
mod web;

use std::{
    fs,
    io::Write,
    process::{Command, Stdio},
    sync::{Arc, OnceLock},
    time::Duration,
};

use hcl_image::{
    cache::{Cache, Entry},
    progress::{Mode, Reporter},
    source::download::{Downloads, Origin, Patience, Request},
    units::{Bytes, Digest},
};
use proptest::prelude::*;
use web::{Asked, Reply, Web};

/// A raw image of 3 MiB of which half is zero.
fn image() -> &'static [u8] {
    static IMAGE: OnceLock<Vec<u8>> = OnceLock::new();
    IMAGE.get_or_init(|| {
        let mut state = 7u64;
        let mut next = || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 57) as u8
        };
        let blocks = (0..3 << 8).map(|block| if block % 2 == 0 { vec![0; 4096] } else { (0..4096).map(|_| next()).collect() });
        blocks.flatten().collect()
    })
}

fn packed() -> Arc<Vec<u8>> {
    static PACKED: OnceLock<Arc<Vec<u8>>> = OnceLock::new();
    PACKED
        .get_or_init(|| {
            let mut encoder = zstd::Encoder::new(Vec::new(), 1).expect("an encoder");
            encoder.include_checksum(true).expect("an option");
            encoder.write_all(image()).expect("memory");
            Arc::new(encoder.finish().expect("memory"))
        })
        .clone()
}

fn patience() -> Patience {
    Patience { connect: Duration::from_secs(20), silence: Duration::from_secs(20), retries: 5, pause: Duration::from_millis(1) }
}

struct Bench {
    folder: tempfile::TempDir,
    patience: Patience,
    largest: Bytes,
}

impl Bench {
    fn new() -> Self {
        Self { folder: tempfile::tempdir().expect("a folder"), patience: patience(), largest: Bytes(1 << 30) }
    }

    fn downloads(&self) -> Downloads {
        let cache = Cache::open(Some(self.folder.path())).expect("a cache");
        Downloads::new(&cache, &Reporter::new(Mode::Quiet)).limits(self.patience.clone(), self.largest)
    }

    fn image(&self, url: &str, body: &[u8]) -> Result<Entry, String> {
        self.downloads().image(&request(url, body)).map_err(|error| hcl_image::error::one_line(&error))
    }

    fn file(&self, url: &str, body: &[u8]) -> Result<Entry, String> {
        self.downloads().file(&request(url, body)).map_err(|error| hcl_image::error::one_line(&error))
    }

    /// Nothing stands under the name of an entry.
    fn assert_no_entry(&self) {
        for kind in ["base", "download"] {
            for file in fs::read_dir(self.folder.path().join(kind)).into_iter().flatten() {
                let path = file.expect("a file").path();
                let name = path.file_name().and_then(|name| name.to_str()).expect("text");
                assert!([".lock", ".download", ".download.json"].iter().any(|end| name.ends_with(end)), "{name} is left");
            }
        }
    }
}

fn request(url: &str, body: &[u8]) -> Request {
    Request { origin: Origin::parse(url).expect("an origin"), sha256: Digest::of(body), size: None }
}

fn assert_image(entry: &Entry) {
    assert!(fs::read(&entry.path).expect("readable") == image());
    assert_eq!(entry.content, Some(Digest::of(image())));
}

#[test]
fn an_image_is_downloaded_once() {
    let (bench, packed) = (Bench::new(), packed());
    let web = Web::of(&packed);
    let entry = bench.image(&web.url("/lab.img.zst"), &packed).expect("downloaded");
    assert_image(&entry);
    assert_eq!(entry.facts["format"], "zstd");
    assert_eq!(entry.facts["sha256"], Digest::of(&packed).to_string());
    assert_image(&bench.image(&web.url("/lab.img.zst"), &packed).expect("cached"));
    assert_eq!(web.seen().len(), 1);
    // What it came from is gone; the raw image is all that is kept, and sparse.
    use std::os::unix::fs::MetadataExt;
    let left: Vec<_> = fs::read_dir(bench.folder.path().join("download")).expect("a folder").flatten().collect();
    assert!(left.iter().all(|file| file.path().extension().is_some_and(|extension| extension == "lock")), "{left:?}");
    assert!(fs::metadata(&entry.path).expect("metadata").blocks() * 512 < 2 << 20);
}

#[test]
fn a_file_is_kept_as_it_is() {
    let (bench, packed) = (Bench::new(), packed());
    let web = Web::of(&packed);
    let entry = bench.file(&web.url("/a"), &packed).expect("downloaded");
    assert!(fs::read(&entry.path).expect("readable") == *packed);
    assert_eq!(bench.file(&web.url("/a"), &packed).expect("cached").path, entry.path);
    // The image is then made of it, without the network.
    assert_image(&bench.image(&web.url("/a"), &packed).expect("unpacked"));
    assert_eq!(web.seen().len(), 1);
}

#[test]
fn local_files_serve_too() {
    let (bench, packed) = (Bench::new(), packed());
    let path = bench.folder.path().join("a b.img");
    fs::write(&path, &*packed).expect("room");
    let entry = bench.image(&format!("file://{}", path.display().to_string().replace(' ', "%20")), &packed).expect("unpacked");
    assert_image(&entry);
    let entry = bench.file(path.to_str().expect("text"), &packed).expect("copied");
    assert!(fs::read(&entry.path).expect("readable") == *packed);

    let bench = Bench::new();
    for (path, body, says) in [
        (path.to_str().expect("text"), &b"other"[..], "SHA-256 mismatch"),
        ("/nowhere/at/all", b"", "opening /nowhere/at/all"),
        ("/", b"", "is not a file"),
    ] {
        let error = bench.image(path, body).expect_err("refused");
        assert!(error.contains(says), "{error}");
        bench.assert_no_entry();
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]
    /// Wherever and however often the connection is cut, and whether or not the server can resume, the right bytes
    /// come out or a clear error, and then a further run ends well.
    #[test]
    fn cuts_do_no_harm(
        cuts in prop::collection::vec((any::<prop::sample::Index>(), any::<bool>(), any::<bool>()), 0..9),
        as_image in any::<bool>(),
        etag in any::<bool>(),
    ) {
        let (bench, packed) = (Bench::new(), packed());
        let (body, faults) = (packed.clone(), cuts.clone());
        let web = Web::start(move |asked| {
            let mut reply = Reply::good(&body);
            if !etag {
                reply.etag = None;
            }
            if let Some((at, ignore_range, no_length)) = faults.get(asked.number) {
                reply.cut_after = Some(at.index(body.len()));
                reply.ignore_range = *ignore_range;
                // A cut without a length looks like the end: the digest refuses that.
                reply.no_length = *no_length;
            }
            reply
        });
        let get = || if as_image { bench.image(&web.url("/x"), &packed) } else { bench.file(&web.url("/x"), &packed) };
        // One request a try at least, so that this ends.
        let entry = (0..=cuts.len()).find_map(|_| match get() {
            Ok(entry) => Some(entry),
            Err(error) => {
                bench.assert_no_entry();
                assert!(["cut", "mismatch", "too early", "changes"].iter().any(|says| error.contains(says)), "{error}");
                None
            }
        });
        let entry = entry.expect("it ends well at last");
        if as_image {
            assert_image(&entry);
        } else {
            prop_assert!(fs::read(&entry.path)? == *packed);
        }
    }
}

#[test]
fn only_the_rest_is_asked_for() {
    let (bench, packed) = (Bench::new(), packed());
    let body = packed.clone();
    let web = Web::start(move |asked| Reply { cut_after: (asked.number < 3).then_some(100_000), ..Reply::good(&body) });
    assert_image(&bench.image(&web.url("/x"), &packed).expect("downloaded"));
    let from: Vec<_> = web.seen().iter().map(|asked| asked.from).collect();
    assert_eq!(from, [None, Some(100_000), Some(200_000), Some(300_000)]);
    assert_eq!(web.seen()[1].if_range.as_deref(), Some("\"one\""));
    assert_eq!(web.sent(), packed.len() as u64);
}

#[test]
fn what_changes_on_the_server_is_not_pieced_together() {
    for etags in [true, false] {
        let (bench, packed) = (Bench::new(), packed());
        // Of the same length: only its version, or else only the digest, tells.
        let mut old = packed.to_vec();
        old[5_000] ^= 1;
        let (old, new) = (Arc::new(old), packed.clone());
        let web = Web::start(move |asked: &Asked| {
            let mut reply = Reply::good(if asked.number == 0 { &old } else { &new });
            reply.etag = etags.then(|| format!("\"{}\"", asked.number.min(1)));
            reply.cut_after = (asked.number == 0).then_some(200_000);
            reply
        });
        assert_image(&bench.image(&web.url("/x"), &packed).expect("downloaded"));
        assert_eq!(web.seen().last().map(|asked| asked.from), Some(None), "etags: {etags}");
    }
}

/// A server's behaviour, what the error says, how many requests it takes.
type Fault = (&'static str, fn(&Arc<Vec<u8>>) -> Reply, &'static str, usize);

#[test]
fn faults_are_told_in_one_line() {
    let faults: [Fault; 11] = [
        ("404", |_| Reply::status(404), "the server answered 404 Not Found", 1),
        ("403", |_| Reply::status(403), "403 Forbidden", 1),
        ("500", |_| Reply::status(500), "500 Internal Server Error (6 tries)", 6),
        (
            "429",
            |_| Reply { headers: vec![("Retry-After".into(), "3600".into())], ..Reply::status(429) },
            "429 Too Many Requests",
            1,
        ),
        (
            "circle",
            |_| Reply { headers: vec![("Location".into(), "/x".into())], ..Reply::status(302) },
            "redirected in circles",
            11,
        ),
        (
            "corrupt",
            |body| {
                let mut body = body.to_vec();
                body[9_999] ^= 0x10;
                Reply::good(&Arc::new(body))
            },
            "SHA-256 mismatch",
            1,
        ),
        ("truncated", |body| Reply::good(&Arc::new(body[..body.len() - 5].to_vec())), "SHA-256 mismatch", 1),
        ("no length", |body| Reply { no_length: true, cut_after: Some(5_000), ..Reply::good(body) }, "SHA-256 mismatch", 1),
        ("short", |body| Reply { claimed: Some(body.len() + 9), ..Reply::good(body) }, "contradicts itself", 4),
        ("cut at once", |body| Reply { cut_after: Some(0), ..Reply::good(body) }, "connection was cut (6 tries)", 6),
        ("another file", |_| Reply::good(&Arc::new(b"<!DOCTYPE html>login".to_vec())), "SHA-256 mismatch", 1),
    ];
    let packed = packed();
    for (name, fault, says, requests) in faults {
        let bench = Bench::new();
        let body = packed.clone();
        let web = Web::start(move |_| fault(&body));
        let error = bench.image(&web.url("/x"), &packed).expect_err(name);
        assert!(error.contains(says) && !error.contains('\n') && error.contains(&web.url("/x")), "{name}: {error}");
        if says == "SHA-256 mismatch" {
            assert!(error.contains(&Digest::of(&packed).to_string()), "{name}: {error}");
        }
        let seen = web.seen().len();
        assert!(seen == requests, "{name}: {seen} requests");
        bench.assert_no_entry();
        drop(web);
        // The cache is still good.
        let web = Web::of(&packed);
        assert_image(&bench.image(&web.url("/x"), &packed).unwrap_or_else(|error| panic!("{name}, afterwards: {error}")));
    }
}

#[test]
fn what_passes_is_waited_for() {
    let (bench, packed) = (Bench::new(), packed());
    let body = packed.clone();
    let web = Web::start(move |asked| match asked.number {
        0 => Reply::status(503),
        1 => Reply { headers: vec![("Retry-After".into(), "0".into())], ..Reply::status(429) },
        2 => Reply { headers: vec![("Location".into(), "/moved".into())], ..Reply::status(307) },
        _ => Reply::good(&body),
    });
    assert_image(&bench.image(&web.url("/x"), &packed).expect("downloaded"));
    assert_eq!(web.seen().last().map(|asked| asked.path.clone()), Some("/moved".into()));
}

#[test]
fn a_silent_server_is_left_and_resumed() {
    let (mut bench, packed) = (Bench::new(), packed());
    bench.patience.silence = Duration::from_millis(300);
    let body = packed.clone();
    let web = Web::start(move |asked| Reply { stall_after: (asked.number == 0).then_some(123_456), ..Reply::good(&body) });
    assert_image(&bench.image(&web.url("/x"), &packed).expect("downloaded"));
    assert_eq!(web.seen()[1].from, Some(123_456));

    bench.patience.retries = 0;
    let bench = Bench { folder: tempfile::tempdir().expect("a folder"), ..bench };
    let body = packed.clone();
    let web = Web::start(move |_| Reply { stall_after: Some(0), ..Reply::good(&body) });
    let error = bench.image(&web.url("/x"), &packed).expect_err("silent");
    assert!(error.contains("gone silent"), "{error}");
}

#[test]
fn hosts_that_are_not_there() {
    let (bench, packed) = (Bench::new(), packed());
    let refused = {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
        format!("http://{}/x", listener.local_addr().expect("an address"))
    };
    let error = bench.image(&refused, &packed).expect_err("nobody listens");
    assert!(error.contains("refused the connection (3 tries)"), "{error}");
    // RFC 2606 keeps this name from ever existing.
    let error = bench.image("http://hcl.invalid/x", &packed).expect_err("no such host");
    assert!(error.contains("cannot be resolved") || error.contains("not known"), "{error}");
    // A server without TLS.
    let web = Web::of(&packed);
    let error = bench.image(&web.url("/x").replace("http:", "https:"), &packed).expect_err("no TLS");
    assert!(error.contains("TLS"), "{error}");
}

#[test]
fn certificates_come_from_ssl_cert_file() {
    use std::io::{BufRead, BufReader};

    let (bench, packed) = (Bench::new(), packed());
    let folder = tempfile::tempdir().expect("a folder");
    fs::write(folder.path().join("x"), &*packed).expect("room");
    let made = Command::new("openssl")
        .args([
            "req",
            "-x509",
            "-newkey",
            "ec",
            "-pkeyopt",
            "ec_paramgen_curve:P-256",
            "-nodes",
            "-days",
            "2",
            "-subj",
            "/CN=lab",
        ])
        .args([
            "-addext",
            "subjectAltName=IP:127.0.0.1",
            "-addext",
            "basicConstraints=critical,CA:FALSE",
            "-keyout",
            "key.pem",
            "-out",
            "cert.pem",
        ])
        .current_dir(folder.path())
        .output()
        .expect("install openssl");
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    let mut server = Command::new("openssl")
        .args(["s_server", "-accept", "127.0.0.1:0", "-cert", "cert.pem", "-key", "key.pem", "-WWW"])
        .current_dir(folder.path())
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .expect("install openssl");
    let mut lines = BufReader::new(server.stdout.take().expect("its output")).lines();
    let address = lines.find_map(|line| Some(line.ok()?.strip_prefix("ACCEPT ")?.trim().to_owned())).expect("an address");
    let get = |trusted: bool| {
        let mut victim = Command::new(std::env::current_exe().expect("this test"));
        victim
            .args(["--exact", "victim", "--nocapture"])
            .env("HCL_TEST_URL", format!("https://{address}/x"))
            .env("HCL_TEST_CACHE", bench.folder.path())
            .env("HCL_TEST_SHA256", Digest::of(&packed).to_string());
        if trusted {
            victim.env("SSL_CERT_FILE", folder.path().join("cert.pem")).env_remove("SSL_CERT_DIR");
        }
        let output = victim.output().expect("it runs");
        (output.status.success(), String::from_utf8_lossy(&output.stderr).into_owned())
    };
    let (strange, known) = (get(false), get(true));
    server.kill().expect("a child");
    server.wait().expect("a child");
    assert!(!strange.0 && strange.1.contains("TLS") && strange.1.contains("SSL_CERT_FILE"), "{}", strange.1);
    assert!(known.0, "{}", known.1);
}

#[test]
fn sizes_are_checked() {
    let (bench, packed) = (Bench::new(), packed());
    let web = Web::of(&packed);
    let request = Request { size: Some(Bytes(1000)), ..request(&web.url("/x"), &packed) };
    let error = hcl_image::error::one_line(&bench.downloads().image(&request).expect_err("another size"));
    assert!(error.contains("where 1000 were asked for"), "{error}");

    let bench = Bench { largest: Bytes(1 << 20), ..Bench::new() };
    let error = bench.image(&web.url("/x"), &packed).expect_err("too large");
    assert!(error.contains("more than 1.0 MiB"), "{error}");
    bench.assert_no_entry();
}

#[test]
fn what_was_published_damaged_is_told_from_what_came_damaged() {
    let bench = Bench::new();
    let mut body = packed().to_vec();
    body[9_999] ^= 0x10;
    let body = Arc::new(body);
    let web = Web::of(&body);
    let error = bench.image(&web.url("/x"), &body).expect_err("damaged");
    assert!(error.contains("as it was published") && error.contains("damaged zstd data"), "{error}");
}

/// Not a test of its own: what [`a_killed_download_is_resumed`] kills.
#[test]
fn victim() {
    let Ok(url) = std::env::var("HCL_TEST_URL") else { return };
    let cache = Cache::open(Some(std::env::var_os("HCL_TEST_CACHE").expect("a folder").as_ref())).expect("a cache");
    let sha256 = std::env::var("HCL_TEST_SHA256").expect("a digest").parse().expect("a digest");
    let request = Request { origin: Origin::parse(&url).expect("a URL"), sha256, size: None };
    Downloads::new(&cache, &Reporter::new(Mode::Quiet)).limits(patience(), Bytes(1 << 30)).image(&request).expect("downloaded");
}

#[test]
fn a_killed_download_is_resumed() {
    let (bench, packed) = (Bench::new(), packed());
    let body = packed.clone();
    let web = Web::start(move |_| Reply { pace: Some(8 << 10), ..Reply::good(&body) });
    let partial = bench.folder.path().join("download").join(format!("{}.download", Digest::of(&packed)));
    let here = || fs::metadata(&partial).map_or(0, |metadata| metadata.len());
    let mut state = 99u64;
    let mut kills = 0;
    let mut from = Vec::new();
    while kills < 20 {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        // Killed once so much has arrived; at the end the last ones do no more than finish.
        let kill_at = here() + (state >> 33) % (packed.len() as u64 / 16);
        from.push(here());
        let mut child = Command::new(std::env::current_exe().expect("this test"))
            .args(["--exact", "victim", "--quiet"])
            .env("HCL_TEST_URL", web.url("/x"))
            .env("HCL_TEST_CACHE", bench.folder.path())
            .env("HCL_TEST_SHA256", Digest::of(&packed).to_string())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("it runs");
        let ended = loop {
            if let Some(status) = child.try_wait().expect("a child") {
                break Some(status);
            }
            if here() >= kill_at && here() > 0 {
                child.kill().expect("a child");
                child.wait().expect("a child");
                break None;
            }
            std::thread::yield_now();
        };
        match ended {
            Some(status) => {
                assert!(status.success());
                break;
            }
            None => {
                kills += 1;
                bench.assert_only_whole(&packed);
            }
        }
    }
    assert!(kills >= 5, "only {kills} kills");
    assert_image(&bench.image(&web.url("/x"), &packed).expect("downloaded"));
    // Each run began where the one before was killed, give or take what came in between.
    let asked: Vec<u64> = web.seen().iter().map(|asked| asked.from.unwrap_or(0) as u64).collect();
    assert!(asked.windows(2).all(|pair| pair[0] <= pair[1]), "{asked:?}");
    assert!(asked.iter().skip(1).filter(|from| **from > 0).count() + 1 >= asked.len() / 2, "{asked:?} {from:?}");
}

impl Bench {
    /// An entry that stands there has all of its bytes.
    fn assert_only_whole(&self, packed: &[u8]) {
        let cache = Cache::open(Some(self.folder.path())).expect("a cache");
        if cache.lookup("base", &Digest::of(packed)).expect("readable").is_some() {
            cache.verify("base", &Digest::of(packed)).expect("whole");
        }
    }
}
