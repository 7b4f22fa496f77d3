//! Power cuts on a real ext4. The shipped program receives onto a loop image, its home included; while it stands
//! still the image is copied, and a copy is what a power cut leaves: mounted, its journal replayed, looked at by the
//! oracle. A copy during which the device completed a write is thrown away, since it is of no one moment. What a copy
//! holds is every block that the device was given; a drive's own cache is the simulated disk's business.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::time::Duration;

use rand::Rng;
use rustix::fs::FileType;
use rustix::process::Signal;

use crate::rig::facility::{LoopImage, is_root, run, shown};
use crate::rig::oracle::{Node, Rules, Snapshot, differences, snapshot_without};
use crate::rig::process::{PATIENT, build_landfall};
use crate::rig::scratch::Scratch;
use crate::rig::transfer::{Done, Listens, Live, Setup};
use crate::rig::tree::{Content, Tree};
use crate::rng::stream;
use crate::verdict::{How, Report, Verdict};

const IMAGE_BYTES: u64 = 48 << 20;
/// Most cuts of one transfer.
const CUTS_EACH: u64 = 12;
/// Longest pause between two cuts.
const PAUSE_MS_MAX: u64 = 12;
/// How often a copy is tried that the device wrote into.
const COPIES_MAX: u32 = 20;
/// Of so many transfers that are still running then, one is left to run to its end; the others go on from a cut.
const WHOLE_ONE_IN: u64 = 3;

/// What the cuts showed.
#[derive(Clone, Copy, Debug, Default)]
struct Cuts {
    /// Images that were mounted and looked at.
    looked: u64,
    /// Of these, those that lacked something of the tree.
    incomplete: u64,
    /// Of these, those that held something of it.
    partly: u64,
    /// Files that stood under their final name, whole.
    files: u64,
    /// Transfers that went on from a cut, to their end.
    resumed: u64,
    /// Images taken after the acknowledgement, with everything in them.
    acknowledged: u64,
    /// Copies that were thrown away.
    blurred: u64,
}

/// Cuts the power so often, and judges.
pub fn ext4_report(seed: u64, cuts: u64) -> Report {
    let fault = "power cut on a real ext4";
    if !is_root() {
        return Report::skipped(fault, How::LoopImage, "root, for loop images");
    }
    let mut sum = Cuts::default();
    let verdict = cut_all(seed, cuts, &mut sum);
    let Cuts { looked, incomplete, partly, files, resumed, acknowledged, blurred } = sum;
    let log = vec![
        format!("{looked} images looked at: {incomplete} incomplete, {partly} of them with whole files, {files} files"),
        format!("{resumed} transfers went on from a cut, {acknowledged} were whole right after their acknowledgement"),
        format!("{blurred} copies thrown away because the device wrote meanwhile"),
    ];
    Report {
        fault: fault.to_owned(),
        how: How::LoopImage,
        injected: looked,
        detected: incomplete,
        repaired: resumed,
        verdict,
        plan: format!("seed={seed:#x} cuts={cuts}"),
        log,
        reproduce: format!("fault-inject crash --ext4 --cuts {cuts} --seed {seed:#x}"),
    }
    .unless_vacuous()
}

fn cut_all(seed: u64, cuts: u64, sum: &mut Cuts) -> Verdict {
    if let Err(why) = build_landfall() {
        return Verdict::Failed(why);
    }
    for number in 0..cuts {
        let before = sum.looked;
        let run = catch_unwind(AssertUnwindSafe(|| cut_transfer(seed.wrapping_add(number), cuts, sum)));
        match run {
            Ok(Ok(())) => (),
            Ok(Err(verdict)) => return verdict,
            Err(_) => return Verdict::Failed(format!("a panic in transfer {number}")),
        }
        if sum.looked >= cuts {
            return Verdict::Good;
        }
        if sum.looked == before {
            return Verdict::Failed("not one image of a transfer could be looked at".into());
        }
    }
    Verdict::Good
}

fn make_source(scratch: &Scratch, seed: u64) -> std::path::PathBuf {
    let mut tree = Tree::new(&scratch.join("source"), seed);
    for number in 0..40 {
        let bytes = tree.below(500 << 10);
        tree.file(format!("d{}/f{number}", number % 4), &Content::Random(bytes));
    }
    tree.file("large", &Content::Random(9 << 20));
    tree.finish()
}

/// One transfer, cut at several moments; it goes on from the last of them, or to its end and is cut once more.
fn cut_transfer(seed: u64, cuts: u64, sum: &mut Cuts) -> Result<(), Verdict> {
    let mut dice = stream(seed, "ext4 cuts");
    let scratch = Scratch::new("power-cuts");
    let Some(image) = LoopImage::mounted("power cuts on ext4", scratch.path(), IMAGE_BYTES) else {
        return Err(Verdict::Skipped("a loop device and ext4".into()));
    };
    let source = make_source(&scratch, seed);
    let truth = snapshot_without(&source, &[]);
    let mut setup = Setup::new(&scratch, "run", &[&source], Listens::Sender);
    (setup.target, setup.receiver_home) = (image.path().join("target"), image.path().join("home"));
    std::fs::create_dir(&setup.receiver_home).map_err(|error| Verdict::Failed(error.to_string()))?;
    let mut live = setup.start();
    // Few transfers outlive the most looks, and those that end sooner go on from nothing.
    for _ in 0..dice.random_range(1..=CUTS_EACH) {
        std::thread::sleep(Duration::from_millis(dice.random_range(1..=PAUSE_MS_MAX)));
        if live.receiver.has_ended() || sum.looked >= cuts {
            break;
        }
        let copy = scratch.join("cut.img");
        if copy_still(&mut live, &image, &copy, sum) {
            look_at(&scratch, &copy, &truth, false, sum)?;
        }
    }
    let has_ended = live.receiver.has_ended() || live.sender.has_ended();
    if has_ended || dice.random_range(0..WHOLE_ONE_IN) == 0 {
        return to_the_end(&scratch, live, &image, &truth, sum);
    }
    go_on_from_cut(&scratch, (live, setup, image), &truth, sum)
}

/// Copies the image while the receiver stands still. Only a copy during which the device wrote nothing is of one
/// moment.
fn copy_still(live: &mut Live, image: &LoopImage, copy: &Path, sum: &mut Cuts) -> bool {
    live.receiver.signal(Signal::STOP);
    let mut is_still = false;
    for _ in 0..COPIES_MAX {
        let before = image.writes();
        let is_copied = copy_image(image.image(), copy).is_ok();
        is_still = is_copied && before.is_some() && image.writes() == before;
        if is_still {
            break;
        }
        sum.blurred += 1;
    }
    live.receiver.signal(Signal::CONT);
    is_still
}

fn copy_image(from: &Path, to: &Path) -> Result<(), String> {
    let text = |path: &Path| path.to_str().map(str::to_owned).ok_or("scratch paths are ASCII");
    run("cp", &["--sparse=always", "--reflink=auto", &text(from)?, &text(to)?]).map(drop)
}

/// Mounts a copy and holds it against the truth: whatever has a final name is whole, and after the acknowledgement
/// everything has.
fn look_at(
    scratch: &Scratch,
    copy: &Path,
    truth: &Snapshot,
    is_acknowledged: bool,
    sum: &mut Cuts,
) -> Result<(), Verdict> {
    let mount = scratch.join("look");
    std::fs::create_dir_all(&mount).map_err(|error| Verdict::Failed(error.to_string()))?;
    let mounted = LoopImage::of(copy.to_owned(), mount).map_err(Verdict::Failed)?;
    let tree = mounted.path().join("target/source");
    let found = if tree.is_dir() { snapshot_without(&tree, &[]) } else { Snapshot::new() };
    let is_file = |node: &Node| node.kind == FileType::RegularFile;
    let files = || found.iter().filter(|(_, node)| is_file(node));
    for (path, node) in files() {
        let is_whole = truth
            .get(path)
            .is_some_and(|true_node| (true_node.size_bytes, &true_node.digest) == (node.size_bytes, &node.digest));
        if !is_whole {
            return Err(Verdict::Wrong(format!("after a power cut `{}` stands wrong under its name", shown(path))));
        }
    }
    let (whole, all) = (files().count(), truth.values().filter(|node| is_file(node)).count());
    sum.looked += 1;
    sum.files += whole as u64;
    sum.incomplete += u64::from(whole < all);
    sum.partly += u64::from(whole < all && whole > 0);
    if is_acknowledged && whole < all {
        return Err(Verdict::Wrong(format!("{} files are missing after they were acknowledged", all - whole)));
    }
    sum.acknowledged += u64::from(is_acknowledged);
    Ok(())
}

/// Lets the transfer end, and takes an image at once: what was acknowledged must be in it.
fn to_the_end(
    scratch: &Scratch,
    live: Live,
    image: &LoopImage,
    truth: &Snapshot,
    sum: &mut Cuts,
) -> Result<(), Verdict> {
    let (sender, receiver) = live.wait_for_sender(PATIENT);
    sender.assert_code(0);
    let copy = scratch.join("last.img");
    let before = image.writes();
    copy_image(image.image(), &copy).map_err(Verdict::Failed)?;
    let is_still = before.is_some() && image.writes() == before;
    receiver.wait(PATIENT).assert_code(0);
    match is_still {
        true => look_at(scratch, &copy, truth, true, sum),
        false => {
            sum.blurred += 1;
            Ok(())
        }
    }
}

/// Both processes end, the copy takes the place of the image as after a reboot, and the same commands must finish.
fn go_on_from_cut(
    scratch: &Scratch,
    (mut live, setup, image): (Live, Setup, LoopImage),
    truth: &Snapshot,
    sum: &mut Cuts,
) -> Result<(), Verdict> {
    let copy = scratch.join("cut.img");
    if !copy_still(&mut live, &image, &copy, sum) {
        return Ok(());
    }
    let (_, sender) = (live.receiver.kill(), live.sender.kill());
    if !sender.was_killed() {
        // It was answered in the meantime: its command run again would be another transfer.
        return look_at(scratch, &copy, truth, false, sum);
    }
    let mount = image.path().to_owned();
    drop(image);
    let again = LoopImage::of(copy, mount).map_err(Verdict::Failed)?;
    std::fs::create_dir_all(&setup.receiver_home).map_err(|error| Verdict::Failed(error.to_string()))?;
    let Done { sender, receiver } = setup.restart().wait(PATIENT);
    if (sender.code(), receiver.code()) != (Some(0), Some(0)) {
        return Err(Verdict::Stuck(format!("after a power cut: {}\n{}", sender.describe(), receiver.describe())));
    }
    let found = differences(truth, &snapshot_without(&again.path().join("target/source"), &[]), &Rules::default());
    if let Some(first) = found.first() {
        return Err(Verdict::Wrong(format!("what was finished after a power cut differs: {first}")));
    }
    sum.resumed += 1;
    Ok(())
}
