use std::os::unix::fs::PermissionsExt;

use super::*;
use crate::key::ClusterKey;

fn secrets() -> Secrets {
    Secrets::of(&ClusterKey::new([7; 32]))
}

fn setup(version: Version) -> Setup {
    Setup {
        node_name: "node-aabbcc".into(),
        node_id: NodeId([0xab; 16]),
        address: [192, 168, 200, 77].into(),
        server: true,
        bootstrap: false,
        retry_join: vec![[192, 168, 200, 10].into(), [192, 168, 200, 77].into()],
        version,
        places: Places::default(),
    }
}

fn pem() -> Pem {
    Pem { ca: "ca\n".into(), cert: "cert\n".into(), key: "key\n".into() }
}

const DEBIANS: Version = Version::new(1, 8, 7);
const CURRENT: Version = Version::new(1, 22, 0);

#[test]
fn names_go_with_the_version() {
    let all = [
        // (from, key, what older ones have)
        (Version::new(1, 9, 0), "/ui_config/enabled", None),
        (Version::new(1, 11, 0), "/acl/tokens/initial_management", Some("/acl/tokens/master")),
        (Version::new(1, 12, 0), "/tls/internal_rpc/verify_incoming", Some("/verify_incoming_rpc")),
        (Version::new(1, 12, 0), "/tls/internal_rpc/verify_server_hostname", Some("/verify_server_hostname")),
        (Version::new(1, 12, 0), "/tls/defaults/verify_outgoing", Some("/verify_outgoing")),
        (Version::new(1, 12, 0), "/tls/defaults/key_file", Some("/key_file")),
        (Version::new(1, 13, 0), "/peering/enabled", None),
        (Version::new(1, 14, 0), "/ports/grpc_tls", None),
    ];
    let minors = (8..=22).map(|minor| Version::new(1, minor, 0)).chain([DEBIANS]);
    for version in minors {
        let config = setup(version).config(&secrets());
        for (from, new, old) in all {
            assert_eq!(config.pointer(new).is_some(), version >= from, "{version} {new}");
            if let Some(old) = old {
                assert_eq!(config.pointer(old).is_some(), version < from, "{version} {old}");
            }
        }
    }
}

#[test]
fn what_keeps_strangers_out_is_on_whatever_the_version() {
    for version in [DEBIANS, CURRENT] {
        let config = setup(version).config(&secrets());
        let at = |path: &str| config.pointer(path).cloned().unwrap_or_default();
        assert_eq!(at("/addresses/http"), "unix:///run/hcl-consul/http.sock");
        assert_eq!(at("/addresses/dns"), "127.0.0.1");
        assert_eq!(at("/client_addr"), "127.0.0.1");
        assert_eq!(at("/bind_addr"), "192.168.200.77");
        assert_eq!(at("/acl/enabled"), true);
        assert_eq!(at("/acl/default_policy"), "deny");
        assert_eq!(at("/encrypt"), secrets().gossip.reveal());
        assert_eq!(at("/disable_remote_exec"), true);
        assert_eq!(at("/connect/enabled"), false);
        for port in ["https", "grpc", "serf_wan"] {
            assert_eq!(at(&format!("/ports/{port}")), -1, "{port}");
        }
    }
}

#[test]
fn a_client_knows_no_more_than_it_needs() {
    for version in [DEBIANS, CURRENT] {
        let client = Setup { server: false, ..setup(version) };
        let text = client.config(&secrets()).to_string();
        assert!(!text.contains(secrets().management.reveal()), "{text}");
        assert!(!text.contains("bootstrap"), "{text}");
    }
}

#[test]
fn only_the_founder_elects_itself() {
    let config = |setup: Setup| setup.config(&secrets());
    assert_eq!(config(setup(DEBIANS)).get("bootstrap_expect"), None);
    let founder = Setup { bootstrap: true, ..setup(DEBIANS) };
    assert_eq!(config(founder.clone()).get("bootstrap_expect"), Some(&json!(1)));
    let client = Setup { server: false, ..founder };
    assert_eq!(config(client).get("bootstrap_expect"), None);
}

#[test]
fn nobody_joins_itself() {
    // An agent that reaches itself takes that for success, and tries no other.
    assert_eq!(setup(DEBIANS).config(&secrets())["retry_join"], json!(["192.168.200.10"]));
}

#[test]
fn certificates_are_the_same_at_each_start() {
    let key = ClusterKey::new([7; 32]);
    let pem = |setup: &Setup| setup.pem(&key);
    let server = setup(DEBIANS);
    assert!(pem(&server) == pem(&server));
    let others = [
        Setup { server: false, ..server.clone() },
        Setup { node_id: NodeId([1; 16]), ..server.clone() },
        Setup { address: [192, 168, 200, 78].into(), ..server.clone() },
    ];
    for other in others {
        assert!(pem(&other).key != pem(&server).key, "{other:?}");
    }
}

#[test]
fn what_is_written() {
    let state = tempfile::tempdir().unwrap();
    let folder = state.path().join("consul/config");
    let write = |setup: &Setup, pem: &Pem| setup.write(&folder, &secrets(), pem).unwrap();
    let mut setup = setup(DEBIANS);
    assert_eq!(write(&setup, &pem()), Written::Changed);
    assert_eq!(write(&setup, &pem()), Written::Same);
    for file in fs::read_dir(&folder).unwrap() {
        let mode = file.unwrap().metadata().unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }
    setup.retry_join.clear();
    setup.bootstrap = true;
    assert_eq!(write(&setup, &pem()), Written::ForNextStart);
    setup.server = false;
    assert_eq!(write(&setup, &pem()), Written::Changed);
    assert_eq!(write(&setup, &Pem { cert: "another\n".into(), ..pem() }), Written::Changed);
    // One that was cut off, by whoever.
    fs::write(folder.join(files::CONFIG), "{").unwrap();
    assert_eq!(write(&setup, &pem()), Written::Changed);
    assert_eq!(fs::metadata(&folder).unwrap().permissions().mode() & 0o777, 0o700);
    let (path, _) = setup.write(&folder.join(files::CA), &secrets(), &pem()).unwrap_err();
    assert_eq!(path, folder.join(files::CA));
}
