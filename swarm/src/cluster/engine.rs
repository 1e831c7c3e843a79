//! One engine.

use std::{
    net::Ipv4Addr,
    sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock},
    time::SystemTime,
};

use tokio::{
    sync::{Notify, Semaphore, broadcast},
    task::AbortHandle,
};

use super::{Event, Health, Snapshot, table::Table, watch};
use crate::transport::Client;

/// One engine of the cluster.
pub struct Engine {
    /// Its node's name.
    pub name: String,
    /// Its node's address.
    pub address: Ipv4Addr,
    client: Client,
    snapshot: RwLock<Arc<Snapshot>>,
    table: Mutex<Table>,
    trouble: Mutex<Option<String>>,
    pub(super) asked: Notify,
    pub(super) events: broadcast::Sender<Event>,
    /// How many engines of the cluster are asked for everything at a time.
    pub(super) turns: Arc<Semaphore>,
    task: Mutex<Option<AbortHandle>>,
}

impl Engine {
    /// Watches the engine that `client` speaks with.
    pub(super) fn start(name: &str, client: Client, events: broadcast::Sender<Event>, turns: Arc<Semaphore>) -> Arc<Self> {
        let engine = Arc::new(Self {
            name: name.to_owned(),
            address: client.endpoint().address(),
            client,
            snapshot: RwLock::default(),
            table: Mutex::default(),
            trouble: Mutex::default(),
            asked: Notify::new(),
            events,
            turns,
            task: Mutex::default(),
        });
        let task = tokio::spawn(watch::watch(Arc::clone(&engine)));
        *lock(&engine.task) = Some(task.abort_handle());
        engine
    }

    /// Watches it no longer.
    pub(super) fn stop(&self) {
        if let Some(task) = lock(&self.task).take() {
            task.abort();
        }
    }

    /// What is known of it.
    pub fn snapshot(&self) -> Arc<Snapshot> {
        Arc::clone(&self.snapshot.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Speaks with it.
    pub fn client(&self) -> &Client {
        &self.client
    }

    /// What Consul says is wrong with it: asks it now, if that is news.
    pub(super) fn told(&self, trouble: Option<String>) {
        let mut known = lock(&self.trouble);
        if *known != trouble {
            *known = trouble;
            self.asked.notify_one();
        }
    }

    pub(super) fn table(&self) -> MutexGuard<'_, Table> {
        lock(&self.table)
    }

    pub(super) fn change(&self, change: impl FnOnce(&mut Snapshot)) {
        let mut current = self.snapshot.write().unwrap_or_else(PoisonError::into_inner);
        let mut next = Snapshot::clone(&current);
        change(&mut next);
        *current = Arc::new(next);
    }

    /// It answers.
    pub(super) fn answers(&self) {
        self.change(|snapshot| {
            if let Health::Unhealthy { .. } = std::mem::replace(&mut snapshot.health, Health::Healthy) {
                eprintln!("{}: answers again", self.client);
            }
        });
    }

    /// It does not answer. Consul's word says more than a time that ran out.
    pub(super) fn failed(&self, why: String) {
        let why = match &*lock(&self.trouble) {
            Some(trouble) => format!("{why} (Consul: {trouble})"),
            None => why,
        };
        self.change(|snapshot| {
            let since = match snapshot.health {
                Health::Unhealthy { since, .. } => since,
                _ => {
                    eprintln!("{why}");
                    SystemTime::now()
                }
            };
            snapshot.health = Health::Unhealthy { why, since };
        });
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Each of these is left whole by whoever holds it.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl std::fmt::Debug for Engine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Engine {}", self.client)
    }
}
