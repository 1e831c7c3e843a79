//! Ten thousand attempts to join, over TCP and TLS, through the real HTTP server: each of them is right but for one field, and each
//! is refused for that field. The right request is admitted before, between and after.
//!
//! Both ends know what they expect of each attempt: the server's reason is compared with the wrong that was done, and the client
//! must not have got a token.

#![cfg(target_os = "linux")]

#[path = "join/anonymous.rs"]
mod anonymous;
#[path = "join/attempt.rs"]
mod attempt;
#[path = "join/lane.rs"]
mod lane;

use std::{collections::BTreeMap, thread, time::Instant};

use self::{
    attempt::{Attempt, WRONGS, Wrong},
    lane::{Lane, Outcome},
};

/// Attempts with something wrong.
const ATTEMPTS: usize = 10_000;
/// After so many of them the right one is tried again.
const BETWEEN: usize = 50;
/// Clients and servers at once: two each on two cores.
const LANES: usize = 4;

/// How often each reason was given for each wrong.
type Table = BTreeMap<(&'static str, String), usize>;

#[test]
fn ten_thousand_attempts() {
    let started = Instant::now();
    let parts: Vec<(Table, usize)> = thread::scope(|scope| {
        let run = |lane| move || run(lane);
        let lanes: Vec<_> = (0..LANES).map(|lane| scope.spawn(run(lane))).collect();
        lanes.into_iter().map(|lane| lane.join().expect("a lane's assertion failed, see above")).collect()
    });
    let took = started.elapsed().as_secs_f64();
    let mut table = Table::new();
    for (reason, count) in parts.iter().flat_map(|(table, _)| table) {
        *table.entry(reason.clone()).or_default() += count;
    }
    let (refused, admitted): (usize, usize) = (table.values().sum(), parts.iter().map(|(_, right)| right).sum());
    println!("{:<44} {:>6}  what the server said", "what was wrong", "count");
    for ((wrong, reason), count) in &table {
        println!("{wrong:<44} {count:>6}  {reason}");
    }
    println!(
        "{refused} refused, {admitted} right ones admitted, {took:.1} s, {:.0} a second",
        (refused + admitted) as f64 / took
    );

    assert_eq!(refused, ATTEMPTS);
    assert!(admitted >= ATTEMPTS / BETWEEN + 2 * LANES, "{admitted}");
    for wrong in WRONGS {
        let count: usize = table.iter().filter(|((name, _), _)| *name == wrong.name()).map(|(_, count)| count).sum();
        assert!(count >= ATTEMPTS / WRONGS.len(), "{}: {count}", wrong.name());
    }
    assert!(took < 60.0, "{took:.1} s for {ATTEMPTS} attempts: too slow to be of use in every test run");
}

/// One lane's share: what was refused and why, and how many right ones were admitted.
fn run(lane: usize) -> (Table, usize) {
    let (lane, mut table, mut right) = (Lane::new(lane), Table::new(), 0);
    let mut admit = |number| {
        let outcome = lane.attempt(&Attempt::right(number));
        assert!(matches!(outcome, Outcome::Admitted(_)), "the right one: {outcome:?}");
        right += 1;
    };
    for count in (lane.number..ATTEMPTS).step_by(LANES) {
        if count / LANES % (BETWEEN / LANES) == 0 {
            admit(count);
        }
        let wrong = WRONGS[count % WRONGS.len()];
        let outcome = lane.attempt(&Attempt::wrong(wrong, count));
        assert!(wrong.fits(&outcome), "{}, attempt {count}: {outcome:?}", wrong.name());
        *table.entry((wrong.name(), outcome.kind())).or_default() += 1;
    }
    admit(ATTEMPTS);
    (table, right)
}

/// What is wrong is what makes the difference: the same attempt is admitted where the field does not count.
#[test]
fn time_counts_only_where_it_is_trusted() {
    let trusting = Lane::new(0);
    let without = Lane::without_clock();
    for wrong in [Wrong::Expired, Wrong::NotYetGood, Wrong::Clock] {
        for number in 0..8 {
            let attempt = Attempt::wrong(wrong, number);
            assert!(wrong.fits(&trusting.attempt(&attempt)));
            let outcome = without.attempt(&attempt);
            assert!(matches!(outcome, Outcome::Admitted(_)), "{}: {outcome:?}", wrong.name());
        }
    }
    for wrong in WRONGS.iter().filter(|wrong| !matches!(wrong, Wrong::Expired | Wrong::NotYetGood | Wrong::Clock)) {
        let outcome = without.attempt(&Attempt::wrong(*wrong, 1));
        assert!(wrong.fits(&outcome), "{} without a clock: {outcome:?}", wrong.name());
    }
}

/// An outcome of another kind would be seen: no wrong takes the reason of another one for its own.
#[test]
fn no_reason_stands_for_another() {
    let lane = Lane::new(0);
    let outcomes: Vec<_> = WRONGS.iter().map(|wrong| (wrong, lane.attempt(&Attempt::wrong(*wrong, 3)))).collect();
    let right = lane.attempt(&Attempt::right(3));
    for wrong in WRONGS {
        assert!(!wrong.fits(&right), "{}", wrong.name());
        for (other, outcome) in &outcomes {
            assert_eq!(wrong.fits(outcome), wrong.reason() == other.reason(), "{} for {}", wrong.name(), other.name());
        }
    }
}
