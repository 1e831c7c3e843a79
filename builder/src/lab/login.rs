//! Who can log into an image with what: found out by reading it, not by asking.
//!
//! The image names users and the public keys that let them in; on this machine there are private keys
//! with their public halves beside them. Where two meet, that is the login.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::Context;

use crate::{
    error::UsageError,
    image::disk::{Disk, Tree},
};

/// A way in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Login {
    /// The user.
    pub user: String,
    /// The private key.
    pub identity: PathBuf,
}

/// What the user said about it.
#[derive(Clone, Debug, Default)]
pub struct Wish {
    /// The user to log in as.
    pub user: Option<String>,
    /// The private key to use.
    pub identity: Option<PathBuf>,
    /// The folder with the keys of clusters.
    pub keys: Option<PathBuf>,
}

/// An entry of the image: a user, and a public key (type and base64) that lets them in.
type Door = (String, String);

/// Finds the login for the image in `disk`.
///
/// # Errors
///
/// No key of this machine opens the image; the message says who could.
pub fn find(disk: &Disk, wish: &Wish) -> anyhow::Result<Login> {
    if let Some(identity) = &wish.identity {
        fs::metadata(identity).with_context(|| format!("looking for the key {}", identity.display()))?;
    }
    let named = wish.user.is_some() && wish.identity.is_some();
    let doors = match disk.root() {
        Ok(Some(root)) => doors(&root)?,
        Ok(None) => Vec::new(),
        // Who knows the login may see for himself that this does not boot.
        Err(_) if named => Vec::new(),
        Err(error) => return Err(error),
    };
    let identities = match &wish.identity {
        Some(identity) => vec![identity.clone()],
        None => identities(wish),
    };
    choose(&doors, &identities, wish).ok_or_else(|| {
        let users: Vec<_> = doors.iter().map(|(user, _)| user.as_str()).collect();
        let who = if users.is_empty() { "nobody in".to_owned() } else { format!("only keys of others in, for {}", users.join(", ")) };
        UsageError::new(format!(
            "no key of yours opens {}: it lets {who}; name the private key with `--identity FILE` and the user with `--user NAME`",
            disk.path().display()
        ))
    })
}

fn choose(doors: &[Door], identities: &[PathBuf], wish: &Wish) -> Option<Login> {
    let wanted = |user: &str| wish.user.as_deref().is_none_or(|wanted| wanted == user);
    let matching = doors.iter().filter(|(user, _)| wanted(user)).find_map(|(user, key)| {
        let identity = identities.iter().find(|identity| public_half(identity).as_deref() == Some(key))?;
        Some(Login { user: user.clone(), identity: identity.clone() })
    });
    // A private key without its public half beside it: then both were named, or there is one user only.
    matching.or_else(|| {
        let identity = wish.identity.clone()?;
        let user = wish.user.clone().or_else(|| doors.first().map(|(user, _)| user.clone()))?;
        Some(Login { user, identity })
    })
}

/// Users and keys in the image, ordinary users first: they are who people log in as.
fn doors(root: &dyn Tree) -> anyhow::Result<Vec<Door>> {
    let passwd = root.try_text("/etc/passwd")?.unwrap_or_default();
    let mut users: Vec<(u32, &str, &str)> = passwd
        .lines()
        .filter_map(|line| {
            let fields: Vec<_> = line.split(':').collect();
            let [name, _, id, _, _, home, ..] = fields[..] else { return None };
            Some((id.parse().ok()?, name, home))
        })
        .collect();
    users.sort_by_key(|(id, ..)| (*id < 1000, *id));
    let mut doors = Vec::new();
    for (_, user, home) in users {
        let file = format!("{home}/.ssh/authorized_keys");
        let Ok(Some(text)) = root.try_text(&file) else { continue };
        doors.extend(text.lines().filter_map(key).map(|key| (user.to_owned(), key)));
    }
    Ok(doors)
}

/// Private keys on this machine: those of clusters, then the user's own.
fn identities(wish: &Wish) -> Vec<PathBuf> {
    let mut folders = Vec::new();
    let clusters = wish.keys.clone().or_else(|| crate::keys::default_folder().ok());
    if let Some(clusters) = clusters {
        let mut own: Vec<_> = fs::read_dir(&clusters).into_iter().flatten().flatten().map(|entry| entry.path()).collect();
        own.sort();
        folders.extend(own);
        folders.push(clusters);
    }
    folders.extend(std::env::var_os("HOME").map(|home| Path::new(&home).join(".ssh")));
    let mut found = Vec::new();
    for folder in folders {
        let mut files: Vec<_> = fs::read_dir(&folder).into_iter().flatten().flatten().map(|entry| entry.path()).collect();
        files.sort();
        let private =
            files.iter().filter(|file| file.extension().is_some_and(|end| end == "pub")).map(|file| file.with_extension(""));
        found.extend(private.filter(|file| file.is_file()));
    }
    found
}

fn public_half(identity: &Path) -> Option<String> {
    let mut name = identity.as_os_str().to_owned();
    name.push(".pub");
    key(fs::read_to_string(name).ok()?.lines().next()?)
}

/// `type base64` of a line of authorized_keys or of a .pub file, without options and comment.
fn key(line: &str) -> Option<String> {
    let words: Vec<_> = line.split_whitespace().collect();
    let at = words.iter().position(|word| ["ssh-", "ecdsa-", "sk-"].iter().any(|start| word.starts_with(start)))?;
    Some(format!("{} {}", words[at], words.get(at + 1)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_without_options_and_comments() {
        for (line, expected) in [
            ("ssh-ed25519 AAAA me@home", Some("ssh-ed25519 AAAA")),
            ("restrict,pty ssh-rsa BBBB", Some("ssh-rsa BBBB")),
            ("# ssh", None),
            ("ssh-ed25519", None),
            ("", None),
        ] {
            assert_eq!(key(line).as_deref(), expected, "{line}");
        }
    }

    #[test]
    fn the_key_that_fits_is_chosen() {
        let folder = tempfile::tempdir().unwrap();
        let make = |name: &str, public: Option<&str>| {
            let path = folder.path().join(name);
            fs::write(&path, "private").unwrap();
            if let Some(public) = public {
                fs::write(folder.path().join(format!("{name}.pub")), public).unwrap();
            }
            path
        };
        let (a, b, bare) = (make("a", Some("ssh-rsa A me")), make("b", Some("ssh-rsa B me")), make("bare", None));
        let door = |user: &str, key: &str| (user.to_owned(), format!("ssh-rsa {key}"));
        let doors = [door("hcl", "B"), door("root", "A")];
        let login = |user: &str, identity: &Path| Some(Login { user: user.into(), identity: identity.into() });
        let wish = |user: Option<&str>, identity: Option<&Path>| Wish {
            user: user.map(str::to_owned),
            identity: identity.map(Path::to_owned),
            keys: None,
        };
        for (identities, wish, expected) in [
            (vec![a.clone(), b.clone()], wish(None, None), login("hcl", &b)),
            (vec![a.clone(), b.clone()], wish(Some("root"), None), login("root", &a)),
            (vec![], wish(None, None), None),
            (vec![a.clone()], wish(Some("hcl"), None), None),
            (vec![bare.clone()], wish(None, Some(&bare)), login("hcl", &bare)),
            (vec![a.clone()], wish(None, Some(&a)), login("root", &a)),
        ] {
            assert_eq!(choose(&doors, &identities, &wish), expected, "{wish:?}");
        }
    }
}
