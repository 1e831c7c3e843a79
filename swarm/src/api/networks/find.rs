//! Which network is meant.

use std::{collections::BTreeSet, sync::Arc};

use crate::{
    api::{State, entry::Entry, fan, refusal::Refusal},
    cluster::Engine,
};

/// What each engine lists.
pub type Lists = Vec<(Arc<Engine>, Vec<Entry>)>;

/// A network, and the engine to ask about it.
#[derive(Clone)]
pub struct Network {
    /// The engine: a manager for one of the whole swarm.
    pub engine: Arc<Engine>,
    /// What that engine lists.
    pub entry: Entry,
    /// Its id.
    pub id: String,
    /// Its name, without a node.
    pub name: String,
    scope: String,
}

impl Network {
    fn new(engine: &Arc<Engine>, entry: &Entry) -> Self {
        let (id, name, scope) = (entry.text("Id"), entry.text("Name"), entry.text("Scope"));
        Self { engine: Arc::clone(engine), entry: entry.clone(), id, name, scope }
    }

    /// Whether it is of one node.
    pub fn is_local(&self) -> bool {
        self.scope == "local"
    }
}

/// Has every engine list its networks, managers first: they know most of those of the swarm.
///
/// # Errors
///
/// An engine refused, or none answers.
pub async fn lists(state: &State, path: &str) -> Result<Lists, Refusal> {
    let mut engines = fan::some_healthy(&state.cluster)?;
    let manager = state.cluster.manager().map(|manager| manager.name.clone());
    let manages = |engine: &Arc<Engine>| engine.snapshot().info.as_ref().is_some_and(|info| info.swarm.control_available);
    engines.sort_by_key(|engine| (manager.as_deref() != Some(&engine.name), !manages(engine)));
    let answers = fan::all(engines, |engine| {
        let path = path.to_owned();
        async move { engine.client().read::<Vec<Entry>>(&path).await }
    })
    .await;
    fan::agreed(answers)
}

/// All of them, those of the swarm once.
pub fn once(lists: Lists) -> Vec<Network> {
    let mut seen = BTreeSet::new();
    let all = lists
        .into_iter()
        .flat_map(|(engine, list)| list.into_iter().map(|entry| Network::new(&engine, &entry)).collect::<Vec<_>>());
    all.filter(|network| network.is_local() || seen.insert(network.id.clone())).collect()
}

/// The network that `reference` means: an id, a name of the whole swarm's, `node/name`, a local name that only one node has, or the
/// beginning of one id.
///
/// # Errors
///
/// 404 where there is none, 400 where several are meant.
pub fn one(state: &State, lists: &Lists, reference: &str) -> Result<Network, Refusal> {
    let node = reference.split_once('/').and_then(|(node, name)| Some((state.cluster.engine(node)?.name.clone(), name)));
    pick(once(lists.clone()), reference, node.as_ref().map(|(node, name)| (node.as_str(), *name)))
}

fn pick(networks: Vec<Network>, reference: &str, node: Option<(&str, &str)>) -> Result<Network, Refusal> {
    let is_here = |network: &&Network| match node {
        Some((node, name)) => network.engine.name == node && network.name == name,
        None => false,
    };
    if let Some(found) = networks.iter().find(|network| network.id == reference).or_else(|| networks.iter().find(is_here)) {
        return Ok(found.clone());
    }
    let named: Vec<_> = networks.iter().filter(|network| network.name == reference).collect();
    if let Some(found) = named.iter().find(|network| !network.is_local()) {
        return Ok(Network::clone(found));
    }
    match named.as_slice() {
        [] => {}
        [found] => return Ok(Network::clone(found)),
        several => {
            let choices: Vec<_> = several.iter().map(|network| format!("{}/{reference}", network.engine.name)).collect();
            let choices = choices.join(" or ");
            return Err(Refusal::bad_request(format!(
                "network {reference} is ambiguous ({} matches found based on name): say {choices}",
                several.len()
            )));
        }
    }
    let mut prefixed = networks.into_iter().filter(|network| !reference.is_empty() && network.id.starts_with(reference));
    match (prefixed.next(), prefixed.count()) {
        (None, _) => Err(Refusal::not_found(format!("network {reference} not found"))),
        (Some(found), 0) => Ok(found),
        (Some(_), more) => {
            Err(Refusal::bad_request(format!("network {reference} is ambiguous ({} matches found based on ID prefix)", more + 1)))
        }
    }
}
