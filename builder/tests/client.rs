//! Docker's client as it is on a node, 26.1.5 and Compose 2.26, in a home made of the overlay's skeleton: whom it asks, and how.
//!
//! `scripts/docker-cli` fetches both; without them this fails.

use std::{
    fs,
    io::{BufRead, BufReader, Read, Write},
    net::TcpListener,
    os::unix::net::UnixListener,
    path::{Path, PathBuf},
    process::Command,
    sync::mpsc::{Receiver, channel},
    thread,
    time::Duration,
};

use hcl_firstboot::{
    endpoint::files::Files,
    key::ClusterKey,
    trust::{Trust, Validity},
};

/// How long a client may take on a busy machine.
const LIMIT: Duration = Duration::from_secs(60);

fn project() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap()
}

/// The programs of the image's release.
fn programs() -> PathBuf {
    let output = Command::new(project().join("scripts/docker-cli")).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    PathBuf::from(String::from_utf8(output.stdout).unwrap().trim())
}

/// What was asked, and whom.
#[derive(Debug, PartialEq, Eq)]
enum Asked {
    /// The engine on the socket, in the clear.
    Engine,
    /// The endpoint, by TLS.
    Cluster,
    /// The endpoint, in the clear.
    Unsafe,
}

/// A node's home, `/etc/hcl/docker`, engine and endpoint.
struct Node {
    folder: tempfile::TempDir,
    programs: PathBuf,
    port: u16,
    asked: Receiver<Asked>,
}

impl Node {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        let copied = Command::new("cp").arg("-r").arg(project().join("overlays/common/etc/skel")).arg(at("home")).status();
        assert!(copied.unwrap().success());
        // The places of a node, but for these.
        let meta =
            walkdir::WalkDir::new(at("home")).into_iter().flatten().find(|entry| entry.file_name() == "meta.json").unwrap();
        replace(meta.path(), meta.path(), "/var/run/docker.sock", &at("docker.sock").display().to_string());
        let profile = project().join("overlays/common/etc/profile.d/hcl.sh");
        replace(&profile, &at("profile"), "/etc/hcl/docker", &at("docker").display().to_string());
        let trust = Trust::new(&ClusterKey::new([1; 32]));
        let issued = trust.users.issue(&"node-1".parse().unwrap(), Validity::LIFE, &[1; 32]);
        Files::of_user(&trust, &issued).lay(&at("docker"), None).unwrap();

        let (tell, asked) = channel();
        let (engine, also) = (UnixListener::bind(at("docker.sock")).unwrap(), tell.clone());
        thread::spawn(move || {
            for stream in engine.incoming().flatten() {
                let _ = also.send(Asked::Engine);
                thread::spawn(move || serve(&stream));
            }
        });
        let endpoint = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = endpoint.local_addr().unwrap().port();
        thread::spawn(move || {
            for mut stream in endpoint.incoming().flatten() {
                let mut first = [0];
                // A handshake record (RFC 8446, section 5.1).
                let tls = stream.read_exact(&mut first).is_ok() && first == [22];
                let _ = tell.send(if tls { Asked::Cluster } else { Asked::Unsafe });
            }
        });
        Self { folder, programs: programs(), port, asked }
    }

    /// Whom a command asks, typed after `before` in a shell of the node's.
    fn asks(&self, before: &str, command: &str) -> Vec<Asked> {
        let (profile, path) = (self.folder.path().join("profile"), self.programs.display());
        let script = format!(". {}; {before} exec timeout {} {command} >/dev/null 2>&1", profile.display(), LIMIT.as_secs());
        let script = script.replace("PORT", &self.port.to_string());
        let mut shell = Command::new("sh");
        shell.args(["-c", &script]).env_clear().env("HOME", self.folder.path().join("home"));
        shell.env("PATH", format!("{path}:/usr/bin:/bin")).status().unwrap();
        let mut asked: Vec<_> = self.asked.try_iter().collect();
        asked.dedup();
        asked
    }
}

fn replace(from: &Path, to: &Path, old: &str, new: &str) {
    let text = fs::read_to_string(from).unwrap();
    assert!(text.contains(old), "{}", from.display());
    fs::write(to, text.replace(old, new)).unwrap();
}

/// An engine without anything.
fn serve(mut stream: &std::os::unix::net::UnixStream) {
    let mut lines = BufReader::new(stream).lines();
    while let Some(Ok(first)) = lines.next() {
        while lines.next().is_some_and(|line| line.is_ok_and(|line| !line.is_empty())) {}
        let body = if first.starts_with("HEAD") { "" } else { "[]" };
        let head = format!(
            "HTTP/1.1 200 OK\r\nApi-Version: 1.45\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n",
            body.len()
        );
        if stream.write_all((head + body).as_bytes()).is_err() {
            break;
        }
    }
}

#[test]
fn this_node_unless_the_cluster_is_named() {
    let node = Node::new();
    let export = "export DOCKER_HOST=tcp://127.0.0.1:PORT;";
    for (before, command, whom) in [
        ("", "docker ps", Asked::Engine),
        ("", "docker-compose ls", Asked::Engine),
        (export, "docker ps", Asked::Cluster),
        (export, "docker-compose ls", Asked::Cluster),
        (export, "docker -c node ps", Asked::Engine),
        ("", "docker -H tcp://127.0.0.1:PORT ps", Asked::Cluster),
        ("export DOCKER_HOST=tcp://127.0.0.1:PORT; unset DOCKER_HOST;", "docker ps", Asked::Engine),
        // The judge sees the other thing.
        ("export DOCKER_HOST=tcp://127.0.0.1:PORT; unset DOCKER_TLS_VERIFY;", "docker ps", Asked::Unsafe),
    ] {
        assert_eq!(node.asks(before, command), [whom], "{before} {command}");
    }
}

/// Without the context the variables would lead the client to port 2376 of localhost: so there are none.
#[test]
fn who_has_no_context_keeps_the_client_as_it_is() {
    let node = Node::new();
    let config = node.folder.path().join("home/.docker/config.json");
    let host = format!("export DOCKER_HOST=unix://{};", node.folder.path().join("docker.sock").display());
    assert_eq!(node.asks(&host, "docker ps"), [], "26.1.5 takes TLS and a socket for a name");
    for other in [Some("{\"auths\":{}}"), Some("{\"currentContext\":\"default\"}"), None] {
        match other {
            Some(text) => fs::write(&config, text).unwrap(),
            None => fs::remove_file(&config).unwrap(),
        }
        assert_eq!(node.asks(&host, "docker ps"), [Asked::Engine], "{other:?}");
    }
    // Nor for whoever may not read the key.
    fs::write(&config, "{\"currentContext\":\"node\"}").unwrap();
    fs::remove_file(node.folder.path().join("docker/key.pem")).unwrap();
    assert_eq!(node.asks(&host, "docker ps"), [Asked::Engine]);
}
