//! BuildKit over `/session` and `/grpc`: connections that are joined with the master's engine, which builds.
//!
//! What is said over them is not looked at. So when one of them ends, tags that the engine has got meanwhile are brought to the other
//! nodes, as with every other way to get an image here.

use std::{
    collections::BTreeSet,
    future::{Future, pending},
    pin::Pin,
    sync::Arc,
};

use http::{Response, StatusCode};
use tokio::sync::oneshot;

use super::spread::spread;
use crate::{
    api::{State, ask::Ask, fan, refusal::Refusal, version::ApiVersion},
    cluster::{Cluster, Engine, Snapshot},
    transport::{Body, Held, Lease},
};

/// Joins the connection.
///
/// # Errors
///
/// No engine answers.
pub async fn buildkit(state: &State, mut ask: Ask) -> Result<Response<Body>, Refusal> {
    let engine = fan::master_first(&state.cluster)?.swap_remove(0);
    let (target, version) = (ask.target(""), ask.version);
    let before = tags(&engine.snapshot());
    let (sender, ended) = oneshot::channel();
    ask.hold(|lease| Lease::new(Arc::new(Joined { lease, _ended: sender })));
    let response = ask.pass(&engine, &target).await?;
    if response.status() == StatusCode::SWITCHING_PROTOCOLS {
        let cluster = Arc::clone(&state.cluster);
        tokio::spawn(async move {
            // Its end is that the sender is dropped.
            let _ = ended.await;
            if let Err(error) = bring(&cluster, &engine, version, &before).await {
                eprintln!("{}: bringing what BuildKit built to the other nodes: {error}", engine.name);
            }
        });
    }
    Ok(response)
}

/// A joined connection: its user's lease, and who waits for its end.
struct Joined {
    lease: Option<Lease>,
    /// Dropped with it.
    _ended: oneshot::Sender<()>,
}

impl Held for Joined {
    fn ended(&self) -> Pin<Box<dyn Future<Output = ()> + Send + '_>> {
        match &self.lease {
            Some(lease) => lease.ended(),
            None => Box::pin(pending()),
        }
    }
}

/// A tag, and the id of its image.
type Tagged = (String, String);

fn tags(snapshot: &Snapshot) -> BTreeSet<Tagged> {
    let of = |image: &Arc<crate::cluster::Image>| {
        let image = Arc::clone(image);
        (0..image.tags.len()).map(move |index| (image.tags[index].clone(), image.id.clone()))
    };
    snapshot.images.iter().flat_map(of).collect()
}

async fn bring(cluster: &Cluster, engine: &Engine, version: ApiVersion, before: &BTreeSet<Tagged>) -> Result<(), Refusal> {
    engine.refresh_images().await?;
    let now = tags(&engine.snapshot());
    let others = || fan::healthy(cluster).into_iter().filter(|other| other.name != engine.name);
    for (tag, id) in now.difference(before) {
        let lack = |other: &Arc<Engine>| !tags(&other.snapshot()).contains(&(tag.clone(), id.clone()));
        let lacking: Vec<_> = others().filter(lack).collect();
        if lacking.is_empty() {
            continue;
        }
        for (other, loaded) in spread(version, engine, std::slice::from_ref(tag), lacking).await? {
            loaded.map_err(|refusal| refusal.by_node(&other.name))?;
        }
    }
    Ok(())
}
