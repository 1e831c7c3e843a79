//! The account database of an image (`passwd`, `group`, `shadow`, `gshadow`), edited as text.
//!
//! Pure: texts in, texts out. Formats: passwd(5), group(5), shadow(5), gshadow(5).

use anyhow::{Result, ensure};

/// A person who logs in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Account {
    /// Login name.
    pub name: String,
    /// User and group number.
    pub id: u32,
    /// Groups beside the person's own; those that the image does not have are left out.
    pub groups: Vec<String>,
    /// The hash for shadow(5); `None`: no password fits, keys do.
    pub password: Option<String>,
    /// Days since 1970 when the password was set; never 0, which would force a change at login.
    pub day: u64,
}

/// The four files.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Database {
    /// `/etc/passwd`.
    pub passwd: String,
    /// `/etc/group`.
    pub group: String,
    /// `/etc/shadow`.
    pub shadow: String,
    /// `/etc/gshadow`.
    pub gshadow: String,
}

impl Database {
    /// Adds `account`, or makes the one of that name what it shall be.
    ///
    /// # Errors
    ///
    /// The number belongs to somebody else in the image.
    pub fn add(&mut self, account: &Account) -> Result<()> {
        let Account { name, id, groups, password, day } = account;
        let holder = self.passwd.lines().find(|line| field(line, 2) == id.to_string() && field(line, 0) != name);
        ensure!(holder.is_none(), "user number {id} belongs to `{}` already", holder.map_or("", |line| field(line, 0)));
        set(&mut self.passwd, name, &format!("{name}:x:{id}:{id}:{name}:/home/{name}:/bin/bash"));
        set(&mut self.group, name, &format!("{name}:x:{id}:"));
        set(&mut self.gshadow, name, &format!("{name}:!::"));
        // `*` fits no password; `!` would lock the account for keys too where sshd runs without PAM.
        let hash = password.as_deref().unwrap_or("*");
        set(&mut self.shadow, name, &format!("{name}:{hash}:{day}:0:99999:7:::"));
        for group in groups {
            for file in [&mut self.group, &mut self.gshadow] {
                join(file, group, name);
            }
        }
        Ok(())
    }
}

fn field(line: &str, index: usize) -> &str {
    line.split(':').nth(index).unwrap_or("")
}

/// Replaces the line of `name`, or adds one at the end.
fn set(file: &mut String, name: &str, line: &str) {
    let mut lines: Vec<&str> = file.lines().collect();
    match lines.iter().position(|line| field(line, 0) == name) {
        Some(index) => lines[index] = line,
        None => lines.push(line),
    }
    *file = lines.join("\n") + "\n";
}

/// Makes `name` a member of `group`, where there is such a group: members are the last field.
fn join(file: &mut String, group: &str, name: &str) {
    let lines: Vec<String> = file
        .lines()
        .map(|line| {
            let Some((head, members)) = line.rsplit_once(':') else { return line.to_owned() };
            if field(line, 0) != group || members.split(',').any(|member| member == name) {
                return line.to_owned();
            }
            let comma = if members.is_empty() { "" } else { "," };
            format!("{head}:{members}{comma}{name}")
        })
        .collect();
    *file = lines.join("\n") + "\n";
}

#[cfg(test)]
mod tests {
    use super::*;

    fn base() -> Database {
        Database {
            passwd: "root:x:0:0:root:/root:/bin/bash\n".into(),
            group: "root:x:0:\nsudo:x:27:\ndocker:x:108:other\n".into(),
            shadow: "root:*:1:0:99999:7:::\n".into(),
            gshadow: "root:*::\nsudo:*::\ndocker:!::other\n".into(),
        }
    }

    fn account() -> Account {
        let groups = ["sudo", "docker", "absent"].map(str::to_owned).to_vec();
        Account { name: "hcl".into(), id: 1000, groups, password: None, day: 20_000 }
    }

    #[test]
    fn a_user_joins_the_groups_that_exist() {
        let mut database = base();
        database.add(&account()).unwrap();
        assert!(database.passwd.ends_with("hcl:x:1000:1000:hcl:/home/hcl:/bin/bash\n"));
        assert_eq!(database.group, "root:x:0:\nsudo:x:27:hcl\ndocker:x:108:other,hcl\nhcl:x:1000:\n");
        assert_eq!(database.gshadow, "root:*::\nsudo:*::hcl\ndocker:!::other,hcl\nhcl:!::\n");
        assert!(database.shadow.ends_with("hcl:*:20000:0:99999:7:::\n"));
    }

    #[test]
    fn adding_twice_is_adding_once() {
        let mut once = base();
        once.add(&account()).unwrap();
        let mut twice = once.clone();
        twice.add(&account()).unwrap();
        assert_eq!(once, twice);
    }

    #[test]
    fn a_taken_number_is_refused() {
        let mut database = base();
        database.passwd.push_str("pi:x:1000:1000::/home/pi:/bin/bash\n");
        let message = database.add(&account()).unwrap_err().to_string();
        assert_eq!(message, "user number 1000 belongs to `pi` already");
    }
}
