//! Events, to everybody who listens.

use std::{
    convert::Infallible,
    pin::Pin,
    sync::{Mutex, PoisonError},
    task::{Context, Poll},
};

use bytes::Bytes;
use hyper::body::{Body, Frame};
use serde_json::Value;
use tokio::sync::mpsc;

/// How many events wait for a listener; a slower one is cut off, as it would miss some.
const WAITING: usize = 4096;

/// Everybody who listens.
#[derive(Default)]
pub struct Events(Mutex<Vec<mpsc::Sender<Bytes>>>);

impl Events {
    /// A body with all events from now on.
    pub fn listen(&self) -> Listener {
        let (sender, receiver) = mpsc::channel(WAITING);
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(sender);
        Listener(receiver)
    }

    /// Tells it.
    pub fn tell(&self, event: &Value) {
        let line = Bytes::from(format!("{event}\n"));
        self.0.lock().unwrap_or_else(PoisonError::into_inner).retain(|sender| sender.try_send(line.clone()).is_ok());
    }
}

/// The events as a body; it ends when the listener was too slow.
pub struct Listener(mpsc::Receiver<Bytes>);

impl Body for Listener {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        self.0.poll_recv(context).map(|line| line.map(|line| Ok(Frame::data(line))))
    }
}
