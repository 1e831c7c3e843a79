use std::io::Write;

use super::*;
use crate::progress::Mode;

fn quiet() -> Reporter {
    Reporter::new(Mode::Quiet)
}

fn open() -> (tempfile::TempDir, Cache) {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let cache = Cache::open(Some(folder.path())).expect("a cache");
    (folder, cache)
}

fn missing(begin: Begin) -> Pending {
    match begin {
        Begin::Missing(pending) => pending,
        Begin::Present(entry) => panic!("{} is there", entry.path.display()),
    }
}

fn names(cache: &Cache, kind: &str) -> Vec<String> {
    let mut names: Vec<String> = fs::read_dir(cache.root().join(kind))
        .expect("the kind's folder")
        .map(|file| file.expect("a file").path().extension().map_or("", |text| text.to_str().expect("text")).to_owned())
        .collect();
    names.sort();
    names
}

#[test]
fn an_entry_is_there_only_after_commit() {
    let (_folder, cache) = open();
    let key = Digest::of(b"key");
    let pending = missing(cache.begin("base", &key, &quiet()).expect("begin"));
    pending.file().expect("a file").write_all(b"hello").expect("room");
    assert!(cache.lookup("base", &key).expect("lookup").is_none());
    let facts = BTreeMap::from([("url".to_owned(), "http://there".to_owned())]);
    pending.commit(Some(Digest::of(b"hello")), facts.clone()).expect("commit");
    let entry = cache.lookup("base", &key).expect("lookup").expect("an entry");
    assert_eq!((entry.size, entry.facts), (Bytes(5), facts));
    assert_eq!(fs::read(&entry.path).expect("readable"), b"hello");
    assert!(matches!(cache.begin("base", &key, &quiet()).expect("begin"), Begin::Present(_)));
    assert!(cache.lookup("other", &key).expect("lookup").is_none());
    cache.verify("base", &key).expect("whole");
    assert_eq!(names(&cache, "base"), ["", "json", "lock"]);
}

#[test]
fn an_entry_that_changed_is_none() {
    let (_folder, cache) = open();
    let key = Digest::of(b"key");
    let pending = missing(cache.begin("base", &key, &quiet()).expect("begin"));
    pending.file().expect("a file").write_all(b"hello").expect("room");
    let entry = pending.commit(Some(Digest::of(b"hello")), BTreeMap::new()).expect("commit");

    // Same size and time, other bytes: only reading all of it tells.
    let modified = fs::metadata(&entry.path).expect("metadata").modified().expect("a time");
    fs::write(&entry.path, b"jello").expect("room");
    File::options().write(true).open(&entry.path).expect("open").set_modified(modified).expect("a time");
    assert!(cache.lookup("base", &key).expect("lookup").is_some());
    let error = cache.verify("base", &key).expect_err("changed").to_string();
    assert!(error.contains(&Digest::of(b"jello").to_string()) && error.contains(&Digest::of(b"hello").to_string()), "{error}");
    assert!(cache.lookup("base", &key).expect("lookup").is_none());

    let pending = missing(cache.begin("base", &key, &quiet()).expect("begin"));
    pending.file().expect("a file").write_all(b"hello").expect("room");
    let entry = pending.commit(None, BTreeMap::new()).expect("commit");
    fs::write(&entry.path, b"hell").expect("room");
    assert!(cache.lookup("base", &key).expect("lookup").is_none());
    drop(missing(cache.begin("base", &key, &quiet()).expect("begin")));
    assert_eq!(names(&cache, "base"), ["lock"]);
}

#[test]
fn what_was_not_finished_goes_and_a_download_stays() {
    let (folder, cache) = open();
    let key = Digest::of(b"key");
    let pending = missing(cache.begin("base", &key, &quiet()).expect("begin"));
    pending.file().expect("a file").write_all(b"hel").expect("room");
    drop(pending);
    assert_eq!(names(&cache, "base"), ["lock"]);

    let pending = missing(cache.begin_download("base", &key, &quiet()).expect("begin"));
    pending.file().expect("a file").write_all(b"hel").expect("room");
    drop(pending);
    let pending = missing(cache.begin_download("base", &key, &quiet()).expect("begin"));
    assert_eq!(pending.file().expect("a file").metadata().expect("metadata").len(), 3);
    drop(pending);
    Cache::open(Some(folder.path())).expect("a cache");
    assert_eq!(names(&cache, "base"), ["download", "lock"]);
}

#[test]
fn opening_sweeps_what_nobody_works_on() {
    let (folder, cache) = open();
    let (dead, alive) = (Digest::of(b"dead"), Digest::of(b"alive"));
    let pending = missing(cache.begin("base", &alive, &quiet()).expect("begin"));
    drop(pending.file().expect("a file"));
    // As a killed run leaves it: a partial file whose lock nobody holds.
    let left = cache.root().join("base").join(format!("{dead}.partial"));
    fs::write(&left, b"x").expect("room");
    let old = cache.root().join("base").join(format!("{dead}.download"));
    fs::write(&old, b"x").expect("room");
    let long_ago = SystemTime::now() - ABANDONED - Duration::from_secs(60);
    File::options().write(true).open(&old).expect("open").set_modified(long_ago).expect("a time");
    Cache::open(Some(folder.path())).expect("a cache");
    assert!(!left.exists() && !old.exists());
    assert!(pending.path().exists());
}

#[test]
fn two_at_once_make_it_once() {
    let (_folder, cache) = open();
    let key = Digest::of(b"key");
    let made: usize = std::thread::scope(|scope| {
        let workers: Vec<_> = (0..8)
            .map(|_| {
                scope.spawn(|| match cache.begin("base", &key, &quiet()).expect("begin") {
                    Begin::Present(_) => 0,
                    Begin::Missing(pending) => {
                        pending.file().expect("a file").write_all(b"hello").expect("room");
                        pending.commit(None, BTreeMap::new()).expect("commit");
                        1
                    }
                })
            })
            .collect();
        workers.into_iter().map(|worker| worker.join().expect("no panic")).sum()
    });
    assert_eq!(made, 1);
}

#[test]
fn the_folder_comes_from_the_environment() {
    let with = |xdg: Option<&str>, home: Option<&str>| {
        let (xdg, home) = (xdg.map(PathBuf::from), home.map(PathBuf::from));
        default_folder(move |name| if name == "HOME" { home.clone() } else { xdg.clone() }).ok()
    };
    assert_eq!(with(Some("/x"), Some("/h")), Some("/x/hcl-image".into()));
    assert_eq!(with(Some("relative"), Some("/h")), Some("/h/.cache/hcl-image".into()));
    assert_eq!(with(None, Some("/h")), Some("/h/.cache/hcl-image".into()));
    assert_eq!(with(None, None), None);
}
