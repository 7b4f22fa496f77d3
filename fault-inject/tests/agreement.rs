//! The simulated disk against the real one: the same calls by chance, the same answers. What simulation proves is
//! worth what this test says about it. Owns no figures; power cuts, which no test may do to the real disk, are
//! compared with a table measured on ext4 in the unit tests of the simulated disk.
#![allow(clippy::unwrap_used)]

use std::fmt::Debug;
use std::io;
use std::sync::Arc;

use landfall::attributes::{FileKind, Timestamp};
use landfall::disk::{Access, AlignedBuffer, Disk, DiskFile, Extent, RealDisk, Stat};
use rand::Rng;
use rand_chacha::ChaCha8Rng;

use fault_inject::faulty_disk::FaultyDisk;
use fault_inject::operation::Operation;
use fault_inject::plan::{Effect, On, Plan, Rule, When};
use fault_inject::rng::stream;
use fault_inject::sim_disk::{SimDials, SimDisk};

const SEEDS: u64 = 40;
const STEPS: usize = 400;
const NAMES: [&[u8]; 7] = [b"a", b"b", b"c", b"d", b"l", b"..", b"a/b"];

/// One side of the comparison.
struct Side<D: Disk> {
    disk: D,
    root: D::Dir,
    dirs: Vec<D::Dir>,
    files: Vec<D::File>,
}

/// One step, drawn once and done on both sides.
#[derive(Debug)]
struct Step {
    kind: u32,
    dir: usize,
    other_dir: usize,
    file: usize,
    name: &'static [u8],
    other_name: &'static [u8],
    path: Vec<u8>,
    offset: u64,
    len: usize,
    mtime: Timestamp,
}

impl Step {
    fn drawn(stream: &mut ChaCha8Rng) -> Step {
        let mut name = || NAMES[stream.random_range(0..NAMES.len())];
        let (first, second) = (name(), name());
        let path = [first, second].join(&b'/');
        let kind = stream.random_range(0..24);
        // Which of two errors is told is nobody's business: only where no name can be wrong as well.
        let is_bad_time = matches!(kind, 14 | 21) && stream.random_range(0..20) == 0;
        let nanos = if is_bad_time { 1_000_000_000 } else { 7 };
        Step {
            kind,
            dir: stream.random_range(0..1000),
            other_dir: stream.random_range(0..1000),
            file: stream.random_range(0..1000),
            name: first,
            other_name: second,
            path,
            offset: [0, 4096, 100, 8000, 12_288][stream.random_range(0..5)],
            len: [0, 1, 100, 4096, 5000, 8192][stream.random_range(0..6)],
            mtime: Timestamp { seconds: stream.random_range(-1000..2_000_000_000), nanos },
        }
    }
}

/// What must be equal: not stamps that a clock gives, inode numbers, or how directories count links and bytes.
fn comparable(stat: Stat) -> (FileKind, Option<u64>, u32, Option<u64>) {
    let counts = stat.kind != FileKind::Directory;
    (stat.kind, counts.then_some(stat.size), stat.mode, counts.then_some(stat.links))
}

/// An answer in words: of errors the number, or the kind where only the program knows it.
fn words<T: Debug>(result: io::Result<T>) -> String {
    match result {
        Ok(value) => format!("{value:?}"),
        Err(error) if error.kind() == io::ErrorKind::InvalidInput => "invalid".to_owned(),
        Err(error) => format!("error {:?}", error.raw_os_error()),
    }
}

fn file_words<F: DiskFile>(file: &F, step: &Step) -> String {
    let mut cached = vec![0; step.len];
    let read = file.read_at(&mut cached, step.offset).map(|filled| cached[..filled].to_vec());
    let mut buffer = AlignedBuffer::default();
    let past = file.read_uncached_at(&mut buffer, step.offset, step.len).map(|_| buffer.bytes().to_vec());
    // Where holes lie is up to the file system; that they read as zeros is not.
    if let Ok(Extent::HoleUntil(end)) = file.extent_at(step.offset) {
        let hole = usize::try_from(end - step.offset).unwrap().min(cached.len());
        assert!(cached[..hole].iter().all(|&byte| byte == 0), "{step:?}: a hole has content");
    }
    format!("{} {} {}", words(read), words(past), words(file.stat().map(comparable)))
}

impl<D: Disk> Side<D> {
    fn new(disk: D, root: D::Dir) -> Side<D> {
        Side { disk, dirs: vec![root.clone()], root, files: Vec::new() }
    }

    fn name_step(&mut self, step: &Step) -> io::Result<()> {
        let dir = &self.dirs[step.dir % self.dirs.len()];
        let other = &self.dirs[step.other_dir % self.dirs.len()];
        let (name, new) = (step.name, step.other_name);
        match step.kind {
            0 | 1 => self.files.push(self.disk.create_exclusive(dir, name)?),
            2 => self.files.push(self.disk.open(dir, name, Access::Write)?),
            3 => self.disk.make_dir(dir, name, 0o4750)?,
            4 => {
                let opened = self.disk.open_dir(dir, name)?;
                self.dirs.push(opened);
            }
            5 => {
                let opened = self.disk.open_dir(&self.root, &step.path)?;
                self.dirs.push(opened);
            }
            6 => self.disk.rename_noreplace(dir, name, other, new)?,
            7 => self.disk.replace(dir, name, other, new)?,
            8 => self.disk.remove(dir, name)?,
            9 => self.disk.remove_dir(dir, name)?,
            10 => self.disk.make_symlink(new, dir, name)?,
            11 => self.disk.make_symlink(b"", dir, name)?,
            12 => self.disk.set_mode(dir, name, 0o1700)?,
            13 => self.disk.set_mtime(dir, name, step.mtime)?,
            14 => self.disk.set_dir_metadata(dir, 0o711, step.mtime)?,
            _ => {}
        }
        Ok(())
    }

    fn file_step(&self, step: &Step) -> io::Result<()> {
        let Some(file) = self.files.get(step.file % self.files.len().max(1)) else { return Ok(()) };
        let len = step.len as u64;
        match step.kind {
            15..=17 => {
                let byte = u8::try_from(step.file % 255 + 1).unwrap();
                file.write_all_at(&vec![byte; step.len], step.offset)?;
            }
            18 => file.set_len(step.offset + len)?,
            19 => file.punch(step.offset, len)?,
            20 => file.reserve(step.offset, len)?,
            21 => file.set_metadata(0o640, step.mtime)?,
            22 => file.start_writeback(step.offset, len),
            23 if step.file.is_multiple_of(8) => file.sync_data()?,
            _ => {}
        }
        Ok(())
    }

    /// Does a step and tells everything that both sides must agree on.
    fn step(&mut self, step: &Step) -> String {
        let done = if step.kind < 15 { self.name_step(step) } else { self.file_step(step) };
        let dir = &self.dirs[step.dir % self.dirs.len()];
        let stat = self.disk.stat(dir, step.name).map(comparable);
        let link = self.disk.read_link(dir, step.name);
        let names = self.disk.list(dir).map(|mut names| {
            names.sort();
            names
        });
        let dir_stat = self.disk.stat_dir(dir).map(comparable);
        let file = self.files.get(step.file % self.files.len().max(1)).map(|file| file_words(file, step));
        let name = [words(done), words(stat), words(link), words(names), words(dir_stat)].join(" ");
        format!("{name} {file:?}")
    }
}

#[test]
fn the_simulated_disk_answers_as_the_real_one_does() {
    let mut answers = std::collections::BTreeSet::new();
    for seed in 0..SEEDS {
        let held = tempfile::tempdir().unwrap();
        let mut real = Side::new(RealDisk::new(), RealDisk::open_root(held.path()).unwrap());
        let sim = SimDisk::new(seed, SimDials::off());
        let root = sim.root();
        let mut sim = Side::new(sim, root);
        // The root's own mode and mtime differ; from here on they are set alike.
        for disk_step in 0..STEPS {
            let step = Step::drawn(&mut stream(seed, &format!("step {disk_step}")));
            if disk_step == 0 {
                let stamp = Timestamp { seconds: 1, nanos: 1 };
                real.disk.set_dir_metadata(&real.root, 0o755, stamp).unwrap();
                sim.disk.set_dir_metadata(&sim.root, 0o755, stamp).unwrap();
            }
            let (expected, actual) = (real.step(&step), sim.step(&step));
            assert!(expected == actual, "seed {seed}: {step:?}\n real {expected:.400}\n sim  {actual:.400}");
            answers.insert(expected);
        }
    }
    assert!(answers.len() > 1000, "only {} different answers were compared", answers.len());
}

#[test]
fn the_faulty_disk_works_over_the_real_one() {
    let held = tempfile::tempdir().unwrap();
    let rules = vec![Rule::new(On::Only(Operation::Write), When::Nth(2), Effect::Lie)];
    let plan = Arc::new(Plan::new(1, rules));
    let disk = FaultyDisk::new(RealDisk::new(), plan.clone());
    let root = disk.wrap_dir(RealDisk::open_root(held.path()).unwrap());
    let file = disk.create_exclusive(&root, b"f").unwrap();
    file.write_all_at(b"one", 0).unwrap();
    file.write_all_at(b"two", 3).unwrap();
    file.write_all_at(b"three", 6).unwrap();
    let mut found = [0; 20];
    assert_eq!(file.inner().read_at(&mut found, 0).unwrap(), 11);
    assert_eq!(&found[..11], b"one\0\0\0three");
    assert_eq!(plan.injected(), 1);
}
