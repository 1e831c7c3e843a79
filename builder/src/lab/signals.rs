//! Ctrl-C and its kin, for a lab: seen by whoever looks, so that everything ends in order.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use anyhow::Context;
use signal_hook::{
    consts::{SIGHUP, SIGINT, SIGTERM},
    flag,
};

/// Whether somebody wants us to end.
#[derive(Clone, Debug)]
pub struct Signals(Arc<AtomicBool>);

impl Signals {
    /// From now on SIGINT, SIGTERM and SIGHUP are noted here; a second one ends the program at once, and the
    /// kernel then ends what it started.
    ///
    /// # Errors
    ///
    /// The system refuses.
    pub fn watch() -> anyhow::Result<Self> {
        let seen = Arc::new(AtomicBool::new(false));
        for signal in [SIGINT, SIGTERM, SIGHUP] {
            // In this order: the first signal finds the flag unset and sets it.
            flag::register_conditional_shutdown(signal, 128 + signal, seen.clone()).context("watching for signals")?;
            flag::register(signal, seen.clone()).context("watching for signals")?;
        }
        Ok(Self(seen))
    }

    /// A signal came.
    pub fn seen(&self) -> bool {
        self.0.load(Ordering::SeqCst)
    }
}
