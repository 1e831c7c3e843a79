//! How often the black box is written: soon enough to hold the last state, seldom enough for the card.
//!
//! Of one boot: [`BURST`] writes, and one more for each [`REFILL`] that it lasts, with [`GAP`] between any two. That makes
//! [`WRITES_A_DAY`] at most, whatever the node goes through; a node that stays as it is writes nothing.

use std::time::Duration;

use super::SLOT;

/// Between two writes.
pub const GAP: Duration = Duration::from_secs(10);
/// How many writes a boot has from its beginning.
pub const BURST: u64 = 30;
/// How long a boot must last for one write more.
pub const REFILL: Duration = Duration::from_secs(600);
/// After which time a story that goes on without any change of state is written: early in a boot, as long as half of its first writes
/// are left, and later.
pub const REFRESH: [Duration; 2] = [Duration::from_secs(120), Duration::from_secs(1800)];
/// The most writes in a day of one boot.
pub const WRITES_A_DAY: u64 = BURST + 86_400 / REFILL.as_secs();
/// The most bytes in a day of one boot.
pub const BYTES_A_DAY: u64 = WRITES_A_DAY * SLOT as u64;

/// What there is to write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Matter {
    /// The node is in another state.
    News,
    /// The story has gone on.
    Story,
    /// The program ends in good order: now or never.
    Farewell,
}

/// When `matter` may be written, in milliseconds after the boot; `writes` were made, the last of them at `last`.
pub fn due(matter: Matter, writes: u64, last: Option<u64>) -> u64 {
    let ms = |time: Duration| time.as_millis() as u64;
    let after_last = |time: Duration| last.map_or(0, |last| last.saturating_add(ms(time)));
    let granted = (writes + 1).saturating_sub(BURST).saturating_mul(ms(REFILL));
    let early = match matter {
        Matter::News => after_last(GAP),
        Matter::Story => after_last(REFRESH[usize::from(writes >= BURST / 2)]),
        Matter::Farewell => 0,
    };
    early.max(granted)
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: u64 = 86_400_000;

    #[test]
    fn a_day_has_an_end() {
        // News without end.
        let (mut writes, mut last, mut now) = (0, None, 0);
        while now < DAY {
            let at = due(Matter::News, writes, last).max(now);
            assert!(last.is_none_or(|last| at >= last + 10_000));
            now = at;
            if now < DAY {
                writes += 1;
                last = Some(now);
            }
        }
        assert!((WRITES_A_DAY - 1..=WRITES_A_DAY).contains(&writes), "{writes}");
        let documented = include_str!("../../../docs/boot-partition.md");
        assert!(
            documented.contains(&format!("{WRITES_A_DAY} writes")),
            "docs/boot-partition.md does not say {WRITES_A_DAY} writes"
        );
    }

    #[test]
    fn what_is_written_when() {
        let table = [
            (Matter::News, 0, None, 0),
            (Matter::News, 1, Some(5_000), 15_000),
            (Matter::Story, 1, Some(5_000), 125_000),
            (Matter::Story, 15, Some(5_000), 1_805_000),
            (Matter::Farewell, 1, Some(5_000), 0),
            (Matter::News, 29, Some(295_000), 305_000),
            (Matter::News, 30, Some(305_000), 600_000),
            (Matter::Farewell, 31, Some(600_000), 1_200_000),
            (Matter::News, 31, Some(9_000_000), 9_010_000),
            (Matter::News, u64::MAX - 1, Some(u64::MAX), u64::MAX),
        ];
        for (matter, writes, last, expected) in table {
            assert_eq!(due(matter, writes, last), expected, "{matter:?} after {writes}, {last:?}");
        }
    }
}
