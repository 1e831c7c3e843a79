//! The files, judged by a real sshd and ssh on loopback.

use std::{
    net::{SocketAddr, TcpListener},
    os::unix::fs::PermissionsExt,
    path::PathBuf,
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use super::*;
use crate::identity::NodeId;

const OWN: Ipv4Addr = Ipv4Addr::new(127, 91, 0, 7);
/// How long a busy machine may take.
const BOUND: Duration = Duration::from_secs(30);

fn key() -> ClusterKey {
    ClusterKey::new([9; 32])
}

fn members() -> Vec<MemberEntry> {
    let member = |number: u8| MemberEntry {
        node: NodeId([number; 16]),
        address: [192, 168, 200, number].into(),
        name: format!("node-{number}"),
    };
    vec![member(7), member(8)]
}

/// An `etc` with a host key, as a node has it.
fn etc() -> tempfile::TempDir {
    let etc = tempfile::tempdir().unwrap();
    fs::create_dir(etc.path().join("ssh")).unwrap();
    let key = etc.path().join("ssh/ssh_host_ed25519_key");
    let made = Command::new("ssh-keygen").args(["-q", "-t", "ed25519", "-N", "", "-C", "", "-f"]).arg(key).status();
    assert!(made.expect("ssh-keygen must be installed: apt-get install openssh-client").success());
    etc
}

fn lay_for(etc: &Path, key: &ClusterKey, address: Ipv4Addr) -> bool {
    lay(etc, &HostAuthority::new(key), Addresses::default(), ("node-7", address), &members()).unwrap()
}

#[test]
fn written_once_and_when_something_changes() {
    let etc = etc();
    let at = |name: &str| etc.path().join("ssh").join(name);
    fs::write(at(KNOWN), "github.com ssh-ed25519 AAAA\n@cert-authority *.example ssh-ed25519 BBBB me\n").unwrap();
    let all = [CERTIFICATE, SERVER, KNOWN, CLIENT];
    let files = || all.map(|name| (fs::read_to_string(at(name)).unwrap(), fs::metadata(at(name)).unwrap().modified().unwrap()));
    assert!(lay_for(etc.path(), &key(), OWN));
    let first = files();
    assert!(!lay_for(etc.path(), &key(), OWN));
    assert_eq!(files(), first, "written again, which wears the card");
    let alias = HostAuthority::new(&key()).alias().to_owned();
    let known: Vec<&str> = first[2].0.lines().collect();
    assert_eq!(known[..2], ["github.com ssh-ed25519 AAAA", "@cert-authority *.example ssh-ed25519 BBBB me"]);
    let hosts = format!("192.168.200.*,{alias},node-7,node-7.local,node-8,node-8.local");
    assert_eq!(known[2].split(' ').nth(1), Some(hosts.as_str()));
    assert!(
        first[3].0.ends_with(&format!("Host master master.local 192.168.200.1\n    HostKeyAlias {alias}\n")),
        "{}",
        first[3].0
    );
    assert!(all.iter().all(|name| fs::metadata(at(name)).unwrap().permissions().mode() & 0o777 == 0o644));
    // Another address is another certificate; another key takes the place of the old authority.
    assert!(lay_for(etc.path(), &key(), [127, 91, 0, 8].into()));
    assert!(lay_for(etc.path(), &ClusterKey::new([8; 32]), OWN));
    let known = fs::read_to_string(at(KNOWN)).unwrap();
    assert!(known.lines().count() == 3 && !known.contains(&alias), "{known}");
}

#[test]
fn nothing_without_a_host_key_and_a_line_where_it_is_wrong() {
    let bare = tempfile::tempdir().unwrap();
    assert!(!lay_for(bare.path(), &key(), OWN));
    assert_eq!(fs::read_dir(bare.path()).unwrap().count(), 0);
    let etc = etc();
    let secret = etc.path().join("cluster.key");
    let id = NodeId([7; 16]).to_string();
    let member = crate::status::MemberStatus { name: "node-7".into(), address: OWN, node: id.clone(), heard_uptime_ms: None };
    let status = Status { node: id, address: Some(OWN), members: vec![member], ..Status::default() };
    let look = |etc: &Path| wrong(etc, &secret, &status);
    assert_eq!(look(etc.path()), None, "without a cluster key");
    fs::write(&secret, key().to_file()).unwrap();
    let line = look(etc.path()).unwrap();
    assert!(line.starts_with("the SSH host key is not signed for node-7 at 127.91.0.7: `sudo systemctl restart"), "{line}");
    lay_for(etc.path(), &key(), OWN);
    assert_eq!(look(etc.path()), None);
    assert_eq!(look(bare.path()), None, "without a host key");
    fs::write(etc.path().join("ssh").join(KEY), "what?").unwrap();
    assert!(look(etc.path()).unwrap().contains("no public Ed25519 key"));
}

#[test]
fn sshd_is_told_and_a_failure_is_not_forgotten() {
    let folder = tempfile::tempdir().unwrap();
    let (program, said) = (folder.path().join("systemctl"), folder.path().join("said"));
    fs::write(&program, format!("#!/bin/sh\necho \"$@\" >{}\n", said.display())).unwrap();
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
    reload(&program).unwrap();
    assert_eq!(fs::read_to_string(&said).unwrap(), "--no-block try-reload-or-restart ssh.service\n");
    fs::write(&program, "#!/bin/sh\necho no bus >&2\nexit 1\n").unwrap();
    assert_eq!(reload(&program).unwrap_err(), "`systemctl --no-block try-reload-or-restart ssh.service`: no bus");
}

/// A real sshd with the files of an `etc`, as this user.
struct Server {
    child: Child,
    port: u16,
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn serve(etc: &Path) -> Server {
    let program = PathBuf::from("/usr/sbin/sshd");
    assert!(program.exists(), "sshd must be installed: apt-get install openssh-server");
    // As root it wants this folder, which its service makes.
    if rustix::process::geteuid().is_root() {
        fs::create_dir_all("/run/sshd").unwrap();
    }
    let SocketAddr::V4(at) = TcpListener::bind((OWN, 0)).unwrap().local_addr().unwrap() else { unreachable!() };
    let folder = etc.join("ssh");
    let drop_in = fs::read_to_string(folder.join(SERVER)).unwrap();
    // The one thing that is elsewhere than on a node.
    let drop_in = drop_in.replace("/etc/ssh/", &format!("{}/", folder.display()));
    let config = format!(
        "ListenAddress {at}\nHostKey {0}/ssh_host_ed25519_key\n{drop_in}PidFile none\nUsePAM no\nStrictModes no\nAuthorizedKeysFile {0}/authorized\n",
        folder.display()
    );
    fs::write(folder.join("sshd_config"), config).unwrap();
    let child =
        Command::new(program).args(["-D", "-e", "-f"]).arg(folder.join("sshd_config")).stderr(Stdio::null()).spawn().unwrap();
    let server = Server { child, port: at.port() };
    let until = Instant::now() + BOUND;
    while std::net::TcpStream::connect(at).is_err() {
        assert!(Instant::now() < until, "sshd does not listen");
        thread::sleep(Duration::from_millis(20));
    }
    server
}

/// Logs in as a node does, with the files of its `etc` as those of the system: what ssh says.
fn ssh(etc: &Path, server: &Server, host: &str, more: &[&str]) -> (bool, String) {
    let folder = etc.join("ssh");
    let output = Command::new("ssh")
        .arg("-F")
        .arg(folder.join(CLIENT))
        .args([
            "-p",
            &server.port.to_string(),
            "-o",
            "StrictHostKeyChecking=yes",
            "-o",
            "BatchMode=yes",
            "-o",
            "IdentitiesOnly=yes",
        ])
        .arg(format!("-oGlobalKnownHostsFile={}", folder.join(KNOWN).display()))
        .args(["-o", "UserKnownHostsFile=/dev/null", "-o", &format!("HostName={OWN}"), "-o", "CheckHostIP=no"])
        .arg(format!("-oIdentityFile={}", folder.join("user").display()))
        .args(more)
        .args([host, "echo", "in"])
        .output()
        .expect("ssh must be installed: apt-get install openssh-client");
    (output.status.success() && output.stdout == b"in\n", String::from_utf8_lossy(&output.stderr).into_owned())
}

#[test]
fn ssh_knows_a_signed_node_and_no_other_one() {
    let etc = etc();
    let folder = etc.path().join("ssh");
    let made = Command::new("ssh-keygen").args(["-q", "-t", "ed25519", "-N", "", "-f"]).arg(folder.join("user")).status();
    assert!(made.unwrap().success());
    fs::copy(folder.join("user.pub"), folder.join("authorized")).unwrap();
    lay_for(etc.path(), &key(), [192, 168, 200, 7].into());
    let server = serve(etc.path());
    // By name, by address, and by the names that move. ssh takes HostKeyAlias for what it looks for; a name that is given as an
    // alias stands for one that resolves.
    for host in ["node-7", "node-7.local", "192.168.200.7"] {
        let (right, text) = ssh(etc.path(), &server, host, &["-o", &format!("HostKeyAlias={host}")]);
        assert!(right, "{host}: {text}");
    }
    for host in ["master", "master.local", "192.168.200.1"] {
        let (right, text) = ssh(etc.path(), &server, host, &[]);
        assert!(right, "{host}: {text}");
    }
    // Another member's name or address, and a host outside.
    for host in ["node-8", "192.168.200.8", "github.com"] {
        let (right, text) = ssh(etc.path(), &server, host, &["-o", &format!("HostKeyAlias={host}")]);
        assert!(!right && text.contains("Host key verification failed"), "{host}: {text}");
    }
    drop(server);
    // A node of another cluster, for whoever has this cluster's key.
    let known = fs::read_to_string(folder.join(KNOWN)).unwrap();
    lay_for(etc.path(), &ClusterKey::new([8; 32]), [192, 168, 200, 7].into());
    fs::write(folder.join(KNOWN), known).unwrap();
    let server = serve(etc.path());
    let (right, text) = ssh(etc.path(), &server, "node-7", &["-o", "HostKeyAlias=node-7"]);
    assert!(!right && text.contains("Host key verification failed"), "{text}");
}
