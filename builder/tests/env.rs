//! `hcl-image env`: the certificates judged by openssl, the output by a shell.

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::{Command, Output},
};

use hcl_firstboot::key::ClusterKey;
use tempfile::TempDir;

/// A folder of keys.
struct Desk(TempDir);

impl Desk {
    fn new(clusters: &[(&str, u8)]) -> Self {
        let desk = Self(tempfile::tempdir().unwrap());
        for (name, key) in clusters {
            let folder = desk.folder(name);
            fs::create_dir(&folder).unwrap();
            fs::set_permissions(&folder, fs::Permissions::from_mode(0o700)).unwrap();
            desk.key(name, *key);
        }
        desk
    }

    fn folder(&self, cluster: &str) -> PathBuf {
        self.0.path().join(cluster)
    }

    fn key(&self, cluster: &str, key: u8) {
        let path = self.folder(cluster).join("cluster.key");
        fs::write(&path, ClusterKey::new([key; 32]).to_file().as_bytes()).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
    }

    fn run(&self, arguments: &str) -> Output {
        let mut command = Command::new(env!("CARGO_BIN_EXE_hcl-image"));
        command.arg("env").args(arguments.split_whitespace()).env("USER", "Ada");
        if !arguments.contains("--unset") {
            command.arg("--keys").arg(self.0.path());
        }
        command.output().unwrap()
    }

    /// The variables that a shell has after `eval "$(hcl-image env …)"`.
    fn variables(&self, arguments: &str) -> [String; 3] {
        let output = self.run(arguments);
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let script = format!(
            "{}\nprintf '%s\\n' \"${{DOCKER_HOST-none}}\" \"${{DOCKER_TLS_VERIFY-none}}\" \"${{DOCKER_CERT_PATH-none}}\"",
            String::from_utf8(output.stdout).unwrap()
        );
        let before = [("DOCKER_HOST", "x"), ("DOCKER_TLS_VERIFY", "x"), ("DOCKER_CERT_PATH", "x")];
        let said = Command::new("sh").args(["-euc", &script]).envs(before).output().unwrap();
        let lines: Vec<String> = String::from_utf8(said.stdout).unwrap().lines().map(str::to_owned).collect();
        lines.try_into().unwrap()
    }

    fn refusal(&self, arguments: &str) -> String {
        let output = self.run(arguments);
        assert_eq!(output.status.code(), Some(2), "{output:?}");
        String::from_utf8(output.stderr).unwrap()
    }
}

fn openssl(folder: &Path, arguments: &str) -> (bool, String) {
    let output = Command::new("openssl").current_dir(folder).args(arguments.split_whitespace()).output();
    let output = output.expect("openssl must be installed: apt-get install openssl");
    (output.status.success(), String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned())
}

#[test]
fn a_certificate_made_once() {
    let desk = Desk::new(&[("my lab".replace(' ', "-").as_str(), 1)]);
    let [host, verify, files] = desk.variables("");
    assert_eq!((host.as_str(), verify.as_str()), ("tcp://master.local:2378", "1"));
    let files = PathBuf::from(files);
    assert_eq!(files, desk.folder("my-lab").join("docker/ada"));
    let read = |name: &str| fs::read(files.join(name)).unwrap();
    let first = [read("ca.pem"), read("cert.pem"), read("key.pem")];
    for (path, mode) in [(files.parent().unwrap().to_owned(), 0o700), (files.clone(), 0o700), (files.join("key.pem"), 0o600)] {
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, mode, "{}", path.display());
    }
    let (right, said) = openssl(&files, "verify -x509_strict -purpose sslclient -CAfile ca.pem cert.pem");
    assert!(right, "{said}");
    let (_, said) = openssl(&files, "x509 -in cert.pem -noout -ext subjectAltName");
    assert!(said.contains("URI:hcl:user:ada"), "{said}");
    assert_eq!(openssl(&files, "x509 -in cert.pem -noout -pubkey"), openssl(&files, "pkey -in key.pem -pubout"));

    let [host, _, again] = desk.variables("--host 127.0.0.1");
    assert_eq!((host.as_str(), Path::new(&again)), ("tcp://127.0.0.1:2378", files.as_path()));
    assert_eq!([read("ca.pem"), read("cert.pem"), read("key.pem")], first, "it is made once");
    let [.., other] = desk.variables("--name grace");
    assert_ne!(fs::read(Path::new(&other).join("cert.pem")).unwrap(), first[1]);

    // The cluster got another key: nobody there knows the old certificate.
    desk.key("my-lab", 2);
    desk.variables("");
    assert!(read("ca.pem") != first[0] && read("cert.pem") != first[1]);
    assert!(openssl(&files, "verify -purpose sslclient -CAfile ca.pem cert.pem").0);
    assert_eq!(fs::read_dir(files.parent().unwrap()).unwrap().count(), 2, "nothing half is left");
    // The cluster's own secret is in none of it.
    let key = ClusterKey::new([2; 32]).to_file();
    assert!(
        !String::from_utf8(desk.run("").stdout)
            .unwrap()
            .contains(key.as_bytes().iter().map(|b| *b as char).collect::<String>().trim())
    );
}

#[test]
fn taken_away_again() {
    assert_eq!(Desk::new(&[]).variables("--unset"), ["none", "none", "none"]);
}

#[test]
fn what_is_not_clear_is_asked_for() {
    assert!(Desk::new(&[]).refusal("").contains("no key of any cluster here"));
    let two = Desk::new(&[("kitchen", 1), ("lab", 2)]);
    assert!(two.refusal("").contains("`--cluster NAME`"));
    assert!(two.refusal("--cluster attic").contains("no key of a cluster attic here"));
    let [.., kitchen] = two.variables("--cluster kitchen");
    assert_eq!(Path::new(&kitchen), two.folder("kitchen").join("docker/ada"));
    assert!(two.refusal("--cluster lab --name Ada").contains("1 to 32 lower-case letters"));
    assert!(two.refusal("--cluster lab --host $(reboot)").contains("neither a host name"));
    let open = two.folder("lab").join("docker");
    two.variables("--cluster lab");
    fs::set_permissions(&open, fs::Permissions::from_mode(0o755)).unwrap();
    two.variables("--cluster lab");
    fs::set_permissions(open.join("ada"), fs::Permissions::from_mode(0o755)).unwrap();
    assert!(two.refusal("--cluster lab").contains("is open to others"));
}
