//! Real engines open a store that we wrote and find in it what they would have loaded. Needs root: an engine does.

#[path = "engine_store/engine.rs"]
mod engine;
#[path = "engine_store/folder.rs"]
mod folder;
#[path = "engine_store/images.rs"]
mod images;
#[path = "engine_store/judge.rs"]
mod judge;
#[path = "engine_store/volume.rs"]
mod volume;

use std::{
    fs::{self, File},
    io::Read,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    sync::OnceLock,
};

use engine::Engine;
use flate2::{Compression, read::GzDecoder, write::GzEncoder};
use folder::Folder;
use hcl_image::{engine_store, oci::ContainerImage};
use judge::{Heard, Layers};
use tempfile::TempDir;
use volume::Volume;

const EPOCH: i64 = 1_700_000_000;
/// The image with one of everything.
const EVERYTHING: &str = "hcl/everything:1.2";

/// Images, and what an engine makes of them that has loaded them.
struct World {
    _folder: TempDir,
    images: Vec<ContainerImage>,
    heard: Heard,
    layers: Layers,
}

fn world() -> &'static World {
    static WORLD: OnceLock<World> = OnceLock::new();
    WORLD.get_or_init(|| {
        let folder = tempfile::tempdir().unwrap();
        let images = images::three(folder.path());
        let data = folder.path().join("data");
        let engine = Engine::start(&folder.path().join("engine"), &data).unwrap();
        load(&engine, &images, folder.path());
        let layers = judge::layers(&data);
        let heard = judge::hear(&engine, folder.path()).unwrap();
        assert!(heard.0[EVERYTHING].found.as_ref().unwrap().contains("etc/top"), "{heard:#?}");
        World { _folder: folder, images, heard, layers }
    })
}

/// The store of `images` below `folder`; where it is.
fn seeded(folder: &Path, images: &[ContainerImage]) -> PathBuf {
    engine_store::write(images, &mut Folder(folder.to_owned()), EPOCH).unwrap();
    folder.join("var/lib/docker")
}

/// Loads `images` into `engine` as `docker load` takes them.
fn load(engine: &Engine, images: &[ContainerImage], work: &Path) {
    for image in images {
        let path = work.join("bundle.tar");
        std::io::copy(&mut engine_store::bundle(image).unwrap(), &mut File::create(&path).unwrap()).unwrap();
        engine.docker(&["load", "-i", path.to_str().unwrap()]);
    }
}

/// An engine on the store in `data` says of it what one says that loaded the same, and can remove it and load it again.
fn judged(data: &Path, work: &Path) {
    let World { images, heard, layers, .. } = world();
    // First, before the engine changes anything: the same files, and the same knowledge of them.
    let ours = judge::layers(data);
    assert_eq!(ours.keys().collect::<Vec<_>>(), layers.keys().collect::<Vec<_>>());
    for (chain, theirs) in layers {
        assert_eq!(ours[chain].facts, theirs.facts, "{chain}");
        assert!(ours[chain].split == theirs.split, "tar-split of {chain} differs");
        assert_eq!(ours[chain].files, theirs.files, "{chain}");
    }

    let engine = Engine::start(&work.join("engine"), data).unwrap();
    let log = engine.log();
    assert!(!log.contains("level=error"), "{log}");
    assert_eq!(judge::hear(&engine, work).unwrap(), *heard);
    for image in images {
        let id = engine.docker(&["image", "inspect", "--format", "{{.Id}}", &image.reference]);
        assert_eq!(id.trim(), format!("sha256:{}", image.id()));
    }
    // Removed to the last file, and taken in again.
    for image in images {
        engine.docker(&["rmi", &image.reference]);
    }
    let left = |folder: &str| -> Vec<_> {
        let names = data.join(folder).read_dir().unwrap().map(|entry| entry.unwrap().file_name());
        names.filter(|name| name != "l" && name != "backingFsBlockDev").collect()
    };
    for folder in ["overlay2", "overlay2/l", "image/overlay2/layerdb/sha256", "image/overlay2/imagedb/content/sha256"] {
        assert!(left(folder).is_empty(), "{folder}: {:?}", left(folder));
    }
    load(&engine, images, work);
    assert_eq!(judge::hear(&engine, work).unwrap(), *heard);
}

#[test]
fn an_engine_finds_what_it_would_have_loaded() {
    let folder = tempfile::tempdir().unwrap();
    let data = seeded(&folder.path().join("root"), &world().images);
    judged(&data, folder.path());
}

#[test]
fn and_so_it_does_in_the_file_system_of_an_image() {
    let folder = tempfile::tempdir().unwrap();
    let written = folder.path().join("written");
    seeded(&written, &world().images);
    let volume = Volume::new(folder.path(), &world().images, EPOCH);
    // Permissions and owners of the store itself too.
    let expected = folder::tree(&written.join("var"));
    let found = folder::tree(&volume.path().join("var"));
    assert_eq!(found, expected);
    judged(&volume.path().join("var/lib/docker"), folder.path());
}

#[test]
fn the_same_images_give_the_same_bytes_and_are_written_once() {
    let folder = tempfile::tempdir().unwrap();
    let images = &world().images;
    let trees = ["a", "b"].map(|name| {
        let path = folder.path().join(name);
        let written = engine_store::write(images, &mut Folder(path.clone()), EPOCH).unwrap();
        assert_eq!((written.images, written.layers, written.shared), (3, 6, 1));
        let again = engine_store::write(images, &mut Folder(path.clone()), EPOCH).unwrap();
        assert_eq!((again.images, again.layers, again.shared), (3, 0, 7));
        folder::tree(&path)
    });
    assert_eq!(trees[0], trees[1]);
    // One image after the other is the same as all at once.
    let path = folder.path().join("c");
    for image in images {
        seeded(&path, std::slice::from_ref(image));
    }
    assert_eq!(folder::tree(&path), trees[0]);
}

/// What the card's own script does where the manifest says `engine.preload = "load"`.
#[test]
fn archives_are_loaded_and_removed() {
    let folder = tempfile::tempdir().unwrap();
    let archives = folder.path().join("archives");
    fs::create_dir(&archives).unwrap();
    for image in &world().images {
        let name = engine_store::bundle_path(image).unwrap();
        assert_eq!(name.parent(), Some(Path::new("/usr/lib/hcl/images")));
        let mut to = File::create_new(archives.join(name.file_name().unwrap())).unwrap();
        std::io::copy(&mut engine_store::bundle(image).unwrap(), &mut to).unwrap();
    }
    // One that cannot be loaded keeps none of the others back.
    fs::write(archives.join("a-broken-one.tar"), "no archive").unwrap();
    let engine = Engine::start(&folder.path().join("engine"), &folder.path().join("data")).unwrap();
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../overlays/common/usr/lib/hcl/load-images");
    let run = || std::process::Command::new(&script).arg(&archives).env("DOCKER_HOST", engine.address()).output().unwrap();
    let output = run();
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("a-broken-one.tar could not be loaded into the engine"), "{said}");
    let left: Vec<_> = archives.read_dir().unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(left, ["a-broken-one.tar"]);
    assert_eq!(judge::hear(&engine, folder.path()).unwrap(), world().heard);
    fs::remove_file(archives.join("a-broken-one.tar")).unwrap();
    assert_eq!(run().status.code(), Some(0));
}

/// Paths in a store of the image with one of everything.
struct Broken {
    data: PathBuf,
    /// The layers' folders of the driver and of the database, lowest first.
    driver: Vec<PathBuf>,
    known: Vec<PathBuf>,
}

impl Broken {
    fn edit_split(&self, edit: impl FnOnce(String) -> String) {
        let path = self.known[0].join("tar-split.json.gz");
        let mut text = String::new();
        GzDecoder::new(File::open(&path).unwrap()).read_to_string(&mut text).unwrap();
        let changed = edit(text.clone());
        assert_ne!(changed, text);
        let mut gzip = GzEncoder::new(File::create(&path).unwrap(), Compression::fast());
        std::io::Write::write_all(&mut gzip, changed.as_bytes()).unwrap();
        gzip.finish().unwrap();
    }
}

/// What is broken, and how.
type Case = (&'static str, fn(&Broken));

const CASES: [Case; 14] = [
    ("the configuration has another digest", |store| {
        let folder = store.data.join("image/overlay2/imagedb/content/sha256");
        let path = folder.read_dir().unwrap().next().unwrap().unwrap().path();
        let text = fs::read_to_string(&path).unwrap();
        fs::write(path, text.replace("PATH=/bin", "PATH=/sbi")).unwrap();
    }),
    ("the name leads to another image", |store| {
        let path = store.data.join("image/overlay2/repositories.json");
        let text = fs::read_to_string(&path).unwrap();
        fs::write(path, text.replace("everything:1.2", "everything:1.3")).unwrap();
    }),
    ("a checksum in tar-split is wrong", |store| {
        store.edit_split(|text| text.replacen("\"payload\":\"", "\"payload\":\"AAAAAAAAAAA=\",\"was\":\"", 2));
    }),
    ("a header in tar-split is missing", |store| {
        store.edit_split(|text| text.lines().skip(1).map(|line| format!("{line}\n")).collect());
    }),
    ("tar-split is missing", |store| fs::remove_file(store.known[0].join("tar-split.json.gz")).unwrap()),
    ("a file has another content", |store| fs::write(store.driver[0].join("diff/etc/kept"), "KEPT").unwrap()),
    ("a short name is missing", |store| {
        let link = fs::read_to_string(store.driver[1].join("link")).unwrap();
        fs::remove_file(store.data.join("overlay2/l").join(link)).unwrap();
    }),
    ("`lower` is missing", |store| fs::remove_file(store.driver[3].join("lower")).unwrap()),
    ("`work` is missing", |store| fs::remove_dir(store.driver[3].join("work")).unwrap()),
    ("`parent` is missing", |store| fs::remove_file(store.known[3].join("parent")).unwrap()),
    ("a removed file is there", |store| fs::remove_file(store.driver[1].join("diff/etc/gone")).unwrap()),
    ("a folder is not opaque", |store| {
        rustix::fs::lremovexattr(store.driver[1].join("diff/opaque"), "trusted.overlay.opaque").unwrap();
    }),
    ("setuid is gone", |store| {
        fs::set_permissions(store.driver[0].join("diff/bin/setuid"), fs::Permissions::from_mode(0o755)).unwrap();
    }),
    ("the size is wrong", |store| fs::write(store.known[0].join("size"), "1").unwrap()),
];

#[test]
fn the_judge_says_no() {
    let image = &world().images[..1];
    let folder = tempfile::tempdir().unwrap();
    let hear = |name: &str, change: &dyn Fn(&Broken)| {
        let work = folder.path().join(name);
        let data = seeded(&work.join("root"), image);
        let diff_ids: Vec<_> = image[0].layers.iter().map(|layer| layer.diff_id).collect();
        let chain = engine_store::ChainId::all(&diff_ids);
        let known: Vec<_> =
            chain.iter().map(|chain| data.join(format!("image/overlay2/layerdb/sha256/{}", chain.digest()))).collect();
        let driver = known.iter().map(|known| data.join("overlay2").join(fs::read_to_string(known.join("cache-id")).unwrap()));
        change(&Broken { driver: driver.collect(), known, data: data.clone() });
        let engine = Engine::start(&work.join("engine"), &data)?;
        judge::hear(&engine, &work)
    };
    let right = hear("right", &|_| ()).unwrap();
    for (number, (what, change)) in CASES.iter().enumerate() {
        if let Ok(heard) = hear(&number.to_string(), change) {
            assert!(heard != right, "the judge does not see that {what}");
        }
    }
}

/// `cargo test --release -p hcl-image --test engine_store -- --ignored --nocapture`
#[test]
#[ignore = "figures"]
fn seconds_for_one_large_program() {
    let folder = tempfile::tempdir().unwrap();
    let images = [images::large(folder.path(), 60 << 20, 400)];
    let _volume = Volume::new(folder.path(), &images, EPOCH);
    let engine = Engine::start(&folder.path().join("engine"), &folder.path().join("data")).unwrap();
    let start = std::time::Instant::now();
    load(&engine, &images, folder.path());
    println!("docker load on this machine: {:.2} s", start.elapsed().as_secs_f64());
}
