//! Progress for people and for programs.
//!
//! A [`Reporter`] is shared by everything that takes time. On a terminal a [`Step`] is a bar; without
//! one it is a line at its start, one every ten seconds and one at its end; with `--json` every step is a pair of
//! events with one a second between them.

use std::{
    io::{IsTerminal, Write},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::units::Bytes;

/// How often a step says how far it is where there is no terminal.
const LINES: Duration = Duration::from_secs(10);
/// How often a program is told.
const EVENTS: Duration = Duration::from_secs(1);

/// Who reads the output.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// A person: bars on a terminal, plain lines elsewhere.
    Text,
    /// Nobody: errors only.
    Quiet,
    /// A program: one JSON object a line on standard output.
    Json,
}

/// One finished step, for the summary at the end.
#[derive(Clone, Debug)]
pub struct Finished {
    /// What was done.
    pub title: String,
    /// How long it took.
    pub took: Duration,
}

/// Where progress goes. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Reporter {
    mode: Mode,
    /// All bars, so that lines can be written above them; none without a terminal.
    bars: Option<MultiProgress>,
    finished: Arc<Mutex<Vec<Finished>>>,
}

impl Reporter {
    /// A reporter for `mode`; whether there is a terminal is found out here.
    pub fn new(mode: Mode) -> Self {
        let terminal = mode == Mode::Text && std::io::stderr().is_terminal();
        let bars = terminal.then(|| MultiProgress::with_draw_target(ProgressDrawTarget::stderr_with_hz(8)));
        Self { mode, bars, finished: Arc::default() }
    }

    /// Who reads the output.
    pub fn mode(&self) -> Mode {
        self.mode
    }

    /// Begins a step of unknown length.
    pub fn step(&self, title: impl Into<String>) -> Step {
        self.begin(title.into(), None)
    }

    /// Begins a step of `total` bytes.
    pub fn bytes(&self, title: impl Into<String>, total: Bytes) -> Step {
        self.begin(title.into(), Some(total.0))
    }

    fn begin(&self, title: String, total: Option<u64>) -> Step {
        let bar = if let Some(bars) = &self.bars {
            let (bar, template) = match total {
                Some(total) => (ProgressBar::new(total), "  {msg:36} {bar:30} {bytes:>10} of {total_bytes:10} {eta:>4}"),
                None => (ProgressBar::new_spinner(), "  {msg:36} {spinner} {elapsed}"),
            };
            let bar = bars.add(bar);
            if let Ok(style) = ProgressStyle::with_template(template) {
                bar.set_style(style.progress_chars("━╸─"));
            }
            bar.set_message(title.clone());
            bar.enable_steady_tick(Duration::from_millis(250));
            Some(bar)
        } else {
            match self.mode {
                Mode::Text => eprintln!("  {title} …"),
                Mode::Json => self.emit(&serde_json::json!({"event": "step-started", "step": title, "bytes": total})),
                Mode::Quiet => {}
            }
            None
        };
        let started = Instant::now();
        let (count, said) = (AtomicU64::new(0), Mutex::new(started));
        Step { reporter: self.clone(), title, bar, total, count, said, started, done: false }
    }

    /// A line on standard error, above the bars.
    fn line(&self, text: &str) {
        match &self.bars {
            Some(bars) => bars.suspend(|| eprintln!("{text}")),
            None => eprintln!("{text}"),
        }
    }

    /// A line a person should see (nothing with `--quiet`, an event with `--json`).
    pub fn note(&self, text: impl AsRef<str>) {
        match self.mode {
            Mode::Text => self.line(text.as_ref()),
            Mode::Json => self.emit(&serde_json::json!({"event": "note", "text": text.as_ref()})),
            Mode::Quiet => {}
        }
    }

    /// One JSON event; nothing in the other modes.
    pub fn emit(&self, event: &serde_json::Value) {
        if self.mode == Mode::Json {
            let mut out = std::io::stdout().lock();
            // A reader that went away is not our failure.
            let _ = writeln!(out, "{event}");
        }
    }

    /// All steps that ended so far, in order.
    pub fn finished(&self) -> Vec<Finished> {
        self.finished.lock().map(|steps| steps.clone()).unwrap_or_default()
    }
}

/// A step under way. Dropped without [`Step::done`] it counts as failed and leaves no line.
#[derive(Debug)]
pub struct Step {
    reporter: Reporter,
    title: String,
    bar: Option<ProgressBar>,
    /// Bytes to do, where that is known.
    total: Option<u64>,
    /// Bytes done.
    count: AtomicU64,
    /// When it last said how far it is.
    said: Mutex<Instant>,
    started: Instant,
    done: bool,
}

impl Step {
    /// `count` more bytes are done.
    pub fn advance(&self, count: u64) {
        let done = self.count.fetch_add(count, Ordering::Relaxed) + count;
        if let Some(bar) = &self.bar {
            bar.inc(count);
            return;
        }
        let every = match self.reporter.mode {
            Mode::Text => LINES,
            Mode::Json => EVENTS,
            Mode::Quiet => return,
        };
        let mut said = self.said.lock().unwrap_or_else(PoisonError::into_inner);
        if said.elapsed() < every {
            return;
        }
        *said = Instant::now();
        if self.reporter.mode == Mode::Json {
            self.reporter.emit(&serde_json::json!({
                "event": "step-progress", "step": self.title, "done": done, "bytes": self.total
            }));
        } else {
            self.reporter.line(&format!("  {} {}", self.title, how_far(done, self.total)));
        }
    }

    /// What is being worked on right now.
    pub fn detail(&self, text: impl AsRef<str>) {
        if let Some(bar) = &self.bar {
            bar.set_message(format!("{}: {}", self.title, text.as_ref()));
        }
    }

    /// The step ended well. `result` says what came out, in a few words; may be empty.
    pub fn done(mut self, result: impl AsRef<str>) {
        self.done = true;
        let took = self.started.elapsed();
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
        let result = result.as_ref();
        match self.reporter.mode {
            Mode::Text => self.reporter.line(format!("  {:<36} {:>7.1} s  {result}", self.title, took.as_secs_f64()).trim_end()),
            Mode::Json => self.reporter.emit(&serde_json::json!({
                "event": "step-done", "step": self.title, "seconds": took.as_secs_f64(), "result": result
            })),
            Mode::Quiet => {}
        }
        if let Ok(mut finished) = self.reporter.finished.lock() {
            finished.push(Finished { title: self.title.clone(), took });
        }
    }
}

impl Drop for Step {
    fn drop(&mut self) {
        if !self.done {
            if let Some(bar) = &self.bar {
                bar.finish_and_clear();
            }
            self.reporter.emit(&serde_json::json!({"event": "step-failed", "step": self.title}));
        }
    }
}

/// `37 % of 1.2 GiB`, or how much where the end is not known.
fn how_far(done: u64, total: Option<u64>) -> String {
    match total {
        Some(total) if total > 0 => format!("{:>3} % of {}", (u128::from(done) * 100 / u128::from(total)).min(100), Bytes(total)),
        _ => Bytes(done).to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn how_far_it_is() {
        for (done, total, text) in [
            (0, Some(10), "  0 % of 10 B"),
            (1 << 29, Some(1 << 30), " 50 % of 1.0 GiB"),
            (20, Some(10), "100 % of 10 B"),
            (u64::MAX, Some(u64::MAX), "100 % of 16777216 TiB"),
            (1536, None, "1.5 KiB"),
            (0, Some(0), "0 B"),
        ] {
            assert_eq!(how_far(done, total), text);
        }
    }

    #[test]
    fn only_steps_that_end_well_are_finished() {
        let reporter = Reporter::new(Mode::Quiet);
        drop(reporter.step("fails"));
        let step = reporter.bytes("works", Bytes(10));
        step.advance(7);
        step.detail("a part");
        step.done("all of it");
        let titles: Vec<String> = reporter.finished().into_iter().map(|step| step.title).collect();
        assert_eq!(titles, ["works"]);
    }
}
