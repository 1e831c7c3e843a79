//! `hcl-image key`.

use std::path::PathBuf;

use crate::{
    keys::{self, Laid},
    manifest::ClusterName,
    progress::{Mode, Reporter},
};

/// Arguments of `key`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Raw image file or a card's device
    image: PathBuf,
    /// The cluster whose key it gets, instead of the one that the image names
    #[arg(long, value_name = "NAME", value_parser = cluster)]
    cluster: Option<ClusterName>,
    /// Folder of the clusters' keys, instead of the one in your configuration folder
    #[arg(long, value_name = "DIR")]
    keys: Option<PathBuf>,
}

pub(super) fn cluster(name: &str) -> Result<ClusterName, String> {
    name.parse()
        .map_err(|_| "a cluster's name has 1 to 32 lower-case letters, digits and hyphens, no hyphen at an end".to_owned())
}

/// Runs `key`.
///
/// # Errors
///
/// As [`keys::lay`].
pub fn run(args: Args, reporter: &Reporter) -> anyhow::Result<()> {
    let laid = keys::lay(&args.image, args.cluster.clone(), args.keys.as_deref(), reporter)?;
    match reporter.mode() {
        Mode::Json => reporter.emit(&serde_json::json!({
            "event": "key-laid", "image": args.image, "cluster": laid.name.to_string(), "cluster_id": laid.key.id().to_string(),
            "replaced": laid.replaced.map(|id| id.to_string()), "login": laid.login.as_ref().map(|(user, _)| user),
        })),
        Mode::Text => eprintln!("{}", text(&args, &laid)),
        Mode::Quiet => {}
    }
    Ok(())
}

fn text(args: &Args, laid: &Laid) -> String {
    let mut lines = Vec::new();
    let mut line = |key: &str, value: String| lines.push(format!("  {key:<10} {value}"));
    line("image", args.image.display().to_string());
    line("cluster", format!("{}, id {}", laid.name, laid.key.id()));
    line("key", format!("{}kept in {}", if laid.key.made() { "new, " } else { "" }, laid.key.path().display()));
    match laid.replaced {
        Some(id) if id == laid.key.id() => line("", "It was there before.".to_owned()),
        Some(id) => line("", format!("In place of the key of {id}, which was overwritten.")),
        None => {}
    }
    line("", "Whoever can read the image or the card can join the cluster.".to_owned());
    if laid.has_run && laid.replaced != Some(laid.key.id()) {
        line("", "The card has run before: it joins the cluster as a new node, and keeps its containers and files.".to_owned());
    }
    if let Some((user, pair)) = &laid.login {
        let new = if pair.made() { "a new key pair, kept in" } else { "the key pair in" };
        line("login", format!("{user}, with {new} {}", pair.private_path().display()));
    }
    for side in &laid.sides {
        line("made anew", side.display().to_string());
    }
    for copy in &laid.copies {
        line("as it was", copy.display().to_string());
    }
    lines.join("\n")
}
