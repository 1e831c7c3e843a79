//! An answer that is kept up to date.

use std::{future::Future, sync::Arc, time::Duration};

use bytes::Bytes;
use http::Method;
use tokio::{sync::watch, task::AbortHandle, time::sleep};

use super::{
    Client, Entry, Error, Instance,
    answer::{Answer, Seen},
};

/// How long one question waits for a change; one that hangs is noticed by then.
const WAIT: Duration = Duration::from_secs(60);
/// Between two questions after one that failed.
const PAUSE: Duration = Duration::from_secs(1);
/// Between two answers, so that many changes in a row are few answers.
const REST: Duration = Duration::from_millis(50);

/// The latest answer to a question, asked again whenever it changes, until this is dropped.
#[derive(Debug)]
pub struct Follow<T> {
    latest: watch::Receiver<Latest<T>>,
    task: AbortHandle,
}

#[derive(Debug)]
struct Latest<T> {
    answer: Option<Arc<T>>,
    trouble: Option<String>,
}

impl<T> Follow<T> {
    /// The last answer that there was; none before the first one. It stays what it was while Consul does not answer.
    pub fn latest(&self) -> Option<Arc<T>> {
        self.latest.borrow().answer.clone()
    }

    /// Why Consul does not answer now; none where it does.
    pub fn trouble(&self) -> Option<String> {
        self.latest.borrow().trouble.clone()
    }

    /// Waits until the answer is another one than at the last call, or Consul's silence begins or ends.
    pub async fn changed(&mut self) {
        // The task ends with this value, so somebody always sends.
        let _ = self.latest.changed().await;
    }

    /// Waits for the first answer.
    pub async fn first(&mut self) -> Arc<T> {
        loop {
            if let Some(answer) = self.latest() {
                return answer;
            }
            self.changed().await;
        }
    }
}

impl<T> Drop for Follow<T> {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl<T: PartialEq + Send + Sync + 'static> Follow<T> {
    fn new<F, W>(question: F) -> Self
    where
        F: Fn(Seen) -> W + Send + 'static,
        W: Future<Output = Result<(T, Seen), Error>> + Send,
    {
        let (sender, latest) = watch::channel(Latest { answer: None, trouble: None });
        let task = tokio::spawn(async move {
            let mut seen = Seen::NOTHING;
            loop {
                match question(seen).await {
                    Ok((answer, now)) => {
                        seen = now;
                        sender.send_if_modified(|latest| latest.answered(answer));
                        sleep(REST).await;
                    }
                    Err(error) => {
                        // Whoever answers next may have other data.
                        seen = Seen::NOTHING;
                        sender.send_if_modified(|latest| latest.failed(error.to_string()));
                        sleep(PAUSE).await;
                    }
                }
            }
        });
        Self { latest, task: task.abort_handle() }
    }
}

impl<T: PartialEq> Latest<T> {
    fn answered(&mut self, answer: T) -> bool {
        let was_silent = self.trouble.take().is_some();
        let same = self.answer.as_deref() == Some(&answer);
        if !same {
            self.answer = Some(Arc::new(answer));
        }
        was_silent || !same
    }

    fn failed(&mut self, why: String) -> bool {
        self.trouble.replace(why).is_none()
    }
}

impl Client {
    /// Asks what waits for a change; `path` has its question mark. Whether it is there, and what was seen.
    pub(super) async fn watch(&self, path: &str, seen: Seen, wait: Duration) -> Result<(Answer, bool, Seen), Error> {
        // Consul itself adds up to a sixteenth, so that not all ask anew at once.
        let patient = self.within(wait + wait / 16 + self.limit);
        let path = format!("{path}&index={}&wait={}ms", seen.index(), wait.as_millis());
        let (what, response) = patient.ask(Method::GET, &path, Bytes::new()).await?;
        let (answer, there) = Answer::or_absent(what, response)?;
        let seen = answer.seen(seen)?;
        Ok((answer, there, seen))
    }

    /// Follows all keys that begin with `prefix`, in order. Needs a running tokio.
    pub fn follow_entries(&self, prefix: &str) -> Follow<Vec<Entry>> {
        let (client, prefix) = (self.clone(), prefix.to_owned());
        Follow::new(move |seen| {
            let (client, prefix) = (client.clone(), prefix.clone());
            async move { client.watch_entries(&prefix, seen, WAIT).await }
        })
    }

    /// Follows what is in `key`; none where there is no such key. Needs a running tokio.
    pub fn follow_value(&self, key: &str) -> Follow<Option<Entry>> {
        let (client, key) = (self.clone(), key.to_owned());
        Follow::new(move |seen| {
            let (client, key) = (client.clone(), key.clone());
            async move { client.watch_value(&key, seen, WAIT).await }
        })
    }

    /// Follows the instances of a service, those that do not work too. Needs a running tokio.
    pub fn follow_service(&self, name: &str) -> Follow<Vec<Instance>> {
        let (client, name) = (self.clone(), name.to_owned());
        Follow::new(move |seen| {
            let (client, name) = (client.clone(), name.clone());
            async move { client.watch_service(&name, seen, WAIT).await }
        })
    }

    /// Follows the ids of the services that the catalog has of a node. Needs a running tokio.
    pub fn follow_node(&self, node: &str) -> Follow<Vec<String>> {
        let (client, node) = (self.clone(), node.to_owned());
        Follow::new(move |seen| {
            let (client, node) = (client.clone(), node.clone());
            async move { client.watch_node(&node, seen, WAIT).await }
        })
    }
}
