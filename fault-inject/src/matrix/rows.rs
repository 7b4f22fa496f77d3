//! The fault matrix: 83 faults in eight layers, and what must never come of each beyond what must never come of any: a
//! wrong file under a final name that was acknowledged.

/// Where a fault strikes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Layer {
    /// The sender's machine.
    Sender,
    /// The network.
    Network,
    /// The receiver's memory.
    Memory,
    /// The receiver's writes, syncs and names.
    Write,
    /// The receiver's disk at rest and read back.
    Rest,
    /// Crashes, pauses and time.
    Crash,
    /// The peer and its version.
    Peer,
    /// What is used every day and is no plain transfer.
    Everyday,
}

impl Layer {
    /// All of them, from the sender on.
    pub const ALL: [Layer; 8] = [
        Layer::Sender,
        Layer::Network,
        Layer::Memory,
        Layer::Write,
        Layer::Rest,
        Layer::Crash,
        Layer::Peer,
        Layer::Everyday,
    ];

    /// Its name for people.
    pub fn title(self) -> &'static str {
        match self {
            Layer::Sender => "Sender machine",
            Layer::Network => "Network",
            Layer::Memory => "Receiver memory",
            Layer::Write => "Disk write, sync, names",
            Layer::Rest => "Disk at rest, read-back",
            Layer::Crash => "Crashes, pauses, time",
            Layer::Peer => "Peer and version",
            Layer::Everyday => "Everyday use",
        }
    }
}

/// One fault.
#[derive(Clone, Copy, Debug)]
pub struct Row {
    /// Its number, from 1 on.
    pub number: u8,
    /// Where it strikes.
    pub layer: Layer,
    /// What it is.
    pub fault: &'static str,
    /// What must never come of it.
    pub never: &'static str,
}

const fn row(number: u8, layer: Layer, fault: &'static str, never: &'static str) -> Row {
    Row { number, layer, fault, never }
}

/// All of them.
pub const ROWS: [Row; 83] = [
    row(1, Layer::Sender, "source read: bit flipped once, manifest pass right", "send the flipped bytes as new truth"),
    row(2, Layer::Sender, "source read: wrong in the manifest pass, right later", "publish under the wrong root"),
    row(3, Layer::Sender, "source disk wrong, same wrong bytes every time", "be advertised as covered (limit L1)"),
    row(4, Layer::Sender, "EIO on one sector", "zeros or a hole in place of data"),
    row(5, Layer::Sender, "file truncated while read (short read, early EOF)", "shorter file published as complete"),
    row(6, Layer::Sender, "file grows or is rewritten in place", "mix of old and new"),
    row(7, Layer::Sender, "path replaced (rename, symlink, FIFO) between scan and open", "out-of-tree content; hang"),
    row(8, Layer::Sender, "file vanishes / permission lost", "silent success"),
    row(9, Layer::Sender, "sender memory: flip before hashing", "be advertised as covered in the fast mode (L2)"),
    row(10, Layer::Sender, "sender memory: flip after hashing, before encryption", "be written as verified"),
    row(
        11,
        Layer::Sender,
        "manifest page flipped in memory (hash, size, name, mode)",
        "right bytes under a wrong name acknowledged",
    ),
    row(12, Layer::Sender, "hash computed wrong on this core", "endless retry"),
    row(
        13,
        Layer::Sender,
        "sender journal torn, damaged, missing, foreign, older snapshot",
        "resume the wrong transfer",
    ),
    row(14, Layer::Sender, "sender out of memory/threads/descriptors", "partial manifest taken as whole"),
    row(15, Layer::Network, "loss 2 % and 30 %, bursts of 3", "stall for ever"),
    row(16, Layer::Network, "duplicates, replays up to 60 s late (0-50 %)", "double effect"),
    row(17, Layer::Network, "reordering, jitter 1 ms-1 s", "memory growth without bound"),
    row(18, Layer::Network, "bits flipped in 2 % and 30 % of packets", "crash; unlimited re-handshakes"),
    row(19, Layer::Network, "datagrams truncated, padded, coalesced, empty, 65 507 bytes", "panic"),
    row(20, Layer::Network, "black hole 5 s/2 s periodic; 60 s; for ever", "'failed' although the peer published"),
    row(21, Layer::Network, "one direction dead (acks lost)", "exactly-once claimed"),
    row(22, Layer::Network, "port or address changes mid-transfer", "accept another peer"),
    row(23, Layer::Network, "MTU shrinks to 1200 mid-way", "permanent stall"),
    row(24, Layer::Network, "bytes altered inside the encrypted stream (bug above AEAD)", "write"),
    row(25, Layer::Network, "stale messages of an earlier session or transfer", "old ack taken for new content"),
    row(26, Layer::Network, "connection lost between last chunk and ack", "re-send all data"),
    row(27, Layer::Network, "two receivers answer (split)", "both publish"),
    row(28, Layer::Memory, "flip after decryption, before hash", "write it"),
    row(29, Layer::Memory, "flip after hash, before write", "pass because the check read the cache"),
    row(30, Layer::Memory, "flip in the expected hash in memory", "overwrite good data for ever"),
    row(31, Layer::Memory, "have-bitmap bit set wrongly", "publish a hole"),
    row(32, Layer::Memory, "have-bitmap bit cleared wrongly", "damage the good copy while rewriting"),
    row(
        33,
        Layer::Memory,
        "right chunk, wrong offset or wrong file (software or misdirected write)",
        "swap two equal-size chunks/files unnoticed",
    ),
    row(34, Layer::Memory, "wrong length of the last chunk", "trailing garbage"),
    row(35, Layer::Write, "EIO on write", "lose other files"),
    row(
        36,
        Layer::Write,
        "ENOSPC, EDQUOT at any write/fallocate/mkdir/journal append",
        "delete verified data; corrupt journal",
    ),
    row(37, Layer::Write, "short write (fewer bytes than asked)", "a hole"),
    row(38, Layer::Write, "lost write (success, nothing done)", "zeros published"),
    row(39, Layer::Write, "corrupt write: 1 bit, 512 B or 4 KiB, 64 KiB (1:1:8)", "pass through the cache (RIVA)"),
    row(40, Layer::Write, "corrupt again on the same extent 20 times", "endless loop"),
    row(
        41,
        Layer::Write,
        "fsync fails once, then 'succeeds' (M2)",
        "retry fsync and believe it; ignore it (Syncthing)",
    ),
    row(42, Layer::Write, "late ENOSPC on a thin disk (M2)", "be acknowledged"),
    row(
        43,
        Layer::Write,
        "fsync lies (returns 0, data gone after power cut)",
        "be advertised as covered after the ack (L5)",
    ),
    row(44, Layer::Write, "fsync/rename takes 60 s", "time-out storm"),
    row(45, Layer::Write, "rename: EIO, EXDEV, EEXIST, ENOENT, EACCES", "copy+delete fallback without sync"),
    row(46, Layer::Write, "directory fsync fails", "be acknowledged"),
    row(47, Layer::Write, "file system goes read-only (EROFS)", "claim more than the last synced state"),
    row(
        48,
        Layer::Write,
        "another program edits, truncates, deletes the partial or the final file",
        "trust fd offsets",
    ),
    row(49, Layer::Write, "destination becomes a symlink, parent swapped", "write outside"),
    row(50, Layer::Write, "metadata set fails (chmod, utimes EPERM)", "silent"),
    row(51, Layer::Rest, "rot in a partial between two sessions", "trust journal"),
    row(52, Layer::Rest, "rot after write, before the final check", "be delivered"),
    row(53, Layer::Rest, "rot after the ack", "be promised (L6)"),
    row(54, Layer::Rest, "read-back served from the page cache (M1, mmapped page)", "report level device"),
    row(
        55,
        Layer::Rest,
        "read-back buffer flipped once",
        "rewrite good data because of a bad reader more than k times",
    ),
    row(56, Layer::Rest, "EIO on read-back", "abort all"),
    row(57, Layer::Rest, "final hash computed wrong", "be promised on match (L3)"),
    row(58, Layer::Rest, "receipt/DONE record damaged", "false 'done'"),
    row(59, Layer::Crash, "SIGKILL receiver at each named point", "partial file under a final name"),
    row(60, Layer::Crash, "SIGKILL sender at each named point", "all data sent again"),
    row(61, Layer::Crash, "SIGKILL at every disk/network system call, both sides", "a point nobody named"),
    row(62, Layer::Crash, "both at once; all pairs of points (sampled)", "wait for each other for ever"),
    row(63, Layer::Crash, "crash during recovery, twice and thrice", "lose what survived the first crash (redb's bug)"),
    row(64, Layer::Crash, "crash loop: killed every 50-500 ms", "live-lock; recovery longer than the life"),
    row(
        65,
        Layer::Crash,
        "power cut: un-fsynced data lost as any legal subset, torn at 512 B",
        "anything acknowledged is missing",
    ),
    row(66, Layer::Crash, "power cut: name/size durable, data not (M3)", "zero-length or zero-filled final"),
    row(
        67,
        Layer::Crash,
        "SIGSTOP for 5 s, 60 s, 2 x idle timeout at each point; then CONT after the peer gave up and a second receiver started",
        "two writers in one staging dir",
    ),
    row(68, Layer::Crash, "SIGINT/SIGTERM/SIGHUP, SIGPIPE, SIGXFSZ", "special clean-up that deletes progress"),
    row(69, Layer::Crash, "OOM kill, stack overflow, panic in any task", "half-alive process that still acks"),
    row(
        70,
        Layer::Crash,
        "staging/journal rolled back to an older snapshot (VM restore, backup)",
        "DONE from the future",
    ),
    row(71, Layer::Crash, "clock jumps ±1 year, monotonic fine", "expire a valid resume wrongly without telling"),
    row(72, Layer::Crash, "reboot changes boot id, pids reused", "refuse for ever"),
    row(73, Layer::Peer, "ack lost, duplicated, delayed by an hour", "have two effects"),
    row(74, Layer::Peer, "peer restarts with changed source under the same path", "'already done'"),
    row(75, Layer::Peer, "hostile or buggy peer: any frame, any order (fuzz)", "panic, unbounded memory, publish"),
    row(76, Layer::Peer, "old binary on one side, also across a resume", "misread journal"),
    row(
        77,
        Layer::Everyday,
        "SIGKILL in --delete: the command, its child, any call of the removal",
        "a removal before all is sealed, without its line, or outside of what was sent",
    ),
    row(78, Layer::Everyday, "SIGKILL of either side of --plan", "a byte, name, mode or time changed on either side"),
    row(79, Layer::Everyday, "SIGKILL at each step with --existing rename", "touch what stands there; a second copy"),
    row(
        80,
        Layer::Everyday,
        "either end of a pipe killed, closed or failing (`send -`, `recv --stdout`)",
        "exit 0 or a receipt for less than the whole",
    ),
    row(81, Layer::Everyday, "`recv --lan`: caller without the code, or out of order", "a ticket leaves; lock-out"),
    row(
        82,
        Layer::Everyday,
        "`send --lan`: host without the code, somebody in the middle",
        "a byte of the file leaves",
    ),
    row(
        83,
        Layer::Everyday,
        "`--plan`, `--delete`: far end that lies, or is silent",
        "remove what was not listed; hang",
    ),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_numbered_and_their_layers_in_order() {
        assert!(ROWS.iter().zip(1..).all(|(row, number)| row.number == number));
        assert!(ROWS.is_sorted_by_key(|row| row.layer));
        assert!(ROWS.iter().all(|row| !row.fault.is_empty() && !row.never.is_empty()));
    }
}
