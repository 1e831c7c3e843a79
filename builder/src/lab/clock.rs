//! The clocks of nodes that go on from a snapshot.
//!
//! A node's own clock goes on where it stood when the snapshot was made; its board's real-time clock has this machine's time. Nothing
//! on a node looks at the latter while it runs, so that is done from here, by SSH.

use std::time::Duration;

use anyhow::{Context, bail};

use super::ssh::Ssh;

/// A login under emulation, on a node whose caches are cold.
const LIMIT: Duration = Duration::from_secs(120);
/// Sets the clock by the board's, and prints by how many seconds it went forward.
const SCRIPT: &str = "set -e
board=$(cat /sys/class/rtc/rtc0/since_epoch)
own=$(date +%s)
date -u -s \"@$board\" >/dev/null
echo $((board - own))
";

/// Sets a node's clock by its board's; by how many seconds that was forward.
///
/// # Errors
///
/// Nobody is let in, the board has no clock, or it cannot be set.
pub fn set(ssh: &Ssh) -> anyhow::Result<i64> {
    let mut said = String::new();
    let ended = ssh.run(SCRIPT, LIMIT, |line| line.clone_into(&mut said))?;
    if ended.code != 0 {
        bail!("{} (exit code {})", ended.complaint, ended.code);
    }
    said.trim().parse().with_context(|| format!("reading `{said}`, which is no number of seconds"))
}

/// Sets the clocks of several nodes at the same time: what to say of them, in a line.
pub fn set_all(nodes: &[(String, Ssh)]) -> String {
    let results: Vec<_> = std::thread::scope(|scope| {
        let threads: Vec<_> = nodes.iter().map(|(name, ssh)| (name, scope.spawn(|| set(ssh)))).collect();
        threads.into_iter().filter_map(|(name, thread)| Some((name, thread.join().ok()?))).collect()
    });
    let failed: Vec<_> = results
        .iter()
        .filter_map(|(name, result)| Some(format!("{name}: {}", crate::error::one_line(result.as_ref().err()?))))
        .collect();
    if !failed.is_empty() {
        return format!("clocks: not all could be set: {}", failed.join("; "));
    }
    let forward = results.iter().filter_map(|(_, result)| result.as_ref().ok()).max().copied().unwrap_or_default();
    format!("clocks: set to now, {forward} s forward")
}
