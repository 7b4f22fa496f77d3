//! What comes from standard input or goes to standard output, kept in the home as a file: a transfer needs one that can be
//! read again. A stream lies there as long as an open transfer is about it.
//!
//! ```text
//! streams/<key>/lock            held while a process works on it
//! streams/<key>/unfinished      standard input, while it is read: nothing speaks of it
//! streams/<key>/content/NAME    the same, read to its end and synced; or what was received to be written out
//! ```

use std::ffi::OsStr;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};
use std::thread::sleep;
use std::time::{Duration, Instant, SystemTime};

use data_encoding::HEXLOWER;
use tracing::warn;

use crate::digest::derive_key;
use crate::disk::{Disk, DiskFile, RealDir, RealDisk};
use crate::error::Error;
use crate::identity::Role;
use crate::limits::{CHUNK_BYTES, DYING_MS, RETRY_DELAY_MS_MIN};
use crate::options::Meeting;
use crate::state::files::{create_anew, empty_dir, ensure_dir, find_dir};
use crate::state::given;
use crate::state::home::{Home, Listing};
use crate::state::lock::Lock;
use crate::state::transfer::TransferRecord;

const STREAMS: &str = "streams";
const CONTENT: &str = "content";
const UNFINISHED: &str = "unfinished";
const LOCK: &str = "lock";
/// What a key is derived for.
const CONTEXT: &str = "landfall stream v1";
/// Bytes of a key.
const KEY_BYTES: usize = 16;

/// Which stream it is: the same for the same command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StreamKey(String);

impl StreamKey {
    /// The stream of that name that goes to, or comes from, where the meeting leads. What is received has no name before
    /// it comes.
    pub fn new(role: Role, name: &OsStr, meeting: &Meeting) -> StreamKey {
        let (kind, place) = match meeting {
            Meeting::Listen { .. } => ("listen", Vec::new()),
            // No stream's own way: what is read anew has no transfer that could go on.
            Meeting::Continue => ("continue", Vec::new()),
            Meeting::Dial(ticket) => ("dial", ticket.transfer_id().0.to_vec()),
            Meeting::Parent { other, .. } => ("parent", other.as_os_str().as_bytes().to_vec()),
            Meeting::Child { secret, .. } => ("child", secret.transfer_id().0.to_vec()),
            Meeting::Resume(id, _) => ("resume", id.0.to_vec()),
        };
        // No name holds a NUL, and no word does.
        let material = [role.word().as_bytes(), name.as_bytes(), kind.as_bytes(), &place].join(&0);
        StreamKey(HEXLOWER.encode(&derive_key(CONTEXT, &material)[..KEY_BYTES]))
    }

    fn parse(name: &[u8]) -> Option<StreamKey> {
        let is_digit = |byte: &u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
        let is_key = name.len() == 2 * KEY_BYTES && name.iter().all(is_digit);
        is_key.then(|| StreamKey(String::from_utf8_lossy(name).into_owned()))
    }

    /// The directory in which its file lies, in the home at this path.
    pub fn content_dir(&self, home: &Path) -> PathBuf {
        self.path(home).join(CONTENT)
    }

    fn path(&self, home: &Path) -> PathBuf {
        home.join(STREAMS).join(&self.0)
    }
}

/// The stream that a transfer of this home is about, if it is about one.
pub fn key_of<D: Disk>(home: &Home<D>, record: &TransferRecord) -> Option<StreamKey> {
    let key = claimed_key(record)?;
    let dir = given::canonical(&home.path().join(STREAMS)).ok()?;
    record.paths.first()?.starts_with(dir.join(&key.0)).then_some(key)
}

/// The stream that a record's path names, in whichever place the home was when that was written.
fn claimed_key(record: &TransferRecord) -> Option<StreamKey> {
    let path = match record.role {
        Role::Sender => record.paths.first()?.parent()?,
        Role::Receiver => record.paths.first()?,
    };
    let mut upwards = path.components().rev();
    let is = |part: Option<Component<'_>>, name: &str| part.is_some_and(|part| part.as_os_str() == name);
    if !is(upwards.next(), CONTENT) {
        return None;
    }
    let key = StreamKey::parse(upwards.next()?.as_os_str().as_bytes())?;
    is(upwards.next(), STREAMS).then_some(key)
}

/// A stream on which this process alone works.
#[derive(Debug)]
pub struct Stream {
    home: Home<RealDisk>,
    key: StreamKey,
    dir: RealDir,
    _lock: Lock,
}

impl Stream {
    /// Takes a stream for a command that begins, or goes on. What lies there and no open transfer is about goes.
    pub fn begin(home: &Home<RealDisk>, key: &StreamKey) -> Result<Stream, Error> {
        let stream = Stream::hold(home, key)?;
        if !stream.is_used()? {
            stream.act(|disk| match find_dir(disk, &stream.dir, CONTENT.as_bytes())? {
                Some(content) => empty_dir(disk, &content),
                None => Ok(()),
            })?;
        }
        Ok(stream)
    }

    /// Takes a stream as it is. A process that was killed holds its lock until the kernel has taken it down: it is given
    /// that time.
    pub fn hold(home: &Home<RealDisk>, key: &StreamKey) -> Result<Stream, Error> {
        let deadline = Instant::now() + Duration::from_millis(DYING_MS);
        loop {
            let is_passing = match Stream::take(home, key) {
                Err(Error::Locked { .. }) => true,
                // Whoever held it has removed it just now.
                Err(Error::State { source, .. }) => source.kind() == io::ErrorKind::NotFound,
                taken => return taken,
            };
            if !is_passing || Instant::now() >= deadline {
                return Stream::take(home, key);
            }
            sleep(Duration::from_millis(RETRY_DELAY_MS_MIN));
        }
    }

    fn take(home: &Home<RealDisk>, key: &StreamKey) -> Result<Stream, Error> {
        let (disk, path) = (RealDisk::new(), key.path(home.path()));
        let failed = |source| Error::State { path: path.clone(), source };
        let open = || {
            let root = RealDisk::open_root(home.path())?;
            let streams = ensure_dir(&disk, &root, STREAMS.as_bytes())?;
            ensure_dir(&disk, &streams, key.0.as_bytes())
        };
        open().map_err(failed)?;
        let lock = Lock::take(&path.join(LOCK), || "this stream".to_owned())?;
        // Once more: what was opened before the lock was held may have been removed since, with the lock of that time.
        let dir = open().map_err(failed)?;
        ensure_dir(&disk, &dir, CONTENT.as_bytes()).map_err(failed)?;
        Ok(Stream { home: home.clone(), key: key.clone(), dir, _lock: lock })
    }

    /// The home that it is in.
    pub fn home(&self) -> &Home<RealDisk> {
        &self.home
    }

    /// Where its file lies, or comes to lie.
    pub fn content_dir(&self) -> PathBuf {
        self.key.content_dir(self.home.path())
    }

    /// A place for what comes from standard input. Until that is finished it is nobody's.
    pub fn spool(&self) -> io::Result<Spool<RealDisk>> {
        Spool::begin(RealDisk::new(), self.dir.clone())
    }

    /// Lets go. What no open transfer is about goes, and what was not read to its end.
    pub fn release(self) {
        // A record that cannot be read is not this run's, which has just written its own.
        if let Err(error) = self.home.list().and_then(|listing| self.tidy(self.is_in(&listing))) {
            // It stands in nobody's way, and goes the next time.
            warn!(%error, "a stream that is not needed any more was not removed");
        }
    }

    fn tidy(&self, is_used: bool) -> Result<(), Error> {
        self.act(|disk| match disk.remove(&self.dir, UNFINISHED.as_bytes()) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        })?;
        if is_used {
            return Ok(());
        }
        self.act(|disk| {
            let content = find_dir(disk, &self.dir, CONTENT.as_bytes())?;
            if let Some(content) = content {
                empty_dir(disk, &content)?;
                disk.remove_dir(&self.dir, CONTENT.as_bytes())?;
            }
            // The lock goes last: whoever waits for it finds that its name is gone, and makes a new one.
            disk.remove(&self.dir, LOCK.as_bytes())?;
            let root = RealDisk::open_root(self.home.path())?;
            let streams = disk.open_dir(&root, STREAMS.as_bytes())?;
            match disk.remove_dir(&streams, self.key.0.as_bytes()) {
                // Somebody has begun anew there.
                Err(error) if error.kind() == io::ErrorKind::DirectoryNotEmpty => Ok(()),
                removed => removed,
            }
        })
    }

    /// Whether an open transfer is about it. A record that cannot be read may be that.
    fn is_used(&self) -> Result<bool, Error> {
        let listing = self.home.list()?;
        Ok(!listing.damaged.is_empty() || self.is_in(&listing))
    }

    fn is_in(&self, listing: &Listing) -> bool {
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_secs());
        let is_about = |record: &TransferRecord| {
            record.is_open() && !record.is_expired(now) && claimed_key(record).as_ref() == Some(&self.key)
        };
        listing.records.iter().any(is_about)
    }

    fn act<T>(&self, act: impl FnOnce(&RealDisk) -> io::Result<T>) -> Result<T, Error> {
        let path = self.key.path(self.home.path());
        act(&RealDisk::new()).map_err(|source| Error::State { path, source })
    }
}

/// Removes the streams that no open transfer is about and that nobody works on.
pub fn sweep(home: &Home<RealDisk>) -> Result<(), Error> {
    let disk = RealDisk::new();
    let list = || {
        let root = RealDisk::open_root(home.path())?;
        find_dir(&disk, &root, STREAMS.as_bytes())?.map_or(Ok(vec![]), |streams| disk.list(&streams))
    };
    let listed = list().map_err(|source| Error::State { path: home.path().join(STREAMS), source })?;
    for key in listed.iter().filter_map(|listed| StreamKey::parse(&listed.name)) {
        match Stream::take(home, &key) {
            Ok(stream) => stream.is_used().and_then(|is_used| stream.tidy(is_used))?,
            // Somebody is at work on it, or has just removed it.
            Err(Error::Locked { .. }) => {}
            Err(Error::State { source, .. }) if source.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Standard input while it is read: a file that has its name only when all of it is durable.
#[derive(Debug)]
pub struct Spool<D: Disk> {
    disk: D,
    dir: D::Dir,
    file: D::File,
    written_bytes: u64,
    buffer: Vec<u8>,
}

impl<D: Disk> Spool<D> {
    /// A new one, in the place of what a process left that was stopped.
    pub(super) fn begin(disk: D, dir: D::Dir) -> io::Result<Spool<D>> {
        let file = create_anew(&disk, &dir, UNFINISHED.as_bytes())?;
        Ok(Spool { disk, dir, file, written_bytes: 0, buffer: Vec::with_capacity(CHUNK_BYTES as usize) })
    }

    /// Bytes so far.
    pub fn bytes(&self) -> u64 {
        self.written_bytes + self.buffer.len() as u64
    }

    /// Appends.
    pub fn write(&mut self, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            let (now, rest) = bytes.split_at(bytes.len().min(CHUNK_BYTES as usize - self.buffer.len()));
            self.buffer.extend_from_slice(now);
            bytes = rest;
            if self.buffer.len() == CHUNK_BYTES as usize {
                self.flush()?;
            }
        }
        Ok(())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.write_all_at(&self.buffer, self.written_bytes)?;
        self.written_bytes += self.buffer.len() as u64;
        self.buffer.clear();
        Ok(())
    }

    /// The stream has come to its end: makes it durable, and gives it its name, in the place of what an earlier run read.
    pub fn finish(mut self, name: &OsStr) -> io::Result<()> {
        self.flush()?;
        self.file.sync()?;
        let content = ensure_dir(&self.disk, &self.dir, CONTENT.as_bytes())?;
        self.disk.replace(&self.dir, UNFINISHED.as_bytes(), &content, name.as_bytes())?;
        self.disk.sync_dir(&content)?;
        self.disk.sync_dir(&self.dir)
    }
}
