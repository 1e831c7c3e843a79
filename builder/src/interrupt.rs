//! What must be undone when a person (Ctrl-C) or a service manager (SIGTERM) ends the program.
//!
//! Whoever makes something that must not outlive the program registers how to take it away with
//! [`on_interrupt`] and keeps the [`Undo`]. On SIGINT or SIGTERM a thread of its own runs all that
//! is registered, newest first, says one line, and ends the process with 128 + signal, as shells expect.
//! A step that must happen whole or not at all runs in [`Undo::settle`]: the signal waits for it.
//!
//! Nothing helps against SIGKILL: what is left then is found by name and lock, see `image::output` and `cache`.

use std::{
    collections::BTreeMap,
    io::{IsTerminal, Write},
    sync::{Mutex, MutexGuard, Once, PoisonError},
};

use signal_hook::{
    consts::{SIGINT, SIGTERM},
    iterator::Signals,
};

type Action = Box<dyn FnOnce() + Send>;

struct Registry {
    next: u64,
    actions: BTreeMap<u64, Action>,
}

static REGISTRY: Mutex<Registry> = Mutex::new(Registry { next: 0, actions: BTreeMap::new() });
static WATCH: Once = Once::new();

/// Runs `action` should a signal end the program while the returned [`Undo`] is alive.
///
/// It runs on another thread, with signals held off, and must neither block nor register anything.
pub fn on_interrupt(action: impl FnOnce() + Send + 'static) -> Undo {
    WATCH.call_once(watch);
    let mut registry = registry();
    let id = registry.next;
    registry.next += 1;
    registry.actions.insert(id, Box::new(action));
    Undo { id }
}

/// A registered action; dropped, it is forgotten.
#[derive(Debug)]
#[must_use = "dropped at once it protects nothing"]
pub struct Undo {
    id: u64,
}

impl Undo {
    /// Runs `step` to its end before any signal takes effect, and forgets the action.
    ///
    /// `step` must not call [`on_interrupt`] or drop another [`Undo`].
    pub fn settle<T>(self, step: impl FnOnce() -> T) -> T {
        let mut registry = registry();
        let result = step();
        let action = registry.actions.remove(&self.id);
        drop(registry);
        drop(action);
        result
    }
}

impl Drop for Undo {
    fn drop(&mut self) {
        let action = registry().actions.remove(&self.id);
        drop(action);
    }
}

fn registry() -> MutexGuard<'static, Registry> {
    REGISTRY.lock().unwrap_or_else(PoisonError::into_inner)
}

fn watch() {
    // Without the thread a signal still ends the program, and leaves what SIGKILL would leave.
    let Ok(mut signals) = Signals::new([SIGINT, SIGTERM]) else { return };
    let spawned = std::thread::Builder::new().name("signals".into()).spawn(move || {
        if let Some(signal) = signals.forever().next() {
            let mut registry = registry();
            for (_, action) in std::mem::take(&mut registry.actions).into_iter().rev() {
                action();
            }
            let mut out = std::io::stderr().lock();
            // Over the progress bar that stands there.
            let clear = if out.is_terminal() { "\r\x1b[K" } else { "" };
            let _ = writeln!(out, "{clear}hcl-image: interrupted: run the same command again to go on from here");
            drop(out);
            // The lock is still held: no step that settles can begin any more.
            std::process::exit(128 + signal);
        }
    });
    if spawned.is_err() {
        let _ = signal_hook::flag::register_conditional_default(SIGINT, std::sync::Arc::new(true.into()));
        let _ = signal_hook::flag::register_conditional_default(SIGTERM, std::sync::Arc::new(true.into()));
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    };

    use super::*;

    #[test]
    fn an_undo_that_is_dropped_or_settled_is_forgotten() {
        let ran = Arc::new(AtomicBool::new(false));
        let flag = ran.clone();
        let undo = on_interrupt(move || flag.store(true, Ordering::SeqCst));
        let id = undo.id;
        assert!(registry().actions.contains_key(&id));
        assert_eq!(undo.settle(|| 7), 7);
        assert!(!registry().actions.contains_key(&id));
        let undo = on_interrupt(|| {});
        let id = undo.id;
        drop(undo);
        assert!(!registry().actions.contains_key(&id));
        assert!(!ran.load(Ordering::SeqCst));
    }
}
