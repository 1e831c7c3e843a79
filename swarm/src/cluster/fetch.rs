//! Asking an engine for what is on it.

use std::{collections::VecDeque, sync::Arc};

use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde::Deserialize;
use serde_json::{json, value::RawValue};
use tokio::task::JoinSet;

use super::{
    Container, Details, Engine, Image, Info, Network, Volume,
    listing::{Entry, Listed},
    snapshot::or_default,
};
use crate::transport::{Client, Error};

/// How many containers are inspected at a time when all are.
const INSPECTIONS: usize = 4;

impl Engine {
    /// Takes in what the engine is.
    ///
    /// # Errors
    ///
    /// It does not say.
    pub async fn refresh_info(&self) -> Result<(), Error> {
        #[derive(Deserialize)]
        #[serde(rename_all = "PascalCase")]
        struct Versions {
            #[serde(default)]
            api_version: String,
            #[serde(rename = "MinAPIVersion", default)]
            min_api_version: String,
        }
        let mut info: Info = self.client().read("/info").await?;
        let versions: Versions = self.client().read("/version").await?;
        (info.api_version, info.min_api_version) = (versions.api_version, versions.min_api_version);
        self.change(|snapshot| snapshot.info = Some(Arc::new(info)));
        Ok(())
    }

    /// Takes in which images it has.
    ///
    /// # Errors
    ///
    /// It does not say.
    pub async fn refresh_images(&self) -> Result<(), Error> {
        let images = entries::<Image>(self.client(), "/images/json").await?;
        self.change(|snapshot| snapshot.images = images);
        Ok(())
    }

    /// Takes in which networks it has.
    ///
    /// # Errors
    ///
    /// It does not say.
    pub async fn refresh_networks(&self) -> Result<(), Error> {
        let networks = entries::<Network>(self.client(), "/networks").await?;
        self.change(|snapshot| snapshot.networks = networks);
        Ok(())
    }

    /// Takes in which volumes it has.
    ///
    /// # Errors
    ///
    /// It does not say.
    pub async fn refresh_volumes(&self) -> Result<(), Error> {
        #[derive(Deserialize)]
        #[serde(rename_all = "PascalCase")]
        struct List {
            #[serde(default, deserialize_with = "or_default")]
            volumes: Vec<Box<RawValue>>,
        }
        let List { volumes } = self.client().read("/volumes").await?;
        let volumes = shared::<Volume>(self.client(), "/volumes", volumes)?;
        self.change(|snapshot| snapshot.volumes = volumes);
        Ok(())
    }

    /// Takes in all containers. Those whose state is the known one are not inspected again.
    ///
    /// # Errors
    ///
    /// It does not say.
    pub async fn refresh_containers(&self) -> Result<(), Error> {
        let ticket = self.table().ticket();
        let listed = read::<Listed>(self.client(), "/containers/json?all=1").await?;
        let mut all = Vec::with_capacity(listed.len());
        let mut unknown = VecDeque::new();
        for listed in listed {
            match self.known_details(&listed) {
                Some(details) => all.push(Arc::new(listed.with(details))),
                None => unknown.push_back(listed),
            }
        }
        let mut inspections = JoinSet::new();
        loop {
            while inspections.len() < INSPECTIONS {
                let Some(listed) = unknown.pop_front() else { break };
                let client = self.client().clone();
                inspections.spawn(async move { inspected(&client, listed).await });
            }
            // One that panicked or was ended has no answer, as one that is gone.
            let Some(done) = inspections.join_next().await else { break };
            if let Ok(done) = done {
                all.extend(done?);
            }
        }
        self.table().put_all(ticket, all);
        self.publish_containers();
        Ok(())
    }

    /// Takes in how the container `id` is now, or that it is no more; what only an inspection tells stays as known unless `inspect`.
    ///
    /// # Errors
    ///
    /// The engine does not say.
    pub async fn refresh_container(&self, id: &str, inspect: bool) -> Result<(), Error> {
        let ticket = self.table().ticket();
        let filter = json!({ "id": [id] }).to_string();
        let path = format!("/containers/json?all=1&filters={}", utf8_percent_encode(&filter, NON_ALPHANUMERIC));
        let listed = read::<Listed>(self.client(), &path).await?.into_iter().find(|listed| listed.fields.id == id);
        let container = match listed {
            None => None,
            Some(listed) => match self.known_details(&listed).filter(|_| !inspect) {
                Some(details) => Some(Arc::new(listed.with(details))),
                None => inspected(self.client(), listed).await?,
            },
        };
        if self.table().put(ticket, id, container) {
            self.publish_containers();
        }
        Ok(())
    }

    fn known_details(&self, listed: &Listed) -> Option<Details> {
        let table = self.table();
        let known = table.find(&listed.fields.id).filter(|known| known.state == listed.fields.state)?;
        Some(known.details.clone())
    }

    fn publish_containers(&self) {
        // Held over both, so that no older list overtakes.
        let table = self.table();
        let containers = table.list();
        self.change(|snapshot| snapshot.containers = containers);
    }
}

/// The container with what an inspection tells; none if it is gone by now.
async fn inspected(client: &Client, listed: Listed) -> Result<Option<Arc<Container>>, Error> {
    match client.read::<Details>(&format!("/containers/{}/json", listed.fields.id)).await {
        Ok(details) => Ok(Some(Arc::new(listed.with(details)))),
        Err(error) if error.refusal().is_some_and(|(status, _)| status == http::StatusCode::NOT_FOUND) => Ok(None),
        Err(error) => Err(error),
    }
}

async fn entries<T: Entry>(client: &Client, path: &str) -> Result<Arc<[Arc<T>]>, Error> {
    let raw = client.read::<Option<Vec<Box<RawValue>>>>(path).await?.unwrap_or_default();
    shared(client, path, raw)
}

async fn read<T: Entry>(client: &Client, path: &str) -> Result<Vec<T>, Error> {
    let raw = client.read::<Option<Vec<Box<RawValue>>>>(path).await?.unwrap_or_default();
    raw.into_iter().map(|raw| T::read(raw).map_err(|error| client.odd(path, error))).collect()
}

fn shared<T: Entry>(client: &Client, path: &str, raw: Vec<Box<RawValue>>) -> Result<Arc<[Arc<T>]>, Error> {
    raw.into_iter().map(|raw| T::read(raw).map(Arc::new).map_err(|error| client.odd(path, error))).collect()
}
