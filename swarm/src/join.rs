//! `hcl-swarm join`, on every node: makes the node's engine part of the cluster.
//!
//! - The [`carrier`] brings the engine's socket to the node's own address, for nodes alone.
//! - The [`registrar`] tells Consul of the containers whose ports are published, as Registrator did.
//!
//! Neither does anything for the other: each goes on while what the other needs is away.

pub mod carrier;
pub mod registrar;

use std::{
    future::Future,
    net::{Ipv4Addr, SocketAddrV4},
    path::PathBuf,
    time::Duration,
};

use tokio::{net::TcpListener, time::sleep};

use crate::{
    consul::{Client, Token},
    local::Socket,
    transport::tls,
};

/// Between two tries to listen where the node does not have its address yet.
const PAUSE: Duration = Duration::from_secs(1);

/// What `hcl-swarm join` is told.
#[derive(Clone, Debug)]
pub struct Options {
    /// Where nodes get at the engine: the node's own address, port 2376.
    pub listen: SocketAddrV4,
    /// The node's name.
    pub name: String,
    /// The address that published ports are reached at.
    pub address: Ipv4Addr,
    /// The folder with `nodes-ca.pem`, `node.pem` and `node-key.pem`.
    pub tls: PathBuf,
    /// The engine's socket.
    pub engine: PathBuf,
    /// Consul's socket.
    pub consul: PathBuf,
    /// The file with the token that Consul is asked with.
    pub token_file: PathBuf,
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
        at: SocketAddrV4,
        /// What the system says.
        source: std::io::Error,
    },
}

/// Carries and registers until `stop` is done. What is registered stays registered: it runs on.
///
/// # Errors
///
/// It could not start. A node that does not have its address yet, an engine or a Consul that does not answer are waited for.
pub async fn run(options: Options, stop: impl Future<Output = ()>) -> Result<(), Error> {
    let server = tls::from_nodes(&options.tls)?;
    let path = options.token_file.clone();
    let token = Token::read(&path).map_err(|source| Error::Token { path, source })?;
    let consul = Client::new(&options.consul, token);
    let engine = Socket::new(&options.engine);
    let node = registrar::Node { name: options.name.clone(), address: options.address };
    let carrying = async {
        let listener = listen(options.listen).await?;
        carrier::Carrier::new(server, engine.clone(), &options.name).run(listener).await;
        Ok(())
    };
    tokio::select! {
        result = carrying => result,
        () = registrar::run(node, engine.clone(), consul) => Ok(()),
        () = stop => Ok(()),
    }
}

async fn listen(at: SocketAddrV4) -> Result<TcpListener, Error> {
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
