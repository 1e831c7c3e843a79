//! A lab put aside and gone on from, with real QEMU and a kernel a few instructions long: memory, processors and console come back.

#[path = "common/tiny.rs"]
mod tiny;

use std::{
    fs,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use hcl_image::{
    cache::Cache,
    image::disk::Disk,
    lab::{Lab, Spec, What, console::Sight, machine::Machine, node::Clock, shelf::Shelf, switch::Faults},
    progress::{Mode, Reporter},
    units::Bytes,
};

use crate::tiny::{Then, image, kernel};

const LIMIT: Duration = Duration::from_secs(120);
const NODES: usize = 2;

struct Bench {
    folder: tempfile::TempDir,
    shelf: Shelf,
    reporter: Reporter,
}

impl Bench {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let kernel = kernel("[    0.0] Booting Linux on physical CPU 0x0\n@hcl:hello@\n", Then::Tick);
        fs::write(folder.path().join("tiny.img"), image(&kernel)).unwrap();
        let shelf = Shelf::open(&Cache::open(Some(&folder.path().join("cache"))).unwrap()).unwrap();
        Self { folder, shelf, reporter: Reporter::new(Mode::Quiet) }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn spec(&self, folder: &str) -> Spec {
        Spec {
            image: self.path("tiny.img"),
            nodes: NODES,
            spare: 1,
            stations: Vec::new(),
            machine: Machine::Virt,
            memory: Bytes(64 << 20),
            disk: Bytes(64 << 20),
            internet: false,
            seed: 1,
            clock: Clock::Host,
            kernel_words: String::new(),
            faults: Faults::default(),
            folder: self.path(folder),
            keep: false,
            capture_limit: 1 << 20,
        }
    }

    fn start(&self, folder: &str) -> Watched {
        let spec = self.spec(folder);
        let disk = Disk::open(&spec.image, &self.reporter).unwrap();
        let lab = Lab::start_from(&spec, &self.shelf, disk, &self.reporter).unwrap();
        Watched { lab, seen: vec![Vec::new(); NODES + 1] }
    }

    fn save(&self, Watched { lab, .. }: &mut Watched) {
        let draft = self.shelf.begin(lab.subject(NODES).unwrap()).unwrap().unwrap();
        let frozen = lab.freeze(draft).unwrap();
        assert!(frozen.keep().unwrap().0 > 0);
    }
}

/// A running lab, and what its nodes showed that nobody has asked for yet.
struct Watched {
    lab: Lab,
    seen: Vec<Vec<Sight>>,
}

impl Watched {
    /// What node `node` showed since the last time, up to `marker`.
    fn until(&mut self, node: usize, marker: &str) -> Vec<Sight> {
        let deadline = Instant::now() + LIMIT;
        let wanted = Sight::Marker(marker.into());
        loop {
            if let Some(at) = self.seen[node].iter().position(|sight| *sight == wanted) {
                let mut before: Vec<_> = self.seen[node].drain(..=at).collect();
                before.pop();
                return before;
            }
            let seen = &self.seen[node];
            assert!(Instant::now() < deadline, "node-{} said no {marker} within {LIMIT:?}, but {seen:?}", node + 1);
            let event = self.lab.next(Duration::from_millis(200)).unwrap();
            match event.map(|event| (event.node, event.what)) {
                Some((Some(node), What::Sight(sight))) => self.seen[node].push(sight),
                Some(other) => panic!("{other:?}"),
                None => {}
            }
        }
    }

    /// Pulls a node's power and switches it on again.
    fn power_cycle(&mut self, node: usize) {
        self.lab.pull(node).unwrap();
        self.lab.power_on(node, Clock::Host).unwrap();
        self.seen[node].clear();
    }
}

fn size(path: &Path) -> u64 {
    fs::metadata(path).unwrap().len()
}

#[test]
fn nodes_go_on_where_they_were_put_aside() {
    let bench = Bench::new();
    let mut first = bench.start("first");
    assert!(first.lab.snapshot().is_none());
    for node in 0..NODES {
        assert!(first.until(node, "tick").contains(&Sight::Kernel));
    }
    bench.save(&mut first);
    // The nodes that were put aside run on, and what they are given now is not in the snapshot's cards.
    for node in 0..NODES {
        first.until(node, "tick");
    }
    // Its card is where a node that is switched on again looks for it.
    first.power_cycle(0);
    assert!(first.until(0, "hello").contains(&Sight::Kernel));
    first.lab.finish().unwrap();

    let mut second = bench.start("second");
    assert_eq!(second.lab.snapshot().unwrap().record.nodes.len(), NODES);
    for node in 0..NODES {
        assert_eq!(second.until(node, "tick"), [], "node-{} booted", node + 1);
    }
    // A node that was in no snapshot boots beside them, and one of them boots anew.
    assert_eq!(second.lab.add().unwrap(), NODES);
    assert!(second.until(NODES, "hello").contains(&Sight::Kernel));
    second.power_cycle(1);
    assert!(second.until(1, "hello").contains(&Sight::Kernel));
    second.lab.finish().unwrap();
}

#[test]
fn a_snapshot_that_qemu_refuses_is_discarded_and_the_nodes_boot() {
    let bench = Bench::new();
    let mut first = bench.start("first");
    first.until(0, "tick");
    bench.save(&mut first);
    let subject = first.lab.subject(NODES).unwrap();
    first.lab.finish().unwrap();

    // As long as before, so that only QEMU can tell.
    let state = bench.shelf.find(&subject).unwrap().unwrap().state(1);
    let mut bytes = fs::read(&state).unwrap();
    bytes[..64].fill(0x55);
    let before = size(&state);
    fs::write(&state, bytes).unwrap();
    assert_eq!(size(&state), before);

    let mut second = bench.start("second");
    assert!(second.lab.snapshot().is_none());
    for node in 0..NODES {
        assert!(second.until(node, "tick").contains(&Sight::Kernel));
    }
    second.lab.finish().unwrap();
    assert!(bench.shelf.find(&subject).unwrap().is_none());
}
