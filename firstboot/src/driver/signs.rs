//! What a node without a screen shows: the activity LED, and the black box on the boot partition.
//!
//! Both are of help only: what does not work with them is a line in the journal, and the node works on.

use std::time::{Duration, Instant};

use super::{Options, console::Console, led::Led, recorder::Recorder};
use crate::{
    led::Signal,
    status::{self, Status},
    trouble::Trouble,
};

/// LED and black box, as far as there are any.
#[derive(Debug, Default)]
pub(super) struct Signs {
    led: Option<Led>,
    recorder: Option<Recorder>,
    /// Said goodbye: what the node looks like from now on is no news.
    frozen: bool,
}

impl Signs {
    /// Finds both.
    pub(super) fn open(options: &Options, console: &Console) -> Self {
        let led = Led::open(&options.root, &options.run_dir).map_err(|reason| console.log(6, &reason)).ok();
        let recorder = Recorder::open(&options.boot, &options.root).map_err(|reason| console.log(6, &reason)).ok();
        Self { led, recorder, frozen: false }
    }

    /// Adds a line to the story.
    pub(super) fn tell(&mut self, line: &str) {
        if let Some(recorder) = &mut self.recorder {
            recorder.tell(status::uptime_ms(), line);
        }
    }

    /// Shows how the node is now.
    pub(super) fn show(&mut self, status: &Status, console: &Console) {
        if self.frozen {
            return;
        }
        self.signal(Signal::of(status), console);
        if let Some(recorder) = &mut self.recorder {
            recorder.note(status);
        }
    }

    /// The node does nothing, because of `trouble`: the LED goes on to say so, and the black box has it.
    pub(super) fn fail(mut self, trouble: &Trouble, console: &Console) {
        self.signal(Signal::Fault(trouble.kind), console);
        self.tell(&format!("not started: {}", trouble.text));
        if let Some(recorder) = &mut self.recorder {
            recorder.note_failure(trouble);
        }
        self.run(console);
    }

    /// When [`Signs::run`] has something to do.
    pub(super) fn next_due(&self) -> Option<Instant> {
        let at = self.recorder.as_ref()?.next_due()?;
        Some(Instant::now() + Duration::from_millis(at.saturating_sub(status::uptime_ms())))
    }

    /// Does what is due.
    pub(super) fn run(&mut self, console: &Console) {
        self.record(console, |recorder| recorder.run(status::uptime_ms()));
    }

    /// The program was asked to end: what it shows until then is how it was.
    pub(super) fn freeze(&mut self) {
        self.frozen = true;
    }

    /// The program ends in good order: the LED is the kernel's again.
    pub(super) fn finish(&mut self, console: &Console) {
        if let Some(Err(error)) = self.led.as_mut().map(Led::give_back) {
            console.log(6, &format!("giving the LED back: {error}"));
        }
        self.record(console, |recorder| recorder.finish(status::uptime_ms()));
    }

    fn signal(&mut self, signal: Signal, console: &Console) {
        if let Some(Err(error)) = self.led.as_mut().map(|led| led.show(signal)) {
            console.log(6, &format!("no signals from the LED any more: {error}"));
            self.led = None;
        }
    }

    fn record(&mut self, console: &Console, write: impl FnOnce(&mut Recorder) -> std::io::Result<()>) {
        if let Some(Err(error)) = self.recorder.as_mut().map(write) {
            console.log(6, &format!("nothing goes into the black box any more: {error}"));
            self.recorder = None;
        }
    }
}
