//! A table of cases that share what is dear to set up: run one after another, each reported as `cargo test` does.

use std::{
    env,
    panic::{AssertUnwindSafe, catch_unwind},
    process::ExitCode,
    time::Instant,
};

/// A row of the table.
pub struct Case<'a> {
    /// Such as `containers::exit_codes [26.1.5]`.
    pub name: String,
    /// Panics when it does not hold.
    pub run: Box<dyn Fn() + 'a>,
}

/// Which cases the arguments of `cargo test -- …` ask for.
pub struct Wanted {
    names: Vec<String>,
    exact: bool,
    /// Only their names.
    pub list: bool,
    ignored: bool,
}

impl Wanted {
    /// What this process was given; options that say nothing here are passed over.
    pub fn from_arguments() -> Self {
        let mut wanted = Self { names: Vec::new(), exact: false, list: false, ignored: false };
        let mut arguments = env::args().skip(1);
        while let Some(argument) = arguments.next() {
            match argument.as_str() {
                "--exact" => wanted.exact = true,
                "--list" => wanted.list = true,
                "--ignored" => wanted.ignored = true,
                "--test-threads" | "--skip" | "--color" | "--format" => drop(arguments.next()),
                option if option.starts_with('-') => {}
                name => wanted.names.push(name.to_owned()),
            }
        }
        wanted
    }

    /// Whether this case is asked for.
    pub fn is(&self, name: &str) -> bool {
        let fits = |wanted: &String| if self.exact { name == wanted } else { name.contains(wanted.as_str()) };
        !self.ignored && (self.names.is_empty() || self.names.iter().any(fits))
    }
}

/// Runs the cases that are asked for; `after` each one, with whether it held.
pub fn run(cases: Vec<Case<'_>>, wanted: &Wanted, after: impl Fn(bool)) -> ExitCode {
    let all = cases.len();
    let cases: Vec<_> = cases.into_iter().filter(|case| wanted.is(&case.name)).collect();
    if wanted.list {
        cases.iter().for_each(|case| println!("{}: test", case.name));
        return ExitCode::SUCCESS;
    }
    println!("\nrunning {} tests", cases.len());
    let mut failed = Vec::new();
    let (started, count) = (Instant::now(), cases.len());
    for case in cases {
        let begun = Instant::now();
        let held = catch_unwind(AssertUnwindSafe(|| (case.run)())).is_ok();
        println!("test {} ... {} ({:.1} s)", case.name, if held { "ok" } else { "FAILED" }, begun.elapsed().as_secs_f32());
        after(held);
        if !held {
            failed.push(case.name);
        }
    }
    if !failed.is_empty() {
        println!("\nfailures:\n    {}", failed.join("\n    "));
    }
    let verdict = if failed.is_empty() { "ok" } else { "FAILED" };
    let (held, missed, time) = (count - failed.len(), failed.len(), started.elapsed().as_secs_f32());
    println!(
        "\ntest result: {verdict}. {held} passed; {missed} failed; 0 ignored; 0 measured; {} filtered out; finished in {time:.2}s\n",
        all - count
    );
    if failed.is_empty() { ExitCode::SUCCESS } else { ExitCode::from(101) }
}
