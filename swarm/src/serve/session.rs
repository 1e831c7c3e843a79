//! One connection of a user, and the streams that come out of it.

use std::{future::Future, pin::Pin, sync::Arc};

use http::{HeaderValue, Response, StatusCode, header};
use serde_json::json;
use tokio::sync::{OwnedSemaphorePermit, watch};

use crate::{
    Body,
    transport::{self, Held},
    users::{BadUser, Refused, User, Users},
};

/// Lives as long as the connection or a stream of it.
pub(super) struct Session {
    user: Result<User, BadUser>,
    users: Arc<Users>,
    _connection: OwnedSemaphorePermit,
    _running: watch::Receiver<()>,
}

/// Why a request is not answered.
pub(super) enum Refusal {
    Bad(BadUser),
    Refused(Refused),
}

impl Session {
    pub(super) fn new(
        user: Result<User, BadUser>,
        users: Arc<Users>,
        connection: OwnedSemaphorePermit,
        running: watch::Receiver<()>,
    ) -> Self {
        Self { user, users, _connection: connection, _running: running }
    }

    /// The user, if it is let in now.
    pub(super) fn admit(&self) -> Result<&User, Refusal> {
        let user = self.user.as_ref().map_err(|bad| Refusal::Bad(bad.clone()))?;
        self.users.admit(user).map_err(Refusal::Refused)?;
        Ok(user)
    }

    /// Ready when the user is no longer let in.
    pub(super) async fn removed(&self) {
        if let Ok(user) = &self.user {
            self.users.removed(user).await;
        }
    }
}

impl Held for Session {
    fn ended(&self) -> Pin<Box<dyn Future<Output = ()> + Send + '_>> {
        Box::pin(self.removed())
    }
}

impl Refusal {
    /// 403, or 503 while nobody knows; the connection ends.
    pub(super) fn answer(&self) -> Response<Body> {
        let (status, message) = match self {
            Self::Bad(bad) => (StatusCode::FORBIDDEN, bad.to_string()),
            Self::Refused(refused @ Refused::Removed(_)) => (StatusCode::FORBIDDEN, refused.to_string()),
            Self::Refused(refused @ Refused::Unknown) => (StatusCode::SERVICE_UNAVAILABLE, refused.to_string()),
        };
        let mut response = Response::new(transport::full(format!("{}\n", json!({ "message": message }))));
        *response.status_mut() = status;
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
        response
    }
}
