//! Giving an order to all members, from one of them.

use std::{
    sync::{Arc, mpsc},
    thread,
    time::{Duration, Instant},
};

use serde::{Deserialize, Serialize};

use super::{
    Here, NOWHERE, ORDER_PATH, Order, OrderAnswer, OrderRequest, Orders, Promise, TICKET_PATH, TicketAnswer, TicketRequest,
    already, tickets::Ticket,
};
use crate::{
    identity::NodeId,
    record::MemberEntry,
    trust::{UnixSeconds, join::ask},
};

/// What one conversation takes of a stack, in bytes, at most.
const STACK: usize = 512 << 10;

/// What became of the order at one node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Text {
    /// The node's name.
    pub(crate) node: String,
    /// Whether it obeys.
    pub(crate) accepted: bool,
    /// In words.
    pub(crate) text: String,
}

impl Orders {
    /// Gives `order` to all members, `limit` for each question; followers first, the leader last. A text for each node goes to `say` as
    /// it comes. The promise is this node's own, to be kept once that was read.
    ///
    /// # Errors
    ///
    /// Nothing was ordered: why.
    pub(super) fn give(
        self: &Arc<Self>,
        order: Order,
        limit: Duration,
        clock: Option<UnixSeconds>,
        say: &mut dyn FnMut(Text),
    ) -> Result<Promise, String> {
        let here = {
            let mut state = self.lock();
            let here = state.here.clone().ok_or(NOWHERE)?;
            if let Some(order) = state.obeying {
                return Err(already(order));
            }
            // From here on it takes no other one.
            state.obeying = Some(order);
            here
        };
        let names = here.caller.identity.names();
        let own = names.node();
        println!("{order} ordered here, for all");
        let giving = Giving { here: &here, order, limit, clock };
        let (others, leader) = (here.members.iter().filter(|member| member.node != own), here.leader.filter(|node| *node != own));
        // First who is there, and then the order: nobody waits for one who is not.
        let tickets = giving.each(others.map(|member| (member, ())).collect(), |member, ()| giving.ticket(member));
        let (mut followers, mut last) = (Vec::new(), None);
        for (member, ticket) in tickets {
            match ticket {
                Ok(ticket) if Some(member.node) == leader => last = Some((member, ticket)),
                Ok(ticket) => followers.push((member, ticket)),
                Err(text) => say(Text { node: member.name.clone(), accepted: false, text }),
            }
        }
        let mut going = Vec::new();
        for (member, done) in giving.each(followers, |member, ticket| giving.order(member, ticket, &[])) {
            if done.is_ok() {
                going.push(member);
            }
            say(text(member, done, "accepted"));
        }
        if let Some((member, ticket)) = last {
            let first: Vec<NodeId> = going.iter().map(|member| member.node).chain([own]).collect();
            say(text(member, giving.order(member, ticket, &first), "accepted: it leads, and goes last"));
        }
        let leads = here.leader == Some(own);
        let what = if leads { "accepted: this node leads, and goes last" } else { "accepted: this node" };
        say(Text { node: names.name().to_owned(), accepted: true, text: what.to_owned() });
        let after = if leads { going.iter().map(|member| member.address).collect() } else { Vec::new() };
        Ok(Promise::new(self, order, names.address(), after))
    }
}

fn text(member: &MemberEntry, done: Result<(), String>, accepted: &str) -> Text {
    let accepted = done.map(|()| accepted.to_owned());
    Text { node: member.name.clone(), accepted: accepted.is_ok(), text: accepted.unwrap_or_else(|wrong| wrong) }
}

/// A session that took all the time leaves a moment for the rest.
fn left(until: Instant) -> Duration {
    until.saturating_duration_since(Instant::now()).max(Duration::from_millis(100))
}

/// One order on its way.
struct Giving<'a> {
    here: &'a Here,
    order: Order,
    limit: Duration,
    clock: Option<UnixSeconds>,
}

impl Giving<'_> {
    /// Asks all at once: one who does not answer costs its own time only. In the order of the answers.
    fn each<'m, A: Send, T: Send>(
        &self,
        members: Vec<(&'m MemberEntry, A)>,
        ask: impl Fn(&'m MemberEntry, A) -> Result<T, String> + Sync,
    ) -> Vec<(&'m MemberEntry, Result<T, String>)> {
        let (sender, answers) = mpsc::channel();
        thread::scope(|scope| {
            for (member, argument) in members {
                let ask = &ask;
                let telling = sender.clone();
                // The receiver outlives the threads.
                let run = move || drop(telling.send((member, ask(member, argument))));
                let builder = thread::Builder::new().name("order".to_owned()).stack_size(STACK);
                if let Err(error) = builder.spawn_scoped(scope, run) {
                    let _ = sender.send((member, Err(format!("not asked: starting a thread: {error}"))));
                }
            }
            drop(sender);
            answers.into_iter().collect()
        })
    }

    /// # Errors
    ///
    /// For people: why this node will not obey.
    fn ticket(&self, member: &MemberEntry) -> Result<Ticket, String> {
        let Self { here, order, limit, clock } = *self;
        let until = Instant::now() + limit;
        let session = here
            .caller
            .session(member.node, member.address, clock, limit)
            .map_err(|wrong| format!("not reachable at {}: {wrong}", member.address))?;
        let request = TicketRequest { incarnation: here.incarnation, order };
        let response = ask(session, TICKET_PATH, &request, left(until)).map_err(|error| format!("not reachable: {error}"))?;
        if !response.is_success() {
            return Err(format!("refused: {}", response.text()));
        }
        let answer: TicketAnswer =
            serde_json::from_slice(&response.body).map_err(|error| format!("its answer cannot be read: {error}"))?;
        Ok(answer.ticket)
    }

    /// # Errors
    ///
    /// For people: why this node may not obey.
    fn order(&self, member: &MemberEntry, ticket: Ticket, after: &[NodeId]) -> Result<(), String> {
        let Self { here, order, limit, clock } = *self;
        let until = Instant::now() + limit;
        let session = here
            .caller
            .session(member.node, member.address, clock, limit)
            .map_err(|wrong| format!("not reachable any more at {}: {wrong}", member.address))?;
        let request = OrderRequest { incarnation: here.incarnation, order, ticket, after: after.to_vec() };
        // What was sent may have been heard.
        let response = ask(session, ORDER_PATH, &request, left(until))
            .map_err(|error| format!("no answer, it may obey all the same: {error}"))?;
        if !response.is_success() {
            return Err(format!("refused: {}", response.text()));
        }
        match serde_json::from_slice(&response.body) {
            Ok(OrderAnswer { accepted }) if accepted == order => Ok(()),
            _ => Err("its answer cannot be read; it may obey all the same".to_owned()),
        }
    }
}
