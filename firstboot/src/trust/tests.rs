//! The certificates, judged by openssl; sessions, judged by openssl's client and server.

use std::{
    io::{Read, Write},
    net::{TcpListener, TcpStream},
    os::unix::net::UnixStream,
    path::Path,
    process::{Command, Stdio},
    thread,
    time::Duration,
};

use sha2::{Digest, Sha256};

use super::*;
use crate::{http::Stream, identity::NodeId, key::hex};

const LIMIT: Duration = Duration::from_secs(10);
const NOW: UnixSeconds = 1_800_000_000;

fn key() -> ClusterKey {
    ClusterKey::new(std::array::from_fn(|place| place as u8))
}

fn trust() -> Trust {
    Trust::new(&key())
}

fn names(node: u8) -> NodeNames {
    NodeNames::new(NodeId([node; 16]), [127, 0, 0, node].into(), &format!("node-{node}")).unwrap()
}

fn identity(node: u8) -> Identity {
    trust().identity(names(node), &[node; 32])
}

/// An identity with a certificate of another kind.
fn showing(issued: &Issued) -> Identity {
    Identity::new(names(1), issued, &trust().nodes)
}

/// Runs openssl in `folder`: its output, and whether it was content. It must be there.
fn openssl(folder: &Path, args: &str) -> (bool, String) {
    let output = Command::new("openssl").current_dir(folder).args(args.split_whitespace()).stdin(Stdio::null()).output();
    let output = output.expect("openssl must be installed: apt-get install openssl");
    (output.status.success(), String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned())
}

#[test]
fn authorities_stay_what_they_are() {
    // Cards that were written by an older version must still take each other's certificates.
    let sums = |trust: &Trust| {
        let all = [trust.nodes.certificate(), trust.consul.certificate(), trust.users.certificate()];
        all.map(|certificate| hex(&Sha256::digest(certificate)))
    };
    assert_eq!(sums(&trust()), GOLDEN);
    let other = sums(&Trust::new(&ClusterKey::new([7; 32])));
    assert!(other.iter().all(|sum| !GOLDEN.contains(&sum.as_str())));
}

/// Of the certificates in DER: nodes, Consul, users.
const GOLDEN: [&str; 3] = [
    "6e1df3f8d4a60abc7d9a5e7a613812b1951a3f0c06c80c009b8895452fde46fb",
    "24022fb05e4d2536c7570f8bcd07630552a0d803c2e7fb39b3dc21fe606d54b4",
    "e8e46f4437ae9a6db1a9dd7cdbc4146a180697af03931131b0418a046099374e",
];

#[test]
fn authorities_are_those_of_the_key() {
    let trust = trust();
    let all = [trust.nodes.certificate(), trust.consul.certificate(), trust.users.certificate()];
    for (certificate, key) in all.into_iter().zip(PUBLIC_KEYS) {
        assert!(hex(certificate).contains(key), "{key}");
    }
}

/// As Python's hmac (RFC 5869 by hand) and `openssl pkey` make them of the same key.
const PUBLIC_KEYS: [&str; 3] = [
    "ae4e32e45078591b93d362a89b26dbb1fccbe90edad06c0803adb8ba0b2d6c0d",
    "04cc10ec82c52e628efe7afdcfbf34416d7c510ba0ec65f4f516057abc3c22bf",
    "d4c2d613ef56713197eaff6eade7d1eb8b35d6a9dcc1bdbe3f892291f24f2ca4",
];

#[test]
fn openssl_takes_the_certificates() {
    let (trust, folder) = (trust(), tempfile::tempdir().unwrap());
    let put = |name: &str, content: String| std::fs::write(folder.path().join(name), content).unwrap();
    put("nodes.pem", trust.nodes.certificate_pem());
    put("consul.pem", trust.consul.certificate_pem());
    put("users.pem", trust.users.certificate_pem());
    let user = "ada".parse().unwrap();
    let issued = [
        ("node", "nodes", "sslserver sslclient", trust.nodes.issue(&names(9), Validity::LIFE, &[1; 32])),
        ("server", "consul", "sslserver sslclient", trust.consul.issue(ConsulRole::Server, [192, 168, 200, 10].into(), &[2; 32])),
        ("client", "consul", "sslserver sslclient", trust.consul.issue(ConsulRole::Client, [192, 168, 200, 11].into(), &[3; 32])),
        ("user", "users", "sslclient", trust.users.issue(&user, Validity { from: 1, until: 4_000_000_000 }, &[4; 32])),
        ("manage", "users", "sslserver", trust.users.issue_server(&names(9), [192, 168, 200, 1].into(), &[5; 32])),
    ];
    // openssl leaves the last second out.
    let last = Validity::LIFE.until - 1;
    let check = |ca: &str, purpose: &str, name: &str, at: u64| {
        let (right, said) = openssl(
            folder.path(),
            &format!("verify -x509_strict -check_ss_sig -attime {at} -purpose {purpose} -CAfile {ca}.pem {name}.pem"),
        );
        assert!(right || said.contains("error"), "{said}");
        right
    };
    for ca in ["nodes", "consul", "users"] {
        assert!(check(ca, "any", ca, 0) && check(ca, "any", ca, last), "{ca}");
    }
    for (name, ca, purposes, issued) in &issued {
        put(&format!("{name}.pem"), issued.certificate_pem());
        put(&format!("{name}.key"), issued.key_pem());
        for purpose in ["sslserver", "sslclient"] {
            assert_eq!(check(ca, purpose, name, NOW), purposes.contains(purpose), "{name} as {purpose}");
        }
        for other in ["nodes", "consul", "users"] {
            let purpose = purposes.split(' ').next().unwrap();
            assert_eq!(check(other, purpose, name, NOW), other == *ca, "{name} by {other}");
        }
        let public = openssl(folder.path(), &format!("x509 -in {name}.pem -noout -pubkey"));
        assert_eq!(public, openssl(folder.path(), &format!("pkey -in {name}.key -pubout")));
        assert!(public.0, "{public:?}");
    }
    let (_, said) = openssl(folder.path(), "x509 -in user.pem -noout -fingerprint -sha256");
    let found = said.trim().rsplit('=').next().unwrap().replace(':', "").to_lowercase();
    assert_eq!(found, issued.iter().find(|(name, ..)| *name == "user").unwrap().3.fingerprint());
    assert!(!check("users", "sslclient", "user", 0) && !check("users", "sslclient", "user", 4_000_000_001));
    assert!(check("nodes", "sslclient", "node", 0) && check("nodes", "sslclient", "node", last));
    assert!(!check("nodes", "sslclient", "node", Validity::LIFE.until + 1));

    for (name, expected) in [
        ("node", "DNS:node-9 IP Address:127.0.0.9 URI:hcl:node:09090909090909090909090909090909"),
        ("server", "DNS:server.hcl.consul DNS:localhost IP Address:192.168.200.10 IP Address:127.0.0.1"),
        ("client", "DNS:client.hcl.consul DNS:localhost IP Address:192.168.200.11 IP Address:127.0.0.1"),
        ("user", "URI:hcl:user:ada"),
        (
            "manage",
            "DNS:master DNS:master.local DNS:node-9 DNS:node-9.local DNS:localhost IP Address:192.168.200.1 IP Address:127.0.0.9 IP Address:127.0.0.1",
        ),
    ] {
        let (_, said) = openssl(folder.path(), &format!("x509 -in {name}.pem -noout -ext subjectAltName"));
        let mut found: Vec<_> = said.lines().nth(1).unwrap_or_default().trim().split(", ").collect();
        if name == "node" {
            found.sort_unstable();
        }
        assert_eq!(found.join(" "), expected, "{said}");
    }
    let (_, said) = openssl(folder.path(), "x509 -in nodes.pem -noout -subject -serial -dates");
    let expected =
        "subject=CN = HCL 39773d13 nodes\nserial=01\nnotBefore=Jan  1 00:00:00 1970 GMT\nnotAfter=Dec 31 23:59:59 2199 GMT\n";
    assert_eq!(said, expected);
}

#[test]
fn openssl_sees_a_changed_certificate() {
    let (trust, folder) = (trust(), tempfile::tempdir().unwrap());
    let mut changed = trust.nodes.issue(&names(9), Validity::LIFE, &[1; 32]).certificate().to_vec();
    let place = changed.windows(6).position(|bytes| bytes == b"node-9").unwrap();
    changed[place + 5] = b'8';
    std::fs::write(folder.path().join("ca.pem"), trust.nodes.certificate_pem()).unwrap();
    std::fs::write(folder.path().join("changed.pem"), certificate::pem("CERTIFICATE", &changed)).unwrap();
    let (right, said) = openssl(folder.path(), "verify -CAfile ca.pem changed.pem");
    assert!(!right && said.contains("signature failure"), "{said}");
}

#[test]
fn names_are_read_as_they_were_written() {
    let (trust, names) = (trust(), names(9));
    let issued = trust.nodes.issue(&names, Validity::LIFE, &[1; 32]);
    assert_eq!(NodeNames::of(issued.certificate()), Some(names));
    let user = trust.users.issue(&"ada".parse().unwrap(), Validity::LIFE, &[1; 32]);
    let consul = trust.consul.issue(ConsulRole::Server, [127, 0, 0, 9].into(), &[1; 32]);
    for other in [user.certificate(), consul.certificate(), trust.nodes.certificate(), b""] {
        assert_eq!(NodeNames::of(other), None);
    }
    for length in 0..issued.certificate().len() {
        assert_eq!(NodeNames::of(&issued.certificate()[..length]), None);
    }
}

#[test]
fn what_is_no_name() {
    for bad in ["", "master", "localhost", "auto", "a.b", "A", "-a", "a b", &"a".repeat(64)] {
        assert_eq!(NodeNames::new(NodeId([1; 16]), [127, 0, 0, 1].into(), bad), Err(BadNames::Name), "{bad}");
    }
    for bad in ["", "Ada", "1a", "a/b", "ada lovelace", &"a".repeat(33)] {
        assert_eq!(bad.parse::<UserName>(), Err(BadNames::User), "{bad}");
    }
}

#[test]
fn nothing_shows_a_secret() {
    let trust = trust();
    let issued = trust.nodes.issue(&names(1), Validity::LIFE, &[0x5a; 32]);
    let binding = trust.binder.bind(&session::Exporter([0xa5; 32]));
    let token = join::Token::try_from("SWMTKN-1-secret".to_owned()).unwrap();
    let shown = format!("{trust:?} {issued:?} {:?} {:?} {binding:?} {token:?}", identity(1), trust.binder);
    for secret in ["5a5a", "90, 90", "secret", &String::from(binding)] {
        assert!(!shown.contains(secret), "{shown}");
    }
}

/// Both ends of a session between `client` and `server`.
fn meet(
    client: &Identity,
    wanted: Wanted,
    server: &Identity,
    clock: Option<UnixSeconds>,
) -> (Result<Session<UnixStream>, Error>, Result<Session<UnixStream>, Error>) {
    let (ours, theirs) = UnixStream::pair().unwrap();
    thread::scope(|scope| {
        let accepted = scope.spawn(|| server.accept(theirs, clock, LIMIT));
        let connected = client.connect(ours, wanted, clock, LIMIT);
        (connected, accepted.join().unwrap())
    })
}

#[test]
fn two_nodes_know_each_other() {
    for wanted in [Wanted::Node(names(2).node()), Wanted::Address(names(2).address())] {
        let (client, server) = meet(&identity(1), wanted, &identity(2), Some(NOW));
        let (mut client, mut server) = (client.unwrap(), server.unwrap());
        assert_eq!((client.peer().to_string(), server.peer().to_string()), (names(2).to_string(), names(1).to_string()));
        assert!(client.exporter() == server.exporter());
        // More than one record, more than the library holds back.
        let long = vec![7; 300_000];
        thread::scope(|scope| {
            scope.spawn(|| client.write_all(&long).and_then(|()| client.flush()).unwrap());
            let mut found = vec![0; long.len()];
            server.read_exact(&mut found).unwrap();
            assert!(found == long);
        });
        drop(client);
        // A goodbye, so that the end is known to be one.
        assert_eq!(server.read(&mut [0; 1]).unwrap(), 0);
    }
    let (one, _) = meet(&identity(1), Wanted::Node(names(2).node()), &identity(2), None);
    let (two, _) = meet(&identity(1), Wanted::Node(names(2).node()), &identity(2), None);
    assert!(one.unwrap().exporter() != two.unwrap().exporter(), "a session of its own each time");
}

#[test]
fn a_cut_is_no_end() {
    let (client, server) = meet(&identity(1), Wanted::Node(names(2).node()), &identity(2), None);
    let (client, mut server) = (client.unwrap(), server.unwrap());
    client.stream().shutdown(std::net::Shutdown::Both).unwrap();
    assert_eq!(server.read(&mut [0; 1]).unwrap_err().kind(), std::io::ErrorKind::UnexpectedEof);
}

#[test]
fn the_client_gets_whom_it_wants() {
    for wanted in [Wanted::Node(names(3).node()), Wanted::Address(names(3).address())] {
        let (client, server) = meet(&identity(1), wanted, &identity(2), None);
        let found = Box::new(names(2));
        assert!(matches!(client, Err(Error::Certificate(bad)) if bad == BadCertificate::NotWanted { wanted, found }));
        assert!(matches!(server, Err(Error::Refused(_))), "{server:?}");
    }
}

#[test]
fn other_authorities_are_refused_on_both_sides() {
    let (trust, other) = (trust(), Trust::new(&ClusterKey::new([7; 32])));
    let names = names(1);
    for (issued, issuer) in [
        (other.nodes.issue(&names, Validity::LIFE, &[1; 32]), "another cluster"),
        (trust.consul.issue(ConsulRole::Server, names.address(), &[1; 32]), "Consul's"),
        (trust.users.issue(&"ada".parse().unwrap(), Validity::LIFE, &[1; 32]), "the users'"),
        (trust.users.issue_server(&names, names.address(), &[1; 32]), "the users' server"),
    ] {
        let (_, server) = meet(&showing(&issued), Wanted::Node(self::names(2).node()), &identity(2), Some(NOW));
        // What it may do is asked before whose it is.
        let expected = if issuer == "the users' server" { BadCertificate::Usage } else { BadCertificate::Issuer };
        assert!(matches!(&server, Err(Error::Certificate(bad)) if *bad == expected), "{issuer}: {server:?}");
        let (client, _) = meet(&identity(2), Wanted::Node(names.node()), &showing(&issued), Some(NOW));
        // A user's is refused for what it may do before anybody asks whose it is.
        let expected = if issuer == "the users'" { BadCertificate::Usage } else { BadCertificate::Issuer };
        assert!(matches!(&client, Err(Error::Certificate(bad)) if *bad == expected), "{issuer}: {client:?}");
    }
}

#[test]
fn only_an_authority_for_nodes_makes_a_node() {
    let (trust, names) = (trust(), names(1));
    for (authority, expected) in
        [(&trust.nodes.0, None), (&trust.consul.0, Some(BadCertificate::Issuer)), (&trust.users.0, Some(BadCertificate::Issuer))]
    {
        let issued = authority.issue("node-1", certificate::Usage::Both, &names.general_names(), Validity::LIFE, &[1; 32]);
        let (_, server) = meet(&showing(&issued), Wanted::Node(self::names(2).node()), &identity(2), Some(NOW));
        let refused = server.err().map(|error| match error {
            Error::Certificate(bad) => bad,
            error => panic!("{error}"),
        });
        assert_eq!(refused, expected);
    }
}

#[test]
fn only_the_names_of_a_node_make_a_node() {
    let (trust, [node, address, name]) = (trust(), names(0xab).general_names());
    let other = names(2).general_names();
    for bad in [
        vec![],
        vec![node.clone(), address.clone()],
        vec![address.clone(), node.clone(), name.clone()],
        vec![node.clone(), address.clone(), name.clone(), other[2].clone()],
        vec![node.clone(), other[0].clone(), address.clone(), name.clone()],
        vec![names::uri("hcl:user:ada"), address.clone(), name.clone()],
        vec![names::uri("hcl:node:ab"), address.clone(), name.clone()],
        vec![names::uri(&format!("hcl:node:{}", "AB".repeat(16))), address.clone(), name.clone()],
        vec![node.clone(), names::address(std::net::Ipv6Addr::LOCALHOST.into()), name.clone()],
        vec![node.clone(), address.clone(), names::dns("master")],
        vec![node.clone(), address.clone(), names::dns("a.example")],
    ] {
        let issued = trust.nodes.0.issue("node", certificate::Usage::Both, &bad, Validity::LIFE, &[1; 32]);
        let (_, server) = meet(&showing(&issued), Wanted::Node(names(2).node()), &identity(2), Some(NOW));
        assert!(matches!(server, Err(Error::Certificate(BadCertificate::Names))), "{bad:?}: {server:?}");
    }
    // One that may ask and not serve.
    let right = [node, address, name];
    let issued = trust.nodes.0.issue("node", certificate::Usage::Client, &right, Validity::LIFE, &[1; 32]);
    let (client, _) = meet(&identity(2), Wanted::Node(names(0xab).node()), &showing(&issued), Some(NOW));
    assert!(matches!(client, Err(Error::Certificate(BadCertificate::Usage))), "{client:?}");
    let (_, server) = meet(&showing(&issued), Wanted::Node(names(2).node()), &identity(2), Some(NOW));
    assert_eq!(server.unwrap().peer().node(), names(0xab).node());
}

#[test]
fn dates_count_where_the_clock_is_trusted() {
    let (trust, wanted) = (trust(), Wanted::Node(names(2).node()));
    for (from, until) in [(0, NOW - 1), (NOW + 1, NOW + 2), (NOW + 1, Validity::LIFE.until)] {
        let odd = showing(&trust.nodes.issue(&names(1), Validity { from, until }, &[1; 32]));
        let (_, server) = meet(&odd, wanted, &identity(2), Some(NOW));
        assert!(matches!(server, Err(Error::Certificate(BadCertificate::Time(NOW)))), "{server:?}");
        let (_, server) = meet(&odd, wanted, &identity(2), None);
        assert_eq!(server.unwrap().peer().name(), "node-1", "{from} to {until}");
        // All else counts without a clock as well.
        let other = Trust::new(&ClusterKey::new([7; 32]));
        let odd = showing(&other.nodes.issue(&names(1), Validity { from, until }, &[1; 32]));
        let (_, server) = meet(&odd, wanted, &identity(2), None);
        assert!(matches!(server, Err(Error::Certificate(BadCertificate::Issuer))), "{server:?}");
    }
}

#[test]
fn a_slow_or_silent_other_end_is_given_up() {
    let limit = Duration::from_millis(200);
    let (ours, _silent) = UnixStream::pair().unwrap();
    assert!(matches!(identity(1).accept(ours, None, limit), Err(Error::TooSlow(_))));
    let (ours, mut theirs) = UnixStream::pair().unwrap();
    // A byte now and then, of a record that does not end.
    thread::scope(|scope| {
        let server = scope.spawn(|| identity(1).accept(ours, None, limit));
        for byte in [0x16, 3, 1, 0x3f, 0xff].into_iter().chain(std::iter::repeat(0)) {
            if theirs.write_all(&[byte]).is_err() {
                break;
            }
            thread::sleep(limit / 20);
        }
        let refused = server.join().unwrap();
        assert!(matches!(refused, Err(Error::TooSlow(_))), "{refused:?}");
    });
    let (client, server) = meet(&identity(1), Wanted::Node(names(2).node()), &identity(2), None);
    let (_client, mut server) = (client.unwrap(), server.unwrap());
    server.limit(limit).unwrap();
    let error = server.read(&mut [0; 1]).unwrap_err();
    assert!(matches!(error.kind(), std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut), "{error}");
}

#[test]
fn no_tls_is_told_apart() {
    let (ours, mut theirs) = UnixStream::pair().unwrap();
    theirs.write_all(b"GET / HTTP/1.1\r\n\r\n").unwrap();
    assert!(matches!(identity(1).accept(ours, None, LIMIT), Err(Error::Tls(_))));
    let (ours, theirs) = UnixStream::pair().unwrap();
    drop(theirs);
    assert!(matches!(identity(1).accept(ours, None, LIMIT), Err(Error::Broken(_))));
}

/// openssl's client with `args`, against a server of ours: the session or why not, and what openssl said.
fn openssl_connects(args: &str) -> (Result<Session<TcpStream>, Error>, String) {
    let folder = tempfile::tempdir().unwrap();
    let issued = trust().nodes.issue(&names(1), Validity::LIFE, &[1; 32]);
    std::fs::write(folder.path().join("ca"), trust().nodes.certificate_pem()).unwrap();
    std::fs::write(folder.path().join("cert"), issued.certificate_pem()).unwrap();
    std::fs::write(folder.path().join("key"), issued.key_pem()).unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let to = listener.local_addr().unwrap();
    let args = format!("s_client -connect {to} -verifyCAfile ca -verify_return_error {args}");
    thread::scope(|scope| {
        let client = scope.spawn(|| {
            let (_, said) = openssl(folder.path(), &args);
            // If it never came, this ends the wait for it.
            let _ = TcpStream::connect(to);
            said
        });
        let (stream, _) = listener.accept().unwrap();
        let mut session = identity(2).accept(stream, Some(NOW), LIMIT);
        if let Ok(session) = &mut session {
            // openssl sends a goodbye, for there is nothing on its standard input.
            let _ = session.read(&mut [0; 1]);
        }
        (session, client.join().unwrap())
    })
}

#[test]
fn openssl_as_the_client() {
    let (session, said) =
        openssl_connects("-cert cert -key key -verify_ip 127.0.0.2 -keymatexport EXPORTER-Channel-Binding -keymatexportlen 32");
    let session = session.unwrap_or_else(|error| panic!("{error}: {said}"));
    assert_eq!(session.peer().to_string(), names(1).to_string());
    assert!(said.contains("TLSv1.3") && said.contains("Verify return code: 0 (ok)"), "{said}");
    assert!(said.contains(&format!("Keying material: {}", hex(&session.exporter().0).to_uppercase())), "{said}");
    assert!(openssl_connects("-cert cert -key key -verify_ip 127.0.0.3").1.contains("IP address mismatch"));
    let refused = |args: &str, expected: fn(&Error) -> bool| {
        let (session, said) = openssl_connects(args);
        assert!(session.as_ref().is_err_and(expected), "{args}: {session:?}: {said}");
    };
    refused("", |error| matches!(error, Error::NoCertificate));
    refused("-cert cert -key key -tls1_2", |error| matches!(error, Error::Tls(_)));
    refused("-cert cert -key key -ciphersuites TLS_AES_128_GCM_SHA256", |error| matches!(error, Error::Tls(_)));
    refused("-cert cert -key key -CAfile ca", |error| matches!(error, Error::Certificate(BadCertificate::Chain)));
}

/// openssl as the port for people; it serves `connections` of them.
fn openssl_serves(folder: &Path, connections: usize) -> (std::process::Child, String) {
    let trust = trust();
    let issued = trust.users.issue_server(&names(9), [192, 168, 200, 1].into(), &[5; 32]);
    for (name, content) in [("ca", trust.users.certificate_pem()), ("cert", issued.certificate_pem()), ("key", issued.key_pem())]
    {
        std::fs::write(folder.join(name), content).unwrap();
    }
    let args = format!(
        "s_server -accept 127.0.0.1:0 -cert cert -key key -CAfile ca -Verify 1 -verify_return_error -www -naccept {connections}"
    );
    let mut server = Command::new("openssl");
    server.current_dir(folder).args(args.split_whitespace()).stdin(Stdio::null()).stderr(Stdio::null()).stdout(Stdio::piped());
    let mut server = server.spawn().expect("openssl must be installed: apt-get install openssl");
    let mut lines = std::io::BufRead::lines(std::io::BufReader::new(server.stdout.take().unwrap()));
    let at = lines.find_map(|line| line.unwrap().strip_prefix("ACCEPT ").map(str::to_owned)).unwrap();
    // What it says must go somewhere.
    thread::spawn(move || lines.for_each(drop));
    (server, at)
}

#[test]
fn a_person_asks_openssl() {
    let (trust, folder) = (trust(), tempfile::tempdir().unwrap());
    let person = |users: &Users| Person::new(users, &users.issue(&"ada".parse().unwrap(), Validity::LIFE, &[4; 32])).unwrap();
    let (ours, other) = (person(&trust.users), Trust::new(&ClusterKey::new([7; 32])));
    // A user of another cluster that knows this one's authority all the same.
    let stranger = other.users.issue(&"ada".parse().unwrap(), Validity::LIFE, &[4; 32]);
    let stranger = Person::new(&trust.users, &stranger).unwrap();
    let (mut server, at) = openssl_serves(folder.path(), 5);
    let ask = |person: &Person, name: &str| {
        let mut channel = person.connect(TcpStream::connect(&at).unwrap(), name, LIMIT).map_err(|error| error.to_string())?;
        let mut answer = vec![0; 12];
        let asked = channel.write_all(b"GET / HTTP/1.0\r\n\r\n").and_then(|()| channel.read_exact(&mut answer));
        asked.map_err(|error| error.to_string()).map(|()| String::from_utf8_lossy(&answer).into_owned())
    };
    for name in ["master", "localhost", "192.168.200.1"] {
        assert_eq!(ask(&ours, name).as_deref(), Ok("HTTP/1.0 200"), "{name}");
    }
    let refused = ask(&ours, "node-8").unwrap_err();
    assert!(refused.starts_with("no server of this cluster's Docker endpoint: "), "{refused}");
    ask(&stranger, "master").unwrap_err();
    server.wait().unwrap();
    // A node is no such server, though its certificate may serve.
    let (near, far) = UnixStream::pair().unwrap();
    thread::scope(|scope| {
        scope.spawn(|| drop(identity(9).accept(far, None, LIMIT)));
        assert!(matches!(ours.connect(near, "node-9", LIMIT), Err(Error::Server(_))));
    });
}
