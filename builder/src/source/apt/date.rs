//! Dates as Release files have them and as people read them.

/// Seconds since 1970 of a date such as `Sat, 21 Nov 2026 09:15:44 UTC` (RFC 2822, UTC only, as Release files have it).
pub(super) fn rfc2822_seconds(text: &str) -> Option<u64> {
    const MONTHS: [&str; 12] = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
    let mut words = text.split_once(", ")?.1.split_whitespace();
    let day: u64 = words.next()?.parse().ok()?;
    let month = words.next()?;
    let month = MONTHS.iter().position(|name| *name == month)? as u64 + 1;
    let year: u64 = words.next()?.parse().ok()?;
    let mut clock = words.next()?.split(':').map(|part| part.parse::<u64>().ok());
    let (hour, minute, second) = (clock.next()??, clock.next()??, clock.next()??);
    Some(days_since_1970(year, month, day)? * 86_400 + hour * 3600 + minute * 60 + second)
}

/// Days from 1970-01-01 in the Gregorian calendar; years start in March so that the leap day comes last.
fn days_since_1970(year: u64, month: u64, day: u64) -> Option<u64> {
    let (year, month) = if month <= 2 { (year - 1, month + 9) } else { (year, month - 3) };
    let days = year * 365 + year / 4 - year / 100 + year / 400 + (month * 153 + 2) / 5 + day - 1;
    days.checked_sub(719_468)
}

/// `2026-11-21` of seconds since 1970.
pub(crate) fn day(seconds: u64) -> String {
    let days = seconds / 86_400 + 719_468;
    let era = days / 146_097;
    let of_era = days % 146_097;
    let year_of_era = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let march_month = (5 * of_year + 2) / 153;
    let day = of_year - (153 * march_month + 2) / 5 + 1;
    let month = if march_month < 10 { march_month + 3 } else { march_month - 9 };
    format!("{:04}-{month:02}-{day:02}", year_of_era + era * 400 + u64::from(month <= 2))
}

/// `09:15:44` of seconds since 1970.
pub(crate) fn time_of_day(seconds: u64) -> String {
    let seconds = seconds % 86_400;
    format!("{:02}:{:02}:{:02}", seconds / 3600, seconds / 60 % 60, seconds % 60)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates() {
        assert_eq!(rfc2822_seconds("Thu, 01 Jan 1970 00:00:01 UTC"), Some(1));
        assert_eq!(rfc2822_seconds("Sat, 21 Nov 2026 09:15:44 UTC"), Some(1_795_252_544));
        assert_eq!(rfc2822_seconds("Thu, 29 Feb 2024 12:00:00 UTC"), Some(1_709_208_000));
        for text in ["", "Sat", "Sat, 21", "Sat, 21 Foo 2026 09:15:44 UTC", "Sat, 21 Nov 2026 09:15"] {
            assert_eq!(rfc2822_seconds(text), None, "{text}");
        }
        for (seconds, text) in [(0, "1970-01-01"), (1_709_208_000, "2024-02-29"), (1_795_252_544, "2026-11-21")] {
            assert_eq!(day(seconds), text);
        }
    }
}
