//! The trees of the matrix: one function for each thing that a real tree may hold. They only build; what must arrive
//! is said by the oracle and the tests.

use std::path::{Path, PathBuf};

use rustix::fs::FileType;

use super::facility;
use super::tree::{Content, Tree};

/// Bytes of a chunk, as the design gives it; not taken from the product.
pub const CHUNK_BYTES: u64 = 1 << 20;

/// 0 bytes, and sizes around everything that has an edge: BLAKE3's block and leaf, a page, 64 KiB, each chunk.
pub fn sizes(root: &Path, seed: u64) -> PathBuf {
    let mut tree = Tree::new(root, seed);
    let edges = [1, 64, 1024, 2048, 4096, 65_536, CHUNK_BYTES / 2];
    let chunk_edges = (1..=5).chain([7, 8, 9]).map(|count| count * CHUNK_BYTES);
    let mut all: Vec<u64> = vec![0];
    for edge in edges.into_iter().chain(chunk_edges) {
        all.extend([edge - 1, edge, edge + 1]);
    }
    all.sort_unstable();
    all.dedup();
    for size_bytes in all {
        tree.file(format!("bytes-{size_bytes}"), &Content::Random(size_bytes));
    }
    tree.finish()
}

/// Holes at the start, in the middle, at the end, everywhere; chunks of zeros that were really written.
pub fn sparse(root: &Path, seed: u64) -> PathBuf {
    let mut tree = Tree::new(root, seed);
    let mib = CHUNK_BYTES;
    let cases = [
        ("all-hole", 16 * mib, vec![]),
        ("all-hole-odd", 3 * mib + 77, vec![]),
        ("hole-first", 8 * mib, vec![(7 * mib, mib)]),
        ("hole-last", 8 * mib + 5, vec![(0, mib)]),
        ("hole-middle", 12 * mib, vec![(0, 2 * mib), (10 * mib, 2 * mib)]),
        ("ragged", 9 * mib, vec![(4096 * 3, 10), (mib - 1, 2), (5 * mib + 4096, 4096)]),
        ("huge-hole", 64 << 30, vec![(33 << 30, 4096)]),
    ];
    for (name, size_bytes, data) in cases {
        tree.file(name, &Content::Sparse { size_bytes, data });
    }
    tree.file("zeros-written", &Content::Zeros(5 * mib));
    tree.file("zeros-short", &Content::Zeros(100));
    let mut mixed = vec![0u8; (3 * mib) as usize];
    mixed[(2 * mib - 1) as usize] = 1;
    tree.file("zeros-but-one", &Content::Bytes(mixed));
    tree.finish()
}

/// Nested and empty directories; a wide and a narrow one.
pub fn directories(root: &Path, seed: u64) -> PathBuf {
    let mut tree = Tree::new(root, seed);
    tree.dir("empty");
    tree.dir("empty-in/empty-in/empty");
    tree.dir("a/b/c/d/e/f/g/h/i/j");
    tree.small("a/b/c/d/file");
    tree.small("a/b/c/d/e/f/g/h/i/j/file");
    for number in 0..100 {
        tree.dir(format!("wide/{number}"));
    }
    tree.finish()
}

/// Symlinks of each kind. `outside` is a path that exists and must never be read or written through them.
pub fn symlinks(root: &Path, seed: u64, outside: &Path) -> PathBuf {
    let mut tree = Tree::new(root, seed);
    tree.small("real/file");
    tree.symlink("to-file", "real/file");
    tree.symlink("to-directory", "real");
    tree.symlink("real/up", "..");
    tree.symlink("dangling", "no/such/thing");
    tree.symlink("dangling-absolute", "/no/such/thing");
    tree.symlink("itself", "itself");
    tree.symlink("loop-a", "loop-b");
    tree.symlink("loop-b", "loop-a");
    tree.symlink("absolute", outside.to_str().unwrap());
    tree.symlink("climbs", "../../../../../../../../etc/passwd");
    tree.symlink("long", "x/".repeat(2000));
    tree.symlink("odd-\u{1b}[31m", b"\xff\xfe\nnot utf-8".as_slice());
    tree.finish()
}

/// Every mode that its owner can read, on files and directories; as root every mode.
pub fn modes(root: &Path, seed: u64) -> PathBuf {
    let mut tree = Tree::new(root, seed);
    for mode in (0..=0o777u32).filter(|mode| facility::is_root() || mode & 0o400 != 0) {
        let name = format!("files/{mode:03o}");
        tree.small(&name);
        tree.mode(&name, mode);
    }
    for mode in [0o500, 0o555, 0o700, 0o711, 0o755, 0o777, 0o550] {
        let name = format!("dirs/{mode:03o}");
        tree.small(format!("{name}/inside/deeper"));
        tree.mode(format!("{name}/inside"), mode);
        tree.mode(&name, mode);
    }
    tree.small("read-only/like/git/objects/ab/cdef");
    tree.mode("read-only/like/git/objects/ab/cdef", 0o444);
    for dir in ["read-only/like/git/objects/ab", "read-only/like/git/objects", "read-only/like", "read-only"] {
        tree.mode(dir, 0o555);
    }
    tree.finish()
}

/// Times with nanoseconds, at and before 1970, far ahead; of files and of directories.
pub fn times(root: &Path, seed: u64) -> PathBuf {
    let mut tree = Tree::new(root, seed);
    let moments = [
        (0, 0),
        (0, 1),
        (-1, 0),
        (-1, 999_999_999),
        (-86_400 * 365, 123_456_789),
        (-2_000_000_000, 1),
        (1, 999_999_999),
        (1_234_567_890, 987_654_321),
        (4_102_444_800, 5),
        (10_000_000_000, 999_999_999),
    ];
    for (number, (seconds, nanos)) in moments.into_iter().enumerate() {
        tree.small(format!("files/{number}"));
        tree.mtime(format!("files/{number}"), seconds, nanos);
        tree.dir(format!("dirs/{number}/below"));
        tree.small(format!("dirs/{number}/file"));
        tree.mtime(format!("dirs/{number}/below"), seconds, nanos);
        tree.mtime(format!("dirs/{number}"), seconds, nanos);
    }
    tree.mtime("files", -5, 5);
    tree.mtime("", 7, 7);
    tree.finish()
}

/// Any name that Unix allows.
pub fn names(root: &Path, seed: u64) -> PathBuf {
    let mut tree = Tree::new(root, seed);
    for byte in (1..=255u8).filter(|byte| *byte != b'/' && *byte != b'.') {
        tree.small([byte]);
    }
    let odd: [&[u8]; 14] = [
        b"new\nline",
        b"carriage\rreturn",
        b"...",
        b"..a",
        b".hidden",
        b"-rf",
        b"--json",
        b"back\\slash",
        b" leading and trailing ",
        b"\xf0\x9f\x92\xbe disk",
        b"bidi \xe2\x80\xae override",
        b"zero\xe2\x80\x8bwidth",
        b"c1 \xc2\x9b control",
        b"\xc3\x28 bad utf-8 \xff",
    ];
    for name in odd {
        tree.small(name);
        tree.small([b"dir ", name, b"/inside"].concat());
    }
    tree.small([b'n'; 255]);
    tree.small([vec![0xff; 255], b"/".to_vec(), vec![b'\n'; 255]].concat());
    tree.small("e\u{301}");
    tree.small("\u{e9}");
    tree.small("case");
    tree.small("CASE");
    tree.small("a:b");
    tree.finish()
}

/// `count` tiny files in one directory.
pub fn many(root: &Path, seed: u64, count: u64) -> PathBuf {
    let mut tree = Tree::new(root, seed);
    for number in 0..count {
        tree.file(format!("crowd/{number:07}"), &Content::Bytes(number.to_le_bytes().to_vec()));
    }
    tree.finish()
}

/// `count` tiny files, a thousand to a directory.
pub fn many_spread(root: &Path, seed: u64, count: u64) -> PathBuf {
    let mut tree = Tree::new(root, seed);
    for number in 0..count {
        let name = format!("{:04}/{:03}", number / 1000, number % 1000);
        tree.file(name, &Content::Bytes(number.to_le_bytes().to_vec()));
    }
    tree.finish()
}

/// Paths whose length is more than twice `PATH_MAX`.
pub fn deep(root: &Path, seed: u64) -> PathBuf {
    let mut tree = Tree::new(root, seed);
    let mut path = Vec::new();
    for level in 0..40u8 {
        path = super::held::join(&path, &[b'a' + level % 26; 220]);
        if level % 8 == 7 {
            tree.small(super::held::join(&path, b"file"));
            tree.symlink(super::held::join(&path, b"link"), "file");
            tree.dir(super::held::join(&path, b"empty"));
        }
    }
    let mut narrow = Vec::new();
    for _ in 0..600 {
        narrow = super::held::join(&narrow, b"d");
    }
    tree.small(super::held::join(&narrow, b"at the bottom"));
    tree.finish()
}

/// One inode under several names.
pub fn hard_links(root: &Path, seed: u64) -> PathBuf {
    let mut tree = Tree::new(root, seed);
    tree.small("one");
    tree.hard_link("two", "one");
    tree.hard_link("below/three", "one");
    tree.file("big", &Content::Random(2 * CHUNK_BYTES + 1));
    tree.hard_link("big-again", "big");
    tree.finish()
}

/// Objects that are not files, and ordinary ones beside them. Returns the names of the specials that could be made.
pub fn specials(root: &Path, seed: u64) -> (PathBuf, Vec<String>) {
    let mut tree = Tree::new(root, seed);
    tree.small("ordinary");
    tree.small("below/ordinary");
    let kinds = [
        ("fifo", FileType::Fifo),
        ("below/fifo", FileType::Fifo),
        ("socket", FileType::Socket),
        ("character-device", FileType::CharacterDevice),
        ("block-device", FileType::BlockDevice),
    ];
    let mut made = Vec::new();
    for (name, kind) in kinds {
        match tree.special(name, kind) {
            Ok(()) => made.push(name.to_owned()),
            Err(error) => facility::skipped(name, &format!("mknod ({error})")),
        }
    }
    (tree.finish(), made)
}

/// What landfall does not carry, on otherwise ordinary files: extended attributes and an ACL. `false` if the file
/// system has none.
pub fn attributes(root: &Path, seed: u64) -> (PathBuf, bool) {
    let mut tree = Tree::new(root, seed);
    tree.small("with-xattr");
    tree.small("with-acl");
    tree.small("without");
    let has_xattr = tree.xattr("with-xattr", "user.comment", b"kept at home").is_ok();
    // version 2; user_obj rw-, user 12345 r--, group_obj r--, mask r--, other ---
    let entry =
        |tag: u16, bits: u16, id: u32| [&tag.to_le_bytes()[..], &bits.to_le_bytes(), &id.to_le_bytes()].concat();
    let none = u32::MAX;
    let entries = [entry(1, 6, none), entry(2, 4, 12345), entry(4, 4, none), entry(16, 4, none), entry(32, 0, none)];
    let acl = [2u32.to_le_bytes().to_vec(), entries.concat()].concat();
    let has_acl = tree.xattr("with-acl", "system.posix_acl_access", &acl).is_ok();
    (tree.finish(), has_xattr && has_acl)
}

/// A bit of everything that any user can make and carry, small enough to be moved hundreds of times.
pub fn medley(root: &Path, seed: u64) -> PathBuf {
    let mut tree = Tree::new(root, seed);
    for number in 0..30 {
        let name = format!("small/{number}");
        tree.small(&name);
        let mode = [0o644, 0o444, 0o755, 0o600][number % 4];
        tree.mode(&name, mode);
        let (seconds, nanos) = (tree.below(2_000_000_000) as i64 - 500_000_000, tree.below(1_000_000_000) as u32);
        tree.mtime(&name, seconds, nanos);
    }
    tree.file("zero", &Content::Bytes(vec![]));
    tree.file("one-chunk", &Content::Random(CHUNK_BYTES));
    tree.file("odd-chunks", &Content::Random(3 * CHUNK_BYTES + 17));
    tree.file("large", &Content::Random(8 * CHUNK_BYTES));
    let data = vec![(0, 4096), (5 * CHUNK_BYTES, CHUNK_BYTES)];
    tree.file("sparse", &Content::Sparse { size_bytes: 9 * CHUNK_BYTES, data });
    tree.dir("empty/nested");
    tree.symlink("link", "small/1");
    tree.symlink("dangling", "nowhere");
    tree.small(b"not-utf-8-\xff\n");
    tree.small("locked/inside");
    tree.mode("locked/inside", 0o400);
    tree.mode("locked", 0o555);
    tree.mtime("locked", -77, 77);
    tree.mtime("small", 1_000_000_000, 123);
    tree.finish()
}
