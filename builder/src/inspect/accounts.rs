//! passwd(5) and shadow(5).

/// One line of `/etc/passwd` with its password of `/etc/shadow`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Account {
    /// Login name.
    pub name: String,
    /// Numeric id.
    pub uid: u32,
    /// Home folder.
    pub home: String,
    /// Login shell.
    pub shell: String,
    /// The field of `/etc/shadow`: a hash, `*`, `!…`, or empty.
    pub password: String,
}

impl Account {
    /// Whether the shell is one to work in.
    pub fn has_shell(&self) -> bool {
        !self.shell.is_empty() && !matches!(self.shell.rsplit('/').next(), Some("nologin" | "false" | "sync"))
    }

    /// Whether a password opens it: crypt(5)'s hashes begin with `$`, the old DES ones have 13 letters.
    pub fn has_password(&self) -> bool {
        self.password.starts_with('$') || (self.password.len() == 13 && !self.password.starts_with(['!', '*']))
    }

    /// Whether it opens without any password.
    pub fn is_open(&self) -> bool {
        self.password.is_empty()
    }
}

/// Reads both files.
pub fn parse(passwd: &str, shadow: &str) -> Vec<Account> {
    passwd
        .lines()
        .filter_map(|line| {
            let fields: Vec<&str> = line.split(':').collect();
            let [name, hash, uid, _, _, home, shell] = fields[..] else { return None };
            let shadowed = shadow.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':')?.split(':').next());
            let password = if hash == "x" { shadowed.unwrap_or("*") } else { hash };
            Some(Account {
                name: name.to_owned(),
                uid: uid.parse().ok()?,
                home: home.to_owned(),
                shell: shell.to_owned(),
                password: password.to_owned(),
            })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn accounts() {
        let passwd = "root:x:0:0:root:/root:/bin/bash\ndaemon:x:1:1::/usr/sbin:/usr/sbin/nologin\npi:x:1000:1000:,,,:/home/pi:/bin/bash\nbad\n";
        let shadow = "root:*:1::::::\ndaemon:*:1::::::\npi:$y$abc:1::::::\n";
        let accounts = parse(passwd, shadow);
        assert_eq!(accounts.len(), 3);
        assert!(accounts[0].has_shell() && !accounts[0].has_password() && !accounts[0].is_open());
        assert!(!accounts[1].has_shell());
        assert!(accounts[2].has_password());
        assert!(parse(passwd, "pi::1:::")[2].is_open());
    }
}
