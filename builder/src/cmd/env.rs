//! `hcl-image env`.

use std::{net::Ipv4Addr, path::PathBuf};

use hcl_firstboot::{endpoint::MANAGE_PORT, trust::UserName};
use serde_json::json;

use crate::{
    keys,
    manifest::ClusterName,
    progress::{Mode, Reporter},
};

/// The variables of a Docker client, as they are printed.
const HOST: &str = "DOCKER_HOST";
const VERIFY: &str = "DOCKER_TLS_VERIFY";
const FILES: &str = "DOCKER_CERT_PATH";

/// Arguments of `env`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Type `eval \"$(hcl-image env)\"`: from then on `docker` and `docker-compose` in this shell are about the whole cluster. The certificate is \
made on this machine from the cluster key, once for each name, and kept in your folder of keys. `sudo hcl user remove NAME` on a node \
takes it back, and every other one in that name.

Examples:
  eval \"$(hcl-image env)\"
  eval \"$(hcl-image env --host 127.0.0.1)\"      a lab of `hcl-image up` on this machine
  eval \"$(hcl-image env --unset)\"")]
pub struct Args {
    /// The cluster, where you have keys of several
    #[arg(long, value_name = "NAME", value_parser = super::key::cluster)]
    cluster: Option<ClusterName>,
    /// As whom to ask; your login name unless one is given
    #[arg(long, value_name = "USER", value_parser = user)]
    name: Option<UserName>,
    /// Where to ask: `master.local`, a server's name or its address in the cluster, or 127.0.0.1 for a forwarded port
    #[arg(long, value_name = "HOST[:PORT]", default_value = "master.local", value_parser = host)]
    host: Host,
    /// Folder of the clusters' keys, instead of the one in your configuration folder
    #[arg(long, value_name = "DIR")]
    keys: Option<PathBuf>,
    /// Print what takes the variables away again
    #[arg(long, conflicts_with_all = ["cluster", "name", "host", "keys"])]
    unset: bool,
}

/// Where to ask.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Host {
    name: String,
    port: u16,
}

fn host(text: &str) -> Result<Host, String> {
    let (name, port) = match text.split_once(':') {
        Some((name, port)) => (name, port.parse().ok().filter(|port| *port > 0).ok_or("after `:` comes a port, 1 to 65535")?),
        None => (text, MANAGE_PORT),
    };
    let label = |label: &str| {
        let plain = label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-');
        (1..=63).contains(&label.len()) && plain && !label.starts_with('-') && !label.ends_with('-')
    };
    let right = name.parse::<Ipv4Addr>().is_ok() || name.split('.').all(label);
    if right { Ok(Host { name: name.to_owned(), port }) } else { Err("neither a host name nor an IPv4 address".to_owned()) }
}

fn user(text: &str) -> Result<UserName, String> {
    text.parse().map_err(|error: hcl_firstboot::trust::BadNames| error.to_string())
}

/// A login name as a user of the cluster: what cannot stand in one becomes a hyphen.
fn own(login: Option<String>) -> Option<UserName> {
    let plain = |letter: char| letter.is_ascii_lowercase() || letter.is_ascii_digit();
    let name: String = login?.to_ascii_lowercase().chars().map(|letter| if plain(letter) { letter } else { '-' }).collect();
    name.trim_start_matches(|letter: char| !letter.is_ascii_lowercase()).parse().ok()
}

/// Prints what a shell takes.
///
/// # Errors
///
/// There is no key of the cluster here, it is not to be found out which cluster or whose name, or the certificate cannot be written.
pub fn run(args: Args, reporter: &Reporter) -> anyhow::Result<()> {
    if args.unset {
        println!("unset {HOST} {VERIFY} {FILES}");
        return Ok(());
    }
    let dir = args.keys.as_deref();
    let (cluster, key) = keys::choose(dir, args.cluster)?;
    let name = args.name.or_else(|| own(std::env::var("USER").ok()));
    let name =
        name.ok_or_else(|| crate::error::UsageError::new("your login name is not known: name a user with `--name USER`"))?;
    let folder = keys::docker_folder(dir, &cluster, &key, &name)?;
    let folder = std::path::absolute(&folder)?;
    let host = format!("tcp://{}:{}", args.host.name, args.host.port);
    if reporter.mode() == Mode::Json {
        println!("{}", json!({ HOST: host, VERIFY: "1", FILES: folder, "user": name.as_str() }));
        return Ok(());
    }
    println!("export {HOST}={host} {VERIFY}=1 {FILES}={}", keys::quoted(&folder));
    println!("# {name} of the cluster {cluster}; type: eval \"$(hcl-image env)\"");
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts() {
        let to = |name: &str, port| Ok(Host { name: name.to_owned(), port });
        assert_eq!(host("master.local"), to("master.local", 2378));
        assert_eq!(host("127.0.0.1:40001"), to("127.0.0.1", 40001));
        assert_eq!(host("node-4c0001"), to("node-4c0001", 2378));
        for text in ["", "a b", "$(reboot)", "a;b", "::1", "master:0", "master:x", "tcp://master", "a..b", "'"] {
            assert!(host(text).is_err(), "{text}");
        }
    }

    #[test]
    fn login_names() {
        let name = |login: &str| own(Some(login.to_owned())).map(|name| name.as_str().to_owned());
        for (login, expected) in [
            ("ada", Some("ada")),
            ("Ada", Some("ada")),
            ("ada.l_2", Some("ada-l-2")),
            ("_svc", Some("svc")),
            ("1a", Some("a")),
            ("1", None),
        ] {
            assert_eq!(name(login).as_deref(), expected, "{login}");
        }
        assert_eq!(own(None), None);
    }
}
