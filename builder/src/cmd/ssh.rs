//! `hcl-image ssh`.

use std::{
    ffi::OsString,
    net::{IpAddr, ToSocketAddrs},
    os::unix::process::CommandExt,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::anyhow;

use crate::{
    keys::{self, Keys},
    lab::process::find,
    manifest::ClusterName,
};

/// Arguments of `ssh`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
The node's host key is checked by the cluster key in your folder of keys: nothing is asked, nothing is learned, and a node \
that cannot show a certificate of this cluster for its name is refused. A name is looked for as NAME.local, as nodes announce \
themselves; whoever leads is `master`; under an address any node of the cluster is right.

The exit code is that of the command, 255 where ssh itself failed, 2 for wrong arguments.

Examples:
  hcl-image ssh master
  hcl-image ssh node-4c0002 sudo hcl health
  hcl-image ssh --cluster kitchen 192.168.1.31")]
pub struct Args {
    /// Name or address of a node; `master` is whoever leads
    #[arg(value_parser = target)]
    node: Target,
    /// What to run there instead of a shell
    #[arg(value_name = "COMMAND", trailing_var_arg = true, allow_hyphen_values = true)]
    command: Vec<OsString>,
    /// The node's cluster, where you have keys of several
    #[arg(long, value_name = "NAME", value_parser = super::key::cluster)]
    cluster: Option<ClusterName>,
    /// Folder of the clusters' keys, instead of the one in your configuration folder
    #[arg(long, value_name = "DIR")]
    keys: Option<PathBuf>,
    /// As whom to log in
    #[arg(long, value_name = "NAME", default_value = "hcl", value_parser = login)]
    user: String,
    /// Private key to log in with, instead of the one that the build made
    #[arg(long, value_name = "FILE")]
    identity: Option<PathBuf>,
    /// TCP port of the SSH server
    #[arg(long, short, value_name = "NUMBER", default_value_t = 22, value_parser = clap::value_parser!(u16).range(1..))]
    port: u16,
}

/// Where a node is.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Target {
    /// What is connected to.
    host: String,
    /// The name that its certificate must have; none where any node of the cluster is right.
    name: Option<String>,
}

/// Reads a node's name or address. What begins with a hyphen would be an option of ssh's.
fn target(text: &str) -> Result<Target, String> {
    if text.parse::<IpAddr>().is_ok() {
        return Ok(Target { host: text.to_owned(), name: None });
    }
    let labels: Vec<&str> = text.split('.').collect();
    let plain = |label: &&str| {
        let hyphen = label.starts_with('-') || label.ends_with('-');
        (1..=63).contains(&label.len()) && !hyphen && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
    };
    if !labels.iter().all(plain) {
        return Err("neither a host name nor an address".to_owned());
    }
    let any = |host: String| Ok(Target { host, name: None });
    match labels[..] {
        ["localhost"] => any(text.to_owned()),
        // The name goes where the role goes; certificates do not.
        ["master"] | ["master", "local"] => any("master.local".to_owned()),
        [name] | [name, "local"] => {
            let name = name.to_ascii_lowercase();
            Ok(Target { host: format!("{name}.local"), name: Some(name) })
        }
        // By the home router's names nobody knows which node is meant.
        _ => any(text.to_owned()),
    }
}

/// Reads a user's name; other images have other users than ours, root among them.
fn login(name: &str) -> Result<String, String> {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
    let right = (1..=32).contains(&name.len()) && !name.starts_with('-') && name.bytes().all(plain);
    if right { Ok(name.to_owned()) } else { Err("no name of a user".to_owned()) }
}

/// Runs `ssh`, which takes this process's place.
///
/// # Errors
///
/// There is no key of the cluster here, or it is not to be found out which cluster; ssh is missing.
pub fn run(args: &Args) -> anyhow::Result<()> {
    let dir = args.keys.as_deref();
    let (cluster, key) = keys::choose(dir, args.cluster.clone())?;
    let (known, authority) = keys::known_hosts(dir, &cluster, &key)?;
    let identity = match &args.identity {
        Some(identity) if !identity.is_file() => {
            return Err(UsageError::new(format!("`--identity`: {}: no such file", identity.display())));
        }
        Some(identity) => Some(identity.clone()),
        // Whoever gave the manifest a key of his own has it where ssh looks.
        None => Keys::find(dir, &cluster)?.map(|pair| pair.private_path().to_owned()),
    };
    let arguments = arguments(args, &known, authority.alias(), identity.as_deref());
    // ssh asks once more and says what it found; it may know the name from its own configuration.
    if (args.node.host.as_str(), args.port).to_socket_addrs().is_err() {
        eprintln!(
            "hcl-image: {} is not known on this network: is the node on? Its address does as well: hcl-image ssh 192.168.x.y",
            args.node.host
        );
    }
    let error = Command::new(find("ssh", "openssh-client")?).args(arguments).exec();
    Err(anyhow!("starting ssh: {error}"))
}

fn arguments(args: &Args, known: &Path, any: &str, identity: Option<&Path>) -> Vec<OsString> {
    let mut all: Vec<OsString> = Vec::new();
    let mut option = |text: String| all.extend(["-o".into(), text.into()]);
    option(format!("UserKnownHostsFile={}", file(known)));
    option("GlobalKnownHostsFile=/dev/null".to_owned());
    option("StrictHostKeyChecking=yes".to_owned());
    option(format!("HostKeyAlias={}", args.node.name.as_deref().unwrap_or(any)));
    // Nothing else may say that a host is known: no record of a name server, no connection that stands open, no key that is learned.
    option("VerifyHostKeyDNS=no".to_owned());
    option("ControlPath=none".to_owned());
    option("UpdateHostKeys=no".to_owned());
    option("CheckHostIP=no".to_owned());
    if let Some(identity) = identity {
        option(format!("IdentityFile={}", file(identity)));
        option("IdentitiesOnly=yes".to_owned());
    }
    all.extend(["-l".into(), args.user.clone().into(), "-p".into(), args.port.to_string().into()]);
    all.extend(["--".into(), args.node.host.clone().into()]);
    all.extend(args.command.iter().cloned());
    all
}

/// A file's name in an option of ssh's, where spaces part names and `%` stands for something.
fn file(path: &Path) -> String {
    format!("\"{}\"", path.display().to_string().replace('%', "%%").replace('\\', r"\\").replace('"', "\\\""))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nodes() {
        let to = |host: &str, name: Option<&str>| Ok(Target { host: host.into(), name: name.map(str::to_owned) });
        for (text, wanted) in [
            ("node-4c0002", to("node-4c0002.local", Some("node-4c0002"))),
            ("NODE-4C0002.local", to("node-4c0002.local", Some("node-4c0002"))),
            ("master", to("master.local", None)),
            ("master.local", to("master.local", None)),
            ("192.168.200.10", to("192.168.200.10", None)),
            ("fe80::1", to("fe80::1", None)),
            ("localhost", to("localhost", None)),
            ("node-4c0002.fritz.box", to("node-4c0002.fritz.box", None)),
        ] {
            assert_eq!(target(text), wanted, "{text}");
        }
        for text in ["", "-oProxyCommand=reboot", "a b", "a..b", "me@node", "node;reboot", "node-", "$(reboot)"] {
            assert!(target(text).is_err(), "{text}");
        }
    }

    #[test]
    fn users() {
        for name in ["hcl", "root", "anna.b", "_svc-1"] {
            assert_eq!(login(name).as_deref(), Ok(name));
        }
        for name in ["", "-oProxyCommand=x", "a b", "a@b", "a;b"] {
            assert!(login(name).is_err(), "{name}");
        }
    }
}
