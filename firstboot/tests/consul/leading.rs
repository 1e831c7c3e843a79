//! The lock, held by one of three.

use std::{
    io::{BufRead, BufReader},
    os::unix::net::UnixListener,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use hcl_firstboot::{
    consul::{
        Client, Lock, keys,
        kv::{Freshness, If},
        lock::{Change, Owner, VALID},
    },
    identity::{Incarnation, NodeId},
    services::role::{self, PATIENCE, Role},
    status::uptime_ms,
};

use super::agent::*;

/// One node's program, which stands for the role until it is stopped or killed.
pub struct Candidate {
    /// What it was told, and when.
    told: Arc<Mutex<Vec<(Duration, Change)>>>,
    stands: Arc<AtomicBool>,
    dead: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

fn now() -> Duration {
    Duration::from_millis(uptime_ms())
}

impl Candidate {
    pub fn of(agent: &Agent) -> Self {
        let owner = Owner { node: agent.setup.node_id, address: agent.setup.address };
        let (name, client) = (agent.setup.node_name.clone(), agent.client.clone());
        let (told, stands, dead) =
            (Arc::<Mutex<Vec<_>>>::default(), Arc::new(AtomicBool::new(true)), Arc::<AtomicBool>::default());
        let thread = thread::spawn({
            let (told, stands, dead) = (told.clone(), stands.clone(), dead.clone());
            move || {
                let mut lock = Lock::new(&name, &owner);
                while !dead.load(Ordering::Relaxed) {
                    let change = lock.stand(stands.load(Ordering::Relaxed));
                    let turn = lock.turn(&client, now);
                    // A program that is dead hears nothing.
                    if !dead.load(Ordering::Relaxed) {
                        told.lock().unwrap().extend(change.into_iter().chain(turn.change).map(|change| (now(), change)));
                    }
                    let until = turn.next.map_or(Duration::MAX, |next| next.saturating_sub(now()));
                    thread::sleep(until.min(Duration::from_millis(100)));
                }
            }
        });
        Self { told, stands, dead, thread: Some(thread) }
    }

    fn last(&self) -> Option<Change> {
        self.told.lock().unwrap().last().map(|(_, change)| *change)
    }

    fn index(&self) -> Option<u64> {
        match self.last() {
            Some(Change::Granted { index, .. }) => Some(index),
            _ => None,
        }
    }

    fn die(&mut self) {
        self.dead.store(true, Ordering::Relaxed);
        self.thread.take().unwrap().join().unwrap();
    }

    /// Until when it had the role, if it did at the end.
    fn valid_until(&self) -> Duration {
        match self.last() {
            Some(Change::Granted { asked_at, valid_for, .. }) => asked_at + valid_for,
            other => panic!("{other:?}"),
        }
    }

    /// When it was first granted `index`.
    fn granted_at(&self, index: u64) -> Duration {
        let told = self.told.lock().unwrap();
        told.iter().find(|(_, change)| matches!(change, Change::Granted { index: of, .. } if *of == index)).unwrap().0
    }
}

impl Drop for Candidate {
    fn drop(&mut self) {
        self.dead.store(true, Ordering::Relaxed);
    }
}

/// The one that leads by `index`.
fn leading(candidates: &[Option<Candidate>], since: u64) -> (usize, u64) {
    wait("a leader", || {
        let leads = |(number, candidate): (usize, &Option<Candidate>)| Some((number, candidate.as_ref()?.index()?));
        candidates.iter().enumerate().filter_map(leads).find(|(_, index)| *index > since)
    })
}

#[test]
fn the_role_moves_when_its_node_goes_and_only_then() {
    let lab = Lab::new();
    let mut agents: Vec<Option<Agent>> = lab.servers(3).into_iter().map(Some).collect();
    let mut candidates: Vec<Option<Candidate>> = agents.iter().map(|agent| agent.as_ref().map(Candidate::of)).collect();
    let (first, index) = leading(&candidates, 0);
    let owner = agents[2].as_ref().unwrap().client.owner().unwrap().unwrap();
    assert_eq!(owner.node, NodeId([first as u8 + 1; 16]));

    // It is renewed, and stays the same term; the others are told nothing.
    let told = candidates[first].as_ref().unwrap().told.clone();
    wait("ten renewals", || (told.lock().unwrap().len() > 10).then_some(()));
    assert_eq!(leading(&candidates, 0), (first, index));
    let others = |candidates: &[Option<Candidate>], but: usize| {
        let told = |(number, candidate): (usize, &Option<Candidate>)| {
            number != but && candidate.as_ref().is_some_and(|one| one.last().is_some())
        };
        candidates.iter().enumerate().any(told)
    };
    assert!(!others(&candidates, first));

    // Its program is started again: the same term.
    candidates[first].as_mut().unwrap().die();
    let since = Instant::now();
    candidates[first] = agents[first].as_ref().map(Candidate::of);
    assert_eq!(leading(&candidates, 0), (first, index));
    println!("figure: a program that was started again has its role after {:.1} s", since.elapsed().as_secs_f32());

    // It gives the role back.
    let since = Instant::now();
    candidates[first].as_ref().unwrap().stands.store(false, Ordering::Relaxed);
    let (second, later) = leading(&candidates, index);
    println!("figure: a role that is given back is granted elsewhere after {:.1} s", since.elapsed().as_secs_f32());
    assert_ne!(second, first);
    assert_eq!(candidates[first].as_ref().unwrap().last(), Some(Change::Lost));
    candidates[first].as_ref().unwrap().stands.store(true, Ordering::Relaxed);

    // The power of its node goes.
    let mut dead = candidates[second].take().unwrap();
    let mut agent = agents[second].take().unwrap();
    let since = Instant::now();
    agent.kill();
    dead.die();
    let (third, last) = leading(&candidates, later);
    println!("figure: the role of a node without power is granted elsewhere after {:.1} s", since.elapsed().as_secs_f32());
    assert_ne!(third, second);
    let acts = candidates[third].as_ref().unwrap().granted_at(last) + VALID;
    assert!(acts > dead.valid_until(), "{acts:?} {:?}", dead.valid_until());

    // Two of three gone: nobody leads, and the one that did knows in time.
    let other = 3 - second - third;
    agents[other].as_mut().unwrap().kill();
    let lead = candidates[third].as_ref().unwrap();
    wait("the loss", || (lead.last() == Some(Change::Lost)).then_some(()));
    let told = lead.told.lock().unwrap();
    let [.., (_, Change::Granted { asked_at, .. }), (heard, Change::Lost)] = told[..] else { panic!("{told:?}") };
    assert!(heard >= asked_at + VALID && heard < asked_at + VALID + Duration::from_secs(5), "{asked_at:?} {heard:?}");
    drop(told);

    // The node that lost its power comes back, and with it a majority.
    let since = Instant::now();
    let _back = lab.start(&agent.setup);
    let (_, again) = leading(&candidates, last - 1);
    println!("figure: after a majority is back the role is granted after {:.1} s", since.elapsed().as_secs_f32());
    assert!(again >= last);
}

#[test]
fn the_role_moves_from_a_node_that_also_leads_consul() {
    let lab = Lab::new();
    let mut agents: Vec<Option<Agent>> = lab.servers(3).into_iter().map(Some).collect();
    let address = agents[1].as_ref().unwrap().wait_leader();
    let leader = agents.iter().position(|agent| agent.as_ref().unwrap().setup.address == address).unwrap();
    let mut candidates: Vec<Option<Candidate>> = vec![None, None, None];
    candidates[leader] = agents[leader].as_ref().map(Candidate::of);
    let (_, index) = leading(&candidates, 0);
    for number in (0..3).filter(|number| *number != leader) {
        candidates[number] = agents[number].as_ref().map(Candidate::of);
    }
    let mut dead = candidates[leader].take().unwrap();
    let since = Instant::now();
    agents[leader].as_mut().unwrap().kill();
    dead.die();
    let (_, last) = leading(&candidates, index);
    println!(
        "figure: the role of a node without power that led Consul is granted elsewhere after {:.1} s",
        since.elapsed().as_secs_f32()
    );
    assert!(last > index);
    agents[leader] = None;
}

#[test]
fn a_program_that_hangs_loses_the_role() {
    let lab = Lab::new();
    let agent = lab.start(&lab.founder());
    let client: Client = agent.client.clone();
    lab.bootstrap(&agent);
    let session = client.create_session(keys::LEADER).unwrap();
    assert!(client.acquire(keys::LEADER, &session, b"{}").unwrap());
    let since = Instant::now();
    wait("the end of a session that is not renewed", || {
        client.value(keys::LEADER, Freshness::Default).ok()??.session.is_none().then_some(())
    });
    println!("figure: a session that is not renewed ends after {:.1} s (10 s)", since.elapsed().as_secs_f32());
    assert!(since.elapsed() > VALID);
    assert!(!client.renew_session(&session).unwrap());
    assert_eq!(client.session(&session).unwrap(), None);
    client.destroy_session(&session).unwrap();
    let freed = Instant::now();
    let session = client.create_session(keys::LEADER).unwrap();
    wait("the lock delay", || client.acquire(keys::LEADER, &session, b"{}").unwrap().then_some(()));
    assert!(freed.elapsed() < Duration::from_secs(15), "Consul's own delay");
    assert!(client.release(keys::LEADER, &session, b"{}").unwrap());
}

/// Only who holds the lock writes as its holder, and only over what it has seen.
#[test]
fn only_the_holder_writes() {
    const KEY: &str = "hcl/test-ledger";
    let lab = Lab::new();
    let agent = lab.start(&lab.founder());
    lab.bootstrap(&agent);
    let client = &agent.client;
    let (holder, other) = (client.create_session("holder").unwrap(), client.create_session("other").unwrap());
    assert!(client.acquire("hcl/test-lock", &holder, b"").unwrap());
    let put =
        |value: &[u8], condition, session: &str| client.put_as_holder(KEY, value, condition, "hcl/test-lock", session).unwrap();
    assert!(!put(b"0", If::Absent, &other));
    assert!(put(b"1", If::Absent, &holder));
    assert!(!put(b"2", If::Absent, &holder), "it is there");
    let seen = client.value(KEY, Freshness::Consistent).unwrap().unwrap();
    assert_eq!(seen.value, b"1");
    assert!(put(b"3", If::Unchanged(seen.modified), &holder));
    assert!(!put(b"4", If::Unchanged(seen.modified), &holder), "a late one of before");
    client.destroy_session(&holder).unwrap();
    let seen = client.value(KEY, Freshness::Consistent).unwrap().unwrap();
    assert!(!put(b"5", If::Unchanged(seen.modified), &holder), "its session is over");
    client.destroy_session(&other).unwrap();
    client.delete(KEY).unwrap();
    client.delete("hcl/test-lock").unwrap();
}

/// A node that is granted the role and does not come to lead (its address is taken, its ledger damaged, its network program hangs)
/// gives the lock back, and another one leads.
#[test]
fn the_lock_goes_back_where_nothing_comes_of_it() {
    let lab = Lab::new();
    let agents = lab.servers(3);
    let run = tempfile::tempdir().unwrap();
    let listener = UnixListener::bind(run.path().join("role.sock")).unwrap();
    let mut role = Role::start(run.path(), agents[0].client.clone()).unwrap();
    let setup = &agents[0].setup;
    let owner = Owner { node: setup.node_id, address: setup.address };
    let candidate =
        || Some(role::Candidate { name: setup.node_name.clone(), owner: owner.clone(), incarnation: Incarnation([1; 16]) });
    let start = Instant::now();
    assert!(!role.stand(candidate(), false, start));
    let (line, _) = listener.accept().unwrap();
    line.set_read_timeout(Some(LIMIT)).unwrap();
    let mut lines = BufReader::new(line).lines();
    let mut hear = |word: &str| {
        let until = Instant::now() + LIMIT;
        while Instant::now() < until {
            if lines.next().unwrap().unwrap().contains(word) {
                return;
            }
        }
        panic!("nothing was {word}");
    };
    hear("granted");
    let other = Candidate::of(&agents[1]);
    assert!(!role.stand(candidate(), false, start));
    assert!(!role.stand(candidate(), false, start + PATIENCE - Duration::from_secs(1)));
    assert_eq!(agents[1].client.owner().unwrap().map(|owner| owner.node), Some(NodeId([1; 16])));
    assert!(role.stand(candidate(), false, start + PATIENCE), "it gives up");
    hear("lost");
    wait("another one leads", || other.index());
    assert_eq!(agents[0].client.owner().unwrap().map(|owner| owner.node), Some(NodeId([2; 16])));
    // Once it has rested it stands again, and takes over from the other one.
    assert!(!role.stand(candidate(), false, start + PATIENCE + role::REST));
    other.stands.store(false, Ordering::Relaxed);
    hear("granted");
}
