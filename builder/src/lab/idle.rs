//! What the node program takes of a board while nothing happens.

use super::probe::{Answer, Expected};
use crate::units::Bytes;

/// The largest program, in bytes: it lies in every image and is loaded from the card on every boot.
const PROGRAM: u64 = 4 << 20;
/// The most memory, in KiB; a Zero 2 W has 512 MiB for everything.
const RESIDENT: u64 = 8 << 10;
/// The most often that it wakes the board, a second.
const WAKE_UPS: f64 = 5.0;
/// The most bytes that it writes while it is watched: one block of the black box and its folder entry.
const WRITTEN: u64 = 64 << 10;

/// Looks at the process twice, twenty seconds apart. A voluntary switch is a wait, and each wait ends with a wake-up.
pub(super) const SCRIPT: &str = r#"
    pid=$(systemctl show --property=MainPID --value hcl-firstboot.service)
    look() {
        sed -n 's/^voluntary_ctxt_switches:/switches/p; s/^VmRSS:/resident/p' /proc/$pid/status
        sed -n 's/^write_bytes:/written/p' /proc/$pid/io
        echo uptime $(cut -d. -f1 /proc/uptime)
    }
    look && sleep 20 && look && echo program $(stat -L -c %s /proc/$pid/exe)"#;

/// Small, quiet, and no wear for the card.
pub(super) fn judge(answer: &Answer, _: &Expected) -> Result<String, String> {
    let text = answer.succeeded()?;
    let all = |name: &str| -> Vec<u64> {
        let lines = text.lines().filter_map(|line| line.trim().strip_prefix(name)?.split_whitespace().next());
        lines.filter_map(|number| number.parse().ok()).collect()
    };
    let change = |name: &str| match all(name)[..] {
        [before, after] => after.checked_sub(before),
        _ => None,
    };
    let (Some(switches), Some(written), Some(seconds @ 1..), [_, resident], [program]) =
        (change("switches"), change("written"), change("uptime"), &all("resident")[..], &all("program")[..])
    else {
        return Err(answer.quoted());
    };
    let wake_ups = switches as f64 / seconds as f64;
    let seen = format!(
        "program of {}, {} resident, {wake_ups:.1} wake-ups a second, {} written in {seconds} s",
        Bytes(*program),
        Bytes(resident * 1024),
        Bytes(written)
    );
    let fits = *program <= PROGRAM && *resident <= RESIDENT && wake_ups <= WAKE_UPS && written <= WRITTEN;
    if fits { Ok(seen) } else { Err(seen) }
}

#[cfg(test)]
pub(super) mod tests {
    /// An answer with these figures.
    pub(in crate::lab) fn output(switches: u64, resident: u64, written: u64, program: u64) -> String {
        let look = |switches: u64, written: u64, uptime: u64| {
            format!("resident\t    {resident} kB\nswitches\t{switches}\nwritten {written}\nuptime {uptime}\n")
        };
        format!("{}{}program {program}\n", look(1000, 4096, 100), look(1000 + switches, 4096 + written, 120))
    }
}
