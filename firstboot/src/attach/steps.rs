//! What the node does in each state.

use std::time::{Duration, Instant};

use super::{ATTACH, Ask, Attachment, Fault, GOOD, LONGEST_PAUSE, PATIENCE, PREFERENCE, State};
use crate::{
    config::{Vlan, WiredInterface},
    link::{Link, LinkKind, vlan_name},
    marker::Marker,
    node::Action,
};

impl Attachment {
    /// Searching: the preferred link, or the first one with a carrier once its time is over.
    pub(super) fn search(
        &mut self,
        now: Instant,
        preferred: Option<(String, Instant)>,
        say_at: Option<Instant>,
        actions: &mut Vec<Action>,
    ) {
        if let Some(name) = self.wireless() {
            return self.fault(now, None, Fault::Wireless { interface: name }, actions);
        }
        let preferred = preferred.filter(|(_, until)| now < *until);
        let with_carrier = |link: &&Link| link.up && link.carrier;
        let found = match &preferred {
            Some((name, _)) => self.links.candidates(&self.config.interface).filter(with_carrier).find(|link| link.name == *name),
            None => self.links.candidates(&self.config.interface).find(with_carrier),
        };
        if let Some((index, name)) = found.map(|link| (link.index, link.name.clone())) {
            actions.push(Action::Mark(Marker::Link { interface: name.clone() }));
            let state = State::Attaching { parent: index, deadline: now + ATTACH, asked: None };
            return self.go(now, state, format!("{name} has a carrier"), actions);
        }
        let what = self.missing();
        let due = say_at.is_some_and(|at| now >= at);
        if due {
            actions.push(Action::Mark(Marker::Wait { what: what.clone() }));
        }
        self.reason = format!("waiting {what}");
        self.state = State::Searching { preferred, say_at: say_at.filter(|_| !due) };
    }

    /// Attaching: one step after the other, each seen done before the next is asked for.
    pub(super) fn attach(&mut self, now: Instant, parent: u32, deadline: Instant, asked: Option<Ask>, actions: &mut Vec<Action>) {
        let Some(name) = self.parent_with_carrier(now, parent, actions) else { return };
        let (ask, waiting_for) = match self.config.vlan {
            Vlan::Off => return self.become_ready(now, parent, parent, actions),
            Vlan::Id(id) => {
                let wanted = vlan_name(&name, id);
                match (self.links.vlan(id.number(), parent), self.links.named(&wanted)) {
                    (Some(vlan), _) if vlan.up => {
                        let (index, vlan) = (vlan.index, vlan.name.clone());
                        actions.push(Action::Mark(Marker::Vlan { interface: vlan, id: id.number() }));
                        return self.become_ready(now, parent, index, actions);
                    }
                    (Some(vlan), _) => (Ask::Raise(vlan.index), vlan.name.clone()),
                    (None, Some(other)) if matches!(other.kind, LinkKind::Vlan { .. }) => (Ask::Remove(other.index), wanted),
                    (None, Some(other)) => {
                        let fault = Fault::NameTaken { name: wanted, kind: other.kind.to_string() };
                        return self.fault(now, Some(parent), fault, actions);
                    }
                    (None, None) => (Ask::Create, wanted),
                }
            }
        };
        if now >= deadline {
            return self.fault(now, Some(parent), Fault::Silent { what: waiting_for }, actions);
        }
        if asked != Some(ask) {
            actions.extend(self.ask(ask, parent, &waiting_for));
            self.state = State::Attaching { parent, deadline, asked: Some(ask) };
        }
    }

    fn ask(&self, ask: Ask, parent: u32, name: &str) -> Vec<Action> {
        let Vlan::Id(id) = self.config.vlan else { return Vec::new() };
        match ask {
            Ask::Raise(index) => vec![Action::BringUp { index }],
            Ask::Remove(index) => vec![Action::RemoveVlan { index }],
            Ask::Create => {
                // What we made on the interface before: two links into one VLAN would make the node its own neighbour.
                let stale = self.links.vlans_elsewhere(id.number(), parent);
                let ours = stale.filter(|(vlan, below)| vlan.name == vlan_name(&below.name, id));
                let mut actions: Vec<_> = ours.map(|(vlan, _)| Action::RemoveVlan { index: vlan.index }).collect();
                actions.push(Action::CreateVlan { parent, name: name.to_owned(), id: id.number() });
                actions
            }
        }
    }

    fn become_ready(&mut self, now: Instant, parent: u32, cluster: u32, actions: &mut Vec<Action>) {
        let interface = self.links.at(cluster).map(|link| link.name.clone()).unwrap_or_default();
        actions.push(Action::Mark(Marker::Ready { interface: interface.clone() }));
        self.told = None;
        self.go(now, State::Ready { parent, cluster }, format!("{interface} is up"), actions);
    }

    /// Ready: whether it still is.
    pub(super) fn watch(&mut self, now: Instant, parent: u32, cluster: u32, actions: &mut Vec<Action>) {
        if self.parent_with_carrier(now, parent, actions).is_none() {
            return;
        }
        if now >= self.since + GOOD {
            self.failures = 0;
        }
        let right = |link: &&Link| match self.config.vlan {
            Vlan::Off => true,
            Vlan::Id(id) => link.kind == LinkKind::Vlan { id: id.number(), parent },
        };
        let interface = match self.links.at(cluster).filter(right) {
            Some(link) if link.up => return,
            Some(link) => link.name.clone(),
            None => self.cluster_name(parent),
        };
        actions.push(Action::Mark(Marker::Lost { interface: interface.clone(), reason: "was removed or set down".to_owned() }));
        if self.failures > 0 {
            return self.fault(now, Some(parent), Fault::Undone { interface }, actions);
        }
        self.failures = 1;
        let state = State::Attaching { parent, deadline: now + ATTACH, asked: None };
        self.go(now, state, format!("{interface} was removed or set down"), actions);
    }

    /// Faulted: wait, then try again.
    pub(super) fn retry(&mut self, now: Instant, parent: Option<u32>, retry_at: Instant, actions: &mut Vec<Action>) {
        let Some(parent) = parent else {
            if self.wireless().is_none() {
                self.told = None;
                let state = State::Searching { preferred: None, say_at: Some(now + PATIENCE) };
                self.go(now, state, "the interface has changed".to_owned(), actions);
            } else if now >= retry_at {
                // Nothing but a change of the links helps; keep a slow pulse.
                self.pause(now);
            }
            return;
        };
        if self.parent_with_carrier(now, parent, actions).is_some() && now >= retry_at {
            let state = State::Attaching { parent, deadline: now + ATTACH, asked: None };
            self.go(now, state, "trying again".to_owned(), actions);
        }
    }

    /// An action was refused.
    pub(super) fn refused(&mut self, now: Instant, fault: Fault, actions: &mut Vec<Action>) {
        match self.state {
            State::Attaching { parent, .. } => self.fault(now, Some(parent), fault, actions),
            // Setting up a link that is not in use: its carrier will stay unknown, and the wait is told anyway.
            _ => actions.push(Action::Log { from: self.state.name(), to: self.state.name(), reason: fault.to_string() }),
        }
    }

    /// The parent's name while it can be used; else the node is searching again.
    fn parent_with_carrier(&mut self, now: Instant, parent: u32, actions: &mut Vec<Action>) -> Option<String> {
        let name = match self.links.at(parent) {
            Some(link) if link.up && link.carrier => return Some(link.name.clone()),
            Some(link) => Some(link.name.clone()),
            None => None,
        };
        let reason = match (&name, self.links.at(parent).is_some_and(|link| link.up)) {
            (None, _) => "is gone",
            (Some(_), false) => "was set down",
            (Some(_), true) => "lost its carrier",
        };
        let name = name.or_else(|| self.parent_name.clone()).unwrap_or_default();
        actions.push(Action::Mark(Marker::Lost { interface: name.clone(), reason: reason.to_owned() }));
        self.told = None;
        let text = format!("{name} {reason}");
        let state = State::Searching { preferred: Some((name, now + PREFERENCE)), say_at: Some(now + PATIENCE) };
        self.go(now, state, text, actions);
        None
    }

    fn fault(&mut self, now: Instant, parent: Option<u32>, fault: Fault, actions: &mut Vec<Action>) {
        if self.told.as_ref() != Some(&fault) {
            actions.push(Action::Mark(Marker::Fault { reason: fault.to_string() }));
            self.told = Some(fault.clone());
        }
        let reason = fault.to_string();
        self.go(now, State::Faulted { parent, retry_at: now }, reason, actions);
        self.pause(now);
    }

    /// Puts the next try off: 1, 2, 4 … 60 seconds.
    fn pause(&mut self, now: Instant) {
        let pause = Duration::from_secs(1 << self.failures.min(6)).min(LONGEST_PAUSE);
        self.failures = self.failures.saturating_add(1);
        if let State::Faulted { retry_at, .. } = &mut self.state {
            *retry_at = now + pause;
        }
    }

    fn go(&mut self, now: Instant, state: State, reason: String, actions: &mut Vec<Action>) {
        actions.push(Action::Log { from: self.state.name(), to: state.name(), reason: reason.clone() });
        if let State::Attaching { parent, .. } = state {
            self.parent_name = self.links.at(parent).map(|link| link.name.clone());
        }
        self.state = state;
        self.since = now;
        self.reason = reason;
    }

    fn cluster_name(&self, parent: u32) -> String {
        let parent = self.links.at(parent).map(|link| link.name.as_str()).unwrap_or_default();
        match self.config.vlan {
            Vlan::Off => parent.to_owned(),
            Vlan::Id(id) => vlan_name(parent, id),
        }
    }

    /// The named interface, where it is wireless.
    fn wireless(&self) -> Option<String> {
        let WiredInterface::Named(name) = &self.config.interface else { return None };
        self.links.named(name.as_str()).filter(|link| link.kind == LinkKind::Wireless).map(|link| link.name.clone())
    }

    /// What is waited for, in plain words.
    fn missing(&self) -> String {
        let here: Vec<_> = self.links.candidates(&self.config.interface).map(|link| link.name.as_str()).collect();
        match (&self.config.interface, here.as_slice()) {
            (WiredInterface::Named(name), []) => {
                format!("for interface {name}: it is not here, there are {}", self.links.names().join(", "))
            }
            (WiredInterface::Auto, []) => {
                "for a wired interface: there is none; a board without Ethernet needs a USB adapter".to_owned()
            }
            (_, [one]) => format!("for a cable: {one} has no carrier"),
            (_, several) => format!("for a cable: none of {} has a carrier", several.join(", ")),
        }
    }
}
