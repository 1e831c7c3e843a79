//! Asking all engines at once.

use std::{future::Future, sync::Arc};

use bytes::Bytes;
use http::{Method, Request, StatusCode};
use serde::de::DeserializeOwned;
use tokio::task::JoinSet;

use super::{refusal::Refusal, stream::whole};
use crate::{
    cluster::{Cluster, Engine},
    transport::{self, Error},
};

/// How much of an answer is taken in.
const ANSWER_BYTES: usize = 32 << 20;

/// The engines that answer.
pub fn healthy(cluster: &Cluster) -> Vec<Arc<Engine>> {
    cluster.engines().into_iter().filter(|engine| engine.snapshot().is_healthy()).collect()
}

/// As [`healthy`], at least one.
///
/// # Errors
///
/// 503 where none answers.
pub fn some_healthy(cluster: &Cluster) -> Result<Vec<Arc<Engine>>, Refusal> {
    let engines = healthy(cluster);
    match engines.is_empty() {
        true => Err(Refusal::unavailable("no node of the cluster answers")),
        false => Ok(engines),
    }
}

/// The engines that answer, the master's first.
///
/// # Errors
///
/// 503 where none answers.
pub fn master_first(cluster: &Cluster) -> Result<Vec<Arc<Engine>>, Refusal> {
    let mut engines = some_healthy(cluster)?;
    engines.sort_by_key(|engine| !cluster.is_master(engine));
    Ok(engines)
}

/// Asks each of `engines` at the same time; the answers are in their order. Dropping the future ends all of it.
pub async fn all<T, F>(engines: Vec<Arc<Engine>>, ask: impl Fn(Arc<Engine>) -> F) -> Vec<(Arc<Engine>, T)>
where
    T: Send + 'static,
    F: Future<Output = T> + Send + 'static,
{
    let mut asked = JoinSet::new();
    for (index, engine) in engines.iter().enumerate() {
        let answer = ask(Arc::clone(engine));
        asked.spawn(async move { (index, answer.await) });
    }
    let mut answers: Vec<Option<T>> = engines.iter().map(|_| None).collect();
    while let Some(joined) = asked.join_next().await {
        // One that panicked has no answer; nothing here aborts one.
        if let Ok((index, answer)) = joined {
            answers[index] = Some(answer);
        }
    }
    engines.into_iter().zip(answers).filter_map(|(engine, answer)| Some((engine, answer?))).collect()
}

/// What the engines said, without those that did not answer. One that refused speaks for all: it was asked something wrong.
///
/// # Errors
///
/// An engine refused; or none answered.
pub fn agreed<T>(answers: Vec<(Arc<Engine>, Result<T, Error>)>) -> Result<Vec<(Arc<Engine>, T)>, Refusal> {
    let mut agreed = Vec::with_capacity(answers.len());
    let mut lost = None;
    for (engine, answer) in answers {
        match answer {
            Ok(answer) => agreed.push((engine, answer)),
            Err(error) if error.refusal().is_some() => return Err(error.into()),
            Err(error) => lost = Some(error),
        }
    }
    match lost {
        Some(error) if agreed.is_empty() => Err(error.into()),
        _ => Ok(agreed),
    }
}

/// Asks one engine for something that may take its time, such as deleting, and takes the whole answer, of at most 32 MiB.
///
/// # Errors
///
/// The engine does not answer, or not whole. What it refuses is an answer.
pub async fn patient(engine: &Engine, method: Method, target: &str) -> Result<(StatusCode, Bytes), Refusal> {
    let mut request = Request::new(transport::empty());
    *request.method_mut() = method;
    *request.uri_mut() = target.parse().map_err(|_| Refusal::bad_request("the path has characters that no path has"))?;
    let response = engine.client().send(request).await?;
    let status = response.status();
    let cut = |error| Refusal::failed(format!("{}: the engine's answer: {error}", engine.name));
    Ok((status, whole(response.into_body(), ANSWER_BYTES).await.map_err(cut)?))
}

/// As [`patient`], for an answer that is read here.
///
/// # Errors
///
/// As [`patient`]; the engine refused, with its node's name; or it said something else than was expected.
pub async fn told<T: DeserializeOwned>(engine: &Engine, method: Method, target: &str) -> Result<T, Refusal> {
    let (status, bytes) = patient(engine, method, target).await?;
    if !status.is_success() {
        let answer = serde_json::from_slice(&bytes).unwrap_or_default();
        return Err(Refusal::of_engine(status, &answer).by_node(&engine.name));
    }
    serde_json::from_slice(&bytes).map_err(|error| Refusal::failed(format!("{}: the engine's answer: {error}", engine.name)))
}

/// One answer of many, for something that several nodes have. A node that does not have it after all does not count, unless none has.
///
/// # Errors
///
/// A node refused, with its name where it was not the only one; or none has it.
pub fn settle<T>(answers: Vec<(String, Result<T, Refusal>)>) -> Result<Vec<T>, Refusal> {
    let alone = answers.len() == 1;
    let (mut done, mut missing, mut failed) = (Vec::new(), None, None);
    for (node, answer) in answers {
        match answer {
            Ok(answer) => done.push(answer),
            Err(refusal) if refusal.status() == StatusCode::NOT_FOUND => missing = Some(refusal),
            Err(refusal) => failed = failed.or(Some(if alone { refusal } else { refusal.by_node(&node) })),
        }
    }
    match (failed, missing) {
        (Some(refusal), _) => Err(refusal),
        (None, Some(refusal)) if done.is_empty() => Err(refusal),
        _ => Ok(done),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_answer_of_many() {
        let ok = |node: &str| (node.to_owned(), Ok(()));
        let no = |node: &str, status| (node.to_owned(), Err(Refusal::new(status, "no")));
        assert_eq!(settle(vec![ok("a"), ok("b")]).map(|done| done.len()), Ok(2));
        assert_eq!(settle(vec![ok("a"), no("b", StatusCode::NOT_FOUND)]).map(|done| done.len()), Ok(1));
        assert_eq!(settle(vec![no("a", StatusCode::NOT_FOUND), no("b", StatusCode::NOT_FOUND)]), Err(Refusal::not_found("no")));
        assert_eq!(settle(vec![ok("a"), no("b", StatusCode::CONFLICT)]), Err(Refusal::conflict("b: no")));
        assert_eq!(settle(vec![no("a", StatusCode::CONFLICT)]), Err(Refusal::conflict("no")));
    }
}
