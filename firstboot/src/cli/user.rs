//! `hcl user`: who may use the cluster's Docker endpoint.

use std::{
    ffi::OsString,
    fmt::Display,
    fs,
    os::unix::fs::{DirBuilderExt, chown},
    path::{Path, PathBuf},
};

use crate::{
    consul::{self, Secrets, users::Rule},
    driver::{self, Options},
    endpoint::{MANAGE_PORT, files, files::Files},
    key::ClusterKey,
    services::place,
    status::Status,
    trust::{NodeNames, Trust, UserName, Validity},
};

/// What is asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Request {
    /// Make a certificate.
    Add {
        /// For whom.
        name: UserName,
        /// The folder that it is laid into, instead of `docker-NAME` here.
        out: Option<PathBuf>,
    },
    /// Say who was added and who was removed.
    List,
    /// Refuse every certificate that there is.
    Remove {
        /// Whose.
        name: UserName,
    },
}

impl Request {
    /// Reads what follows `hcl user`.
    ///
    /// # Errors
    ///
    /// What is wrong with it.
    pub(super) fn parse(words: &[OsString], out: Option<PathBuf>) -> Result<Self, String> {
        const USAGE: &str = "`hcl user add NAME [--out FOLDER]`, `hcl user list` or `hcl user remove NAME`";
        let text: Option<Vec<&str>> = words.iter().map(|word| word.to_str()).collect();
        let name = |name: &str| name.parse::<UserName>().map_err(|error| format!("{name:?} is no user: {error}"));
        let request = match text.as_deref() {
            Some(["add", user]) => return Ok(Self::Add { name: name(user)?, out }),
            Some(["list"]) => Self::List,
            Some(["remove", user]) => Self::Remove { name: name(user)? },
            _ => return Err(format!("say {USAGE}")),
        };
        if out.is_some() {
            Err("--out goes with `user add` only; `hcl help` shows what there is".to_owned())
        } else {
            Ok(request)
        }
    }
}

/// Does what is asked for; each line goes to `say` as it comes.
///
/// # Errors
///
/// What failed, and what to do.
pub(super) fn run(options: &Options, request: Request, say: impl Fn(&dyn Display)) -> Result<(), String> {
    let key = ClusterKey::read(&options.key).map_err(|error| error.to_string())?;
    let consul = consul::Client::new(consul::SOCKET, Some(Secrets::of(&key).management));
    let own = Status::read(&options.run_dir).ok().flatten().and_then(|status| names(&status));
    Users { key, consul, own, sudo: invoker() }.run(request, &say)
}

/// What the command needs of its node.
struct Users {
    key: ClusterKey,
    consul: consul::Client,
    /// The node's names, where they are known.
    own: Option<NodeNames>,
    /// Whoever typed `sudo`.
    sudo: Option<(u32, u32)>,
}

impl Users {
    fn run(&self, request: Request, say: &impl Fn(&dyn Display)) -> Result<(), String> {
        match request {
            Request::Add { name, out } => self
                .add(&name, &out.unwrap_or_else(|| format!("docker-{name}").into()))
                .map(|lines| lines.iter().for_each(|line| say(line))),
            Request::List => {
                let users = self.consul.users().map_err(unheard)?;
                users.iter().for_each(|(name, rule)| say(&format_args!("{name:<32} {}", state(rule))));
                say(&"whoever else has a certificate of this cluster's, as `hcl-image env` makes them, is let in as well");
                Ok(())
            }
            Request::Remove { name } => {
                let (_, changed) = self.consul.change_user(&name, Rule::remove).map_err(unheard)?;
                match changed {
                    true => {
                        say(&format_args!("removed {name}: within seconds every server refuses all certificates in that name"))
                    }
                    false => say(&format_args!("{name} was removed before")),
                }
                if self.is_own(&name) {
                    say(&format_args!(
                        "that is how this node's own users ask: `sudo hcl user add {name}` here lets them in again"
                    ));
                }
                Ok(())
            }
        }
    }

    /// Makes a certificate in `folder`, which must not be there yet, and lets the user in with it; what to tell of it.
    fn add(&self, name: &UserName, folder: &Path) -> Result<Vec<String>, String> {
        let trust = Trust::new(&self.key);
        let issued = match &self.own {
            // Theirs is always the same: so they are let in again with what they have.
            Some(own) if self.is_own(name) => files::local_user(&self.key, &trust, own),
            _ => {
                let seed = driver::random().map_err(|error| format!("random bytes: {error}"))?;
                trust.users.issue(name, Validity::LIFE, &seed)
            }
        };
        let at = |path: &Path, error: std::io::Error| format!("{}: {error}", path.display());
        // Not into a folder that is there: its other files, its mode and whoever may write there would be somebody else's business.
        fs::DirBuilder::new().mode(0o700).create(folder).map_err(|error| match error.kind() {
            std::io::ErrorKind::AlreadyExists => {
                format!("{} is there already: name another folder with --out FOLDER", folder.display())
            }
            _ => at(folder, error),
        })?;
        let made = self.lay(&Files::of_user(&trust, &issued), folder).and_then(|folder| {
            self.consul.change_user(name, |rule| rule.add(&issued.fingerprint())).map_err(unheard)?;
            Ok(folder)
        });
        let folder = made.inspect_err(|_| drop(fs::remove_dir_all(folder)))?;
        let shown = folder.display();
        Ok(vec![
            format!("{name} is let in with the certificate in {shown}: ca.pem, cert.pem and key.pem, which is secret"),
            format!("export DOCKER_HOST=tcp://master.local:{MANAGE_PORT} DOCKER_TLS_VERIFY=1 DOCKER_CERT_PATH={shown}"),
        ])
    }

    /// Lays the files, which become those of whoever typed `sudo`; the folder's full name.
    fn lay(&self, files: &Files, folder: &Path) -> Result<PathBuf, String> {
        let at = |(path, error): files::Wrong| format!("{}: {error}", path.display());
        files.lay(folder, None).map_err(at)?;
        let folder = folder.canonicalize().map_err(|error| at((folder.to_owned(), error)))?;
        if let Some((user, group)) = self.sudo {
            // The folder last: until then nobody else can put a link there.
            for path in files.iter().map(|(name, _)| folder.join(name)).chain([folder.clone()]) {
                chown(&path, Some(user), Some(group)).map_err(|error| at((path, error)))?;
            }
        }
        Ok(folder)
    }

    fn is_own(&self, name: &UserName) -> bool {
        self.own.as_ref().is_some_and(|own| files::local_name(own) == *name)
    }
}

fn state(rule: &Rule) -> String {
    let made = match rule.added.len() {
        1 => "1 certificate made here".to_owned(),
        count => format!("{count} certificates made here"),
    };
    match (rule.is_out(), rule.removed) {
        (true, _) => format!("removed; {made}"),
        (false, true) => format!("let in with {} made since the removal; {made}", rule.kept.len()),
        (false, false) => format!("let in; {made}"),
    }
}

fn names(status: &Status) -> Option<NodeNames> {
    NodeNames::new(status.node.parse().ok()?, status.address?, &place::own_name(status)).ok()
}

/// The user and group of whoever typed `sudo`.
fn invoker() -> Option<(u32, u32)> {
    let number = |name| std::env::var(name).ok()?.parse().ok();
    Some((number("SUDO_UID")?, number("SUDO_GID")?))
}

fn unheard(error: consul::Error) -> String {
    format!("{error}: `hcl status` says how far this node is, `sudo hcl health` whether Consul has a leader; try again then")
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt;

    use super::*;
    use crate::identity::NodeId;

    fn parsed(line: &str, out: Option<&str>) -> Result<Request, String> {
        Request::parse(&line.split_whitespace().map(OsString::from).collect::<Vec<_>>(), out.map(PathBuf::from))
    }

    #[test]
    fn requests() {
        let name = || "ada".parse::<UserName>().unwrap();
        assert_eq!(parsed("add ada", None), Ok(Request::Add { name: name(), out: None }));
        assert_eq!(parsed("add ada", Some("/x")), Ok(Request::Add { name: name(), out: Some("/x".into()) }));
        assert_eq!(parsed("list", None), Ok(Request::List));
        assert_eq!(parsed("remove ada", None), Ok(Request::Remove { name: name() }));
        for line in ["", "add", "add a b", "list ada", "remove", "rename a"] {
            assert!(parsed(line, None).unwrap_err().contains("hcl user add NAME"), "{line}");
        }
        assert!(parsed("add Ada", None).unwrap_err().contains("1 to 32 lower-case letters"));
        assert!(parsed("remove ../leader", None).unwrap_err().contains("1 to 32 lower-case letters"));
        assert!(parsed("list", Some("/x")).unwrap_err().contains("`user add` only"));
    }

    fn users(folder: &Path) -> Users {
        let consul = consul::Client::new(folder.join("none.sock"), None);
        Users { key: ClusterKey::new([1; 32]), consul, own: None, sudo: None }
    }

    #[test]
    fn without_consul_nothing_is_left() {
        let folder = tempfile::tempdir().unwrap();
        let out = folder.path().join("docker-ada");
        let name = "ada".parse().unwrap();
        let wrong = users(folder.path()).add(&name, &out).unwrap_err();
        assert!(wrong.contains("none.sock") && wrong.contains("`hcl status`") && !wrong.contains('\n'), "{wrong}");
        assert!(!out.exists());
        fs::create_dir(&out).unwrap();
        fs::write(out.join("mine"), "").unwrap();
        let wrong = users(folder.path()).add(&name, &out).unwrap_err();
        assert!(wrong.contains("is there already"), "{wrong}");
        assert!(out.join("mine").exists(), "what is somebody's stays");
        let wrong = users(folder.path()).add(&name, &folder.path().join("no/such")).unwrap_err();
        assert!(wrong.contains("no/such"), "{wrong}");
    }

    #[test]
    fn files_belong_to_whoever_asked() {
        let folder = tempfile::tempdir().unwrap();
        let out = folder.path().join("a");
        fs::create_dir(&out).unwrap();
        let own = fs::metadata(&out).unwrap();
        let trust = Trust::new(&ClusterKey::new([1; 32]));
        let issued = trust.users.issue(&"ada".parse().unwrap(), Validity::LIFE, &[1; 32]);
        // Root gives them to anybody, others to themselves.
        let to = if own.uid() == 0 { (12345, 12346) } else { (own.uid(), own.gid()) };
        let users = Users { sudo: Some(to), ..users(folder.path()) };
        users.lay(&Files::of_user(&trust, &issued), &out).unwrap();
        for path in [out.clone(), out.join("ca.pem"), out.join("cert.pem"), out.join("key.pem")] {
            let found = fs::metadata(&path).unwrap();
            assert_eq!((found.uid(), found.gid(), found.mode() & 0o077), (to.0, to.1, 0), "{}", path.display());
        }
    }

    #[test]
    fn what_is_told_of_them() {
        let mut rule = Rule::default();
        rule.add("aa");
        assert_eq!(state(&rule), "let in; 1 certificate made here");
        rule.remove();
        assert_eq!(state(&rule), "removed; 1 certificate made here");
        rule.add("bb");
        assert_eq!(state(&rule), "let in with 1 made since the removal; 2 certificates made here");
        let own = NodeNames::new(NodeId([9; 16]), [127, 0, 0, 1].into(), "node-9").unwrap();
        let users = Users { own: Some(own), ..users(Path::new("/")) };
        assert!(users.is_own(&"node-9".parse().unwrap()) && !users.is_own(&"ada".parse().unwrap()));
    }
}
