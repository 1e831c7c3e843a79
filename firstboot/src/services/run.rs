//! The loop: look, make the one step that is next, tell.

mod shown;

use std::{
    io,
    path::Path,
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use super::{
    agent::{Agent, Who},
    caller::Caller,
    copied,
    door::{self, Shared},
    duties::{Duties, Lead},
    host_key::HostFiles,
    images,
    inventory::Inventory,
    kept::{self, Kept, Progress, Server as Serving},
    orders::{self, Here, Orders},
    place, plan,
    plan::{Place, Seen, Step},
    promote::works_as_pair,
    recover,
    report::{Report, Told},
    role::{Candidate, Role},
    state::ServicesStatus,
    systemctl::systemctl,
};
use crate::{
    config::NodeConfig,
    consul::{self, catalog::State, lock::Owner},
    driver::Options,
    engine::{Engine, InitSwarm, JoinSwarm, Reviver, SwarmState, SwarmWatch},
    http::{Client, Server},
    identity::NodeId,
    key::ClusterKey,
    page::{self, Page},
    status::{Status, uptime_ms},
    trust::{NodeNames, Trust},
};

/// Between two looks, while something is to be done and while nothing is.
const BUSY: Duration = Duration::from_secs(1);
const QUIET: Duration = Duration::from_secs(3);
/// How often a step that failed is tried again.
const AGAIN: Duration = Duration::from_secs(3);
/// How long joining a swarm may take: the engine's own limit is 20 s, and it goes on behind it.
const JOIN: Duration = Duration::from_secs(60);
/// After this long without a majority of the swarm's managers none comes by itself: two that both run need some seconds. One that has had
/// it since it was started is given longer: a new second manager on a busy machine takes minutes until it has its answer.
const STRANDED: Duration = Duration::from_secs(60);
const STRANDED_RUNNING: Duration = Duration::from_secs(300);
/// An engine that has failed to come back to the swarm for so long, while the leader is in it, is started anew. One that was in it since it
/// was started tries again by itself every half minute, and a new manager on a busy machine needs some of these tries; one that was
/// refused as it started says the same and never tries again.
const GAVE_UP: Duration = Duration::from_secs(600);
/// A view of the leader's that is older is not shown any more.
const STALE: Duration = Duration::from_secs(15);
/// How often Consul is told of the engine.
const BEAT: Duration = Duration::from_secs(20);
/// How often containers that did not come back are looked for.
const REVIVE: Duration = Duration::from_secs(10);

/// A node's services.
pub(super) struct Services {
    options: Options,
    config: NodeConfig,
    key: ClusterKey,
    kept: Kept,
    engine: Option<Engine>,
    swarm: SwarmWatch,
    agent: Agent,
    role: Role,
    hall: Shared,
    host_files: HostFiles,
    orders: Arc<Orders>,
    page: Arc<Page>,
    _page_server: Server,
    me: Option<Me>,
    duties: Duties,
    reviver: Reviver,
    revived: Option<Instant>,
    beaten: Option<Instant>,
    /// The engine waits for a majority of the swarm's managers.
    stranded: Lasting,
    /// It has failed to come back to the swarm.
    gave_up: Lasting,
    /// How often it was started anew for that, since it was in.
    restarts: u32,
    inventory: Inventory,
    answer: Option<plan::Answer>,
    told: Option<(Instant, Told)>,
    /// What is being done, why it does not work, and since when.
    status: ServicesStatus,
}

/// Since when something is so.
#[derive(Debug, Default)]
struct Lasting(Option<Instant>);

impl Lasting {
    /// For how long it has been so at `now`; zero where it is not.
    fn look(&mut self, is_so: bool, now: Instant) -> Duration {
        self.0 = is_so.then(|| self.0.unwrap_or(now));
        self.0.map_or(Duration::ZERO, |since| now.duration_since(since))
    }
}

/// Who this node is on the wire, while that does not change.
struct Me {
    who: Who,
    caller: Arc<Caller>,
    door: Option<Server>,
}

/// What one look saw besides what the plan needs.
struct Look {
    status: Status,
    place: Place,
    swarm: SwarmState,
    /// The engine says that it is no manager: a leader could make nobody one, nor let anybody in.
    unfit: bool,
}

impl Services {
    /// # Errors
    ///
    /// What is missing, and what to do about it: nothing that comes by waiting.
    pub(super) fn new(options: Options, config: NodeConfig, key: ClusterKey, kept: Kept) -> Result<Self, String> {
        let agent = Agent::new(&key, images::reference(&options.etc, "consul")?)?;
        let name = rustix::system::uname().nodename().to_string_lossy().into_owned();
        let page = Arc::new(Page::new(&config.cluster.to_string(), &name, Client::unix(consul::SOCKET)));
        let server = Arc::clone(&page).serve().map_err(|error| format!("the page's port {}: {error}", page::PORT))?;
        let orders = Orders::new();
        orders::local::listen(&options.run_dir, Arc::clone(&orders), door::clock)
            .map_err(|error| format!("{}: {error}", options.run_dir.join(orders::local::SOCKET).display()))?;
        let role = Role::start(&options.run_dir, agent.management()).map_err(|error| format!("starting threads: {error}"))?;
        Ok(Self {
            options,
            config,
            key,
            kept,
            engine: None,
            swarm: SwarmWatch::default(),
            agent,
            role,
            hall: Shared::default(),
            host_files: HostFiles::default(),
            orders,
            page,
            _page_server: server,
            me: None,
            duties: Duties::default(),
            reviver: Reviver::default(),
            revived: None,
            beaten: None,
            stranded: Lasting::default(),
            gave_up: Lasting::default(),
            restarts: 0,
            inventory: Inventory::default(),
            answer: None,
            told: None,
            status: ServicesStatus::default(),
        })
    }

    /// One turn; how long to wait for the next one.
    pub(super) fn turn(&mut self) -> Duration {
        let status = Status::read(&self.options.run_dir).ok().flatten().filter(Status::is_alive);
        let place = status.as_ref().and_then(place::of);
        if place.is_none() {
            // Before anything that may take its time: who has no network leaves the role to others.
            self.role.stand(None, false, Instant::now());
        }
        if let (Some(status), Some(place)) = (&status, &place) {
            if let Err(wrong) = self.meet(status, place) {
                self.role.stand(None, false, Instant::now());
                return self.failed("its names", wrong);
            }
        }
        let (seen, swarm) = self.look(place.clone());
        let step = plan::next(&self.kept, &seen);
        let unfit = seen.engine != plan::Engine::Down && matches!(swarm, SwarmState::None | SwarmState::Worker { .. });
        let look = status.zip(place).map(|(status, place)| Look { status, place, swarm, unfit });
        self.doing(&step);
        let (settled, empty) = (step == Step::Settled, step == Step::ClearVote);
        let wait = match self.perform(step, look.as_ref()) {
            Ok(()) if settled => QUIET,
            Ok(()) => BUSY,
            Err(wrong) => {
                self.trouble(Some(wrong));
                AGAIN
            }
        };
        if let Some(look) = &look {
            self.attend(look, settled, empty);
        } else {
            door::lock(&self.hall).give(None);
            self.orders.here(None);
            self.show(None);
        }
        wait
    }

    /// Learns who this node is, and opens the door there.
    fn meet(&mut self, status: &Status, place: &Place) -> Result<(), String> {
        let node: NodeId = status.node.parse().map_err(str::to_owned)?;
        let name = place::own_name(status);
        let who = Who { node, name, address: place.address };
        if self.me.as_ref().is_none_or(|me| me.who != who) {
            let names = NodeNames::new(node, place.address, &who.name).map_err(|error| error.to_string())?;
            let trust = Trust::new(&self.key);
            let seed = crate::driver::random().map_err(|error| format!("random bytes: {error}"))?;
            let identity = trust.identity(names, &seed);
            self.me = Some(Me { who, caller: Arc::new(Caller { trust, identity }), door: None });
        }
        if let Some(me) = &mut self.me {
            if me.door.is_none() {
                // The address may take a moment to come.
                me.door =
                    door::open(me.who.address, Arc::clone(&me.caller), Arc::clone(&self.hall), Arc::clone(&self.orders)).ok();
            }
        }
        Ok(())
    }

    fn look(&mut self, place: Option<Place>) -> (Seen, SwarmState) {
        let connect = || Engine::connect(Client::unix(crate::engine::SOCKET)).ok();
        let known = self.engine.is_some();
        if !known {
            self.engine = connect();
        }
        let state = self.engine.as_ref().and_then(|engine| self.swarm.look(engine, Instant::now()).ok());
        if known && state.is_none() {
            // It may be another one by now. The next look asks it: one that is only busy is not asked for everything twice.
            self.engine = connect();
        }
        let (engine, state) = match state {
            None => (plan::Engine::Down, SwarmState::None),
            Some(state) => (plan::Engine::Up(plan::Swarm::from(&state)), state),
        };
        let now = Instant::now();
        // Without the network nobody is waited for.
        let waits = place.is_some() && recover::has_no_majority(&state);
        let limit = if state.is_active() { STRANDED_RUNNING } else { STRANDED };
        let stranded = self.stranded.look(waits, now) >= limit;
        if state.is_active() {
            self.restarts = 0;
        }
        // Only a leader that is settled itself answers reports.
        let led = self.told.as_ref().is_some_and(|(at, _)| at.elapsed() < STALE);
        // What did not help is not done as often again: the node's containers go with the engine.
        let patience = GAVE_UP * 2_u32.pow(self.restarts.min(4));
        let gave_up = self.gave_up.look(matches!(state, SwarmState::Error(_)), now) >= patience && led;
        let consul = self.engine.as_ref().map_or(plan::Consul::Down, |engine| self.agent.look(engine));
        let told = self.told.as_ref();
        let cleared = told.is_some_and(|(at, told)| told.cleared && at.elapsed() < STALE);
        let serve = told.filter(|(at, _)| at.elapsed() < STALE).map(|(_, told)| told.serve);
        let data = self.agent.has_data();
        (Seen { place, engine, consul, data, cleared, answer: self.answer.clone(), serve, stranded, gave_up }, state)
    }

    fn perform(&mut self, step: Step, look: Option<&Look>) -> Result<(), String> {
        let (Some(look), Some(me)) = (look, &self.me) else { return Ok(()) };
        let engine = self.engine.as_ref();
        let need = || engine.ok_or_else(|| "the engine does not answer".to_owned());
        match step {
            // The report that follows asks for it.
            Step::Wait(_) | Step::ClearVote | Step::Settled => Ok(()),
            Step::Keep(progress) => {
                if progress == (Progress::Founding { swarm: true, consul: true }) {
                    // The next start must not elect itself again, over data that were lost.
                    self.agent.start(need()?, &me.who, (true, false), &self.kept.servers)?;
                }
                self.keep(Kept { progress, incarnation: Some(look.place.incarnation), ..self.kept.clone() })
            }
            Step::Wipe => {
                let engine = need()?.clone();
                // First what could mix with the other cluster's: leaving the swarm may take half a minute.
                self.agent.wipe(&engine)?;
                engine.leave_swarm().map_err(|error| error.to_string())?;
                (self.answer, self.told) = (None, None);
                self.duties = Duties::default();
                let copy = self.kept.node.is_some_and(|node| node != look.place.node);
                if copy {
                    // Before that is kept: after a cut in between it is done once more.
                    copied::forget_system(Path::new("/"))?;
                }
                self.keep(Kept::new(look.place.incarnation, look.place.node))?;
                if copy {
                    println!("what this card has is another node's (a copied card?): it boots anew as a node of its own");
                    copied::boot_anew()?;
                }
                Ok(())
            }
            Step::Recover => {
                let engine = need()?.clone();
                self.swarm.forget();
                let consul = self.agent.go_on_alone(&engine, &me.who)?;
                let swarm = recover::swarm(&engine, &founding(&look.place)?).map_err(|error| error.to_string())?;
                self.keep(Kept { progress: Progress::Founding { swarm, consul }, ..self.kept.clone() })
            }
            Step::InitSwarm => {
                let init = founding(&look.place)?;
                need()?.init_swarm(&init).map(|_| ()).map_err(|error| error.to_string())
            }
            Step::SwarmAlone => {
                recover::swarm_alone(need()?, &founding(&look.place)?).map_err(|error| error.to_string())?;
                self.swarm.forget();
                self.stranded = Lasting::default();
                Ok(())
            }
            Step::RestartEngine => {
                self.gave_up = Lasting::default();
                self.restarts += 1;
                systemctl(&["restart", "docker.service"])
            }
            Step::Ask(_) => {
                let leader = place::leader(&look.status).ok_or("the leader's own address is not known yet")?;
                let answer = me.caller.join(&leader, look.place.incarnation, door::clock())?;
                self.answer = Some(plan::Answer { token: answer.token.reveal().to_owned(), managers: answer.managers });
                // Who they are is told with the first report; where they are is enough to start.
                let serving = answer.consul.into_iter().map(|address| Serving { node: leader.node, address }).collect();
                self.keep(Kept { servers: serving, incarnation: Some(look.place.incarnation), ..self.kept.clone() })
            }
            Step::JoinSwarm { token, managers } => {
                // A token may be turned meanwhile: the next try asks anew.
                self.answer = None;
                let join = JoinSwarm { address: look.place.address, managers, token };
                let state = need()?.join_swarm(&join, JOIN).map_err(|error| error.to_string())?;
                if state.is_active() { Ok(()) } else { Err("the swarm has not taken this node in yet".to_owned()) }
            }
            Step::StartConsul { server, bootstrap } => {
                let engine = need()?.clone();
                if server && !bootstrap && !self.agent.has_data() {
                    // What may be left of them is no whole.
                    self.agent.wipe(&engine)?;
                    // It holds for this start only.
                    self.told.iter_mut().for_each(|(_, told)| told.cleared = false);
                }
                self.agent.start(&engine, &me.who, (server, bootstrap), &self.kept.servers)
            }
            Step::BootstrapConsul => self.agent.bootstrap(),
        }
    }

    fn keep(&mut self, mut kept: Kept) -> Result<(), String> {
        kept.node = kept.node.or(self.me.as_ref().map(|me| me.who.node));
        if kept != self.kept {
            let path = kept::path(&self.options.state);
            kept.write(&path).map_err(|error| format!("{}: {error}", path.display()))?;
            self.kept = kept;
        }
        Ok(())
    }

    /// What goes on beside the way in: the role, the leader's duties, reports, what did not come back.
    fn attend(&mut self, look: &Look, settled: bool, empty: bool) {
        let Some((who, caller)) = self.me.as_ref().map(|me| (me.who.clone(), Arc::clone(&me.caller))) else { return };
        let view = self.told.as_ref().map(|(_, told)| &told.view);
        let (members, leader) = (place::all_members(&look.status, view), place::leading(&look.status));
        let (etc, addresses) = (&self.options.etc, self.config.addresses);
        if let Err(wrong) = self.host_files.keep(etc, &self.key, addresses, (&who.name, who.address), &members) {
            println!("the SSH host key is not signed: {wrong}");
        }
        self.orders.here(Some(Here { caller, incarnation: look.place.incarnation, members, leader }));
        let ready = match self.kept.progress {
            Progress::Founding { consul, .. } => consul,
            Progress::Joined { server } => server,
            Progress::None | Progress::Recovering => false,
        };
        // A server without its data must not even ask for a vote.
        let fit = !look.unfit && !empty;
        let stands = ready && fit && self.kept.incarnation == Some(look.place.incarnation);
        let candidate = stands.then(|| Candidate {
            name: who.name.clone(),
            owner: Owner { node: who.node, address: who.address },
            incarnation: look.place.incarnation,
        });
        if self.role.stand(candidate, look.place.leads, Instant::now()) {
            println!("the role goes back to Consul, since this node does not come to lead: {}", look.status.phase_reason);
        }
        self.revive();
        if settled {
            self.beat();
        }
        let report = Report { empty, ..self.report(look, &who, settled) };
        if look.place.leads {
            self.lead(look, &who, report, settled);
        } else {
            door::lock(&self.hall).give(None);
            self.duties.rest();
            if let Err(wrong) = self.paired(look) {
                self.trouble(Some(wrong));
            }
            if self.kept.progress != Progress::None {
                self.call(look, &report);
            }
            self.show(Some((&look.status, &report.node)));
        }
        self.status.settled = settled;
        self.write();
    }

    fn lead(&mut self, look: &Look, who: &Who, report: Report, settled: bool) {
        let Some(engine) = self.engine.clone().filter(|_| settled) else {
            door::lock(&self.hall).give(None);
            return self.show(Some((&look.status, &report.node)));
        };
        let node = report.node.clone();
        let lead = Lead {
            engine: &engine,
            consul: &self.agent.management(),
            own: who.node,
            name: &who.name,
            incarnation: look.place.incarnation,
            members: place::members(&look.status),
            report,
            clock: door::clock().is_some(),
            alone: self.kept.alone,
            pairing: self.kept.pairing,
        };
        let frame = self.frame();
        let wrong = self.duties.look(lead, frame, &self.hall, Instant::now());
        self.trouble(wrong.into_iter().next());
        if self.duties.is_established() {
            self.role.establish();
        }
        let (view, serving) = door::lock(&self.hall).given().unzip();
        let mut kept = Kept { pairing: self.duties.is_pairing(), ..self.kept.clone() };
        if let Some(servers) = serving {
            kept = Kept { servers, alone: self.kept.alone && !self.duties.is_alone(who.node), ..kept };
        }
        let done = self.keep(kept);
        if done.is_err() {
            self.trouble(done.err());
        }
        match view {
            Some(view) => self.publish(view),
            None => self.show(Some((&look.status, &node))),
        }
    }

    /// Whoever made the swarm's second manager and does not lead any more looks by itself what came of it.
    fn paired(&mut self, look: &Look) -> Result<(), String> {
        let Some(engine) = self.engine.as_ref().filter(|_| self.kept.pairing) else { return Ok(()) };
        // One that has no majority says nothing of its nodes.
        let works = matches!(look.swarm, SwarmState::Manager { .. }) && engine.nodes().is_ok_and(|nodes| works_as_pair(&nodes));
        if works { self.keep(Kept { pairing: false, ..self.kept.clone() }) } else { Ok(()) }
    }

    /// Reports to the leader, if there is one, and takes what it says.
    fn call(&mut self, look: &Look, report: &Report) {
        let (Some(leader), Some(me)) = (place::leader(&look.status), &self.me) else { return };
        match me.caller.report(&leader, report, door::clock()) {
            Ok(told) => {
                // Without servers it says nothing of them.
                if !told.servers.is_empty() {
                    let kept = Kept { servers: told.servers.clone(), ..self.kept.clone() };
                    let wrong = self.keep(kept).err();
                    self.trouble(wrong);
                }
                self.told = Some((Instant::now(), told));
            }
            Err(wrong) => self.trouble(Some(wrong)),
        }
    }

    fn revive(&mut self) {
        let now = Instant::now();
        if self.revived.is_some_and(|at| now < at + REVIVE) {
            return;
        }
        self.revived = Some(now);
        let Some(engine) = &self.engine else { return };
        for revival in self.reviver.look(engine, now).unwrap_or_default() {
            match revival.started {
                Ok(()) => println!("started the container {}, which had not come back", revival.name),
                Err(error) => println!("the container {} does not come back: {error}", revival.name),
            }
        }
    }

    /// Tells Consul that the engine answers, or that it does not.
    fn beat(&mut self) {
        if self.beaten.is_some_and(|at| at.elapsed() < BEAT) {
            return;
        }
        let first = self.beaten.replace(Instant::now()).is_none();
        let (state, output) = match &self.engine {
            Some(_) => (State::Passing, "the engine answers"),
            None => (State::Critical, "the engine does not answer"),
        };
        let consul = self.agent.own();
        let register = || consul.register_engine(3 * BEAT).and_then(|()| consul.beat(state, output));
        let told = if first { register() } else { consul.beat(state, output).or_else(|_| register()) };
        if let Err(error) = told {
            self.trouble(Some(error.to_string()));
        }
    }

    fn doing(&mut self, step: &Step) {
        let doing = step.to_string();
        if self.status.doing != doing {
            println!("{doing}");
            self.status = ServicesStatus { doing, since_uptime_ms: uptime_ms(), trouble: None, ..self.status.clone() };
            self.write();
        }
    }

    fn trouble(&mut self, trouble: Option<String>) {
        if let Some(line) = trouble.as_ref().filter(|line| self.status.trouble.as_ref() != Some(line)) {
            println!("{}: {line}", self.status.doing);
        }
        self.status.trouble = trouble;
    }

    fn failed(&mut self, what: &str, wrong: String) -> Duration {
        self.trouble(Some(format!("{what}: {wrong}")));
        self.write();
        AGAIN
    }

    fn write(&self) {
        // In memory only; a status that cannot be written shows nothing, and nothing hangs on it.
        let _: io::Result<()> = self.status.write(&self.options.run_dir);
    }
}

/// How the swarm is founded here.
fn founding(place: &Place) -> Result<InitSwarm, String> {
    let taken = crate::driver::networks().map_err(|error| format!("listing this node's networks: {error}"))?;
    Ok(InitSwarm { address: place.address, taken, force_new: false })
}

/// Runs until the process is ended.
///
/// # Errors
///
/// What is missing, and what to do.
pub fn run(options: &Options) -> Result<(), String> {
    let (config, _) = NodeConfig::on_node(&options.config, &options.boot).map_err(|error| error.to_string())?;
    let key = ClusterKey::read(&options.key).map_err(|error| error.to_string())?;
    let path = kept::path(&options.state);
    let kept = Kept::read(&path).or_else(|wrong| {
        println!("starting anew: {wrong}");
        std::fs::rename(&path, path.with_extension("damaged")).map(|()| Kept::default()).map_err(|error| error.to_string())
    })?;
    let mut services = Services::new(options.clone(), config, key, kept)?;
    loop {
        let wait = services.turn();
        thread::sleep(wait);
    }
}
