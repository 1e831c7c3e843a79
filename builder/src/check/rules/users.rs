//! Who can log in.

use crate::check::Evidence;

pub(super) fn login(evidence: &Evidence) -> Vec<String> {
    let Some(system) = evidence.system() else { return Vec::new() };
    let ssh =
        system.sshd && ["ssh.service", "sshd.service", "ssh.socket", "sshd.socket"].iter().any(|unit| system.is_enabled(unit));
    let by_key = ssh && system.accounts.iter().any(|account| account.has_shell() && system.key_holders.contains(&account.name));
    let by_password = system.accounts.iter().any(|account| account.has_shell() && account.has_password());
    // Stock images make the user on the first boot from a file on the boot partition.
    let by_vendor = evidence.boot().is_some_and(|boot| {
        boot.user_files.iter().any(|(name, text)| {
            let words: &[&str] = if name == "user-data" {
                &["ssh_authorized_keys", "ssh-authorized-keys", "passwd:", "hashed_passwd"]
            } else {
                &[":$"]
            };
            text.lines().any(|line| !line.trim_start().starts_with('#') && words.iter().any(|word| line.contains(word)))
        })
    });
    if by_key || by_password || by_vendor {
        return Vec::new();
    }
    let why = if system.key_holders.is_empty() {
        "no account has an SSH key or a password"
    } else if !system.sshd {
        "there is an SSH key, but no SSH server"
    } else {
        "there is an SSH key, but the SSH server is not enabled"
    };
    vec![format!("nobody can log in: {why}; name a key under [user] in the manifest")]
}

pub(super) fn open(evidence: &Evidence) -> Vec<String> {
    let Some(system) = evidence.system() else { return Vec::new() };
    let open = system.accounts.iter().filter(|account| account.has_shell() && account.is_open());
    open.map(|account| format!("the account {} opens without a password: lock it (`!` in /etc/shadow)", account.name)).collect()
}
