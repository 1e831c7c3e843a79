//! The listener for users, on :2378.
//!
//! Whoever has no certificate by the users' authority is refused by TLS itself. Whoever was removed gets 403 for whatever is asked,
//! and connections that stand end when their user is removed, streams included. Everybody else's requests go to a [`Handler`].

mod session;

use std::{convert::Infallible, future::Future, io, sync::Arc, time::Duration};

use http::{Request, Response};
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use rustls::ServerConfig;
use socket2::{SockRef, TcpKeepalive};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::{Semaphore, watch},
    time::{sleep, timeout},
};
use tokio_rustls::{TlsAcceptor, server::TlsStream};

use self::session::Session;
use crate::{
    Body,
    transport::Lease,
    users::{BadUser, User, Users},
};

/// How many connections of users there are at most, streams included.
const CONNECTIONS: usize = 512;
/// How many connections may be about to say who they are.
const HANDSHAKES: usize = 64;
/// How long they may take for it.
const HANDSHAKE_LIMIT: Duration = Duration::from_secs(10);
/// How long a connection may wait for its next request. Programs keep connections; engines never close them.
const IDLE_LIMIT: Duration = Duration::from_secs(600);
/// Headers of one request: their number, and the size of a read buffer, in bytes.
const HEADERS: usize = 128;
const HEADER_BYTES: usize = 64 << 10;
/// How long requests may go on after the program was told to end.
const GRACE: Duration = Duration::from_secs(10);

/// Answers the requests of users: [`api::handle`](crate::api::handle) with its state.
pub trait Handler: Clone + Send + Sync + 'static {
    /// Answers one.
    fn handle(&self, user: User, request: Request<Incoming>) -> impl Future<Output = Response<Body>> + Send;
}

/// Serves users on `listener` until `stop` says true; then lets requests go on for at most 10 s.
pub async fn serve<H: Handler>(
    listener: TcpListener,
    tls: Arc<ServerConfig>,
    users: Arc<Users>,
    handler: H,
    mut stop: watch::Receiver<bool>,
) {
    let acceptor = TlsAcceptor::from(tls);
    let connections = Arc::new(Semaphore::new(CONNECTIONS));
    let handshakes = Arc::new(Semaphore::new(HANDSHAKES));
    // Each session subscribes; when the last one is gone, everything has ended.
    let (running, _) = watch::channel(());
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = told(&mut stop) => break,
        };
        let stream = match accepted {
            Ok((stream, _)) => stream,
            Err(error) => {
                eprintln!("accepting a connection: {error}");
                // Such as no descriptors left: some will be given back.
                sleep(Duration::from_millis(100)).await;
                continue;
            }
        };
        // Those who have not said who they are must not keep out those who have.
        let (Ok(handshake), Ok(connection)) =
            (Arc::clone(&handshakes).try_acquire_owned(), Arc::clone(&connections).try_acquire_owned())
        else {
            continue;
        };
        let (acceptor, users, handler, stop, running) =
            (acceptor.clone(), Arc::clone(&users), handler.clone(), stop.clone(), running.subscribe());
        tokio::spawn(async move {
            let accepted = timeout(HANDSHAKE_LIMIT, accept(&acceptor, stream)).await;
            drop(handshake);
            // Whoever was refused has been told by TLS.
            if let Ok(Ok((stream, user))) = accepted {
                converse(stream, Session::new(user, users, connection, running), handler, stop).await;
            }
        });
    }
    drop(listener);
    let _ = timeout(GRACE, running.closed()).await;
}

/// Ready once `stop` says true; its sender lives as long as the program.
async fn told(stop: &mut watch::Receiver<bool>) {
    let _ = stop.wait_for(|stop| *stop).await;
}

/// Has the other end say who it is. An error for whoever shows no certificate by the users' authority.
async fn accept(acceptor: &TlsAcceptor, stream: TcpStream) -> io::Result<(TlsStream<TcpStream>, Result<User, BadUser>)> {
    stream.set_nodelay(true)?;
    // A laptop that was closed in the middle of a stream.
    let keepalive = TcpKeepalive::new().with_time(Duration::from_secs(60)).with_interval(Duration::from_secs(10));
    SockRef::from(&stream).set_tcp_keepalive(&keepalive)?;
    let stream = acceptor.accept(stream).await?;
    let shown = stream.get_ref().1.peer_certificates().and_then(<[_]>::first);
    let user = shown.ok_or(BadUser).and_then(User::of);
    Ok((stream, user))
}

/// Answers the requests of one connection.
async fn converse<H: Handler>(stream: TlsStream<TcpStream>, session: Session, handler: H, mut stop: watch::Receiver<bool>) {
    let session = Arc::new(session);
    let admitted = session.admit().is_ok();
    let service = service_fn(|request| answer(Arc::clone(&session), handler.clone(), request));
    let mut builder = http1::Builder::new();
    builder.timer(TokioTimer::new()).header_read_timeout(IDLE_LIMIT).max_headers(HEADERS).max_buf_size(HEADER_BYTES);
    let connection = builder.serve_connection(TokioIo::new(stream), service).with_upgrades();
    let mut connection = std::pin::pin!(connection);
    let removed = async { if admitted { session.removed().await } else { std::future::pending().await } };
    let mut removed = std::pin::pin!(removed);
    tokio::select! {
        // A connection that breaks is the business of its two ends.
        _ = connection.as_mut() => return,
        () = removed.as_mut() => return,
        () = told(&mut stop) => {}
    }
    connection.as_mut().graceful_shutdown();
    tokio::select! {
        _ = connection => {}
        () = removed => {}
    }
}

async fn answer<H: Handler>(
    session: Arc<Session>,
    handler: H,
    mut request: Request<Incoming>,
) -> Result<Response<Body>, Infallible> {
    Ok(match session.admit() {
        Ok(user) => {
            let user = user.clone();
            request.extensions_mut().insert(Lease::new(session));
            handler.handle(user, request).await
        }
        Err(refusal) => refusal.answer(),
    })
}

#[cfg(test)]
mod tests;
