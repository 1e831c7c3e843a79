//! Progress for people and for programs.
//!
//! A [`Reporter`] is shared by everything that takes time. On a terminal a [`Step`] is a bar; without
//! one it is a line at its start and one at its end; with `--json` every step is a pair of events.

use std::{
    io::{IsTerminal, Write},
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::units::Bytes;

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
    terminal: bool,
    finished: Arc<Mutex<Vec<Finished>>>,
}

impl Reporter {
    /// A reporter for `mode`; whether there is a terminal is found out here.
    pub fn new(mode: Mode) -> Self {
        let terminal = mode == Mode::Text && std::io::stderr().is_terminal();
        Self { mode, terminal, finished: Arc::default() }
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
        let bar = if self.terminal {
            let (bar, template) = match total {
                Some(total) => (ProgressBar::new(total), "  {msg:36} {bar:30} {bytes:>10} of {total_bytes:10} {eta:>4}"),
                None => (ProgressBar::new_spinner(), "  {msg:36} {spinner} {elapsed}"),
            };
            bar.set_draw_target(ProgressDrawTarget::stderr_with_hz(8));
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
        Step { reporter: self.clone(), title, bar, started: Instant::now(), done: false }
    }

    /// A line a person should see (nothing with `--quiet`, an event with `--json`).
    pub fn note(&self, text: impl AsRef<str>) {
        match self.mode {
            Mode::Text => eprintln!("{}", text.as_ref()),
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
    started: Instant,
    done: bool,
}

impl Step {
    /// `count` more bytes are done.
    pub fn advance(&self, count: u64) {
        if let Some(bar) = &self.bar {
            bar.inc(count);
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
            Mode::Text => eprintln!("  {:<36} {:>7.1} s  {result}", self.title, took.as_secs_f64()),
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
