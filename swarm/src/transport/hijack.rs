//! Connections that stop being HTTP: `attach`, `exec`, and BuildKit's `/session` and `/grpc`.

use std::{future::Future, pin::Pin, sync::Arc};

use http::{HeaderMap, Request, Response, StatusCode, header};
use hyper::{body::Incoming, upgrade::OnUpgrade};
use hyper_util::rt::TokioIo;
use tokio::io::copy_bidirectional;

use super::{Body, Client, Error, body};

/// For how long a user's connection may go on; [`serve`](crate::serve) puts one into the extensions of each request.
#[derive(Clone)]
pub struct Lease(Arc<dyn Held>);

/// What a lease keeps alive, and how it ends.
pub(crate) trait Held: Send + Sync {
    /// Ready when the user's connections must end.
    fn ended(&self) -> Pin<Box<dyn Future<Output = ()> + Send + '_>>;
}

impl Lease {
    pub(crate) fn new(held: Arc<impl Held + 'static>) -> Self {
        Self(held)
    }

    /// Ready when the user's connections must end.
    pub(crate) fn ended(&self) -> Pin<Box<dyn Future<Output = ()> + Send + '_>> {
        self.0.ended()
    }
}

/// Whether a request asks to have its connection upgraded.
pub fn wants_upgrade(headers: &HeaderMap) -> bool {
    let words = headers.get_all(header::CONNECTION).into_iter().filter_map(|value| value.to_str().ok());
    let upgrade = words.flat_map(|words| words.split(',')).any(|word| word.trim().eq_ignore_ascii_case("upgrade"));
    upgrade && headers.contains_key(header::UPGRADE)
}

/// Sends a user's request, whose path may have been changed before, to an engine; if the engine answers with 101, joins the two
/// connections: bytes go both ways as they come, the end of one direction is passed on while the other goes on, and nothing is read
/// that the other end has no room for. Any other answer is passed on as a stream.
///
/// # Errors
///
/// As [`Client::send`].
pub async fn hijack(client: &Client, mut request: Request<Incoming>) -> Result<Response<Body>, Error> {
    let lease = request.extensions_mut().remove::<Lease>();
    let user = wants_upgrade(request.headers()).then(|| hyper::upgrade::on(&mut request));
    let mut response = client.send(request.map(body::from_incoming)).await?;
    if let (StatusCode::SWITCHING_PROTOCOLS, Some(user)) = (response.status(), user) {
        let engine = hyper::upgrade::on(&mut response);
        tokio::spawn(join(user, engine, lease));
        return Ok(response.map(|_| body::empty()));
    }
    Ok(response.map(body::from_incoming))
}

/// Copies until both directions have ended or one broke. A broken one drops both connections without the end that TLS has for
/// complete streams, so that the user's end sees that it was cut.
async fn join(user: OnUpgrade, engine: OnUpgrade, lease: Option<Lease>) {
    let copied = async {
        // The engine's first: it has answered already.
        let mut engine = TokioIo::new(engine.await.ok()?);
        let mut user = TokioIo::new(user.await.ok()?);
        copy_bidirectional(&mut user, &mut engine).await.ok()
    };
    match &lease {
        Some(lease) => tokio::select! {
            _ = copied => {}
            () = lease.0.ended() => {}
        },
        None => drop(copied.await),
    }
}
