//! The engine's image store: what is preloaded is whole.

use crate::{
    check::Evidence,
    engine_store::{ChainId, StoredLayer, Survey},
};

/// What to do about a store that is not whole.
const AGAIN: &str = "build the image again";

fn survey(evidence: &Evidence) -> Option<&Survey> {
    evidence.system()?.store.as_ref()
}

/// `judge`'s words on each layer of the store, with the layer's name in front.
fn layers(evidence: &Evidence, judge: impl Fn(&Survey, ChainId, &StoredLayer) -> Option<String>) -> Vec<String> {
    let Some(survey) = survey(evidence) else { return Vec::new() };
    let judged = survey.layers.iter().filter_map(|(chain, layer)| {
        let what = judge(survey, *chain, layer)?;
        let names = survey.images.iter().filter(|image| image.chain.as_ref().is_ok_and(|layers| layers.contains(chain)));
        let image = names.map(|image| image.name.as_str()).next().unwrap_or("an image");
        Some(format!("layer {} of {image}: {what}: {AGAIN}", layer.diff_id.short()))
    });
    judged.collect()
}

pub(super) fn images(evidence: &Evidence) -> Vec<String> {
    let Some(survey) = survey(evidence) else { return Vec::new() };
    let broken = survey.images.iter().filter_map(|image| {
        let why = image.chain.as_ref().err()?;
        Some(format!("image {} of the engine's store: {why}: {AGAIN}", image.name))
    });
    let list = survey.problem.iter().map(|why| format!("the names of the preloaded images cannot be read ({why}): {AGAIN}"));
    list.chain(broken).collect()
}

pub(super) fn known(evidence: &Evidence) -> Vec<String> {
    layers(evidence, |_, _, layer| {
        let Some(diff) = &layer.diff else { return Some("it is missing in the engine's store".to_owned()) };
        let parent = layer.below.last().map(|chain| format!("sha256:{}", chain.digest()));
        if *diff != format!("sha256:{}", layer.diff_id) {
            Some(format!("the store has {diff} in its place"))
        } else if layer.parent != parent {
            Some("the layer below it is not the one that the image names".to_owned())
        } else if layer.size.is_none() {
            Some("its size is missing".to_owned())
        } else {
            layer.cache_id.is_none().then(|| "its cache-id is missing".to_owned())
        }
    })
}

pub(super) fn driver(evidence: &Evidence) -> Vec<String> {
    layers(evidence, |survey, _, layer| {
        let cache_id = layer.cache_id.as_ref()?;
        let link = |chain: &ChainId| survey.layers.get(chain).and_then(|layer| layer.link.as_deref()).unwrap_or_default();
        let lower: Vec<String> = layer.below.iter().rev().map(|chain| format!("l/{}", link(chain))).collect();
        if layer.link.is_none() {
            Some("its short name is missing, and no container would start".to_owned())
        } else if layer.leads_to.as_deref() != Some(format!("../{cache_id}/diff").as_str()) {
            Some("its short name does not lead to it, and no container would start".to_owned())
        } else if !lower.is_empty() && layer.lower.as_deref() != Some(lower.join(":").as_str()) {
            Some("`lower` does not name the layers below it, which containers would not see".to_owned())
        } else {
            (!lower.is_empty() && !layer.work).then(|| "its work folder is missing".to_owned())
        }
    })
}

pub(super) fn archives(evidence: &Evidence) -> Vec<String> {
    layers(evidence, |_, _, layer| {
        layer.cache_id.as_ref()?;
        let archive = match &layer.archive {
            Ok(archive) => archive,
            Err(why) => return Some(format!("the engine could not give it out again ({why})")),
        };
        if archive.digest != layer.diff_id {
            Some(format!("what the engine would give out has the digest {}", archive.digest))
        } else if layer.size.is_some_and(|size| size != archive.size) {
            Some(format!("its size is {}, not {}", archive.size, layer.size.unwrap_or_default()))
        } else if !archive.differences.is_empty() {
            Some(format!("its files are not those of its archive: {}", archive.differences.join(", ")))
        } else {
            (archive.more != 0).then(|| format!("it has {} files more than its archive", archive.more))
        }
    })
}
