//! What a build of each shipped manifest will do, as `hcl-image plan` prints it, kept in `tests/plans/`.
//!
//! `HCL_UPDATE=1 cargo test -p hcl-image --test plan` writes them anew; the difference belongs into the commit.

use std::path::{Path, PathBuf};

use hcl_image::{
    manifest::Manifest,
    plan::{Inputs, PackageSources, Plan},
    source::overlay,
    units::Digest,
};

const EPOCH: u64 = 1_700_000_000;

fn plan(manifest: &Path) -> String {
    let manifest = Manifest::load(manifest, &[]).unwrap();
    let overlays =
        manifest.overlays.iter().map(|folder| (folder.written.clone(), overlay::read(&folder.path, EPOCH).unwrap().0)).collect();
    let inputs = Inputs {
        node_program: PathBuf::from("hcl-firstboot-armhf"),
        node_program_digest: Digest::of(b"node"),
        overlays,
        cluster_key: Some(PathBuf::from("keys/lab/cluster.key")),
        ssh_keys: vec!["ssh-ed25519 AAAA test".to_owned()],
        package_sources: Some(PackageSources {
            mirror: "http://mirror.invalid/debian".to_owned(),
            security: None,
            codename: "trixie".to_owned(),
            components: vec!["main".to_owned()],
        }),
        epoch: EPOCH,
    };
    Plan::new(&manifest, &inputs).to_string()
}

#[test]
fn the_plan_of_each_shipped_manifest_is_the_kept_one() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/plans");
    let mut seen = 0;
    for entry in std::fs::read_dir("../manifests").unwrap() {
        let path = entry.unwrap().path();
        let kept = folder.join(path.file_stem().unwrap()).with_extension("txt");
        let now = plan(&path);
        seen += 1;
        if std::env::var_os("HCL_UPDATE").is_some() {
            std::fs::create_dir_all(&folder).unwrap();
            std::fs::write(&kept, now).unwrap();
            continue;
        }
        let then = std::fs::read_to_string(&kept).unwrap_or_else(|error| panic!("{}: {error}", kept.display()));
        assert!(then == now, "{}: the plan has changed; HCL_UPDATE=1 writes it anew. Now:\n{now}", path.display());
    }
    assert!(seen >= 2, "the shipped manifests are not where they were");
}
