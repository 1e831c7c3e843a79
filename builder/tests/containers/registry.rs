//! Debian's `docker-registry` on the loopback interface, which wants a token, and a server that hands tokens out.

use std::{
    fs,
    net::TcpListener,
    path::Path,
    process::{Child, Command, Stdio},
    sync::Arc,
    thread,
    time::{Duration, Instant, SystemTime},
};

use base64::{
    Engine as _,
    engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD},
};
use hcl_image::{error::one_line, units::Digest};
use serde_json::{Value, json};

use crate::{
    NONE, images, run, saved, seeded, tool,
    web::{Reply, Web},
};

const DEADLINE: Duration = Duration::from_secs(30);

/// A running registry.
struct Registry {
    child: Child,
    host: String,
    /// Knows what was asked for.
    tokens: Web,
}

impl Registry {
    /// One that gives and takes for a token only, or for nothing.
    fn start(folder: &Path, with_tokens: bool) -> Self {
        let path = |name: &str| folder.join(name).to_str().unwrap().to_owned();
        let subject = ["-subj", "/CN=hcl test", "-days", "2", "-keyout", &path("key"), "-out", &path("certificate")];
        tool("openssl", "openssl", &[&["req", "-x509", "-newkey", "rsa:2048", "-nodes"][..], &subject].concat());
        let der = tool("openssl", "openssl", &["x509", "-in", &path("certificate"), "-outform", "der"]);
        let key = folder.to_owned();
        let tokens = Web::start(move |asked| {
            let token = token(&asked.path, &key, &der);
            Reply::good(&Arc::new(json!({ "token": token, "expires_in": 300 }).to_string().into_bytes()))
        });
        // Free a moment ago: good enough on a machine of our own.
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let host = format!("127.0.0.1:{port}");
        let mut config = json!({ "version": "0.1", "storage": { "filesystem": { "rootdirectory": path("blobs") } }, "http": { "addr": host } });
        if with_tokens {
            config["auth"] = json!({ "token": {
                "realm": tokens.url("/token"), "service": "hcl test", "issuer": "hcl", "rootcertbundle": path("certificate"),
            } });
        }
        // JSON is YAML.
        fs::write(path("config.yml"), config.to_string()).unwrap();
        let log = fs::File::create(path("log")).unwrap();
        let child = Command::new("docker-registry")
            .args(["serve", &path("config.yml")])
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .unwrap_or_else(|error| panic!("docker-registry is missing ({error}): apt-get install docker-registry"));
        let start = Instant::now();
        while std::net::TcpStream::connect(&host).is_err() {
            assert!(start.elapsed() < DEADLINE, "{}", fs::read_to_string(path("log")).unwrap());
            thread::sleep(Duration::from_millis(20));
        }
        Self { child, host, tokens }
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// What the token server says to `/token?service=…&scope=repository:NAME:ACTIONS`: yes, always.
fn token(asked: &str, folder: &Path, der: &[u8]) -> String {
    let query = asked.split_once('?').map_or("", |(_, query)| query);
    let scopes = query.split('&').filter_map(|pair| pair.strip_prefix("scope="));
    let access: Vec<Value> = scopes
        .map(|scope| scope.replace("%3A", ":").replace("%2F", "/").replace("%2C", ","))
        .filter_map(|scope| {
            let mut parts = scope.splitn(3, ':').map(str::to_owned);
            let (kind, name, actions) = (parts.next()?, parts.next()?, parts.next()?);
            Some(json!({ "type": kind, "name": name, "actions": actions.split(',').collect::<Vec<_>>() }))
        })
        .collect();
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs();
    let header = json!({ "typ": "JWT", "alg": "RS256", "x5c": [STANDARD.encode(der)] });
    let claims = json!({ "iss": "hcl", "sub": "", "aud": "hcl test", "exp": now + 300, "nbf": now - 10, "iat": now, "jti": "1", "access": access });
    let text = format!("{}.{}", URL_SAFE_NO_PAD.encode(header.to_string()), URL_SAFE_NO_PAD.encode(claims.to_string()));
    let file = tempfile::NamedTempFile::new_in(folder).unwrap();
    fs::write(file.path(), &text).unwrap();
    let key = folder.join("key");
    let signature =
        tool("openssl", "openssl", &["dgst", "-sha256", "-sign", key.to_str().unwrap(), file.path().to_str().unwrap()]);
    format!("{text}.{}", URL_SAFE_NO_PAD.encode(signature))
}

/// An OCI layout of one image for several platforms: in each a program `/which` that says for which it is.
fn layout(folder: &Path) {
    fs::create_dir_all(folder.join("blobs/sha256")).unwrap();
    let blob = |bytes: &[u8]| {
        let digest = Digest::of(bytes);
        fs::write(folder.join(format!("blobs/sha256/{digest}")), bytes).unwrap();
        json!({ "digest": format!("sha256:{digest}"), "size": bytes.len() })
    };
    let with = |mut descriptor: Value, media_type: &str| {
        descriptor["mediaType"] = json!(media_type);
        descriptor
    };
    let manifests: Vec<Value> = [("amd64", ""), ("arm", "v6"), ("arm", "v7"), ("arm64", "v8")]
        .into_iter()
        .map(|(architecture, variant)| {
            let mut tar = tar::Builder::new(Vec::new());
            for (name, content) in [("busybox", saved::busybox().to_vec()), ("which", format!("{architecture}{variant}\n").into_bytes())] {
                let mut header = tar::Header::new_ustar();
                header.set_size(content.len() as u64);
                header.set_mode(0o755);
                header.set_uid(0);
                header.set_gid(0);
                header.set_mtime(1);
                tar.append_data(&mut header, name, content.as_slice()).unwrap();
            }
            let tar = tar.into_inner().unwrap();
            let mut packed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
            std::io::Write::write_all(&mut packed, &tar).unwrap();
            let layer = with(blob(&packed.finish().unwrap()), "application/vnd.oci.image.layer.v1.tar+gzip");
            let config = json!({
                "architecture": architecture, "variant": variant, "os": "linux", "config": { "Cmd": ["/busybox", "cat", "/which"] },
                "rootfs": { "type": "layers", "diff_ids": [format!("sha256:{}", Digest::of(&tar))] },
            });
            let config = with(blob(config.to_string().as_bytes()), "application/vnd.oci.image.config.v1+json");
            let media_type = "application/vnd.oci.image.manifest.v1+json";
            let manifest = json!({ "schemaVersion": 2, "mediaType": media_type, "config": config, "layers": [layer] });
            let mut descriptor = with(blob(manifest.to_string().as_bytes()), media_type);
            descriptor["platform"] = json!({ "os": "linux", "architecture": architecture, "variant": variant });
            descriptor
        })
        .collect();
    let media_type = "application/vnd.oci.image.index.v1+json";
    let inner = json!({ "schemaVersion": 2, "mediaType": media_type, "manifests": manifests });
    let outer = json!({ "schemaVersion": 2, "manifests": [with(blob(inner.to_string().as_bytes()), media_type)] });
    fs::write(folder.join("index.json"), outer.to_string()).unwrap();
    fs::write(folder.join("oci-layout"), "{\"imageLayoutVersion\":\"1.0.0\"}").unwrap();
}

fn manifest(image: &str) -> String {
    format!("{NONE}[images.other]\nreference = \"lab/other:1\"\nregistry = {{ image = \"{image}\", plain_http = true }}\n")
}

#[test]
fn an_image_comes_from_a_registry_with_and_without_tokens() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    layout(&path("layout"));
    let from = format!("oci:{}", path("layout").display());
    for with_tokens in [true, false] {
        let name = if with_tokens { "tokens" } else { "open" };
        fs::create_dir(path(name)).unwrap();
        let registry = Registry::start(&path(name), with_tokens);
        let to = format!("docker://{}/lab/other:1", registry.host);
        let skopeo = |arguments: &[&str]| tool("skopeo", "skopeo", arguments);
        skopeo(&["copy", "--quiet", "--all", "--dest-tls-verify=false", &from, &to]);
        let index = skopeo(&["inspect", "--raw", "--tls-verify=false", &to]);
        let image = format!("{}/lab/other@sha256:{}", registry.host, Digest::of(&index));

        let before = registry.tokens.seen().len();
        let cache = path(name).join("cache");
        let found = images(&manifest(&image), folder.path(), Some(cache.clone())).unwrap();
        let asked = registry.tokens.seen().split_off(before);
        assert_eq!(asked.len(), usize::from(with_tokens), "{asked:?}");
        assert!(asked.iter().all(|asked| asked.path == "/token?service=hcl%20test&scope=repository:lab/other:pull"), "{asked:?}");
        let engine = seeded(&found, &path(name));
        assert_eq!(run(&engine, &["lab/other:1"]), "armv7\n", "the platform of the userland");
        drop(engine);

        let wrong = image.replace("/lab/other@", "/lab/none@");
        let error = one_line(&images(&manifest(&wrong), folder.path(), Some(cache)).unwrap_err());
        assert!(error.contains("the registry has no such image: lab/none"), "{error}");
    }
}

#[test]
fn a_registry_that_lies_or_wants_a_login_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let digest = Digest::of(b"right");
    let refused = |reply: fn() -> Reply| {
        let web = Web::start(move |_| reply());
        let host = web.url("").replace("http://", "");
        let text = manifest(&format!("{host}/lab/other@sha256:{digest}"));
        let error = one_line(&images(&text, folder.path(), Some(folder.path().join("cache"))).unwrap_err());
        (error.strip_prefix("container image other (lab/other:1): ").unwrap_or(&error).to_owned(), web.seen().len())
    };
    let (error, asked) = refused(|| Reply::good(&Arc::new(b"wrong".to_vec())));
    assert!(error.starts_with("the registry sends something else: SHA-256 ") && asked == 1, "{asked} {error}");
    let (error, asked) = refused(|| Reply {
        headers: vec![("WWW-Authenticate".to_owned(), "Basic realm=\"x\"".to_owned())],
        ..Reply::status(401)
    });
    assert!(
        error
            .ends_with("the registry wants a login (Basic), which is not supported: save the image to a file, and use `archive`"),
        "{error}"
    );
    assert_eq!(asked, 1);
    let (error, _) = refused(|| Reply::status(403));
    assert!(error.contains("does not give it out without a login"), "{error}");
    let (error, _) = refused(|| Reply::status(418));
    assert!(error.ends_with("the registry answered 418"), "{error}");
    let (error, _) = refused(|| Reply::good(&Arc::new(vec![b' '; 5 << 20])));
    assert!(error.ends_with("the answer is larger than 4.0 MiB"), "{error}");
}
