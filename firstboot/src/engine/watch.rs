//! The swarm's state for somebody who looks every few seconds.
//!
//! `GET /info` is the only place where all of it stands, and is dear: the engine starts `runc --version` and `docker-init --version` for
//! each answer, which took a third of a small board's time. `GET /_ping` says in its header `Swarm` what sort of state it is, for nothing,
//! from Docker 23 on. So everything is asked for when that word changes, and now and then.

use std::time::{Duration, Instant};

use super::{Engine, Error, LIMIT, SwarmState};

/// How old the rest may become while the ping says the same: that the managers have lost their majority is known so much later.
const EVERY: Duration = Duration::from_secs(30);

/// What was seen last.
#[derive(Debug, Default)]
pub struct SwarmWatch {
    known: Option<(String, Instant, SwarmState)>,
}

impl SwarmWatch {
    /// What this node is in a swarm; at most 30 s old where that is a worker, a manager or nothing, and right now otherwise.
    ///
    /// # Errors
    ///
    /// The engine does not answer.
    pub fn look(&mut self, engine: &Engine, now: Instant) -> Result<SwarmState, Error> {
        let known = self.known.take();
        let word = engine.swarm_word()?;
        let Some(word) = word else { return engine.swarm_state() };
        let known = match known.filter(|(before, at, _)| *before == word && now < *at + EVERY) {
            Some(known) => known,
            None => (word, now, engine.swarm_state()?),
        };
        let state = known.2.clone();
        // It may have changed between the two questions.
        if agrees(&known.0, &state) {
            self.known = Some(known);
        }
        Ok(state)
    }

    /// Asks for everything with the next look: something was done about the swarm.
    pub fn forget(&mut self) {
        self.known = None;
    }
}

/// Whether both are of the same state, one that a node is in for long. Of the others the ping says too little.
fn agrees(word: &str, state: &SwarmState) -> bool {
    match state {
        SwarmState::None => word == "inactive",
        SwarmState::Worker { .. } => word == "active/worker",
        SwarmState::Manager { .. } => word == "active/manager",
        _ => false,
    }
}

impl Engine {
    /// What the ping says of the swarm, such as `active/manager`; none from engines before Docker 23.
    fn swarm_word(&self) -> Result<Option<String>, Error> {
        let answer = self.call("asking whether it is there", "GET", "/_ping", None, LIMIT)?;
        Ok(answer.field("swarm").map(str::to_owned))
    }
}

#[cfg(test)]
mod tests {
    use std::{
        io::{Read, Write},
        os::unix::net::UnixStream,
        sync::{Arc, Mutex},
        thread,
    };

    use super::*;
    use crate::http::Client;

    /// An engine that says a word to a ping, counts who asks for everything, and then says the state, which may be another by then.
    fn engine(said: &Arc<Mutex<(Option<&'static str>, &'static str, u32)>>) -> Engine {
        let said = Arc::clone(said);
        let client = Client::over("an engine", move |_| {
            let (ours, mut theirs) = UnixStream::pair()?;
            let said = Arc::clone(&said);
            thread::spawn(move || {
                let mut head = [0; 4096];
                let read = theirs.read(&mut head).unwrap();
                let ping = String::from_utf8_lossy(&head[..read]).contains("/_ping");
                let mut said = said.lock().unwrap();
                let swarm = said.0.map(|word| format!("Swarm: {word}\r\n")).unwrap_or_default();
                let body = if ping {
                    "OK".to_owned()
                } else {
                    said.2 += 1;
                    let (state, manager) = (said.1.split('/').next().unwrap(), said.1.ends_with("/manager"));
                    let swarm = format!(r#"{{"LocalNodeState":"{state}","ControlAvailable":{manager},"NodeID":"{}"}}"#, said.2);
                    format!(r#"{{"DockerRootDir":"/var/lib/docker","Swarm":{swarm}}}"#)
                };
                let length = body.len();
                let head = format!(
                    "HTTP/1.1 200 OK\r\nApi-Version: 1.45\r\n{swarm}Content-Length: {length}\r\nConnection: close\r\n\r\n"
                );
                theirs.write_all((head + &body).as_bytes()).unwrap();
            });
            Ok(Box::new(ours) as Box<dyn crate::http::Stream>)
        });
        Engine::connect(client).unwrap()
    }

    #[test]
    fn everything_is_asked_for_after_a_change_and_now_and_then() {
        let said = Arc::new(Mutex::new((Some("inactive"), "inactive", 0)));
        let engine = engine(&said);
        let mut watch = SwarmWatch::default();
        let start = Instant::now();
        let (worker, manager) = ("active/worker", "active/manager");
        // What the ping says, what is so a moment later, when that is, and how often everything was asked for by then.
        for (word, state, at, asked) in [
            (Some("inactive"), "inactive", 0, 1),
            (Some("inactive"), "inactive", 29, 1),
            (Some("inactive"), "inactive", 30, 2),
            (Some(worker), worker, 31, 3),
            (Some(worker), worker, 60, 3),
            (Some(manager), manager, 60, 4),
            (Some(manager), manager, 63, 4),
            // The ping says too little.
            (Some("pending"), "pending", 64, 5),
            (Some("pending"), "pending", 65, 6),
            (Some("error"), "error", 66, 7),
            (Some("locked"), "locked", 67, 8),
            // It changed in between: that is not kept.
            (Some(manager), "pending", 68, 9),
            (Some(manager), manager, 69, 10),
            (Some(manager), manager, 70, 10),
            // Docker 20.10.
            (None, manager, 71, 11),
            (None, manager, 72, 12),
        ] {
            let count = said.lock().unwrap().2;
            *said.lock().unwrap() = (word, state, count);
            let seen = watch.look(&engine, start + Duration::from_secs(at)).unwrap();
            assert_eq!(said.lock().unwrap().2, asked, "{word:?} at {at} s");
            let right = match (&seen, state) {
                (SwarmState::None, state) => state == "inactive",
                (SwarmState::Worker { node_id, .. }, state) => state == worker && (at == 60 || *node_id == asked.to_string()),
                (SwarmState::Manager { .. }, state) => state == manager,
                (SwarmState::Pending { .. }, state) => state == "pending",
                (SwarmState::Error(_), state) => state == "error",
                (SwarmState::Locked, state) => state == "locked",
            };
            assert!(right, "{seen:?}: {word:?} at {at} s");
        }
        said.lock().unwrap().0 = Some(manager);
        watch.look(&engine, start).unwrap();
        watch.forget();
        watch.look(&engine, start).unwrap();
        assert_eq!(said.lock().unwrap().2, 14);
    }
}
