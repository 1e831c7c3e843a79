//! `hcl-image ssh` with a real sshd on loopback, whose host key a node has signed or not.

use std::{
    fs,
    net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream},
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
    thread,
    time::{Duration, Instant},
};

use hcl_firstboot::{key::ClusterKey, ssh::HostAuthority};

const PROGRAM: &str = env!("CARGO_BIN_EXE_hcl-image");
const OWN: Ipv4Addr = Ipv4Addr::new(127, 92, 0, 7);
/// How long a busy machine may take.
const BOUND: Duration = Duration::from_secs(30);

/// A folder of keys with one cluster, and the files of an SSH server that lets its key pair in.
struct Desk {
    folder: tempfile::TempDir,
}

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

fn ssh_keygen(path: &Path) {
    let made = Command::new("ssh-keygen").args(["-q", "-t", "ed25519", "-N", "", "-f"]).arg(path).status();
    assert!(made.expect("ssh-keygen must be installed: apt-get install openssh-client").success());
}

impl Desk {
    fn new() -> Self {
        // A folder whose name ssh would take apart.
        let folder = tempfile::Builder::new().prefix("keys 100%h ").tempdir().unwrap();
        let desk = Self { folder };
        desk.cluster("kitchen", 9);
        ssh_keygen(&desk.at("keys/kitchen/id_ed25519"));
        fs::copy(desk.at("keys/kitchen/id_ed25519.pub"), desk.at("authorized")).unwrap();
        ssh_keygen(&desk.at("host"));
        desk
    }

    fn cluster(&self, name: &str, key: u8) {
        let path = self.at("keys").join(name);
        fs::create_dir_all(&path).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o700)).unwrap();
        fs::write(path.join("cluster.key"), ClusterKey::new([key; 32]).to_file()).unwrap();
        fs::set_permissions(path.join("cluster.key"), fs::Permissions::from_mode(0o600)).unwrap();
    }

    fn at(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// A server whose host key the node `name` of the cluster of `key` has signed; none: nobody has.
    fn serve(&self, signed: Option<(u8, &str)>) -> Server {
        assert!(Path::new("/usr/sbin/sshd").exists(), "sshd must be installed: apt-get install openssh-server");
        if rustix::process::geteuid().is_root() {
            fs::create_dir_all("/run/sshd").unwrap();
        }
        let SocketAddr::V4(at) = TcpListener::bind((OWN, 0)).unwrap().local_addr().unwrap() else { unreachable!() };
        let mut config = format!(
            "ListenAddress {at}\nHostKey \"{}\"\nPidFile none\nUsePAM no\nStrictModes no\nAuthorizedKeysFile \"{}\"\n",
            self.at("host").display(),
            // sshd takes `%` for something, too.
            self.at("authorized").display().to_string().replace('%', "%%"),
        );
        if let Some((key, name)) = signed {
            let host = fs::read_to_string(self.at("host.pub")).unwrap().parse().unwrap();
            let certificate = HostAuthority::new(&ClusterKey::new([key; 32])).sign(&host, name, OWN);
            fs::write(self.at("host-cert.pub"), certificate).unwrap();
            config += &format!("HostCertificate \"{}\"\n", self.at("host-cert.pub").display());
        }
        fs::write(self.at("sshd_config"), config).unwrap();
        let log = fs::File::create(self.at("log")).unwrap();
        let mut child =
            Command::new("/usr/sbin/sshd").args(["-D", "-e", "-f"]).arg(self.at("sshd_config")).stderr(log).spawn().unwrap();
        let until = Instant::now() + BOUND;
        while TcpStream::connect(at).is_err() {
            let ended = child.try_wait().unwrap();
            let log = fs::read_to_string(self.at("log")).unwrap();
            assert!(ended.is_none() && Instant::now() < until, "sshd does not listen: {log}");
            thread::sleep(Duration::from_millis(20));
        }
        Server { child, port: at.port() }
    }

    fn ssh(&self, arguments: &[&str]) -> Output {
        let mut command = Command::new(PROGRAM);
        command.args(["ssh", "--keys"]).arg(self.at("keys")).args(arguments).stdin(Stdio::null());
        command.output().unwrap()
    }

    fn log_in(&self, server: &Server, command: &[&str]) -> (Option<i32>, String) {
        let user = Command::new("id").arg("-un").output().unwrap();
        let user = String::from_utf8(user.stdout).unwrap();
        let (port, node) = (server.port.to_string(), OWN.to_string());
        let arguments = ["--user", user.trim(), "--port", &port, &node];
        let output = self.ssh(&[&arguments[..], command].concat());
        let text = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
        (output.status.code(), text)
    }
}

#[test]
fn a_signed_node_is_known_at_once() {
    let desk = Desk::new();
    let server = desk.serve(Some((9, "node-7")));
    for _ in 0..2 {
        assert_eq!(desk.log_in(&server, &["echo", "in"]), (Some(0), "in\n".to_owned()));
    }
    assert_eq!(desk.log_in(&server, &["exit 7"]).0, Some(7), "the command's own code");
    assert_eq!(desk.log_in(&server, &["echo", "-n", "--keys"]), (Some(0), "--keys".to_owned()), "the command's own options");
    let known = fs::read_to_string(desk.at("keys/kitchen/known_hosts")).unwrap();
    assert!(known.starts_with("@cert-authority * ssh-ed25519 ") && known.lines().count() == 1, "something was learned: {known}");
}

#[test]
fn nobody_else_is() {
    let desk = Desk::new();
    for (signed, why) in [(None, "unsigned"), (Some((8, "node-7")), "another cluster's")] {
        let server = desk.serve(signed);
        let (code, text) = desk.log_in(&server, &["echo", "in"]);
        assert!(code == Some(255) && text.contains("Host key verification failed"), "{why}: {code:?} {text}");
    }
}

#[test]
fn which_cluster_and_which_node() {
    let desk = Desk::new();
    let refused = |arguments: &[&str]| {
        let output = desk.ssh(arguments);
        let text = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(2), "{arguments:?}: {text}");
        text
    };
    assert!(refused(&["--cluster", "attic", "node-1"]).contains("no key of a cluster attic here"));
    assert!(refused(&["--identity", "/nowhere/key", "node-1"]).contains("`--identity`: /nowhere/key: no such file"));
    assert!(refused(&["-oProxyCommand=true"]).contains("-o"));
    assert!(refused(&["--", "-oProxyCommand=true"]).contains("neither a host name nor an address"));
    // RFC 2606, section 2: nobody has such a name.
    let unknown = desk.ssh(&["node-1.invalid"]);
    let text = String::from_utf8(unknown.stderr).unwrap();
    assert!(text.starts_with("hcl-image: node-1.invalid is not known on this network: is the node on?"), "{text}");
    assert_eq!(unknown.status.code(), Some(255), "{text}");
    desk.cluster("lab", 8);
    assert!(refused(&["node-1"]).contains("you have keys of kitchen, lab: name one with `--cluster NAME`"));
    fs::remove_dir_all(desk.at("keys")).unwrap();
    assert!(refused(&["node-1"]).contains("no key of any cluster here"));
}
