use std::{collections::BTreeSet, os::unix::fs::PermissionsExt, sync::Barrier};

use super::*;

fn cluster(name: &str) -> ClusterName {
    name.parse().expect("a cluster name")
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).expect("metadata").permissions().mode() & 0o7777
}

#[test]
fn made_once_and_used_ever_after() {
    let dir = tempfile::tempdir().unwrap();
    let base = dir.path().join("deep/config");
    let first = Keys::open(Some(&base), &cluster("lab")).unwrap();
    let again = Keys::open(Some(&base), &cluster("lab")).unwrap();
    let other = Keys::open(Some(&base), &cluster("kitchen")).unwrap();
    assert!(first.made() && !again.made() && other.made());
    assert_eq!(first.public(), again.public());
    assert_ne!(first.public(), other.public());
    assert!(first.public().line().starts_with("ssh-ed25519 ") && first.public().line().ends_with(" hcl-image lab"));

    let folder = base.join("lab");
    assert_eq!([mode(&folder), mode(&folder.join("id_ed25519")), mode(&folder.join("id_ed25519.pub"))], [0o700, 0o600, 0o644]);
    let names: BTreeSet<_> = fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(names, BTreeSet::from(["id_ed25519".into(), "id_ed25519.pub".into()]), "nothing else is left");
}

#[test]
fn openssh_takes_the_key() {
    let dir = tempfile::tempdir().unwrap();
    let keys = Keys::open(Some(dir.path()), &cluster("lab")).unwrap();
    let output = std::process::Command::new("ssh-keygen")
        .args(["-y", "-f"])
        .arg(keys.private_path())
        .output()
        .expect("ssh-keygen is missing: install openssh-client");
    assert!(output.status.success(), "{output:?}");
    assert_eq!(String::from_utf8(output.stdout).unwrap().trim(), keys.public().line());
}

#[test]
fn a_lost_public_half_is_made_again() {
    let dir = tempfile::tempdir().unwrap();
    let keys = Keys::open(Some(dir.path()), &cluster("lab")).unwrap();
    let public = dir.path().join("lab/id_ed25519.pub");
    fs::write(&public, "garbage").unwrap();
    assert_eq!(Keys::open(Some(dir.path()), &cluster("lab")).unwrap().public(), keys.public());
    assert_eq!(fs::read_to_string(&public).unwrap(), format!("{}\n", keys.public()));
}

#[test]
fn many_at_once_agree() {
    let dir = tempfile::tempdir().unwrap();
    let start = Barrier::new(8);
    let all: Vec<Keys> = std::thread::scope(|scope| {
        let open = || {
            start.wait();
            Keys::open(Some(dir.path()), &cluster("lab")).unwrap()
        };
        let threads: Vec<_> = (0..8).map(|_| scope.spawn(open)).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    assert_eq!(all.iter().filter(|keys| keys.made()).count(), 1);
    assert!(all.iter().all(|keys| keys.public() == all[0].public()));
}

#[test]
fn what_others_can_read_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    Keys::open(Some(dir.path()), &cluster("lab")).unwrap();
    let folder = dir.path().join("lab");
    for (path, open, right) in [(folder.join("id_ed25519"), 0o640, 0o600), (folder.clone(), 0o755, 0o700)] {
        fs::set_permissions(&path, fs::Permissions::from_mode(open)).unwrap();
        let error = Keys::open(Some(dir.path()), &cluster("lab")).unwrap_err();
        let shown = path.display();
        assert_eq!(
            error.to_string(),
            format!("{shown} is open to others (mode {open:04o}): type `chmod {right:04o} {shown}` and start again")
        );
        assert!(error.is::<UsageError>());
        fs::set_permissions(&path, fs::Permissions::from_mode(right)).unwrap();
    }
    assert!(Keys::open(Some(dir.path()), &cluster("lab")).is_ok());
}

#[test]
fn what_is_no_key_is_refused_and_kept() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path().join("lab");
    fs::DirBuilder::new().mode(0o700).create(&folder).unwrap();
    let path = folder.join("id_ed25519");
    fs::write(&path, "precious").unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
    let error = Keys::open(Some(dir.path()), &cluster("lab")).unwrap_err().to_string();
    assert!(error.starts_with(&format!("{} is no OpenSSH private key: ", path.display())), "{error}");
    assert_eq!(fs::read_to_string(&path).unwrap(), "precious");
}

#[test]
fn debug_shows_no_secret_and_the_command_can_be_pasted() {
    let dir = tempfile::tempdir().unwrap();
    let keys = Keys::open(Some(&dir.path().join("my keys")), &cluster("lab")).unwrap();
    let secret = fs::read_to_string(keys.private_path()).unwrap();
    let debug = format!("{keys:?}");
    assert!(secret.lines().filter(|line| !line.starts_with("-----")).all(|line| !debug.contains(line)), "{debug}");
    let command = keys.ssh_command(&"hcl".parse().unwrap(), "node-1.local");
    assert_eq!(command, format!("ssh -i '{}' hcl@node-1.local", keys.private_path().display()));
}

#[test]
fn where_keys_are_kept() {
    for (xdg, home, expected) in [
        (Some("/x"), Some("/home/a"), Ok("/x/hcl-image")),
        (None, Some("/home/a"), Ok("/home/a/.config/hcl-image")),
        (Some("relative"), Some("/home/a"), Ok("/home/a/.config/hcl-image")),
        (Some(""), Some(""), Err("no folder for keys: neither XDG_CONFIG_HOME nor HOME is set; name one with `--keys DIR`")),
    ] {
        let variable = |name: &str| if name == "HOME" { home.map(Into::into) } else { xdg.map(Into::into) };
        let found = configuration_folder(variable);
        match expected {
            Ok(path) => assert_eq!(found.unwrap(), Path::new(path)),
            Err(message) => assert_eq!(found.unwrap_err().to_string(), message),
        }
    }
}

#[test]
fn the_cluster_key_is_made_once_per_cluster_and_needs_no_ssh_key() {
    let dir = tempfile::tempdir().unwrap();
    assert_eq!(ClusterKeyFile::find(Some(dir.path()), &cluster("lab")).unwrap(), None);
    assert!(!dir.path().join("lab").exists(), "looking makes nothing");
    let first = ClusterKeyFile::open(Some(dir.path()), &cluster("lab")).unwrap();
    let again = ClusterKeyFile::find(Some(dir.path()), &cluster("lab")).unwrap().unwrap();
    let other = ClusterKeyFile::open(Some(dir.path()), &cluster("kitchen")).unwrap();
    assert!(first.made() && !again.made() && other.made());
    assert_eq!(first.id(), again.id());
    assert_ne!(first.id(), other.id());

    let text = fs::read_to_string(first.path()).unwrap();
    assert_eq!(first.path(), dir.path().join("lab/cluster.key"));
    assert!(text.len() == 65 && text.ends_with('\n'), "64 digits and a newline");
    assert!(text.trim_end().bytes().all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte)));
    assert_eq!([mode(&dir.path().join("lab")), mode(first.path())], [0o700, 0o600]);
    let names: Vec<_> = fs::read_dir(dir.path().join("lab")).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(names, ["cluster.key"], "nothing else is left");
    assert!(!format!("{first:?}").contains(text.trim_end()), "Debug shows the secret");
}

#[test]
fn many_at_once_agree_on_the_cluster_key() {
    let dir = tempfile::tempdir().unwrap();
    let start = Barrier::new(8);
    let all: Vec<ClusterKeyFile> = std::thread::scope(|scope| {
        let open = || {
            start.wait();
            ClusterKeyFile::open(Some(dir.path()), &cluster("lab")).unwrap()
        };
        let threads: Vec<_> = (0..8).map(|_| scope.spawn(open)).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    assert_eq!(all.iter().filter(|key| key.made()).count(), 1);
    assert!(all.iter().all(|key| key.id() == all[0].id()));
}

#[test]
fn a_wrong_or_open_cluster_key_is_refused_and_kept() {
    let dir = tempfile::tempdir().unwrap();
    let path = ClusterKeyFile::open(Some(dir.path()), &cluster("lab")).unwrap().path().to_owned();
    let right = fs::read_to_string(&path).unwrap();
    for wrong in [
        "",
        "precious",
        right.trim_end(),
        &right.to_uppercase().replace(|digit: char| digit.is_ascii_digit(), "A"),
        &format!("{right}\n"),
    ] {
        fs::write(&path, wrong).unwrap();
        let error = ClusterKeyFile::open(Some(dir.path()), &cluster("lab")).unwrap_err();
        assert!(error.is::<UsageError>() && error.to_string().contains("is no cluster key"), "{error}");
        assert!(wrong.is_empty() || !error.to_string().contains(wrong.trim_end()), "the error shows the content");
        assert_eq!(fs::read_to_string(&path).unwrap(), wrong);
    }
    fs::write(&path, &right).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
    let error = ClusterKeyFile::open(Some(dir.path()), &cluster("lab")).unwrap_err().to_string();
    assert!(error.contains("is open to others (mode 0640): type `chmod 0600 "), "{error}");
}

#[test]
fn one_cluster_or_a_name() {
    let all = |names: &[&str]| only(names.iter().map(|name| name.parse().unwrap()).collect());
    assert_eq!(all(&["lab"]).unwrap().as_str(), "lab");
    assert!(all(&["kitchen", "lab"]).unwrap_err().to_string().starts_with("you have keys of kitchen, lab: "));
    assert!(all(&[]).unwrap_err().to_string().starts_with("no key of any cluster here"));
}
