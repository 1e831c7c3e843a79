//! What the leader does for all, again and again: decides who serves, makes managers and labels, and puts the view together.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use super::{
    anew::{self, CARD_LABEL, Card},
    door::{self, Hall, Leading, Shared},
    kept::Server,
    promote::promotion,
    report::Report,
};
use crate::{
    consul::{
        self, Client,
        keys::LEDGER,
        kv::Freshness,
        servers::{Wanted, plan},
    },
    engine::{Engine, Node, NodeRole},
    identity::{Incarnation, NodeId},
    record::MemberEntry,
    trust::join::Token,
    view::{self, View},
};

/// A member that has not reported for so long is no candidate, and silent on the page.
pub(super) const SILENT: Duration = Duration::from_secs(15);
/// How many servers there are at most.
const MOST: usize = 3;
/// How often tokens, labels and keys are looked at: they cost raft reads.
const SLOWLY: Duration = Duration::from_secs(10);

/// What the leader remembers between two looks.
#[derive(Debug, Default)]
pub(super) struct Duties {
    wanted: Vec<NodeId>,
    /// Of those that asked, whom Consul's servers do not count.
    cleared: Vec<NodeId>,
    token: Option<Token>,
    looked: Option<Instant>,
    established: bool,
    /// To be kept before the swarm's second manager is made, and until it works.
    pairing: bool,
}

/// What the leader knows of itself and the network.
pub(super) struct Lead<'a> {
    pub(super) engine: &'a Engine,
    /// May read and write keys.
    pub(super) consul: &'a Client,
    pub(super) own: NodeId,
    pub(super) name: &'a str,
    pub(super) incarnation: Incarnation,
    pub(super) members: Vec<MemberEntry>,
    /// Its own report.
    pub(super) report: Report,
    pub(super) clock: bool,
    /// Nobody else is to be a server of before.
    pub(super) alone: bool,
    /// The swarm's second manager is being made, as is kept.
    pub(super) pairing: bool,
}

impl Duties {
    /// Does what is due, and opens the hall. What does not work is tried again with the next look; a line for each.
    pub(super) fn look(&mut self, lead: Lead<'_>, frame: View, hall: &Shared, now: Instant) -> Vec<String> {
        let mut wrong = Vec::new();
        let mut note = |result: Result<(), String>| wrong.extend(result.err());
        let reports = self.reports(&lead, &door::lock(hall), now);
        let nodes = match lead.engine.nodes() {
            Ok(nodes) => nodes,
            Err(error) => {
                note(Err(error.to_string()));
                Vec::new()
            }
        };
        let slowly = self.looked.is_none_or(|at| now >= at + SLOWLY);
        if slowly {
            self.looked = Some(now);
            note(self.look_slowly(&lead, &reports, &nodes));
        }
        note(self.clear(slowly, &lead, &reports).map_err(|error| error.to_string()));
        note(self.promote(&lead, &reports, &nodes));
        let view = self.view(frame, &lead, &reports, &nodes);
        let managers = nodes.iter().filter(|node| node.manager.is_some() && node.is_ready());
        let mut managers: Vec<_> = managers.filter_map(|node| node.address.parse().ok()).collect();
        let own = lead.members.iter().find(|member| member.node == lead.own).map(|member| member.address);
        // The swarm's leader does not always say its own.
        managers.retain(|address: &std::net::Ipv4Addr| !address.is_unspecified() && Some(*address) != own);
        managers.splice(0..0, own);
        let serves = |node: &NodeId| *node == lead.own || reports.get(node).is_some_and(|(_, report)| report.serves);
        let serving = lead.members.iter().filter(|member| self.wanted.contains(&member.node) && serves(&member.node));
        let serving = serving.map(|member| Server { node: member.node, address: member.address }).collect();
        let leading = self.token.clone().map(|token| Leading {
            incarnation: lead.incarnation,
            name: lead.name.to_owned(),
            members: lead.members,
            token,
            managers,
            serving,
            wanted: self.wanted.clone(),
            cleared: self.cleared.clone(),
            clock: lead.clock,
            view,
        });
        door::lock(hall).give(leading);
        wrong
    }

    /// Whether the cluster holds something of a user's.
    pub(super) fn is_established(&self) -> bool {
        self.established
    }

    /// Whether this node alone is to be a server, as Consul has it.
    pub(super) fn is_alone(&self, own: NodeId) -> bool {
        self.wanted == [own]
    }

    /// Forgets what a node that leads again may have to see in another way: others led meanwhile.
    pub(super) fn rest(&mut self) {
        *self = Self { established: self.established, ..Self::default() };
    }

    /// Whether the swarm's second manager is being made: to be kept before the next look.
    pub(super) fn is_pairing(&self) -> bool {
        self.pairing
    }

    /// The reports of all, our own among them.
    fn reports(&self, lead: &Lead<'_>, hall: &Hall, now: Instant) -> BTreeMap<NodeId, (Instant, Report)> {
        let mut reports = hall.reports().clone();
        reports.insert(lead.own, (now, lead.report.clone()));
        reports
    }

    fn look_slowly(
        &mut self,
        lead: &Lead<'_>,
        reports: &BTreeMap<NodeId, (Instant, Report)>,
        nodes: &[Node],
    ) -> Result<(), String> {
        self.decide(lead, reports).map_err(|error| error.to_string())?;
        // Before anybody joins: it takes some seconds, and other tokens come of it.
        let tokens = match lead.engine.lengthen_certificate() {
            Ok(true) => lead.engine.join_tokens().map_err(|error| error.to_string())?,
            Ok(false) => None,
            Err(error) => return Err(error.to_string()),
        };
        let Some(tokens) = tokens else {
            (self.token, self.looked) = (None, None);
            return Ok(());
        };
        self.token = Some(Token::try_from(tokens.worker).map_err(str::to_owned)?);
        let keys = || lead.consul.has_user_keys().unwrap_or(false);
        self.established = self.established || reports.values().any(|(_, report)| report.used) || keys();
        for node in nodes {
            let Some((id, (_, report))) = reports.iter().find(|(_, (_, report))| report.swarm_id.as_deref() == Some(&node.id))
            else {
                continue;
            };
            let role = match () {
                () if *id == lead.own => "leader",
                () if self.wanted.contains(id) => "server",
                () => "member",
            };
            let card = id.to_string();
            let labels = [("hcl.role", role), ("hcl.arch", report.node.arch.as_str()), (CARD_LABEL, card.as_str())];
            lead.engine.set_labels(&node.id, &labels).map_err(|error| error.to_string())?;
        }
        self.forget_old_entries(lead, reports, nodes)
    }

    /// Takes out of the swarm what cards had in it before they came back as others.
    fn forget_old_entries(
        &self,
        lead: &Lead<'_>,
        reports: &BTreeMap<NodeId, (Instant, Report)>,
        nodes: &[Node],
    ) -> Result<(), String> {
        let fresh = reports.iter().filter(|(_, (at, _))| at.elapsed() < SILENT);
        let card = |(node, (_, report)): (&NodeId, &(Instant, Report))| Card {
            node: *node,
            name: report.node.name.clone(),
            swarm_id: report.swarm_id.clone(),
        };
        let cards: Vec<_> = fresh.map(card).collect();
        for old in anew::old_entries(nodes, &cards) {
            if lead.engine.forget_node(old).map_err(|error| error.to_string())? {
                println!("took {} out of the swarm, {}: that card is in it anew", old.id, old.host_name);
            }
        }
        Ok(())
    }

    /// Has Consul's servers count nobody who must not be counted: see [`Client::clear_peers`].
    fn clear(
        &mut self,
        slowly: bool,
        lead: &Lead<'_>,
        reports: &BTreeMap<NodeId, (Instant, Report)>,
    ) -> Result<(), consul::Error> {
        let answers = |node: NodeId| reports.get(&node).is_some_and(|(at, _)| at.elapsed() < SILENT);
        let asks = reports.iter().filter(|(node, (_, report))| answers(**node) && report.empty);
        let empty: Vec<_> = asks.map(|(node, _)| *node).collect();
        self.cleared.clear();
        // Without the list nobody is unwanted.
        if self.wanted.is_empty() || empty.is_empty() && !slowly {
            return Ok(());
        }
        lead.consul.clear_peers(&self.wanted, answers, &empty)?;
        self.cleared = empty;
        Ok(())
    }

    /// The decision stands in Consul before anything is done about it, so that whoever leads next goes on with it.
    fn decide(&mut self, lead: &Lead<'_>, reports: &BTreeMap<NodeId, (Instant, Report)>) -> Result<(), consul::Error> {
        let Wanted { nodes, condition } = lead.consul.wanted_servers()?;
        self.wanted = nodes;
        let healthy = |member: &&MemberEntry| {
            let report = reports.get(&member.node);
            report.is_some_and(|(at, report)| at.elapsed() < SILENT && report.settled)
        };
        let healthy: Vec<NodeId> = lead.members.iter().filter(healthy).map(|member| member.node).collect();
        let decided = match &self.wanted[..] {
            // Whoever founds is the first.
            [] => Some(vec![lead.own]),
            wanted if lead.alone && wanted != [lead.own] => Some(vec![lead.own]),
            // A second server may come to lead: it needs the addresses of all.
            _ if lead.consul.value(LEDGER, Freshness::Consistent)?.is_none() => None,
            wanted => {
                let answers = |node: NodeId| reports.get(&node).is_some_and(|(at, _)| at.elapsed() < SILENT);
                anew::replaced(wanted, &lead.members, &healthy, answers)
                    .or_else(|| plan(wanted, lead.members.len(), MOST, &healthy))
            }
        };
        let Some(decided) = decided else { return Ok(()) };
        if lead.consul.want_servers(&decided, condition)? {
            self.wanted = decided;
        }
        Ok(())
    }

    /// Makes managers of those that shall serve. Nobody who takes part is made a worker again: a majority may hang on it.
    fn promote(&mut self, lead: &Lead<'_>, reports: &BTreeMap<NodeId, (Instant, Report)>, nodes: &[Node]) -> Result<(), String> {
        let wanted: Vec<&str> =
            self.wanted.iter().filter_map(|id| reports.get(id).and_then(|(_, report)| report.swarm_id.as_deref())).collect();
        // Whoever led before may not know yet what came of it.
        let elsewhere = reports.values().any(|(at, report)| at.elapsed() < SILENT && report.pairing);
        let promotion = promotion(&wanted, nodes, lead.pairing || elsewhere);
        self.pairing = promotion.pairing;
        let done = promotion.roles.into_iter().map(|(id, role)| lead.engine.set_role(id, role));
        // One that is refused keeps nobody else waiting.
        let wrong: Vec<String> = done.filter_map(|done| done.err().map(|error| error.to_string())).collect();
        if wrong.is_empty() { Ok(()) } else { Err(wrong.join("; ")) }
    }

    /// Everything that the page shows, but for what Consul's gossip says.
    fn view(&self, mut view: View, lead: &Lead<'_>, reports: &BTreeMap<NodeId, (Instant, Report)>, nodes: &[Node]) -> View {
        view.leader = Some(lead.name.to_owned());
        view.served_by = lead.name.to_owned();
        view.nodes = lead.members.iter().map(|member| self.node(member, lead, reports.get(&member.node), nodes)).collect();
        view.nodes.sort_by(|a, b| a.name.cmp(&b.name));
        view.services = services(lead.engine);
        view
    }

    fn node(&self, member: &MemberEntry, lead: &Lead<'_>, report: Option<&(Instant, Report)>, nodes: &[Node]) -> view::Node {
        let mut node = report.map(|(_, report)| report.node.clone()).unwrap_or_default();
        node.name.clone_from(&member.name);
        node.id = member.node.to_string();
        node.address = member.address.to_string();
        node.role = match () {
            () if member.node == lead.own => view::Role::Leader,
            () if self.wanted.contains(&member.node) => view::Role::Server,
            () => view::Role::Member,
        };
        node.heard_ms_ago = report.map(|(at, _)| at.elapsed().as_millis() as u64);
        let swarm_id = report.and_then(|(_, report)| report.swarm_id.as_deref());
        if let Some(seen) = nodes.iter().find(|node| Some(node.id.as_str()) == swarm_id) {
            node.swarm.state.clone_from(&seen.state);
            node.swarm.role = if seen.role == NodeRole::Manager { "manager" } else { "worker" }.to_owned();
            node.swarm.leader = seen.manager.as_ref().is_some_and(|manager| manager.leader);
        }
        node.state = match report {
            None => view::State::Starting,
            Some((at, _)) if at.elapsed() >= SILENT => view::State::Silent,
            Some((_, report)) if report.settled && node.swarm.state == "ready" => view::State::Ready,
            Some(_) => view::State::Starting,
        };
        node
    }
}

fn services(engine: &Engine) -> Vec<view::Service> {
    let mut services: Vec<_> = engine
        .services()
        .unwrap_or_default()
        .into_iter()
        .map(|service| {
            let (running, wanted) = service.tasks.unwrap_or_default();
            view::Service { name: service.name, image: view::image(&service.image), running, wanted, ports: service.ports }
        })
        .collect();
    services.sort_by(|a, b| a.name.cmp(&b.name));
    services
}
