//! `hcl-swarm manage`, on every server: the whole cluster behind one Docker endpoint.
//!
//! Engines, leader and users come from Consul (`manage/follow.rs`); what was last known goes on while Consul does not answer.

mod follow;

use std::{future::Future, net::SocketAddr, path::PathBuf, sync::Arc, time::Duration};

use http::{Request, Response};
use hyper::body::Incoming;
use tokio::{net::TcpListener, sync::watch, time::sleep};

use crate::{
    Body,
    api::{self, State},
    cluster::{Cluster, Member},
    consul::{Client, Token},
    schedule::Strategy,
    serve::{Handler, serve},
    transport::{Endpoint, tls},
    users::{User, Users},
};

/// Between two tries to listen where the node does not have its address yet.
const PAUSE: Duration = Duration::from_secs(1);

/// What `hcl-swarm manage` is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// Where users come to.
    pub listen: SocketAddr,
    /// This node's name.
    pub name: String,
    /// The folder with this node's certificates.
    pub tls: PathBuf,
    /// How a container's node is chosen.
    pub strategy: Strategy,
    /// Whether overlay networks are encrypted unless the request says otherwise.
    pub encrypt_overlays: bool,
    /// Whether each request is told on standard error.
    pub log_requests: bool,
    /// Where engines, leader and users are known from.
    pub source: Source,
}

/// Where engines, leader and users are known from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// The cluster's Consul.
    Consul {
        /// Its socket on this node.
        socket: PathBuf,
        /// The file with the token that it is asked with.
        token_file: PathBuf,
    },
    /// The command line, for tests and benches: no engine is added, and no user removed.
    Fixed {
        /// Names and places of the engines.
        engines: Vec<(String, Endpoint)>,
        /// Whose engine is called `master` too.
        master: Option<String>,
    },
}

/// Why it did not start.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The certificates cannot be used.
    #[error(transparent)]
    Files(#[from] tls::Bad),
    /// The token cannot be read.
    #[error("reading Consul's token from {}: {source}", path.display())]
    Token {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: std::io::Error,
    },
    /// Somebody else listens there.
    #[error("listening on {at}: {source}")]
    Listen {
        /// Where.
        at: SocketAddr,
        /// What the system says.
        source: std::io::Error,
    },
}

/// Serves users until `stop` is done, and then what is under way for at most 10 s.
///
/// # Errors
///
/// It could not start. A node that does not have its address yet, a Consul or engines that do not answer are waited for.
pub async fn run(options: Options, stop: impl Future<Output = ()>) -> Result<(), Error> {
    let (to_users, to_nodes) = (tls::to_users(&options.tls)?, tls::to_nodes(&options.tls)?);
    let cluster = Cluster::new(&options.name, Some(to_nodes));
    let users = Users::new();
    let following = match options.source {
        Source::Consul { socket, token_file: path } => {
            let token = Token::read(&path).map_err(|source| Error::Token { path, source })?;
            let (consul, cluster, users) = (Client::new(socket, token), Arc::clone(&cluster), Arc::clone(&users));
            Some(tokio::spawn(async move { follow::follow(&consul, &cluster, &users).await }))
        }
        Source::Fixed { engines, master } => {
            let member = |(name, endpoint)| Member { name, endpoint, trouble: None };
            cluster.set_members(engines.into_iter().map(member).collect());
            cluster.set_master(master);
            users.set_rules(Default::default());
            None
        }
    };
    let mut state = State::new(cluster, options.strategy, options.encrypt_overlays);
    state.log_requests = options.log_requests;
    let state = Arc::new(state);
    let (stopping, stopped) = watch::channel(false);
    let serving = async {
        let listener = listen(options.listen).await?;
        serve(listener, to_users, users, Answers(state), stopped).await;
        Ok(())
    };
    let mut serving = std::pin::pin!(serving);
    let result = tokio::select! {
        result = serving.as_mut() => result,
        () = stop => {
            stopping.send_replace(true);
            serving.await
        }
    };
    if let Some(following) = following {
        following.abort();
    }
    result
}

/// The API, from its state.
#[derive(Clone)]
struct Answers(Arc<State>);

impl Handler for Answers {
    async fn handle(&self, user: User, request: Request<Incoming>) -> Response<Body> {
        api::handle(Arc::clone(&self.0), user, request).await
    }
}

async fn listen(at: SocketAddr) -> Result<TcpListener, Error> {
    let mut waits = false;
    loop {
        match TcpListener::bind(at).await {
            Ok(listener) => return Ok(listener),
            Err(error) if error.kind() == std::io::ErrorKind::AddrNotAvailable => {
                if !std::mem::replace(&mut waits, true) {
                    eprintln!("listening on {at}: this node does not have the address yet; it is waited for");
                }
                sleep(PAUSE).await;
            }
            Err(source) => return Err(Error::Listen { at, source }),
        }
    }
}
