//! An image in a registry (OCI distribution specification 1.1; Docker Registry HTTP API v2): asked by digest, without a login or
//! with the anonymous token that the registry hands out. Whatever comes is verified by its digest.

use std::{
    io::Read,
    sync::{Arc, Mutex, PoisonError},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail, ensure};
use serde::Deserialize;

use super::{
    challenge::Challenge,
    layers::{self, Finished},
};
use crate::{
    cache::Cache,
    manifest::OciRegistry,
    oci::{
        config::Platform,
        manifest::{Document, Image},
    },
    progress::Reporter,
    source::download::{Authority, Downloads, Origin, Patience, Request, Told, Worth, ask},
    units::{Bytes, Digest},
};

/// Manifests and configurations are read into memory: they are a few KiB.
const LARGEST_DOCUMENT: u64 = 4 << 20;
/// What we understand.
const ACCEPT: &str = "application/vnd.oci.image.index.v1+json, application/vnd.docker.distribution.manifest.list.v2+json, \
                      application/vnd.oci.image.manifest.v1+json, application/vnd.docker.distribution.manifest.v2+json";
/// How long a token is good that does not say it (the specification's own default).
const TOKEN_LIFE: Duration = Duration::from_secs(60);
/// A token that ends sooner is not used any more.
const TOKEN_REST: Duration = Duration::from_secs(10);

/// The image, with its layers in the cache.
///
/// # Errors
///
/// The registry does not answer, wants a login, has no such image or none for `platform`, or sends something else.
pub fn image(source: &OciRegistry, platform: Platform, cache: &Cache, reporter: &Reporter) -> Result<Finished> {
    let (host, name, digest) = source.image.parts();
    let scheme = if source.plain_http { "http" } else { "https" };
    let registry = Arc::new(Registry {
        base: format!("{scheme}://{host}/v2/{name}"),
        name: name.to_owned(),
        patience: Patience::default(),
        token: Mutex::new(None),
    });
    let document = Document::parse(&registry.document("manifests", &digest)?)?;
    let image = Image::find(document, platform, |descriptor| registry.document("manifests", &descriptor.digest))?;
    let config = registry.document("blobs", &image.config.digest)?;
    let ids = layers::expected(&config, image.layers.len(), platform)?;
    let downloads = Downloads::new(cache, reporter).authorised(registry.clone());
    let mut kept = Vec::new();
    for (diff_id, blob) in ids.iter().zip(&image.layers) {
        let layer = match layers::kept(diff_id, cache)? {
            Some(layer) => layer,
            None => {
                let origin = Origin::parse(&format!("{}/blobs/sha256:{}", registry.base, blob.digest))?;
                let request = Request { origin, sha256: blob.digest, size: Some(Bytes(blob.size)) };
                let entry = downloads.file(&request)?;
                let mut file = std::fs::File::open(&entry.path).with_context(|| format!("opening {}", entry.path.display()))?;
                layers::keep(diff_id, &mut file, cache, reporter)?
            }
        };
        kept.push(layer);
    }
    Ok(Finished { config, layers: kept })
}

#[derive(Debug)]
struct Registry {
    /// `https://HOST/v2/NAME`.
    base: String,
    name: String,
    patience: Patience,
    token: Mutex<Option<Token>>,
}

/// What the registry wants to see with every request.
#[derive(Clone, Debug)]
struct Token {
    challenge: Challenge,
    text: Secret,
    until: Instant,
}

/// Not for logs.
#[derive(Clone)]
struct Secret(String);

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("a token")
    }
}

/// What a token server answers.
#[derive(Deserialize)]
struct Granted {
    token: Option<String>,
    access_token: Option<String>,
    expires_in: Option<u64>,
}

impl Registry {
    /// A manifest or a blob that is a document, whose bytes are those of its digest.
    fn document(&self, kind: &str, digest: &Digest) -> Result<Vec<u8>> {
        let url = format!("{}/{kind}/sha256:{digest}", self.base);
        let bytes = self.get(&url, ACCEPT).with_context(|| format!("asking the registry for {kind}/sha256:{digest}"))?;
        let found = Digest::of(&bytes);
        ensure!(found == *digest, "the registry sends something else: SHA-256 {found} where {digest} was asked for");
        Ok(bytes)
    }

    /// Asks, and asks again with a token where the registry wants one.
    fn get(&self, url: &str, accept: &str) -> Result<Vec<u8>> {
        for last in [false, true] {
            let mut answer = self.patiently(url, accept, self.authorization()?.as_deref())?;
            match answer.status {
                200 => {
                    let mut bytes = Vec::new();
                    (&mut answer.body).take(LARGEST_DOCUMENT + 1).read_to_end(&mut bytes).context("reading the answer")?;
                    ensure!(bytes.len() as u64 <= LARGEST_DOCUMENT, "the answer is larger than {}", Bytes(LARGEST_DOCUMENT));
                    return Ok(bytes);
                }
                401 if !last => {
                    let challenge = answer.challenge.context("the registry wants a login and does not say which")?;
                    self.obtain(Challenge::parse(&challenge)?)?;
                }
                401 | 403 => bail!(
                    "the registry does not give it out without a login, which is not supported: save it to a file, and use `archive`"
                ),
                404 => bail!("the registry has no such image: {}", self.name),
                status => bail!("the registry answered {status}"),
            }
        }
        bail!("the registry does not take the token that it hands out")
    }

    /// One answer, whatever it is, in a few attempts where the network is to blame.
    fn patiently(&self, url: &str, accept: &str, authorization: Option<&str>) -> Result<Told> {
        let mut pause = self.patience.pause;
        for attempt in 0..=self.patience.retries {
            match ask(url, accept, authorization, &self.patience) {
                Ok(answer) => return Ok(answer),
                Err((text, worth)) => {
                    let most = match worth {
                        Worth::Nothing => 0,
                        Worth::Little => 1,
                        Worth::Much => self.patience.retries,
                    };
                    ensure!(attempt < most, "{text}");
                    thread::sleep(pause);
                    pause *= 2;
                }
            }
        }
        bail!("no answer")
    }

    /// What goes into the header, a fresh token where the last one has ended.
    fn authorization(&self) -> Result<Option<String>> {
        let token = self.token.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let Some(token) = token else { return Ok(None) };
        if Instant::now() + TOKEN_REST < token.until {
            return Ok(Some(format!("Bearer {}", token.text.0)));
        }
        let text = self.obtain(token.challenge)?;
        Ok(Some(format!("Bearer {text}")))
    }

    /// Asks for a token as the challenge says, for reading this repository and nothing else.
    fn obtain(&self, challenge: Challenge) -> Result<String> {
        let url = challenge.url(&format!("repository:{}:pull", self.name));
        let mut answer =
            self.patiently(&url, "application/json", None).with_context(|| format!("asking {} for a token", challenge.realm))?;
        ensure!(answer.status == 200, "{} gives no token without a login (it answered {})", challenge.realm, answer.status);
        let mut bytes = Vec::new();
        (&mut answer.body).take(LARGEST_DOCUMENT).read_to_end(&mut bytes).context("reading a token")?;
        let granted: Granted = serde_json::from_slice(&bytes).context("reading a token")?;
        let text = granted.token.or(granted.access_token).context("the answer to the question for a token has none")?;
        ensure!(text.bytes().all(|byte| byte.is_ascii_graphic()), "the token is none");
        let life = granted.expires_in.map_or(TOKEN_LIFE, Duration::from_secs).min(Duration::from_secs(3600));
        let token = Token { challenge, text: Secret(text.clone()), until: Instant::now() + life };
        *self.token.lock().unwrap_or_else(PoisonError::into_inner) = Some(token);
        Ok(text)
    }
}

impl Authority for Registry {
    fn authorization(&self) -> Result<Option<String>> {
        Self::authorization(self)
    }
}
