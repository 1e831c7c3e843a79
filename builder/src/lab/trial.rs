//! A test of an image: boot, log in, ask, power off, look at the wire.
//!
//! ```text
//! Booting ──SSH──► Asking ──answers──► Asked ──all asked, no act left──► PoweringOff ──QEMU exit 0──► Off
//!    │               ▲                   │ all asked: the next act
//!    │               ├───────────────────┤
//!    │               └──── Rebooting ◄───┘
//!    └─ panic, emergency shell, QEMU ended, limit passed: the trial ends there and says so
//! ```

mod judges;

use std::{
    collections::VecDeque,
    net::Ipv4Addr,
    sync::mpsc::{Receiver, Sender, channel},
    time::{Duration, Instant},
};

use anyhow::Context;
use hcl_firstboot::config::Addresses;

use self::judges::{on_the_wire, unique};
use super::{
    CAPTURE, Event, Lab, Spec, What,
    acts::{ACTS, Act, Deed},
    cloud::STANDING_AFTERWARDS,
    cluster::{Standing, together},
    console::Sight,
    login::Login,
    probe::{Answer, Answers, Expected, PROBES, Probe, STANDING, script},
    report::{Assertion, Milestone, NodeReport, Report},
    screen::Screen,
    signals::Signals,
    ssh::Ssh,
};
use crate::{error::one_line, image::disk::Disk, progress::Reporter};

/// Between two attempts to log in.
const RETRY: Duration = Duration::from_secs(5);
/// From `systemctl poweroff` to QEMU's end: containers and the engine may take their ninety seconds each.
const POWER_OFF: Duration = Duration::from_secs(300);
/// How often limits are looked at.
const TICK: Duration = Duration::from_millis(250);

/// What to test.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The lab.
    pub spec: Spec,
    /// The way into the nodes.
    pub login: Login,
    /// `dpkg --print-architecture` on the nodes.
    pub userland: String,
    /// The VLAN's id.
    pub vlan: u16,
    /// The cluster's addresses.
    pub addresses: Addresses,
    /// From start to login.
    pub patience: Duration,
}

/// Runs the trial. The report is complete but for what only the caller knows (image digest, versions).
///
/// # Errors
///
/// The lab could not be started, or a signal came. Everything that a node does wrong is in the report.
pub fn run(plan: &Plan, disk: Disk, signals: &Signals, reporter: &Reporter) -> anyhow::Result<Report> {
    let began = Instant::now();
    let lab = Lab::start(&plan.spec, disk, reporter)?;
    let names: Vec<String> = lab.nodes().map(|node| node.name.clone()).collect();
    let (sender, messages) = channel();
    let expected = Expected {
        kernel: lab.boot().arch.uname().to_owned(),
        userland: plan.userland.clone(),
        vlan: plan.vlan,
        disk: lab.disk(),
        addresses: plan.addresses,
        nodes: names.len(),
    };
    let mut trial = Trial {
        plan,
        tracks: names.iter().map(|_| Track::default()).collect(),
        screen: Screen::new(reporter, &names),
        names,
        expected,
        lab,
        sender,
        messages,
        acts: ACTS.iter(),
        rounds: VecDeque::new(),
        assertions: Vec::new(),
    };
    let failure = trial.go(signals)?;
    trial.report(failure, began)
}

#[derive(Debug, Default)]
enum State {
    #[default]
    Booting,
    Asking {
        since: Instant,
    },
    Asked,
    Rebooting {
        since: Instant,
    },
    PoweringOff {
        since: Instant,
    },
    Off,
}

#[derive(Debug, Default)]
struct Track {
    state: State,
    milestones: Vec<Milestone>,
    ssh: Option<Ssh>,
    /// What it is asked now, or was asked last.
    asked: &'static [Probe],
    /// All questions that were answered, with their answers.
    answers: Vec<(&'static Probe, Answer)>,
}

impl Track {
    /// What the node said of its place in the cluster, when it was asked by this name.
    fn standing(&self, name: &str) -> Option<Standing> {
        self.answers.iter().find(|(probe, _)| probe.name == name)?.1.standing().ok()
    }
}

/// From the threads that sit in `ssh`.
enum Message {
    /// The login worked and the first answer is under way.
    Begun(usize),
    /// A probe was answered.
    Answered(usize, usize),
    /// No login so far, and why.
    Refused(usize, String),
    /// All answers, or why there are none.
    Done(usize, Result<Vec<Answer>, String>),
}

struct Trial<'a> {
    plan: &'a Plan,
    lab: Lab,
    names: Vec<String>,
    tracks: Vec<Track>,
    screen: Screen,
    expected: Expected,
    sender: Sender<Message>,
    messages: Receiver<Message>,
    /// What is still to be done.
    acts: std::slice::Iter<'static, Act>,
    /// What of the act that was begun is still to be done, and on which nodes at a time.
    rounds: VecDeque<(Vec<usize>, Deed)>,
    assertions: Vec<Assertion>,
}

impl Trial<'_> {
    /// Until all nodes are off; what ended it before that.
    fn go(&mut self, signals: &Signals) -> anyhow::Result<Option<String>> {
        loop {
            if signals.seen() {
                anyhow::bail!("interrupted after {:.0} s", self.lab.origin().elapsed().as_secs_f64());
            }
            if let Some(event) = self.lab.next(TICK)?
                && let Some(failure) = self.take(&event)
            {
                return Ok(Some(failure));
            }
            while let Ok(message) = self.messages.try_recv() {
                if let Some(failure) = self.hear(message) {
                    return Ok(Some(failure));
                }
            }
            if let Some(failure) = self.overdue() {
                return Ok(Some(failure));
            }
            if self.tracks.iter().all(|track| matches!(track.state, State::Asked)) {
                match self.next_round() {
                    Some((nodes, deed)) => nodes.into_iter().for_each(|node| self.begin(node, deed)),
                    None => (0..self.tracks.len()).for_each(|node| self.power_off(node)),
                }
            }
            if self.tracks.iter().all(|track| matches!(track.state, State::Off)) {
                return Ok(None);
            }
        }
    }

    /// Which nodes do what next, all of them at once; none when all is done.
    fn next_round(&mut self) -> Option<(Vec<usize>, Deed)> {
        while self.rounds.is_empty() {
            let act = self.acts.next()?;
            let rounds = act.rounds(&standings(&self.tracks, STANDING));
            self.rounds = rounds.into_iter().map(|nodes| (nodes, act.deed)).collect();
        }
        self.rounds.pop_front()
    }

    fn begin(&mut self, node: usize, deed: Deed) {
        match deed {
            Deed::Ask(probes) => self.ask(node, probes),
            Deed::Reboot => self.reboot(node),
        }
    }

    fn take(&mut self, event: &Event) -> Option<String> {
        let name = event.node.map(|node| self.names[node].clone());
        self.screen.show(event, name.as_deref());
        let Some(node) = event.node else {
            return match &event.what {
                What::Broken(words) => Some(words.clone()),
                _ => None,
            };
        };
        let name = name.unwrap_or_default();
        let (label, trouble) = match &event.what {
            What::Sight(sight) => (sight.label(), sight.is_trouble()),
            What::Lease(address) => (format!("address {address}"), false),
            What::Ssh(_) => (self.lab.address(node).map_or_else(|| "address".into(), |at| format!("address {at}")), false),
            What::Ended(Ok(())) => ("QEMU exit 0".to_owned(), false),
            What::Ended(Err(words)) => (format!("QEMU {words}"), true),
            What::Broken(words) => (words.clone(), true),
        };
        self.tracks[node].milestones.push(Milestone { at: event.at.as_secs_f64(), label, trouble });
        match &event.what {
            What::Sight(sight) if sight.is_fatal() => Some(format!("{name}: {}", sight.label())),
            What::Sight(Sight::Kernel) if matches!(self.tracks[node].state, State::Rebooting { .. }) => {
                self.tracks[node].state = State::Asked;
                None
            }
            What::Broken(words) => Some(format!("{name}: {words}")),
            What::Ssh(port) => {
                let ssh = Ssh { login: self.plan.login.clone(), port: *port };
                // A second lease gives a second forward; the questions are under way already.
                if self.tracks[node].ssh.replace(ssh).is_none() {
                    self.ask(node, PROBES);
                }
                None
            }
            What::Ended(end) => self.ended(node, end),
            _ => None,
        }
    }

    /// A thread that tries to log in until the limit, and then asks everything in `probes`.
    fn ask(&mut self, node: usize, probes: &'static [Probe]) {
        let Some(ssh) = self.tracks[node].ssh.clone() else { return };
        self.tracks[node].asked = probes;
        if let State::Asked = self.tracks[node].state {
            self.tracks[node].state = State::Asking { since: Instant::now() };
        }
        let (sender, script) = (self.sender.clone(), script(probes, &self.expected));
        // It may have been asked to boot once more.
        let deadline = Instant::now() + self.plan.patience;
        std::thread::spawn(move || {
            let result = question(node, &ssh, (probes, &script), deadline, &sender);
            // Nobody listens any more when the trial is over.
            let _ = sender.send(Message::Done(node, result.map_err(|error| one_line(&error))));
        });
    }

    fn hear(&mut self, message: Message) -> Option<String> {
        match message {
            Message::Begun(node) => {
                self.tracks[node].state = State::Asking { since: Instant::now() };
                self.milestone(node, "logged in");
                None
            }
            Message::Answered(node, probe) => {
                let next = self.tracks[node].asked.get(probe + 1).map_or("answered everything", |probe| probe.name);
                self.screen.doing(node, next);
                None
            }
            Message::Refused(node, why) => {
                self.screen.doing(node, &format!("no login yet: {why}"));
                None
            }
            Message::Done(node, Ok(answers)) => {
                let track = &mut self.tracks[node];
                track.answers.extend(track.asked.iter().zip(answers));
                track.state = State::Asked;
                self.milestone(node, "answered");
                None
            }
            Message::Done(node, Err(why)) => Some(format!("{}: {why}{}", self.names[node], self.last_seen(node))),
        }
    }

    fn milestone(&mut self, node: usize, label: &str) {
        let at = self.lab.origin().elapsed().as_secs_f64();
        self.tracks[node].milestones.push(Milestone { at, label: label.to_owned(), trouble: false });
        self.screen.doing(node, label);
    }

    fn reboot(&mut self, node: usize) {
        let Some(ssh) = self.tracks[node].ssh.clone() else { return };
        self.tracks[node].state = State::Rebooting { since: Instant::now() };
        self.screen.doing(node, "reboots");
        std::thread::spawn(move || {
            // The connection ends with the node; that it starts again is seen on its console.
            let _ = ssh.run("systemctl reboot\n", POWER_OFF, |_| {});
        });
    }

    fn power_off(&mut self, node: usize) {
        let Some(ssh) = self.tracks[node].ssh.clone() else { return };
        self.tracks[node].state = State::PoweringOff { since: Instant::now() };
        self.screen.doing(node, "powers off");
        std::thread::spawn(move || {
            // The connection ends with the node; whether it did is seen by its QEMU.
            let _ = ssh.run("systemctl poweroff\n", POWER_OFF, |_| {});
        });
    }

    fn ended(&mut self, node: usize, end: &Result<(), String>) -> Option<String> {
        let name = self.names[node].clone();
        if !matches!(self.tracks[node].state, State::PoweringOff { .. }) {
            let how = end.as_ref().err().map_or("exit code 0", String::as_str);
            return Some(format!("{name}: QEMU ended although nobody had asked for it ({how}){}", self.last_seen(node)));
        }
        self.tracks[node].state = State::Off;
        self.assertions.push(Assertion {
            name: "power off".into(),
            node: Some(name),
            wanted: "`systemctl poweroff` ends the node, and QEMU with exit code 0".into(),
            seen: end.as_ref().err().map_or("exit code 0".to_owned(), Clone::clone),
            passed: end.is_ok(),
            seconds: None,
        });
        None
    }

    /// The first limit that was passed, with its reason.
    fn overdue(&self) -> Option<String> {
        let now = Instant::now();
        // A node's commands each have a limit on the node; these are for a node that hangs as a whole.
        self.tracks.iter().zip(&self.names).enumerate().find_map(|(node, (track, name))| {
            let (passed, what, limit) = match track.state {
                State::Booting => {
                    let what = if track.ssh.is_some() { "no login by SSH" } else { "no address from the router" };
                    (now.duration_since(self.lab.origin()), what, self.plan.patience + Duration::from_secs(120))
                }
                State::Asking { since } => {
                    (now.duration_since(since), "its answers are not complete", self.plan.patience + longest(track.asked))
                }
                State::Rebooting { since } => (now.duration_since(since), "it has not started again", POWER_OFF),
                State::PoweringOff { since } => (now.duration_since(since), "it is not off", POWER_OFF),
                State::Asked | State::Off => return None,
            };
            // Without an address there is nothing that could still succeed.
            let limit = if track.ssh.is_none() && matches!(track.state, State::Booting) { self.plan.patience } else { limit };
            (passed > limit).then(|| format!("{name}: {what} after {} s{}", limit.as_secs(), self.last_seen(node)))
        })
    }

    fn last_seen(&self, node: usize) -> String {
        match self.tracks[node].milestones.last() {
            Some(last) => format!("; the last that was seen of it: {} at {:.0} s", last.label, last.at),
            None => "; it said nothing at all on its console".to_owned(),
        }
    }

    fn report(mut self, failure: Option<String>, began: Instant) -> anyhow::Result<Report> {
        self.screen.close();
        let nodes: Vec<_> = self.lab.nodes().map(|node| (node.name.clone(), node.mac, node.console.clone())).collect();
        let addresses: Vec<Option<Ipv4Addr>> = (0..nodes.len()).map(|node| self.lab.address(node)).collect();
        let counters = self.lab.wire().counters();
        let kernel = self.lab.boot().kernel_name.clone();
        self.lab.finish().context("completing the capture")?;

        let mut assertions = Vec::new();
        for (track, (name, ..)) in self.tracks.iter().zip(&nodes) {
            for (probe, answer) in &track.answers {
                let verdict = (probe.judge)(answer, &self.expected);
                assertions.push(Assertion {
                    name: probe.name.into(),
                    node: Some(name.clone()),
                    wanted: probe.wants.into(),
                    passed: verdict.is_ok(),
                    seen: verdict.unwrap_or_else(|wrong| wrong),
                    seconds: Some(answer.took.as_secs_f64()),
                });
            }
        }
        assertions.extend(unique(&assertions, nodes.len()));
        if self.tracks.iter().any(|track| !track.answers.is_empty()) {
            let first = standings(&self.tracks, STANDING);
            assertions.extend(together(&first, ""));
            if self.tracks.iter().any(|track| track.standing(STANDING_AFTERWARDS).is_some()) {
                assertions.extend(together(&standings(&self.tracks, STANDING_AFTERWARDS), " after the leader's reboot"));
            }
            let nodes: Vec<_> = nodes.iter().map(|(name, mac, _)| (name.clone(), *mac)).collect();
            assertions.extend(on_the_wire(self.plan, &nodes, first)?);
        }
        assertions.append(&mut self.assertions);

        let nodes = nodes.into_iter().zip(self.tracks).zip(addresses).enumerate();
        let nodes = nodes.map(|(index, (((name, mac, console), track), address))| NodeReport {
            name,
            mac: mac.to_string(),
            address: address.map(|address| address.to_string()),
            milestones: track.milestones,
            console: console.file_name().map_or_else(String::new, |name| name.to_string_lossy().into_owned()),
            frames_from: counters.get(index + 1).map_or(0, |port| port.received),
            frames_to: counters.get(index + 1).map_or(0, |port| port.sent),
        });
        Ok(Report {
            passed: failure.is_none() && assertions.iter().all(|assertion| assertion.passed),
            failure,
            nodes: nodes.collect(),
            assertions,
            kernel,
            seconds: began.elapsed().as_secs_f64(),
            capture: CAPTURE.into(),
            machine: self.plan.spec.machine.name().into(),
            image: self.plan.spec.image.clone(),
            sha256: String::new(),
            qemu: String::new(),
            started: String::new(),
        })
    }
}

fn standings(tracks: &[Track], name: &str) -> Vec<Option<Standing>> {
    tracks.iter().map(|track| track.standing(name)).collect()
}

/// How long all answers may take.
fn longest(probes: &[Probe]) -> Duration {
    Duration::from_secs(probes.iter().map(|probe| probe.limit + 10).sum())
}

/// Logs in, trying again until `deadline`, and collects the answers.
fn question(
    node: usize,
    ssh: &Ssh,
    (probes, script): (&[Probe], &str),
    deadline: Instant,
    sender: &Sender<Message>,
) -> anyhow::Result<Vec<Answer>> {
    let limit = longest(probes);
    loop {
        let mut answers = Answers::default();
        let mut begun = false;
        let ended = ssh.run(script, limit, |line| {
            let answered = answers.feed(line);
            if !begun && answers.under_way() {
                begun = true;
                let _ = sender.send(Message::Begun(node));
            }
            if let Some(probe) = answered {
                let _ = sender.send(Message::Answered(node, probe));
            }
        })?;
        if begun {
            anyhow::ensure!(
                answers.done.len() == probes.len(),
                "the connection was lost after {} of {} answers: {}",
                answers.done.len(),
                probes.len(),
                ended.complaint
            );
            return Ok(answers.done);
        }
        anyhow::ensure!(
            Instant::now() < deadline,
            "no login by SSH as {} with {}: {}",
            ssh.login.user,
            ssh.login.identity.display(),
            ended.complaint
        );
        let _ = sender.send(Message::Refused(node, ended.complaint));
        std::thread::sleep(RETRY);
    }
}
