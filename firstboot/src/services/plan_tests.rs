use super::*;

const ONE: Incarnation = Incarnation([1; 16]);
const TWO: Incarnation = Incarnation([2; 16]);
const NODE: NodeId = NodeId([3; 16]);
const LEADER: Ipv4Addr = Ipv4Addr::new(192, 168, 200, 1);

fn place(leads: bool) -> Place {
    let leader = (!leads).then_some(LEADER);
    Place { incarnation: ONE, node: NODE, address: [192, 168, 200, 10].into(), leads, leader }
}

fn seen(leads: bool) -> Seen {
    Seen {
        place: Some(place(leads)),
        engine: Engine::Up(Swarm::None),
        consul: Consul::Down,
        data: false,
        cleared: false,
        answer: None,
        serve: None,
        stranded: false,
        gave_up: false,
    }
}

fn answer() -> Answer {
    Answer { token: "token".into(), managers: vec![[192, 168, 200, 11].into()] }
}

/// A machine that does what it is told.
#[derive(Clone)]
struct World {
    kept: Kept,
    seen: Seen,
    initialised: u32,
    bootstrapped: u32,
    recovered: u32,
    /// Whether its engine is a manager, and its Consul has a server's data.
    manager: bool,
    kept_data: bool,
}

impl World {
    fn new(leads: bool) -> Self {
        let kept = Kept::new(ONE, NODE);
        Self { kept, seen: seen(leads), initialised: 0, bootstrapped: 0, recovered: 0, manager: false, kept_data: false }
    }

    fn act(&mut self, step: &Step, serve: bool) {
        match step {
            Step::Wait("Consul's election" | "Consul's servers") => {
                if let Consul::Up { led, .. } = &mut self.seen.consul {
                    *led = true;
                }
            }
            Step::Wait(what) => panic!("waits for {what}"),
            Step::Wipe => {
                let place = self.seen.place.clone();
                let Place { incarnation, node, .. } = place.as_ref().unwrap();
                self.kept = Kept::new(*incarnation, *node);
                self.seen = Seen { place, ..seen(false) };
            }
            Step::Recover => {
                self.recovered += 1;
                let swarm = self.seen.engine == Engine::Up(Swarm::In) && self.manager;
                self.seen.engine = Engine::Up(if swarm { Swarm::In } else { Swarm::None });
                let consul = self.kept_data;
                self.seen.consul = Consul::Down;
                self.kept.progress = Progress::Founding { swarm, consul };
            }
            Step::Keep(progress) => self.kept.progress = *progress,
            Step::RestartEngine => self.seen.gave_up = false,
            Step::SwarmAlone => (self.seen.engine, self.seen.stranded) = (Engine::Up(Swarm::In), false),
            Step::InitSwarm => {
                self.initialised += 1;
                self.seen.engine = Engine::Up(Swarm::In);
            }
            Step::Ask(_) => (self.seen.answer, self.seen.serve) = (Some(answer()), Some(serve)),
            Step::JoinSwarm { .. } => self.seen.engine = Engine::Up(Swarm::In),
            Step::StartConsul { server, bootstrap } => {
                assert!(!server || *bootstrap || self.seen.data || self.seen.cleared, "it would vote twice");
                self.bootstrapped += u32::from(*bootstrap);
                (self.seen.data, self.seen.cleared) = (self.seen.data || *server, false);
                self.seen.consul = Consul::Up { server: *server, led: false, tokens: !bootstrap };
            }
            Step::ClearVote => self.seen.cleared = true,
            Step::BootstrapConsul => {
                if let Consul::Up { tokens, .. } = &mut self.seen.consul {
                    *tokens = true;
                }
            }
            Step::Settled => {}
        }
    }

    /// Runs until nothing is left to do; what was done.
    fn settle(&mut self, serve: bool) -> Vec<Step> {
        let mut steps = Vec::new();
        for _ in 0..20 {
            let step = next(&self.kept, &self.seen);
            if step == Step::Settled {
                return steps;
            }
            self.act(&step, serve);
            steps.push(step);
        }
        panic!("does not settle: {steps:?}");
    }
}

#[test]
fn a_founder() {
    let mut world = World::new(true);
    let steps = world.settle(false);
    assert_eq!((world.initialised, world.bootstrapped), (1, 1), "{steps:?}");
    assert_eq!(world.kept.progress, Progress::Founding { swarm: true, consul: true });
    // The next boot finds all of it.
    world.seen.consul = Consul::Down;
    world.settle(false);
    assert_eq!((world.initialised, world.bootstrapped), (1, 1));
}

#[test]
fn a_founder_that_is_cut_anywhere() {
    let mut whole = World::new(true);
    let count = whole.settle(false).len();
    for cut in 0..count {
        for kept_too in [false, true] {
            let mut world = World::new(true);
            let mut kept = world.kept.clone();
            for _ in 0..=cut {
                let step = next(&world.kept, &world.seen);
                kept = world.kept.clone();
                world.act(&step, false);
            }
            // The power goes before or after the step was kept; the container's data are there.
            if !kept_too {
                world.kept = kept;
            }
            world.seen.consul = Consul::Down;
            world.settle(false);
            assert_eq!(world.initialised, 1, "cut after {cut}");
            assert_eq!(world.kept.progress, Progress::Founding { swarm: true, consul: true }, "cut after {cut}");
        }
    }
}

#[test]
fn a_follower_joins_and_is_told_to_serve() {
    let mut world = World::new(false);
    let steps = world.settle(false);
    assert!(steps.contains(&Step::Ask(LEADER)), "{steps:?}");
    assert_eq!((world.initialised, world.bootstrapped), (0, 0));
    assert_eq!(world.kept.progress, Progress::Joined { server: false });
    world.seen.serve = Some(true);
    let steps = world.settle(true);
    assert!(steps.contains(&Step::StartConsul { server: true, bootstrap: false }), "{steps:?}");
    assert_eq!(world.kept.progress, Progress::Joined { server: true });
}

#[test]
fn a_server_whose_swarm_is_lost_joins_again_and_a_founder_does_not() {
    let mut world = World::new(false);
    world.settle(true);
    world.seen.engine = Engine::Up(Swarm::None);
    let steps = world.settle(true);
    assert!(matches!(steps[0], Step::JoinSwarm { .. }), "{steps:?}");
    let mut founder = World::new(true);
    founder.settle(false);
    founder.seen.engine = Engine::Up(Swarm::None);
    assert!(matches!(next(&founder.kept, &founder.seen), Step::Wait(what) if what.contains("recover")));
    // Unless others went on with it.
    founder.seen.place = Some(place(false));
    let steps = founder.settle(true);
    assert!(matches!(steps[..2], [Step::Ask(_), Step::JoinSwarm { .. }]), "{steps:?}");
    assert_eq!((founder.initialised, founder.kept.progress), (1, Progress::Founding { swarm: true, consul: true }));
}

#[test]
fn a_server_without_its_data_asks_for_its_vote_first() {
    let mut world = World::new(false);
    world.settle(false);
    world.seen.serve = Some(true);
    let steps = world.settle(true);
    assert!(steps.contains(&Step::ClearVote), "nobody knows whether it was one before: {steps:?}");
    world.seen.consul = Consul::Down;
    assert!(!world.settle(true).contains(&Step::ClearVote), "it has its data");
    (world.seen.consul, world.seen.data) = (Consul::Down, false);
    let steps = world.settle(true);
    assert_eq!(steps[..2], [Step::ClearVote, Step::StartConsul { server: true, bootstrap: false }], "{steps:?}");

    // A founder asks whoever leads now, and waits for a person where nobody does.
    let mut founder = World::new(true);
    founder.settle(false);
    (founder.seen.consul, founder.seen.data) = (Consul::Down, false);
    assert!(matches!(next(&founder.kept, &founder.seen), Step::Wait(what) if what.contains("recover")));
    founder.seen.place = Some(place(false));
    let steps = founder.settle(false);
    assert_eq!(steps[..2], [Step::ClearVote, Step::StartConsul { server: true, bootstrap: false }], "{steps:?}");
    assert_eq!(founder.bootstrapped, 1);
}

#[test]
fn another_incarnation() {
    let mut world = World::new(true);
    world.settle(false);
    world.seen.place.as_mut().unwrap().incarnation = TWO;
    world.seen.place.as_mut().unwrap().leads = false;
    world.seen.place.as_mut().unwrap().leader = Some(LEADER);
    let steps = world.settle(false);
    assert_eq!(steps[0], Step::Wipe);
    assert_eq!(world.kept, Kept { progress: Progress::Joined { server: false }, ..Kept::new(TWO, NODE) });
}

#[test]
fn a_copied_card_leaves_what_is_another_nodes() {
    for leads in [true, false] {
        let mut world = World::new(leads);
        world.settle(false);
        let copy = NodeId([4; 16]);
        let place = world.seen.place.as_mut().unwrap();
        (place.node, place.leads, place.leader) = (copy, false, Some(LEADER));
        let steps = world.settle(false);
        assert_eq!(steps[0], Step::Wipe);
        assert_eq!(world.kept, Kept { progress: Progress::Joined { server: false }, ..Kept::new(ONE, copy) });
    }
    // What an older version kept says nothing of the node: it stays.
    let mut old = World::new(false);
    old.settle(false);
    old.kept.node = None;
    assert_eq!(next(&old.kept, &old.seen), Step::Settled);
}

#[test]
fn what_is_waited_for() {
    let mut waiting = seen(false);
    waiting.place.as_mut().unwrap().leader = None;
    assert_eq!(next(&Kept::default(), &waiting), Step::Wait("a leader"));
    waiting.engine = Engine::Down;
    assert_eq!(next(&Kept::default(), &waiting), Step::Wait("the engine"));
    waiting.place = None;
    assert_eq!(next(&Kept::default(), &waiting), Step::Wait("the network"));
}

/// A node that was told to go on alone, and leads.
fn recovering(server: bool) -> World {
    let mut world = World::new(false);
    world.settle(server);
    (world.manager, world.kept_data) = (server, server);
    world.kept = Kept { progress: Progress::Recovering, alone: true, ..Kept::new(TWO, NODE) };
    let place = world.seen.place.as_mut().unwrap();
    (place.incarnation, place.leads, place.leader) = (TWO, true, None);
    world
}

#[test]
fn going_on_alone() {
    // A server's part of both stays; without one both are founded anew.
    for (server, made) in [(true, 0), (false, 1)] {
        let mut world = recovering(server);
        let steps = world.settle(false);
        assert_eq!(steps[0], Step::Recover, "{steps:?}");
        assert_eq!((world.recovered, world.initialised, world.bootstrapped), (1, made, made), "{steps:?}");
        assert_eq!(world.kept.progress, Progress::Founding { swarm: true, consul: true });
    }
}

#[test]
fn going_on_alone_cut_anywhere() {
    for server in [true, false] {
        let count = recovering(server).settle(false).len();
        for cut in 0..count {
            for kept_too in [false, true] {
                let mut world = recovering(server);
                let mut kept = world.kept.clone();
                for _ in 0..=cut {
                    let step = next(&world.kept, &world.seen);
                    kept = world.kept.clone();
                    world.act(&step, false);
                }
                if !kept_too {
                    world.kept = kept;
                }
                world.seen.consul = Consul::Down;
                world.settle(false);
                assert_eq!(world.kept.progress, Progress::Founding { swarm: true, consul: true }, "cut after {cut}");
                assert!(world.initialised <= 1 && (!server || world.bootstrapped == 0), "cut after {cut}");
            }
        }
    }
}

#[test]
fn what_was_to_go_on_is_not_forgotten() {
    let mut world = recovering(true);
    let place = world.seen.place.as_mut().unwrap();
    place.leads = false;
    assert_eq!(next(&world.kept, &world.seen), Step::Wait("the leader's role"));
    // The power went before the network's part was kept: it is still in the founding of before.
    world.seen.place.as_mut().unwrap().incarnation = ONE;
    assert!(matches!(next(&world.kept, &world.seen), Step::Wait(what) if what.contains("once more")));
}

#[test]
fn a_cut_while_the_second_manager_was_made() {
    let mut world = World::new(true);
    world.settle(false);
    world.seen.engine = Engine::Up(Swarm::Pending);
    for (pairing, stranded, step) in
        [(false, true, Step::Wait("the swarm")), (true, false, Step::Wait("the swarm")), (true, true, Step::SwarmAlone)]
    {
        (world.kept.pairing, world.seen.stranded) = (pairing, stranded);
        assert_eq!(next(&world.kept, &world.seen), step, "{pairing} {stranded}");
    }
    // It may have another role by then: it is needed to lead.
    world.seen.place = Some(place(false));
    assert_eq!(world.settle(false), [Step::SwarmAlone]);
    // The second one alone lost its power: this one's engine runs, and says that it is in.
    world.seen.stranded = true;
    assert_eq!(world.settle(false), [Step::SwarmAlone]);
    assert!(world.kept.pairing, "until the second one works");
}

#[test]
fn an_engine_that_gave_up_is_started_anew() {
    let mut world = World::new(false);
    world.settle(true);
    world.seen.gave_up = true;
    assert_eq!(world.settle(true), [Step::RestartEngine]);
    let mut founder = World::new(true);
    founder.settle(false);
    founder.seen.place = Some(place(false));
    founder.seen.gave_up = true;
    assert_eq!(founder.settle(false), [Step::RestartEngine]);
}

#[test]
fn a_server_stays_one_where_only_what_was_kept_is_lost() {
    let mut world = World::new(true);
    world.settle(false);
    world.kept = Kept::default();
    world.seen.place = Some(place(false));
    let steps = world.settle(true);
    assert_eq!(steps, [Step::Keep(Progress::Joined { server: true })], "its Consul is not touched");
}
