//! The task that keeps an engine's snapshot.
//!
//! It follows the engine's events and asks for what they name, a moment later, so that one answer serves several events; it asks for
//! everything every two minutes, in case an event was lost; and it asks whether the engine still answers every three seconds.
//! Whatever goes wrong makes the engine unhealthy, and is tried again with growing pauses.

use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use http::{Request, StatusCode};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use tokio::{
    sync::Notify,
    time::{Instant, MissedTickBehavior, interval_at, sleep, timeout},
};

use super::{
    Engine, Event, EventFields,
    events::{Lines, Stale},
};
use crate::transport::{Error, empty};

/// From an event to the question, so that one question serves several events.
const SETTLE: Duration = Duration::from_millis(100);
/// Between two times that everything is asked for. An engine drops an event only for a listener that is full for a tenth of a second,
/// and each question costs a small board more than all events of a quiet minute.
const FULL: Duration = Duration::from_secs(120);
/// Between two pings. Two in a row that fail make an engine unhealthy: ten seconds at the worst…
const PING: Duration = Duration::from_secs(3);
/// … with this limit for each.
const PING_LIMIT: Duration = Duration::from_secs(3);
/// How long everything may take to be asked for.
const FULL_LIMIT: Duration = Duration::from_secs(60);
/// The first and the longest pause after a failure.
const PAUSES: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(8));

/// Watches `engine` for ever.
pub(super) async fn watch(engine: Arc<Engine>) {
    let mut pause = PAUSES.0;
    loop {
        let why = follow(&engine).await;
        if engine.snapshot().is_healthy() {
            pause = PAUSES.0;
        }
        engine.failed(why);
        // Consul's word that something changed ends the pause.
        let _ = timeout(pause, engine.asked.notified()).await;
        pause = (pause * 2).min(PAUSES.1);
    }
}

/// Keeps the snapshot until something goes wrong, and tells what.
async fn follow(engine: &Engine) -> String {
    match try_follow(engine).await {
        Ok(()) => format!("{}: its events ended: the engine was stopped", engine.client()),
        Err(why) => why,
    }
}

async fn try_follow(engine: &Engine) -> Result<(), String> {
    // Side by side, so that a long answer delays neither events nor pings.
    tokio::select! {
        ended = learn(engine) => ended,
        failed = ping_on(engine) => failed,
    }
}

async fn learn(engine: &Engine) -> Result<(), String> {
    // First the events, then the state: nothing is missed between the two.
    let events = Events::open(engine).await?;
    everything(engine).await?;
    engine.answers();
    let pending = Pending::default();
    tokio::select! {
        ended = read(events, &pending) => ended,
        failed = refresh(engine, &pending) => failed,
    }
}

/// What events have made stale and nobody has asked for yet.
#[derive(Default)]
struct Pending {
    stale: Mutex<BTreeSet<Stale>>,
    more: Notify,
}

impl Pending {
    fn stale(&self) -> MutexGuard<'_, BTreeSet<Stale>> {
        self.stale.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Notes what events make stale; ends when they do.
async fn read(mut events: Events<'_>, pending: &Pending) -> Result<(), String> {
    while let Some(stale) = events.next().await? {
        if !stale.is_empty() {
            pending.stale().extend(stale);
            pending.more.notify_one();
        }
    }
    Ok(())
}

/// Asks for what is stale, and for everything now and then; ends with a failure only.
async fn refresh(engine: &Engine, pending: &Pending) -> Result<(), String> {
    let mut full = interval_at(Instant::now() + first_full(&engine.name), FULL);
    full.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            () = pending.more.notified() => {
                sleep(SETTLE).await;
                let stale = std::mem::take(&mut *pending.stale());
                ask(engine, stale).await?;
            }
            _ = full.tick() => everything(engine).await?,
        }
    }
}

/// Not all engines are asked for everything at once: each has its own moment, by its name.
fn first_full(name: &str) -> Duration {
    let sum = name.bytes().fold(0_u32, |sum, byte| sum.wrapping_mul(31).wrapping_add(byte.into()));
    FULL.mul_f64(0.5 + f64::from(sum % 1000) / 2000.0)
}

/// Sees whether the engine answers; ends when it does not.
async fn ping_on(engine: &Engine) -> Result<(), String> {
    loop {
        // Consul's word that something changed ends the pause.
        let _ = timeout(PING, engine.asked.notified()).await;
        // Two tries: the first may have met a connection that just ended.
        if ping(engine).await.is_err() {
            ping(engine).await?;
        }
    }
}

async fn everything(engine: &Engine) -> Result<(), String> {
    // Only some engines at a time: their lists are long. One that hangs has no turn, since its events are asked for before.
    let _turn = engine.turns.acquire().await;
    let all = async {
        engine.refresh_info().await?;
        engine.refresh_containers().await?;
        engine.refresh_images().await?;
        engine.refresh_networks().await?;
        engine.refresh_volumes().await
    };
    let done = timeout(FULL_LIMIT, all)
        .await
        .map_err(|_| format!("{}: it takes more than {} s to say what is on it", engine.client(), FULL_LIMIT.as_secs()))?;
    done.map_err(line)?;
    engine.change(|snapshot| snapshot.updated_at = Some(std::time::SystemTime::now()));
    Ok(())
}

async fn ask(engine: &Engine, stale: BTreeSet<Stale>) -> Result<(), String> {
    for one in &stale {
        let done = match one {
            // Asked for with an inspection anyway.
            Stale::Container(id, false) if stale.contains(&Stale::Container(id.clone(), true)) => continue,
            Stale::Container(id, inspect) => engine.refresh_container(id, *inspect).await,
            Stale::Images => engine.refresh_images().await,
            Stale::Networks => engine.refresh_networks().await,
            Stale::Volumes => engine.refresh_volumes().await,
            Stale::Info => engine.refresh_info().await,
        };
        done.map_err(line)?;
    }
    Ok(())
}

async fn ping(engine: &Engine) -> Result<(), String> {
    let mut request = Request::new(empty());
    *request.uri_mut() = http::Uri::from_static("/_ping");
    let answer = async {
        let response = engine.client().send(request).await.map_err(line)?;
        let status = response.status();
        // Read to its end, so that the connection serves again.
        response.into_body().collect().await.map_err(|error| error.to_string())?;
        if status == StatusCode::OK { Ok(()) } else { Err(format!("{}: /_ping: {status}", engine.client())) }
    };
    timeout(PING_LIMIT, answer)
        .await
        .unwrap_or_else(|_| Err(format!("{}: no answer within {} s", engine.client(), PING_LIMIT.as_secs())))
}

#[allow(clippy::needless_pass_by_value)]
fn line(error: Error) -> String {
    error.to_string()
}

/// The engine's events as they come.
struct Events<'a> {
    engine: &'a Engine,
    name: Arc<str>,
    body: Incoming,
    lines: Lines,
}

impl<'a> Events<'a> {
    async fn open(engine: &'a Engine) -> Result<Self, String> {
        let mut request = Request::new(empty());
        *request.uri_mut() = http::Uri::from_static("/events");
        let response = engine.client().send(request).await.map_err(line)?;
        if response.status() != StatusCode::OK {
            return Err(format!("{}: /events: {}", engine.client(), response.status()));
        }
        Ok(Self { engine, name: engine.name.as_str().into(), body: response.into_body(), lines: Lines::default() })
    }

    /// What the next events make stale; none at the end. Loses nothing when it is dropped.
    async fn next(&mut self) -> Result<Option<Vec<Stale>>, String> {
        let Some(frame) = self.body.frame().await else { return Ok(None) };
        let frame = frame.map_err(|error| format!("{}: its events broke off: {error}", self.engine.client()))?;
        let Ok(bytes) = frame.into_data() else { return Ok(Some(Vec::new())) };
        let mut stale = Vec::new();
        for raw in self.lines.push(&bytes).map_err(str::to_owned)? {
            let Ok(fields) = serde_json::from_str::<EventFields>(&raw) else { continue };
            stale.extend(fields.stale());
            // Nobody may be listening.
            let _ = self.engine.events.send(Event { engine: Arc::clone(&self.name), fields: Arc::new(fields), raw: raw.into() });
        }
        Ok(Some(stale))
    }
}
