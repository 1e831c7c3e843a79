//! Who has no token, no certificate, or neither.

use std::{
    collections::BTreeSet,
    fs,
    io::{Read, Write},
    net::TcpStream,
    path::Path,
    sync::Arc,
    time::Duration,
};

use hcl_firstboot::{
    key::ClusterKey,
    trust::{ConsulRole, Trust},
};
use rustls::{
    ClientConfig, ClientConnection, RootCertStore, StreamOwned,
    crypto::ring,
    pki_types::{CertificateDer, PrivatePkcs8KeyDer, ServerName},
};

use super::agent::*;

/// Consul's HTTP interface (agent/http_register.go of 1.8.7): method, path, body. Every endpoint with every method that it has, with
/// what would do something if it were allowed.
const ENDPOINTS: &str = include_str!("endpoints.txt");

/// What is a question, though it is no GET.
const QUESTION: &str = "/v1/internal/acl/authorize";

#[test]
fn without_a_token_one_reads_nodes_and_services_and_changes_nothing() {
    let lab = Lab::new();
    let agent = lab.start(&lab.founder());
    lab.bootstrap(&agent);
    agent.wait_nodes("the founder", |nodes| nodes.iter().any(|node| node.is_reached()).then_some(()));
    agent.client.put("user/key", b"value").unwrap();
    let session = agent.client.raw("PUT", "/v1/session/create", Some(br#"{"Name": "one without an end"}"#)).unwrap();
    let session = session.text().split('"').nth(3).unwrap().to_owned();
    agent.client.with_token(&lab.secrets.agent).register_engine(Duration::from_secs(600)).unwrap();
    let stranger = agent.without_token();
    wait("the engine in the catalog", || {
        let services = stranger.raw("GET", "/v1/catalog/services", None).unwrap();
        services.text().contains("hcl-engine").then_some(())
    });
    let before = everything(&agent);
    let mut wrong = Vec::new();
    let mut count = 0;
    for line in ENDPOINTS.lines().filter(|line| !line.is_empty() && !line.starts_with('#')) {
        count += 1;
        let line = line.replace("SESSION", &session).replace("NODE", &agent.setup.node_name);
        let (method, rest) = line.split_once(' ').unwrap();
        let (path, body) = rest.split_once(' ').unwrap_or((rest, ""));
        // Some answers have no end.
        let answer = match stranger.within(Duration::from_secs(3)).raw(method, path, (method != "GET").then_some(body.as_bytes()))
        {
            Ok(answer) => answer,
            Err(error) => {
                wrong.push(format!("{method} {path}: {error}"));
                continue;
            }
        };
        for secret in [&lab.secrets.management, &lab.secrets.agent, &lab.secrets.swarm, &lab.secrets.gossip] {
            assert!(!String::from_utf8_lossy(&answer.body).contains(secret.reveal()), "{method} {path} tells a secret");
        }
        if method != "GET" && answer.is_success() && path != QUESTION {
            wrong.push(format!("{method} {path}: {} {}", answer.status, answer.text()));
        }
    }
    assert!(count > 100, "{count} questions: nothing was tried");
    assert_eq!(everything(&agent), before);
    assert_eq!(wrong, Vec::<String>::new());
    // The judge sees a change.
    agent.client.put("user/key", b"another").unwrap();
    assert_ne!(everything(&agent), before);
    for path in [
        "/v1/catalog/nodes",
        "/v1/catalog/service/hcl-engine",
        "/v1/health/state/any",
        "/v1/health/node/node-1",
        "/v1/status/leader",
    ] {
        let answer = stranger.raw("GET", path, None).unwrap();
        assert!(answer.is_success() && answer.body.len() > 4, "{path}: {} {}", answer.status, answer.text());
    }
    for path in ["/v1/kv/?recurse", "/v1/session/list", "/v1/acl/tokens"] {
        let answer = stranger.raw("GET", path, None).unwrap();
        assert!(!answer.is_success() || answer.body == b"[]", "{path}: {}", answer.text());
    }
}

/// All that a change could show in.
fn everything(agent: &Agent) -> Vec<String> {
    let paths = [
        "/v1/kv/?recurse",
        "/v1/catalog/nodes",
        "/v1/catalog/services",
        "/v1/catalog/node/node-1",
        "/v1/agent/services",
        "/v1/agent/checks",
        "/v1/acl/policies",
        "/v1/acl/tokens",
        "/v1/acl/roles",
        "/v1/acl/auth-methods",
        "/v1/acl/binding-rules",
        "/v1/session/list",
        "/v1/query",
        "/v1/connect/intentions",
        "/v1/config/service-defaults",
        "/v1/operator/raft/configuration",
        "/v1/operator/autopilot/configuration",
        "/v1/agent/members",
    ];
    let told = |path: &str| {
        let answer = agent.client.raw("GET", path, None).unwrap();
        format!("{path} {} {}", answer.status, String::from_utf8_lossy(&answer.body))
    };
    paths.map(told).to_vec()
}

#[test]
fn the_gossip_key_alone_opens_nothing() {
    let lab = Lab::new();
    let agent = lab.start(&lab.founder());
    lab.bootstrap(&agent);
    agent.client.put("hcl/test", b"what only members may have").unwrap();
    // A server with the key, without certificates, which wants to be one of the cluster.
    let rogue = rogue(&lab, 66, "");
    // It is in the list of members, so that the servers try to make it one of them, and cannot.
    wait("the rogue among the members", || {
        agent.client.members().ok()?.iter().any(|member| member.server && member.name == "node-66").then_some(())
    });
    agent.wait_log("rpc error");
    received_nothing(&rogue, &lab);

    // With certificates of another authority.
    let stranger = Lab::new();
    let setup = lab.server(67);
    let pem = setup.pem(&stranger.key);
    fs::create_dir_all(&setup.places.config).unwrap();
    for (name, text) in [("ca", &pem.ca), ("cert", &pem.cert), ("key", &pem.key)] {
        fs::write(setup.places.config.join(format!("{name}.pem")), text).unwrap();
    }
    let file = |name: &str| setup.places.config.join(format!("{name}.pem")).display().to_string();
    let tls = format!(
        r#""ca_file": "{}", "cert_file": "{}", "key_file": "{}", "verify_outgoing": true, "verify_incoming_rpc": true,"#,
        file("ca"),
        file("cert"),
        file("key")
    );
    let other = rogue_with(&lab, 67, &tls);
    wait("the other rogue among the members", || {
        agent.client.members().ok()?.iter().any(|member| member.server && member.name == "node-67").then_some(())
    });
    wait("a refused handshake", || agent.log().contains("certificate").then_some(()));
    received_nothing(&other, &lab);
    // All goes on.
    agent.client.put("hcl/test", b"still").unwrap();
    let voters: BTreeSet<_> =
        agent.client.peers().unwrap().into_iter().filter(|peer| peer.voter).map(|peer| peer.address).collect();
    assert_eq!(voters, BTreeSet::from([format!("{}:8300", lab.address(1))]));
}

fn rogue(lab: &Lab, number: u8, tls: &str) -> Agent {
    fs::create_dir_all(lab.setup(number).places.config).unwrap();
    rogue_with(lab, number, tls)
}

fn rogue_with(lab: &Lab, number: u8, tls: &str) -> Agent {
    let setup = lab.server(number);
    let (address, places) = (setup.address, &setup.places);
    let config = format!(
        r#"{{ "datacenter": "hcl", "primary_datacenter": "hcl", "node_name": "{}", "server": true, "data_dir": "{}", "bind_addr": "{address}",
        "encrypt": "{}", "retry_join": ["{}"], {tls} "ports": {{ "serf_wan": -1 }},
        "addresses": {{ "http": "unix://{}", "dns": "{address}" }} }}"#,
        setup.node_name,
        places.data.display(),
        lab.secrets.gossip.reveal(),
        lab.address(1),
        places.socket.display(),
    );
    fs::write(places.config.join("consul.json"), config).unwrap();
    lab.run(setup)
}

/// Nothing of the cluster's is on the rogue's disk or answered by it.
#[track_caller]
fn received_nothing(rogue: &Agent, lab: &Lab) {
    let asked = rogue.client.raw("GET", "/v1/kv/hcl/test?raw&stale", None).unwrap();
    assert!(!asked.is_success(), "{}", asked.text());
    let mut files = Vec::new();
    all_files(&rogue.setup.places.data, &mut files);
    assert!(files.iter().any(|path| path.ends_with("raft/raft.db")), "{files:?}");
    for path in files {
        let content = fs::read(&path).unwrap();
        for secret in [lab.secrets.management.reveal(), lab.secrets.agent.reveal(), "what only members may have"] {
            let there = content.windows(secret.len()).any(|window| window == secret.as_bytes());
            assert!(!there, "{} has a secret", path.display());
        }
    }
}

fn all_files(folder: &Path, files: &mut Vec<std::path::PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() { all_files(&path, files) } else { files.push(path) }
    }
}

/// The first byte on a connection says what is to be spoken (agent/pool/conn.go of 1.8.7).
const PROTOCOLS: [(&str, u8); 7] =
    [("Consul", CONSUL), ("Raft", 1), ("multiplexed", 2), ("TLS", TLS), ("multiplexed 2", 4), ("snapshot", 5), ("gossip", 6)];
const CONSUL: u8 = 0;
const TLS: u8 = 3;

#[test]
fn port_8300_says_nothing_without_a_certificate() {
    let lab = Lab::new();
    let agent = lab.start(&lab.founder());
    lab.bootstrap(&agent);
    let connect = |agent: &Agent| {
        let stream = TcpStream::connect((agent.setup.address, 8300)).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        stream
    };
    for (name, byte) in PROTOCOLS {
        let answer = call(&mut connect(&agent), byte);
        // Of TLS an alert may come (RFC 8446 section 5.1).
        let alert = byte == TLS && answer.first() == Some(&21);
        assert!(answer.is_empty() || alert, "{name}: {answer:?}");
    }
    // The judge: an agent without TLS answers that call.
    let open = rogue(&lab, 66, "");
    wait("an open agent", || open.client.members().ok());
    assert!(!call(&mut connect(&open), CONSUL).is_empty());

    // Behind its byte TLS asks for a certificate: of ours, of another cluster, of none.
    let tls = |shown: Option<&ClusterKey>| {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from(Trust::new(&lab.key).consul.certificate().to_vec())).unwrap();
        let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()));
        let config = config.with_safe_default_protocol_versions().unwrap().with_root_certificates(roots);
        let config = match shown {
            Some(key) => {
                let issued = Trust::new(key).consul.issue(ConsulRole::Client, lab.address(9), &[9; 32]);
                let chain = vec![CertificateDer::from(issued.certificate().to_vec())];
                config.with_client_auth_cert(chain, PrivatePkcs8KeyDer::from(issued.key().to_vec()).into()).unwrap()
            }
            None => config.with_no_client_auth(),
        };
        let mut stream = connect(&agent);
        stream.write_all(&[TLS]).unwrap();
        let name = ServerName::try_from("server.hcl.consul").unwrap();
        call(&mut StreamOwned::new(ClientConnection::new(Arc::new(config), name).unwrap(), stream), CONSUL)
    };
    assert!(!tls(Some(&lab.key)).is_empty(), "the judge: with a certificate there is an answer");
    assert_eq!(tls(Some(&Lab::new().key)), b"");
    assert_eq!(tls(None), b"");
}

/// What comes back of a call that anyone may make where the port is open: who leads, as MessagePack.
fn call(stream: &mut (impl Read + Write), protocol: u8) -> Vec<u8> {
    let call = b"\x82\xadServiceMethod\xadStatus.Leader\xa3Seq\x00\x80";
    // The other end may have closed it already.
    let _ = stream.write_all(&[&[protocol], &call[..]].concat()).and_then(|()| stream.flush());
    let mut answer = Vec::new();
    let mut piece = [0; 1024];
    // The first piece tells; a connection that is kept open ends with the time for it.
    if let Ok(count) = stream.read(&mut piece) {
        answer.extend_from_slice(&piece[..count]);
    }
    answer
}
