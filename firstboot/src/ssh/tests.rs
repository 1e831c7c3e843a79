//! The certificates, judged by OpenSSH.

use std::{fs, path::Path, process::Command};

use super::*;

fn key() -> ClusterKey {
    ClusterKey::new(std::array::from_fn(|place| place as u8))
}

fn ssh_keygen(folder: &Path, arguments: &[&str]) -> (bool, String) {
    let output = Command::new("ssh-keygen").current_dir(folder).args(arguments).output();
    let output = output.expect("ssh-keygen must be installed: apt-get install openssh-client");
    (output.status.success(), String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned())
}

/// A folder with a host key, and its public half.
fn bench() -> (tempfile::TempDir, HostKey) {
    let folder = tempfile::tempdir().unwrap();
    assert!(ssh_keygen(folder.path(), &["-q", "-t", "ed25519", "-N", "", "-C", "a comment", "-f", "key"]).0);
    let public = fs::read_to_string(folder.path().join("key.pub")).unwrap();
    (folder, public.parse().unwrap())
}

#[test]
fn the_authority_stays_what_it_is() {
    // Of another implementation: Python's hmac for RFC 5869, openssl for the public key.
    let golden = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIHsvkYY4NKtDU2CTS9IGLJLqy+Vv04VFjnSIbNxludhg";
    let authority = HostAuthority::new(&key());
    assert_eq!((authority.public().as_str(), authority.alias()), (golden, "hcl-39773d13"));
    assert_ne!(HostAuthority::new(&ClusterKey::new([7; 32])).public(), golden);
    assert_eq!(format!("{authority:?}"), "HostAuthority of hcl-39773d13");
}

#[test]
fn ssh_keygen_reads_the_certificate() {
    let (folder, host) = bench();
    let authority = HostAuthority::new(&key());
    let certificate = authority.sign(&host, "node-1", [192, 168, 200, 77].into());
    assert_eq!(certificate, authority.sign(&host, "node-1", [192, 168, 200, 77].into()), "not the same a second time");
    fs::write(folder.path().join("key-cert.pub"), &certificate).unwrap();
    fs::write(folder.path().join("ca.pub"), authority.public()).unwrap();
    let (right, text) = ssh_keygen(folder.path(), &["-L", "-f", "key-cert.pub"]);
    assert!(right, "{text}");
    let print = |file: &str| {
        let (right, text) = ssh_keygen(folder.path(), &["-l", "-f", file]);
        assert!(right, "{text}");
        text.split(' ').nth(1).unwrap().to_owned()
    };
    let lines: Vec<&str> = text.lines().map(str::trim).skip(1).collect();
    let (host, signer) = (format!("Public key: ED25519-CERT {}", print("key.pub")), print("ca.pub"));
    let wanted = [
        "Type: ssh-ed25519-cert-v01@openssh.com host certificate",
        &host,
        &format!("Signing CA: ED25519 {signer} (using ssh-ed25519)"),
        "Key ID: \"node-1\"",
        "Serial: 0",
        "Valid: forever",
        "Principals:",
        "node-1",
        "node-1.local",
        "192.168.200.77",
        "hcl-39773d13",
        "Critical Options: (none)",
        "Extensions: (none)",
    ];
    assert_eq!(lines, wanted);
    // That it can say no: the signature is checked before anything is shown.
    let mut words = certificate.split(' ').map(str::to_owned).collect::<Vec<_>>();
    let mut bytes = BASE64.decode(words[1].as_bytes()).unwrap();
    let place = bytes.windows(14).position(|found| found == b"192.168.200.77").unwrap();
    bytes[place] = b'2';
    words[1] = BASE64.encode(&bytes);
    fs::write(folder.path().join("key-cert.pub"), words.join(" ")).unwrap();
    let (right, text) = ssh_keygen(folder.path(), &["-L", "-f", "key-cert.pub"]);
    assert!(!right && !text.contains("Principals"), "{text}");
}

#[test]
fn what_is_no_host_key() {
    let (_folder, host) = bench();
    let line = format!("{host:?} a comment\n");
    assert_eq!(line.parse(), Ok(host));
    let other = |text: &str, by: &str| line.replacen(text, by, 1).parse::<HostKey>();
    for wrong in
        [other("ssh-ed25519", "ssh-rsa"), other("AAAAC3", "AAAAC4"), other("AAAAC3", "AAAA"), "".parse(), "ssh-ed25519".parse()]
    {
        assert_eq!(wrong, Err(BadHostKey));
    }
}

#[test]
fn patterns_of_subnets() {
    for (subnet, wanted) in [
        ("192.168.200.0/24", vec!["192.168.200.*"]),
        ("192.168.200.64/28", vec!["192.168.200.*"]),
        ("10.7.0.0/16", vec!["10.7.*"]),
        ("10.7.4.0/22", vec!["10.7.4.*", "10.7.5.*", "10.7.6.*", "10.7.7.*"]),
    ] {
        assert_eq!(patterns(subnet.parse().unwrap()), wanted, "{subnet}");
    }
}

#[test]
fn ssh_keygen_finds_the_authority_for_the_clusters_hosts_only() {
    let folder = tempfile::tempdir().unwrap();
    let hosts = ["192.168.200.*".to_owned(), "node-1".to_owned(), "node-1.local".to_owned()];
    fs::write(folder.path().join("known"), HostAuthority::new(&key()).known_hosts(&hosts)).unwrap();
    for (host, found) in
        [("192.168.200.77", true), ("node-1", true), ("node-1.local", true), ("192.168.20.77", false), ("github.com", false)]
    {
        let (right, text) = ssh_keygen(folder.path(), &["-F", host, "-f", "known"]);
        assert_eq!((right, text.contains("CA")), (found, found), "{host}: {text}");
    }
}
