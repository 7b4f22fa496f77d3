//! Every bound of the program, each once, unit in the name. Docs say what a number costs.
//! Nothing here is an option: what a user may change lives in `cli/`.

/// Bytes of one chunk, the unit of hashing, transfer and retry. The only size the product accepts; the
/// simulator uses [`SIMULATED_CHUNK_BYTES`]. Costs 32 digest bytes per chunk and bounds what one bad bit re-sends.
pub const CHUNK_BYTES: u32 = 1 << 20;
/// Chunk size of the simulator: small, so that many-chunk files are cheap.
pub const SIMULATED_CHUNK_BYTES: u32 = 4096;

/// Bytes wanted and not yet written by the receiver. Costs that much memory at the receiver at worst.
pub const IN_FLIGHT_BYTES_MAX: u64 = 64 << 20;
/// Chunks wanted and not yet written: bounds bookkeeping for tiny files.
pub const IN_FLIGHT_CHUNKS_MAX: u32 = 8192;
/// Bytes wanted, written or settling. What of them no synced claim covers a crash may send twice: all but the batch that is
/// being read back.
pub const UNSETTLED_BYTES_MAX: u64 = 256 << 20;
/// Bytes a sender may hash beyond what the receiver has considered. Costs that much memory at the sender.
pub const HASH_AHEAD_BYTES: u64 = 32 << 20;
/// Chunks a sender may hash beyond what the receiver has considered.
pub const HASH_AHEAD_CHUNKS_MAX: usize = 8192;
/// Entries whose records may run ahead of what the receiver has considered.
pub const HASH_AHEAD_ENTRIES_MAX: usize = 65_536;
/// Chunk bodies read from disk (not from the hash-ahead buffer) that wait to be sent.
pub const SERVE_AHEAD_CHUNKS_MAX: usize = 16;

/// Bytes of one batch: what shares a sync and a claim.
pub const BATCH_BYTES: u64 = 64 << 20;
/// Files of one batch. Each costs an open descriptor until it is sealed.
pub const BATCH_FILES_MAX: u32 = 2048;
/// Files of one batch however scarce descriptors are.
pub const BATCH_FILES_MIN: u32 = 8;
/// Descriptors that each file of a full batch may cost: three batches, what is on its way, and what is compared.
pub const DESCRIPTORS_PER_BATCH_FILE: u64 = 8;
/// Descriptors for which a receiver's table has room from its start. Costs eight bytes each.
pub const DESCRIPTORS_AT_START: u64 = 8192;
/// Descriptors that are not for files being received: directories that stay open, threads, sockets, state.
pub const DESCRIPTORS_RESERVED: u64 = 800;
/// Milliseconds after which a batch that is not full is settled anyway.
pub const BATCH_AGE_MS: u64 = 1000;
/// Files in one batch from which on one `syncfs` is tried instead of one `fsync` each.
pub const SYNCFS_FILES_MIN: usize = 64;
/// Bytes written by this process and not yet read back: makes a slow disk slow wants, not memory.
pub const UNVERIFIED_BYTES_MAX: u64 = 1 << 30;
/// Bytes from which on a file is looked for under other names of the target: sending a shorter one costs no more.
pub const ELSEWHERE_BYTES_MIN: u64 = 256 << 10;
/// Names of the target that are looked at for that, in all.
pub const ELSEWHERE_ENTRIES_MAX: usize = 1 << 20;
/// Files of one length of which it is looked whether they lie in the right place.
pub const ELSEWHERE_TRIED_FILES: usize = 64;
/// Files of it that are remembered. Costs their paths.
pub const ELSEWHERE_FILES_MAX: usize = 1 << 16;
/// Bytes of one read-back or adoption task: bounds how long the store is busy with one.
pub const SCAN_BYTES: u64 = 64 << 20;
/// Threads (and so the depth) of a parallel disk phase.
pub const POOL_THREADS: usize = 16;
/// Alignment that every known file system's O_DIRECT accepts, in memory and on the device.
pub const DIRECT_ALIGNMENT_BYTES: usize = 4096;
/// Bytes from which on one read or write goes past the page cache, where the file system states that it can.
pub const DIRECT_BYTES_MIN: usize = 256 << 10;
/// Bytes of a file without holes for which blocks are allocated ahead of a direct write. Costs that much space, at worst,
/// of each large file that is being received.
pub const ALLOCATED_AHEAD_BYTES: u64 = 64 << 20;
/// Bytes of a source that count as not cached once the first of them were not.
pub const CACHE_PROBE_BYTES: u64 = 16 << 20;
/// Bytes of the manifest log that are read at once when a small piece is asked for.
pub const LOG_BLOCK_BYTES: usize = 4 << 10;
/// Bytes of such blocks that are kept: the whole log of some 50,000 files, which a receipt reads in the order of hashes.
pub const LOG_KEPT_BYTES: usize = 2048 * LOG_BLOCK_BYTES;
/// Milliseconds for which the intake keeps back what it has to say, while it has more to do.
pub const INTAKE_SILENCE_MS: u64 = 1;
/// Milliseconds after which a child on another machine that has no link ends: its parent may be gone without a word, and
/// starts another one.
pub const CHILD_ALONE_MS: u64 = 60_000;
/// Longest pause before the other side is started again on another machine, in milliseconds.
pub const REMOTE_START_DELAY_MS_MAX: u64 = 15_000;
/// Lines that a login may say before the other side does.
pub const LOGIN_LINES_MAX: u32 = 100;
/// Bytes of such a line, and of that with which a child says that it is ready.
pub const READY_LINE_BYTES_MAX: usize = 64 << 10;
/// Milliseconds after which it is said that a child on another machine is ready and nothing comes back from it.
pub const BLOCKADE_MS: u64 = 4000;
/// A huge page of most machines: memory of chunks lies on such pages.
pub const HUGE_PAGE_BYTES: usize = 2 << 20;
/// Memory of chunks that is mapped at once. What is not used of it costs addresses only.
pub const CHUNK_MEMORY_BYTES: usize = 4 * HUGE_PAGE_BYTES;
/// Buffers of fewer bytes have memory of their own length: what is bounded are bytes, and chunk memory is lent whole.
pub const CHUNK_BUFFER_BYTES_MIN: usize = CHUNK_BYTES as usize / 4 * 3;
/// Chunks that the intake takes in together at most, one hashed while another is written.
pub const ARRIVAL_CHUNKS_MAX: usize = 4;
/// Chunks of fewer bytes are taken in one by one: a thread would cost more than their hash.
pub const ARRIVAL_BYTES_MIN: usize = 256 << 10;
/// Bytes of one uncached read.
pub const READ_BACK_BYTES: usize = 1 << 20;
/// How often a direct read may end inside a unit before the end of the file, as it does while the file grows.
pub const DIRECT_STALLS_MAX: u32 = 8;
/// How often an open is tried that the kernel asks to repeat (`EAGAIN`: a lease, a rename on the way).
pub const OPEN_ATTEMPTS_MAX: u32 = 8;
/// How often one page's absence from the cache is probed before the level falls to `requested`.
pub const EVICTION_PROBES_MAX: u32 = 8;
/// Pause between two of those, from the second on.
pub const EVICTION_PAUSE_MS: u64 = 2;

/// Chunk digests in one `Chunks` record. Deterministic, so that a lost log is rebuilt to the same chain.
pub const RECORD_DIGESTS_MAX: usize = 16;
/// Encoded bytes of one record: the largest is a path and a link target.
pub const RECORD_BYTES_MAX: usize = 2 * PATH_BYTES_MAX + 256;
/// Bytes of records in one control frame.
pub const RECORD_PAGE_BYTES: usize = 64 << 10;
/// Bytes of the largest control frame of any kind.
pub const FRAME_BYTES_MAX: usize = RECORD_PAGE_BYTES + RECORD_BYTES_MAX + 64;
/// Bytes of the first frame in each direction, before the peer is authenticated.
pub const HELLO_BYTES_MAX: usize = 16 << 10;
/// Runs in one want.
pub const WANT_RUNS_MAX: usize = 4096;
/// Bytes of exceptions in one page.
pub const EXCEPTION_PAGE_BYTES: usize = 64 << 10;

/// Entries in one manifest. Costs about 100 bytes each at the receiver.
pub const ENTRIES_MAX: u32 = 100_000_000;
/// Bytes of one file.
pub const FILE_BYTES_MAX: u64 = 1 << 50;
/// Bytes of one path below the target directory.
pub const PATH_BYTES_MAX: usize = 64 << 10;
/// Bytes of one component of a path.
pub const COMPONENT_BYTES_MAX: usize = 255;
/// Names with a number that are tried for an entry whose own name is taken; the last has this number.
pub const RENAME_ATTEMPTS_MAX: u16 = 999;
/// Components of one path.
pub const PATH_COMPONENTS_MAX: usize = 4096;
/// Patterns of a selection. A record holds them, each with some ten bytes around it.
pub const PATTERNS_MAX: usize = 1 << 15;
/// Bytes of the patterns of a selection. Written as JSON they may be six times as long, and a record has its own bound.
pub const PATTERNS_BYTES_MAX: usize = 512 << 10;
/// Bytes of an ignore file, or of a file of patterns.
pub const IGNORE_FILE_BYTES_MAX: usize = 1 << 20;
/// Bytes of a list of paths or of digests that the user gives. Costs that much memory at the sender, on disk beside its
/// record, and for a moment a few times as much.
pub const LIST_BYTES_MAX: usize = 16 << 20;
/// Bytes of a file that holds one; what is kept of it is shorter.
pub const LIST_FILE_BYTES_MAX: usize = 64 << 20;
/// Lines of such a list. Each costs a few bytes more in memory.
pub const LIST_LINES_MAX: usize = 1 << 20;
/// Bytes of a symlink's target.
pub const LINK_TARGET_BYTES_MAX: usize = 4095;

/// Times one extent may come back bad from one inode before a new inode is tried.
pub const EXTENT_STRIKES_MAX: u32 = 2;
/// Inodes tried for one file (failed syncs and bad extents both move to the next).
pub const INODES_MAX: u32 = 2;
/// Times one chunk may differ on arrival before the file is left out.
pub const ARRIVAL_STRIKES_MAX: u32 = 4;
/// Versions of one source file that are tried: the first and one retry.
pub const VERSIONS_MAX: u32 = 2;

/// First pause before a dial is repeated.
pub const RETRY_DELAY_MS_MIN: u64 = 100;
/// Longest pause between two dials. Costs that much idle time after a long outage.
pub const RETRY_DELAY_MS_MAX: u64 = 2000;
/// A link that is not authenticated by then is closed.
pub const HANDSHAKE_MS_MAX: u64 = 10_000;
/// After a peer has ended a link for good, or a child process has ended: how long the driver is left to read what was
/// said last on that link.
pub const LINK_VERDICT_MS: u64 = 500;
/// A listener looks at the wall clock this often: its own stands still while the machine sleeps.
pub const EXPIRY_LOOK_MS: u64 = 30_000;
/// A child waits this long for its predecessor, which ends when it finds out that their parent is gone.
pub const PREDECESSOR_MS: u64 = 5000;
/// A lock is waited for this long: a killed process holds it until the kernel has taken it down.
pub const DYING_MS: u64 = 1500;
/// Pause between two refusals that a listener shows. Further ones in between are not shown.
pub const REFUSAL_NOTICE_MS: u64 = 1000;
/// Random ports that a listener tries before it gives up.
pub const PORT_ATTEMPTS_MAX: u32 = 64;
/// Bytes of the line with which a parent tells a child what to do: two lists, written with a third more, and the rest.
pub const CHILD_LINE_BYTES_MAX: usize = 48 << 20;
/// QUIC keep-alive interval. A side that has nothing on its way hears of the other's restart by the next packet that it
/// sends: so long does a transfer stand still after it.
pub const KEEP_ALIVE_MS: u64 = 500;
/// QUIC idle timeout: a silent link is suspect after this.
pub const IDLE_MS_MAX: u64 = 20_000;
/// Pause between two looks whether what was sent is still acknowledged.
pub const UNANSWERED_LOOK_MS: u64 = 1000;
/// Bytes that a new link may have on its way before anything is known of the path, and after a long silence.
pub const CONGESTION_INITIAL_BYTES: u64 = 64 * 1200;
/// Packets that may always be on their way.
pub const CONGESTION_PACKETS_MIN: u64 = 4;
/// Time by which hosts may be late in sending and acknowledging. Costs a queue of that length.
pub const CONGESTION_HOST_MS: u64 = 4;
/// Longest time over which a path is believed to hold packets back and hand them on together.
pub const CONGESTION_AGGREGATE_MS: u64 = 20;
/// Longest mean delay on an empty path, beyond its shortest round trip, that is made up for.
pub const CONGESTION_JITTER_MS_MAX: u64 = 50;
/// Shortest time between two probes for more; up to a second is added.
pub const CONGESTION_CYCLE_MS: u64 = 3000;
/// A shortest round trip that nothing has confirmed for this long is measured again.
pub const CONGESTION_RTT_EXPIRY_MS: u64 = 10_000;
/// How long that takes at least. Costs half the rate meanwhile.
pub const CONGESTION_PROBE_RTT_MS: u64 = 200;
/// Nothing acknowledged for this long: the time does not count for what is remembered.
pub const CONGESTION_SILENCE_MS: u64 = 1000;
/// A rival met again within this time gets no more than it had.
pub const CONGESTION_RIVAL_MEMORY_MS: u64 = 10_000;
/// Moments of sending that are remembered for late acknowledgements, beyond two round trips.
pub const CONGESTION_SNAPSHOT_MS: u64 = 100;
/// Such moments at most. Costs about 64 bytes each.
pub const CONGESTION_SNAPSHOTS_MAX: usize = 1 << 15;
/// Pause between two `Progress` messages.
pub const PROGRESS_MS: u64 = 500;
/// Nothing moved for this long: say who waits for whom.
pub const STALL_MS: u64 = 3000;
/// A receiver with a receipt stays this long for its acknowledgement.
pub const LINGER_MS: u64 = 60_000;
/// A sender that holds a whole receipt from an earlier run gives the receiver this long to be met, and then answers
/// from it: a receiver that has heard of its acknowledgement is gone and never comes back.
pub const ANSWER_ALONE_MS: u64 = 5000;
/// The user is asked after this though the sender's walk is not done: with "at least".
pub const QUESTION_MS: u64 = 2000;
/// Pause between two looks at a full disk.
pub const SPACE_CHECK_MS: u64 = 2000;
/// Default patience without any link when nobody watches.
pub const PATIENCE_MS: u64 = 600_000;
/// What a limit on the rate lets through at once, as the time that it takes: what a pause may earn.
pub const LIMIT_BURST_MS: u64 = 20;
/// Least content that goes at once below a limit.
pub const LIMIT_PIECE_BYTES_MIN: usize = 1024;
/// Most content that goes at once below a limit.
pub const LIMIT_PIECE_BYTES_MAX: usize = 256 << 10;
/// Lowest limit on the rate, in bytes per second: a chunk takes 17 minutes.
pub const LIMIT_BYTES_PER_S_MIN: u64 = 1000;
/// Bytes of the file with which a running process is told of a new limit.
pub const LIMIT_FILE_BYTES_MAX: usize = 256;
/// How long `landfall limit` waits for that process to take it: it looks with each `Progress`.
pub const LIMIT_TAKEN_MS: u64 = 4000;
/// Pause between two looks whether it has.
pub const LIMIT_LOOK_MS: u64 = 20;
/// A ticket that is not taken expires after this.
pub const TICKET_SECONDS: u64 = 24 * 3600;
/// State of closed transfers is pruned after this.
pub const CLOSED_STATE_DAYS: u64 = 30;

/// Connections that are not authenticated yet, at most.
pub const INCOMING_MAX: usize = 64;
/// Unvalidated connections from which on addresses must be proved (QUIC Retry).
pub const INCOMING_RETRY_MIN: usize = 8;
/// QUIC receive window of a link before its peer is authenticated.
pub const UNPROVED_WINDOW_BYTES: u64 = 64 << 10;
/// Window of the control stream: page-sized frames in both directions.
pub const CONTROL_WINDOW_BYTES: u64 = 8 << 20;
/// Data streams, all from sender to receiver.
pub const DATA_STREAMS: usize = 2;
/// QUIC datagram size that path discovery may reach. Above 6,553 bytes ten segments no longer fit one GSO send.
pub const MTU_BYTES_MAX: u16 = 6500;
/// UDP socket buffer that is asked for.
pub const SOCKET_BUFFER_BYTES: usize = 8 << 20;
/// QUIC window of one stream; it cannot change during a link. Bounds the rate on a long path: window per round trip.
pub const STREAM_WINDOW_BYTES: u64 = 32 << 20;
/// QUIC receive window of a receiver's link once its peer is authenticated: both data streams full, and control
/// still moves. Costs that much memory at worst.
pub const LINK_WINDOW_BYTES: u64 = DATA_STREAMS as u64 * STREAM_WINDOW_BYTES + CONTROL_WINDOW_BYTES;
/// Bytes handed to QUIC and not yet acknowledged by the peer. Bounds the rate on a long path; costs that much memory.
pub const SEND_WINDOW_BYTES: u64 = 32 << 20;
/// Pause before the next of a ticket's addresses is dialled while earlier ones have not answered.
pub const DIAL_STAGGER_MS: u64 = 150;
/// Bytes of one frame of the exchange of a code for a ticket: the longest holds a ticket.
pub const LAN_FRAME_BYTES_MAX: usize = 2048;
/// Callers that a listener hears at a time, of whom one is past its first frame. Costs a socket each.
pub const LAN_INCOMING_MAX: usize = 8;
/// Time that a caller has for each of its frames.
pub const LAN_FRAME_MS: u64 = 3000;
/// Wrong codes after which a listener shows no further one. Each was a guess of one in 4,194,304.
pub const LAN_ATTEMPTS_MAX: u32 = 10;
/// Time in which a TCP connection to one announced address is to stand.
pub const LAN_DIAL_MS: u64 = 2000;
/// How long a sender that has found its peer looks whether another one shows the same nameplate.
pub const LAN_SETTLE_MS: u64 = 500;
/// How long a sender looks without a word.
pub const LAN_NOTICE_MS: u64 = 3000;
/// Pause of a sender to whom more was announced at once than it could hear, before it listens anew.
pub const LAN_CROWD_DELAY_MS: u64 = 100;
/// Announcements that a sender remembers. Further ones are not looked at.
pub const LAN_ENTRIES_MAX: usize = 256;
/// Addresses of one announcement that are dialled.
pub const LAN_ADDRESSES_MAX: usize = 16;
/// How long the end of a process waits until its announcement is taken back.
pub const LAN_GOODBYE_MS: u64 = 300;
/// Addresses in one ticket.
pub const TICKET_ADDRESSES_MAX: usize = 16;
/// Bytes of a small state file (a transfer's record). Longer ones are damaged and are not read.
pub const RECORD_FILE_BYTES_MAX: usize = 4 << 20;
/// Events that wait for the screen. Progress is dropped beyond it; everything else makes its driver wait.
pub const EVENTS_MAX: usize = 256;
/// Bytes of a file that is said to hold a ticket; a longer one is none.
pub const TICKET_FILE_BYTES_MAX: usize = 16 << 10;

/// Directories that the source walk holds open at once; those further up are opened again when it comes back to
/// them. Costs a descriptor each.
pub const HELD_DIRECTORIES_MAX: usize = 64;
/// Files and other entries whose records share one write of the manifest log.
pub const STEP_ENTRIES_MAX: usize = 64;
/// Entries that one step of the stat pass compares before others get their turn.
pub const STEP_COMPARED_ENTRIES_MAX: usize = 512;
/// Times that reading a source is tried before an I/O error is believed.
pub const SOURCE_READS_MAX: u32 = 3;
/// Answered chunks that are reported to the sender's brain together.
pub const SERVED_REPORT_CHUNKS: u32 = 16;
/// Longest wait for the last control messages to arrive before a link is closed, and then for the close itself.
pub const FAREWELL_MS: u64 = 3000;
/// Pause of the listener of `--lan` after a caller that could not be accepted.
pub const LAN_ACCEPT_DELAY_MS: u64 = 100;
/// Text of a receipt's lines that is kept from their hashing for their writing. Beyond it they are made a second time.
pub const RECEIPT_TEXT_BYTES_MAX: usize = 16 << 20;
/// How long a process stays whose last word has been heard, for the packet that closes its link.
pub const FLUSH_MS: u64 = 20;
/// Times that one sending run begins again because its state was changed on disk meanwhile.
pub const STATE_MENDS_ROUNDS_MAX: u32 = 3;
/// How often a receiver begins anew with a manifest log of which nothing is good, before it says so.
pub const EMPTY_LOG_ROUNDS_MAX: u32 = 10;
/// Source files that serving keeps open. Costs a descriptor each.
pub const OPEN_SOURCES_MAX: usize = 16;
/// Questions of a plan that wait for their answers, and entries that wait for what is said of those before them. Costs a
/// path each, and in one that compares chunks their digests.
pub const PLAN_QUESTIONS_MAX: usize = 512;
/// Chunks that one question of a plan compares.
pub const PLAN_CHUNKS_MAX: u32 = 64;
/// Such questions about one file that may be open, so that both sides read at the same time. What one of them says may
/// make those behind it a waste.
pub const PLAN_RUNS_AHEAD_MAX: usize = 2;
/// Bytes of one line of a plan: a path and a link target, escaped.
pub const PLAN_LINE_BYTES_MAX: usize = 8 * (PATH_BYTES_MAX + LINK_TARGET_BYTES_MAX);
/// Entries of one line, and of one batch of removals, under `--delete`.
pub const DELETE_BATCH_ENTRIES: usize = 256;
/// Bytes of paths after which such a line is full.
pub const DELETE_BATCH_BYTES: usize = 128 << 10;
/// Bytes of one such line: a full one and one more path, escaped, with what is said of each entry.
pub const DELETE_LINE_BYTES_MAX: usize = 8 * (DELETE_BATCH_BYTES + PATH_BYTES_MAX);
/// Entries that one run deletes: they are listed first, which costs about 150 bytes of memory for each.
pub const DELETE_ENTRIES_MAX: usize = 2 << 20;
/// Bytes of all their paths.
pub const DELETE_PATHS_BYTES_MAX: usize = 256 << 20;

const _: () = assert!(LAN_FRAME_BYTES_MAX > 1024 && LAN_FRAME_BYTES_MAX <= u16::MAX as usize);
const _: () = assert!(CHILD_LINE_BYTES_MAX >= 2 * LIST_BYTES_MAX / 3 * 4 + (4 << 20));
const _: () = assert!(IN_FLIGHT_BYTES_MAX >= CHUNK_BYTES as u64 && HASH_AHEAD_BYTES >= 2 * CHUNK_BYTES as u64);
const _: () = assert!(UNSETTLED_BYTES_MAX == IN_FLIGHT_BYTES_MAX + 3 * BATCH_BYTES);
const _: () = assert!(UNVERIFIED_BYTES_MAX >= 2 * UNSETTLED_BYTES_MAX);
const _: () = assert!(RECORD_BYTES_MAX > 32 * RECORD_DIGESTS_MAX + 64);
const _: () = assert!(FRAME_BYTES_MAX > RECORD_PAGE_BYTES && (HELLO_BYTES_MAX as u64) < UNPROVED_WINDOW_BYTES);
const _: () = assert!((MTU_BYTES_MAX as usize) * 10 <= 65_535);
const _: () = assert!(KEEP_ALIVE_MS * 3 < IDLE_MS_MAX);
const _: () = assert!(LINK_WINDOW_BYTES >= IN_FLIGHT_BYTES_MAX + CONTROL_WINDOW_BYTES);
const _: () = assert!(STREAM_WINDOW_BYTES > CONTROL_WINDOW_BYTES && CONTROL_WINDOW_BYTES > FRAME_BYTES_MAX as u64);
const _: () = assert!(INCOMING_RETRY_MIN < INCOMING_MAX && TICKET_ADDRESSES_MAX <= u8::MAX as usize);
const _: () = assert!(PLAN_LINE_BYTES_MAX > 6 * PATH_BYTES_MAX + 64 * PLAN_CHUNKS_MAX as usize + 256);
const _: () = assert!(DELETE_LINE_BYTES_MAX > 6 * (DELETE_BATCH_BYTES + PATH_BYTES_MAX) + 512 * DELETE_BATCH_ENTRIES);
