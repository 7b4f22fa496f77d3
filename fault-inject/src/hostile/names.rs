//! Names: every one that must be refused, as every kind of entry; every one that is legal and odd, delivered byte by
//! byte and shown escaped; symlinks that point anywhere; entries that cannot stand beside each other.

use super::act::Act;
use super::stage::{Place, Script, Thing};
use super::words::{self, Manifest};
use super::{Case, case};

/// Content of the honest file in front of the attack.
pub const GOOD: &[u8] = b"good";

/// Hellos, and the place from which records continue.
pub fn opening() -> Vec<Act> {
    vec![Act::Hello, Act::Continue]
}

/// An honest file in front.
pub fn with_good() -> Manifest {
    Manifest::default().file(b"good", GOOD)
}

fn refused_names() -> Vec<(&'static str, Vec<u8>)> {
    let plain: [(&str, &[u8]); 33] = [
        ("empty", b""),
        ("dot", b"."),
        ("dot-dot", b".."),
        ("slash", b"/"),
        ("two-slashes", b"//"),
        ("parent", b"../x"),
        ("canary", b"../canary/song"),
        ("new-in-canary", b"../canary/new"),
        ("absolute", b"/x"),
        ("absolute-twice", b"//x"),
        ("absolute-parent", b"/../x"),
        ("proc-self-root", b"/proc/self/root/x"),
        ("far-up", b"../../../../../../../../../../tmp/x"),
        ("down-and-up", b"a/../x"),
        ("down-and-out", b"a/../../x"),
        ("deep-and-out", b"a/b/../../../x"),
        ("doubled", b"a//x"),
        ("doubled-and-out", b"a//..//x"),
        ("trailing-slash", b"a/"),
        ("trailing-dot", b"a/."),
        ("trailing-dot-dot", b"a/.."),
        ("leading-dot", b"./x"),
        ("dot-within", b"a/./x"),
        ("nul", b"\0"),
        ("nul-within", b"a\0b"),
        ("nul-after-dots", b"..\0/x"),
        ("nul-at-end", b"x\0"),
        ("state", b".landfall"),
        ("in-state", b".landfall/x"),
        ("in-state-capitals", b".LANDFALL/x"),
        ("state-mixed", b".LandFall"),
        ("state-within", b"a/.landfall/x"),
        ("state-at-end", b"a/b/.landFALL"),
    ];
    let mut names: Vec<(&str, Vec<u8>)> = plain.into_iter().map(|(name, bytes)| (name, bytes.to_vec())).collect();
    names.push(("component-256", vec![b'n'; 256]));
    names.push(("component-256-within", [b"a/".to_vec(), vec![b'n'; 256], b"/x".to_vec()].concat()));
    names.push(("components-4097", [b"a/".repeat(4096), b"a".to_vec()].concat()));
    names.push(("bytes-65537", [b"nnnnnnn/".repeat(8192), b"n".to_vec()].concat()));
    names.push(("up-4000", [b"../".repeat(4000), b"x".to_vec()].concat()));
    names.push(("up-after-legal", [vec![b'n'; 255], b"/../../x".to_vec()].concat()));
    names.push(("dots-and-state", b"a/../.landfall/lock".to_vec()));
    names
}

/// Legal on Linux, and nothing that a screen may see as it is.
fn odd_names() -> Vec<(&'static str, Vec<u8>)> {
    let plain: [(&str, &[u8]); 36] = [
        ("escape", b"\x1b[2J"),
        ("escape-title", b"\x1b]0;owned\x07"),
        ("bell", b"a\x07b"),
        ("carriage-return", b"safe\rEVIL"),
        ("line-feed", b"safe\nAccept 2 files (0 B)?"),
        ("tab", b"a\tb"),
        ("backspace", b"evil\x08\x08\x08\x08good"),
        ("delete", b"a\x7fb"),
        ("csi-raw", b"\x9b31m"),
        ("csi-utf8", "\u{9b}31m".as_bytes()),
        ("next-line", "a\u{85}b".as_bytes()),
        ("right-to-left", "gpj.\u{202e}exe".as_bytes()),
        ("isolate", "a\u{2066}b\u{2069}".as_bytes()),
        ("zero-width", "pay\u{200b}pal".as_bytes()),
        ("joiner", "a\u{200d}b".as_bytes()),
        ("byte-order-mark", "\u{feff}a".as_bytes()),
        ("line-separator", "a\u{2028}b".as_bytes()),
        ("paragraph-separator", "a\u{2029}b".as_bytes()),
        ("no-utf8", b"\xff\xfe"),
        ("overlong-slash", b"a\xc0\xaf..\xc0\xafb"),
        ("overlong-dot", b"\xc0\xae\xc0\xae"),
        ("surrogate", b"\xed\xa0\x80"),
        ("cut-utf8", b"\xe2\x82"),
        ("backslash", b"..\\..\\x"),
        ("drive", b"C:\\x"),
        ("share", b"\\\\srv\\x"),
        ("device-nul", b"NUL"),
        ("device-con", b"con.txt"),
        ("device-com", "COM\u{b9}".as_bytes()),
        ("stream", b"a:b"),
        ("trailing-space", b"a "),
        ("three-dots", b"..."),
        ("quote", b"a'b\"c`d"),
        ("dash", b"-rf"),
        ("glob", b"*?[a]"),
        ("percent", b"%n%s%00"),
    ];
    let mut names: Vec<(&str, Vec<u8>)> = plain.into_iter().map(|(name, bytes)| (name, bytes.to_vec())).collect();
    names.push(("component-255", vec![b'n'; 255]));
    names.push(("nearly-state", b".landfall2".to_vec()));
    names
}

/// All cases of this room.
pub fn cases() -> Vec<Case> {
    let mut all = refused();
    all.extend(odd());
    all.extend(links());
    all.extend(beside());
    all.extend(written_through());
    all
}

fn refused() -> Vec<Case> {
    let mut all = vec![];
    for (what, name) in refused_names() {
        let class = if what.starts_with("component") || what.starts_with("bytes") { 13 } else { 1 };
        let kinds = [
            ("file", words::begin(&name, 5)),
            ("directory", words::directory(&name, 0o755)),
            ("symlink", words::symlink(&name, b"good")),
            ("left-out", words::left_out(&name, 0, 0)),
        ];
        for (kind, record) in kinds {
            let manifest = with_good().raw(record, 1);
            let script = Script::against_receiver([opening(), vec![Act::Hostile, Act::Offer(manifest)]].concat())
                .ends(&[1], "the sender broke the protocol: a manifest record")
                .allow(b"good", Thing::File(GOOD.to_vec()));
            all.push(case(format!("name-{what}-as-{kind}"), class, script));
        }
    }
    all
}

/// What other systems would take for something else, or what pretends to be a question of ours.
fn class_of_odd(what: &str) -> u8 {
    match what {
        "line-feed" => 10,
        "backslash" | "drive" | "share" | "stream" | "trailing-space" => 2,
        _ if what.starts_with("device") => 2,
        _ => 9,
    }
}

fn odd() -> Vec<Case> {
    let mut all = vec![];
    for (what, name) in odd_names() {
        let class = class_of_odd(what);
        let manifest = with_good().file(&name, b"odd").complete();
        let script = delivered(&manifest, 0)
            .allow(b"good", Thing::File(GOOD.to_vec()))
            .allow(&name, Thing::File(b"odd".to_vec()))
            .all();
        all.push(case(format!("odd-name-{what}-delivered"), class, script));
        // The receiver's screen names what the sender left out: once for people, once as JSON.
        for (how, option) in [("text", None), ("json", Some("--json"))] {
            let manifest = with_good().raw(words::left_out(&name, 0, 0), 1).complete();
            let script = delivered(&manifest, 5).allow(b"good", Thing::File(GOOD.to_vec())).all();
            let script = script.ends(&[5], if how == "text" { "left out" } else { "left-out" });
            let script = option.into_iter().fold(script, Script::option);
            all.push(case(format!("odd-name-{what}-shown-{how}"), class, script));
        }
    }
    all
}

/// The binary receives all of a manifest, and says this.
pub fn delivered(manifest: &Manifest, exit: i32) -> Script {
    let acts = vec![Act::Hostile, Act::Offer(manifest.clone()), Act::Serve(manifest.clone())];
    Script::against_receiver([opening(), acts].concat()).ends(&[exit], "")
}

fn links() -> Vec<Case> {
    let mut all = vec![];
    let refused = [("empty", vec![]), ("nul", b"a\0b".to_vec()), ("bytes-4096", vec![b'n'; 4096])];
    for (what, target) in refused {
        let manifest = with_good().raw(words::symlink(b"link", &target), 1);
        let script = Script::against_receiver([opening(), vec![Act::Hostile, Act::Offer(manifest)]].concat())
            .ends(&[1], "a manifest record")
            .allow(b"good", Thing::File(GOOD.to_vec()));
        all.push(case(format!("link-target-{what}"), 1, script));
    }
    let legal: [(&str, &[u8]); 12] = [
        ("outside", b"../canary/song"),
        ("outside-directory", b"../canary"),
        ("absolute", b"/etc/passwd"),
        ("root", b"/"),
        ("parent", b".."),
        ("itself", b"link"),
        ("state", b".landfall"),
        ("lock", b".landfall/lock"),
        ("proc", b"/proc/self/fd/0"),
        ("escape", b"\x1b[2J"),
        ("no-utf8", b"\xff"),
        ("doubled", b"a//../..//b"),
    ];
    for (what, target) in legal {
        let manifest = with_good().symlink(b"link", target).complete();
        let script = delivered(&manifest, 0)
            .allow(b"good", Thing::File(GOOD.to_vec()))
            .allow(b"link", Thing::Link(target.to_vec()))
            .all();
        all.push(case(format!("link-target-{what}-is-made-and-not-followed"), 4, script));
    }
    all
}

/// Entries beside each other: legal on Linux, or one of them left out and named.
fn beside() -> Vec<Case> {
    let file = |content: &[u8]| Thing::File(content.to_vec());
    let two = |one: &[u8], other: &[u8]| Manifest::default().file(one, b"one").file(other, b"other").complete();
    let both = |one: &[u8], other: &[u8]| {
        delivered(&two(one, other), 0).allow(one, file(b"one")).allow(other, file(b"other")).all()
    };
    let twice = delivered(&two(b"same", b"same"), 5).allow(b"same", file(b"one")).all().option("--json");
    let under_file = delivered(&two(b"parent", b"parent/child"), 5)
        .allow(b"parent", file(b"one"))
        .allow(b"parent", Thing::Directory)
        .allow(b"parent/child", file(b"other"))
        .option("--json");
    let file_and_directory = Manifest::default().file(b"same", b"one").directory(b"same").complete();
    let directory_and_file = Manifest::default().directory(b"same").file(b"same", b"one").complete();
    let link_and_file = Manifest::default().symlink(b"same", b"good").file(b"same", b"one").complete();
    let file_and_link = Manifest::default().file(b"same", b"one").symlink(b"same", b"good").complete();
    let either = |manifest: &Manifest, thing: Thing| delivered(manifest, 5).allow(b"same", thing).all();
    let crowd = (0..20_000).fold(Manifest::default().file(b"same", b"one"), |crowd, _| crowd.directory(b"same"));
    vec![
        case("beside-20000-of-one-name", 15, either(&crowd.complete(), file(b"one"))),
        case("beside-capitals", 3, both(b"README", b"readme")),
        case("beside-composed", 3, both("\u{e9}".as_bytes(), "e\u{301}".as_bytes())),
        case("beside-twice-the-same-file", 3, twice.ends(&[5], "collision")),
        case("beside-child-of-a-file", 3, under_file.ends(&[5], "left-out")),
        case("beside-file-then-directory", 3, either(&file_and_directory, file(b"one"))),
        case("beside-directory-then-file", 3, either(&directory_and_file, Thing::Directory)),
        case("beside-link-then-file", 3, either(&link_and_file, Thing::Link(b"good".to_vec()))),
        case("beside-file-then-link", 3, either(&file_and_link, file(b"one"))),
    ]
}

fn plant(what: &str) -> fn(&Place) {
    match what {
        "link" => |place| plant_link(place, "../canary"),
        "absolute" => |place| plant_link(place, place.canary.path().to_str().expect("scratch paths are ASCII")),
        "file-link" => |place| plant_link(place, "../canary/song"),
        "dangling" => |place| plant_link(place, "../canary/new"),
        _ => |_| (),
    }
}

fn plant_link(place: &Place, text: &str) {
    std::os::unix::fs::symlink(text, place.target.join("d")).expect("a fresh scratch directory");
}

/// Adds entries to a manifest.
type Further = fn(Manifest) -> Manifest;

/// Entry one is a symlink out, entry two is written through it: in one transfer, and over two.
fn written_through() -> Vec<Case> {
    let mut all = vec![];
    let inner: [(&str, Further); 4] = [
        ("file", |manifest| manifest.file(b"d/song", b"evil")),
        ("new-file", |manifest| manifest.file(b"d/new", b"evil")),
        ("directory", |manifest| manifest.directory(b"d/cage")),
        ("link", |manifest| manifest.symlink(b"d/link", b"/")),
    ];
    for (what, add) in inner {
        for target in ["../canary", ".", "..", "/"] {
            let one = add(Manifest::default().symlink(b"d", target.as_bytes())).complete();
            let script = through(delivered(&one, 5)).allow(b"d", Thing::Link(target.as_bytes().to_vec()));
            let name = target.replace("..", "up").replace('/', "-").replace('.', "here");
            all.push(case(format!("through-own-link-{name}-{what}"), 4, script));
        }
        for planted in ["link", "absolute"] {
            let two = add(Manifest::default().directory(b"d")).complete();
            let script = through(delivered(&two, 5)).plant(plant(planted));
            all.push(case(format!("through-{planted}-of-an-earlier-transfer-{what}"), 4, script));
            let script = through(delivered(&two, 5)).plant(plant(planted)).option("--existing").option("replace");
            all.push(case(format!("through-{planted}-when-replacing-{what}"), 4, script));
        }
    }
    for planted in ["file-link", "dangling"] {
        let over = Manifest::default().file(b"d", b"evil").complete();
        let script = delivered(&over, 5).plant(plant(planted)).ends(&[5], "left-out").option("--json");
        all.push(case(format!("over-{planted}"), 4, script));
        let script = delivered(&over, 0).plant(plant(planted)).option("--existing").option("replace").ends(&[0, 5], "");
        all.push(case(format!("over-{planted}-when-replacing"), 4, script.allow(b"d", Thing::File(b"evil".to_vec()))));
    }
    all
}

/// What may stand below `d` if it is a directory of the target's own.
fn through(script: Script) -> Script {
    script
        .allow(b"d", Thing::Directory)
        .allow(b"d/song", Thing::File(b"evil".to_vec()))
        .allow(b"d/new", Thing::File(b"evil".to_vec()))
        .allow(b"d/cage", Thing::Directory)
        .allow(b"d/link", Thing::Link(b"/".to_vec()))
        .ends(&[0, 5], "")
}
