//! Mounting and unmounting the lying disk, and what its owner does with it while it runs. Finds out first whether this
//! machine and this user can mount at all.

use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};

use fuser::{BackgroundSession, Config, MountOption, Session, SessionACL};
use rustix::mount::UnmountFlags;
use rustix::process::{Resource, Rlimit};

use super::faults::{Fault, Kind};
use super::injector::{Injection, Injector};
use super::server::{Cache, Server, locked};
use super::state::{Loss, State};

/// What is missing for mounting here; `None` if nothing is.
pub fn missing() -> Option<String> {
    if !Path::new("/dev/fuse").exists() {
        return Some("FUSE (there is no /dev/fuse)".to_owned());
    }
    if rustix::process::geteuid().is_root() {
        return None;
    }
    let mut helpers = std::env::var_os("PATH").iter().flat_map(std::env::split_paths).collect::<Vec<_>>().into_iter();
    match helpers.any(|dir| dir.join("fusermount3").is_file() || dir.join("fusermount").is_file()) {
        true => None,
        false => Some("root, or the program fusermount3, to mount FUSE".to_owned()),
    }
}

/// A mounted disk. Dropping it unmounts it in order.
#[derive(Debug)]
pub struct FuseDisk {
    mount: PathBuf,
    backing: PathBuf,
    cache: Cache,
    state: Arc<Mutex<State>>,
    session: Option<BackgroundSession>,
}

impl FuseDisk {
    /// Mounts a disk over BACKING; both directories exist.
    pub fn mount(mount: &Path, backing: &Path, seed: u64, faults: Vec<Fault>, cache: Cache) -> io::Result<FuseDisk> {
        raise_descriptors()?;
        let backing = backing.canonicalize()?;
        let mount = mount.canonicalize()?;
        if mount.starts_with(&backing) || backing.starts_with(&mount) {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "the mount and its BACKING lie in each other"));
        }
        let state = Arc::new(Mutex::new(State::new(&backing, Injector::new(seed, faults))?));
        let session = Some(session(&mount, &state, cache)?);
        Ok(FuseDisk { mount, backing, cache, state, session })
    }

    /// Where it is mounted.
    pub fn path(&self) -> &Path {
        &self.mount
    }

    /// Its platter.
    pub fn backing(&self) -> &Path {
        &self.backing
    }

    /// Works on the disk itself.
    pub fn with<T>(&self, act: impl FnOnce(&mut State) -> T) -> T {
        act(&mut locked(&self.state))
    }

    /// Injections of a kind so far.
    pub fn count(&self, kind: Kind) -> u64 {
        self.with(|state| state.injector.counts().get(&kind).copied().unwrap_or(0))
    }

    /// Injections of all kinds so far.
    pub fn count_all(&self) -> u64 {
        self.with(|state| state.injector.counts().values().sum())
    }

    /// Injections one by one.
    pub fn log(&self) -> Vec<Injection> {
        self.with(|state| state.injector.log().to_vec())
    }

    /// One fault more.
    pub fn set(&self, fault: Fault) {
        self.with(|state| state.injector.arm(fault));
    }

    /// No faults of that kind any more; without a kind no faults at all.
    pub fn clear(&self, kind: Option<Kind>) {
        self.with(|state| state.injector.disarm(kind));
    }

    /// The power goes. Whoever has the disk open hears EIO; BACKING holds what survived.
    pub fn cut(&self) -> io::Result<Loss> {
        self.with(State::cut)
    }

    /// After a power cut: mounts what survived, with the faults and counts as they were.
    pub fn boot(&mut self) -> io::Result<()> {
        self.detach()?;
        let seed = self.with(|state| state.injector.dice().seed());
        let mut state = locked(&self.state);
        let injector = std::mem::replace(&mut state.injector, Injector::new(seed, vec![]));
        let fresh = State::new(&self.backing, injector)?;
        drop(state);
        self.state = Arc::new(Mutex::new(fresh));
        self.session = Some(session(&self.mount, &self.state, self.cache)?);
        Ok(())
    }

    /// Whether somebody else has unmounted it.
    pub fn has_ended(&self) -> bool {
        self.session.as_ref().is_none_or(|session| session.guard.is_finished())
    }

    /// Unmounts in order: everything is synced first, unless the power has gone.
    pub fn unmount(mut self) -> io::Result<()> {
        self.end()
    }

    fn end(&mut self) -> io::Result<()> {
        if self.session.is_none() {
            return Ok(());
        }
        self.detach()?;
        locked(&self.state).finish()
    }

    /// Takes the mount away. Who still uses it is cut off.
    fn detach(&mut self) -> io::Result<()> {
        let Some(session) = self.session.take() else { return Ok(()) };
        if session.guard.is_finished() {
            return session.join();
        }
        match rustix::mount::unmount(&self.mount, UnmountFlags::empty()) {
            Ok(()) => {}
            Err(rustix::io::Errno::PERM) => by_helper(&self.mount)?,
            Err(_) => rustix::mount::unmount(&self.mount, UnmountFlags::FORCE | UnmountFlags::DETACH)?,
        }
        session.join()
    }
}

impl Drop for FuseDisk {
    fn drop(&mut self) {
        if let Err(error) = self.end() {
            crate::rig::facility::say(&format!("unmount {}: {error}", self.mount.display()));
        }
    }
}

/// Every inode that is known costs a descriptor.
fn raise_descriptors() -> io::Result<()> {
    let limit = rustix::process::getrlimit(Resource::Nofile);
    Ok(rustix::process::setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum })?)
}

fn session(mount: &Path, state: &Arc<Mutex<State>>, cache: Cache) -> io::Result<BackgroundSession> {
    let mut config = Config::default();
    let name = |text: &str| text.to_owned();
    config.mount_options = vec![
        MountOption::FSName(name("fault-inject")),
        MountOption::Subtype(name("fault-inject")),
        MountOption::DefaultPermissions,
        MountOption::NoAtime,
    ];
    if rustix::process::geteuid().is_root() {
        config.acl = SessionACL::All;
    }
    Session::new(Server { state: Arc::clone(state), cache }, mount, &config)?.spawn()
}

/// Unmounts as a user.
fn by_helper(mount: &Path) -> io::Result<()> {
    let status = Command::new("fusermount3").args(["-u", "-z"]).arg(mount).stdin(Stdio::null()).status()?;
    if status.success() { Ok(()) } else { Err(io::Error::other(format!("fusermount3 -u: {status}"))) }
}
