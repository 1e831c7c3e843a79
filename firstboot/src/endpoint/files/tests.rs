use std::process::{Command, Stdio};

use super::*;
use crate::identity::NodeId;

const LEADER: Ipv4Addr = Ipv4Addr::new(192, 168, 200, 1);

fn key() -> ClusterKey {
    ClusterKey::new(std::array::from_fn(|place| place as u8))
}

fn names(name: &str) -> NodeNames {
    NodeNames::new(NodeId([9; 16]), [192, 168, 200, 77].into(), name).unwrap()
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().mode() & 0o7777
}

#[test]
fn the_same_again_writes_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path().join("swarm");
    let files = Files::of_node(&key(), &names("node-9"), LEADER);
    files.lay(&folder, None).unwrap();
    assert_eq!(mode(&folder), 0o700);
    let written = || -> Vec<_> {
        let inode = |(name, _)| fs::metadata(folder.join(name)).unwrap().ino();
        files.iter().map(inode).collect()
    };
    let first = written();
    assert!(files.iter().all(|(name, _)| mode(&folder.join(name)) == 0o600));
    Files::of_node(&key(), &names("node-9"), LEADER).lay(&folder, None).unwrap();
    assert_eq!(written(), first);
    fs::write(folder.join("server.pem"), "").unwrap();
    fs::set_permissions(folder.join("token"), Permissions::from_mode(0o644)).unwrap();
    files.lay(&folder, None).unwrap();
    assert!(files.iter().all(|(name, content)| fs::read_to_string(folder.join(name)).unwrap() == content));
    assert_eq!(mode(&folder.join("token")), 0o600);
    assert_eq!(fs::read_dir(&folder).unwrap().count(), 7);
}

#[test]
fn whatever_is_in_them_counts() {
    let digest = |files: Files| files.digest();
    let all = [
        digest(Files::of_node(&key(), &names("node-9"), LEADER)),
        digest(Files::of_node(&key(), &names("node-8"), LEADER)),
        digest(Files::of_node(&key(), &names("node-9"), [10, 0, 0, 1].into())),
        digest(Files::of_node(&ClusterKey::new([7; 32]), &names("node-9"), LEADER)),
    ];
    assert_eq!(all[0], digest(Files::of_node(&key(), &names("node-9"), LEADER)));
    assert!((1..all.len()).all(|place| !all[..place].contains(&all[place])));
}

/// What each is for, as openssl has it: nodes know nodes, people know the port that is theirs, and neither the other.
#[test]
fn openssl_takes_them_for_what_they_are_for() {
    let (key, names) = (key(), names("node-9"));
    let trust = Trust::new(&key);
    let folder = tempfile::tempdir().unwrap();
    Files::of_node(&key, &names, LEADER).lay(folder.path(), None).unwrap();
    Files::of_user(&trust, &local_user(&key, &trust, &names)).lay(folder.path(), None).unwrap();
    let verify = |ca: &str, certificate: &str, more: &str| {
        let arguments = format!("verify -x509_strict -check_ss_sig -CAfile {ca}.pem {more} {certificate}.pem");
        let mut openssl = Command::new("openssl");
        let output = openssl.current_dir(folder.path()).args(arguments.split_whitespace()).stdin(Stdio::null()).output();
        output.expect("openssl must be installed: apt-get install openssl").status.success()
    };
    for (ca, certificate, more, right) in [
        ("nodes-ca", "node", "-purpose sslserver -verify_ip 192.168.200.77", true),
        ("nodes-ca", "node", "-purpose sslclient", true),
        ("users-ca", "node", "", false),
        ("users-ca", "server", "-purpose sslclient", false),
        ("nodes-ca", "server", "", false),
        ("ca", "server", "-purpose sslserver -verify_hostname master", true),
        ("ca", "server", "-purpose sslserver -verify_hostname master.local", true),
        ("ca", "server", "-purpose sslserver -verify_hostname node-9", true),
        ("ca", "server", "-purpose sslserver -verify_hostname node-9.local", true),
        ("ca", "server", "-purpose sslserver -verify_hostname localhost", true),
        ("ca", "server", "-purpose sslserver -verify_ip 192.168.200.1", true),
        ("ca", "server", "-purpose sslserver -verify_ip 192.168.200.77", true),
        ("ca", "server", "-purpose sslserver -verify_ip 127.0.0.1", true),
        ("ca", "server", "-verify_hostname node-8", false),
        ("ca", "server", "-verify_ip 192.168.200.78", false),
        ("users-ca", "cert", "-purpose sslclient", true),
        ("users-ca", "cert", "-purpose sslserver", false),
        ("nodes-ca", "cert", "", false),
    ] {
        assert_eq!(verify(ca, certificate, more), right, "{certificate} by {ca} {more}");
    }
}

#[test]
fn for_the_members_of_a_group() {
    let etc = tempfile::tempdir().unwrap();
    let own = fs::metadata(etc.path()).unwrap().gid();
    fs::write(etc.path().join("group"), format!("root:x:0:\ndocker:x:{own}:hcl\n")).unwrap();
    lay_local(etc.path(), &key(), &names("node-9")).unwrap();
    let folder = etc.path().join(LOCAL);
    assert_eq!((mode(&folder), mode(&folder.join("key.pem"))), (0o750, 0o640));
    // Without the group nobody but root.
    fs::write(etc.path().join("group"), "root:x:0:\n").unwrap();
    lay_local(etc.path(), &key(), &names("node-9")).unwrap();
    assert_eq!((mode(&folder), mode(&folder.join("key.pem"))), (0o700, 0o600));
}

#[test]
fn groups() {
    let groups = "root:x:0:\ndocker2:x:7:\ndocker:x:998:hcl,ada\nbad\n:\n";
    assert_eq!(group_of(groups, "docker"), Some(998));
    assert_eq!(group_of(groups, "dock"), None);
    assert_eq!(group_of("docker:x:many:", "docker"), None);
}

#[test]
fn the_nodes_own_user() {
    assert_eq!(local_name(&names("node-4c0001")).as_str(), "node-4c0001");
    for no_user in ["1st", &"a".repeat(33)] {
        assert_eq!(local_name(&names(no_user)).as_str(), "node-09090909", "{no_user}");
    }
    let trust = Trust::new(&key());
    let print = |name: &str| local_user(&key(), &trust, &names(name)).fingerprint();
    assert_eq!(print("node-9"), print("node-9"));
}

#[test]
fn nothing_shows_a_secret() {
    let files = Files::of_node(&key(), &names("node-9"), LEADER);
    let shown = format!("{files:?}");
    assert!(shown.contains("node-key.pem"), "{shown}");
    for (_, content) in files.iter() {
        assert!(!shown.contains(content.lines().nth(1).unwrap_or(content)), "{shown}");
    }
}
