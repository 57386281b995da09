//! The private directory where this user's holders are found: verified, never trusted.

use std::fs::{self, File};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::fs::{Mode, OFlags};

/// Its name, followed by the user's id where it lies among those of others.
const DIRECTORY: &str = "gpu-balloon";

/// Why there is no runtime directory.
#[derive(Debug, thiserror::Error)]
pub enum DirectoryError {
    #[error("cannot create the runtime directory {}", .path.display())]
    Create { path: PathBuf, source: io::Error },
    #[error("cannot read the runtime directory {}", .path.display())]
    Open { path: PathBuf, source: io::Error },
    #[error("the runtime directory {} belongs to uid {owner}, not to uid {user}", .path.display())]
    ForeignOwner { path: PathBuf, owner: u32, user: u32 },
    #[error("the runtime directory {path} is open to others (mode {mode:o}); `chmod 700 {path}` closes it", path = .path.display())]
    TooOpen { path: PathBuf, mode: u32 },
    #[error("the runtime directory {} is not a directory", .path.display())]
    NotADirectory { path: PathBuf },
}

/// The runtime directory, opened: what is reached through it cannot be swapped for another directory.
#[derive(Debug, Clone)]
pub struct RuntimeDirectory {
    path: PathBuf,
    owner: u32,
    directory: Arc<OwnedFd>,
}

impl RuntimeDirectory {
    /// Opens `$XDG_RUNTIME_DIR/gpu-balloon`, else `gpu-balloon-<uid>` in the temporary directory; creates it with mode
    /// 0700 when it is missing.
    ///
    /// # Errors
    /// It cannot be made, or it is not this user's own private directory.
    pub fn open() -> Result<Self, DirectoryError> {
        let user = rustix::process::geteuid().as_raw();
        let runtime = std::env::var_os("XDG_RUNTIME_DIR").map(PathBuf::from).filter(|path| path.is_absolute());
        // Under `sudo -E` it is the caller's: a directory of root's in there would lock the caller out of it.
        let is_own = |path: &PathBuf| fs::metadata(path).is_ok_and(|found| found.is_dir() && found.uid() == user);
        let path = match runtime.filter(is_own) {
            Some(runtime) => runtime.join(DIRECTORY),
            None => temporary().join(format!("{DIRECTORY}-{user}")),
        };
        Self::open_at(path, user)
    }

    /// The runtime directories of other users, for root, who may manage their balloons; none for anybody else.
    ///
    /// Each is judged as its owner would: one that anyone else could write to is left out.
    pub fn of_others() -> Vec<Self> {
        if !rustix::process::geteuid().is_root() {
            return Vec::new();
        }
        let sessions =
            entries(Path::new("/run/user")).filter_map(|(path, name)| Some((path.join(DIRECTORY), name.parse().ok()?)));
        let shared = temporary();
        let temporary = entries(&shared).filter_map(|(path, name)| {
            let user = name.strip_prefix(DIRECTORY)?.strip_prefix('-')?.parse().ok()?;
            Some((path, user))
        });
        let others = sessions.chain(temporary).filter(|(_, user)| *user != 0);
        others.filter_map(|(path, user)| Self::verified(path, user).ok()).collect()
    }

    pub(crate) fn open_at(path: PathBuf, user: u32) -> Result<Self, DirectoryError> {
        match fs::DirBuilder::new().mode(0o700).create(&path) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(source) => return Err(DirectoryError::Create { path, source }),
        }
        Self::verified(path, user)
    }

    /// Opens a directory that is there, if it is this user's own and closed to others.
    fn verified(path: PathBuf, user: u32) -> Result<Self, DirectoryError> {
        let metadata = match fs::symlink_metadata(&path) {
            Ok(metadata) => metadata,
            Err(source) => return Err(DirectoryError::Open { path, source }),
        };
        if !metadata.is_dir() {
            return Err(DirectoryError::NotADirectory { path });
        }
        let flags = OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::RDONLY;
        let directory = match rustix::fs::open(&path, flags, Mode::empty()) {
            Ok(directory) => directory,
            Err(error) => return Err(DirectoryError::Open { path, source: error.into() }),
        };
        // The opened directory is judged, not the path, which may have changed since.
        let metadata = match rustix::fs::fstat(&directory) {
            Ok(metadata) => metadata,
            Err(error) => return Err(DirectoryError::Open { path, source: error.into() }),
        };
        if metadata.st_uid != user {
            return Err(DirectoryError::ForeignOwner { path, owner: metadata.st_uid, user });
        }
        let mode = metadata.st_mode & 0o7777;
        if mode & 0o077 != 0 {
            return Err(DirectoryError::TooOpen { path, mode });
        }
        Ok(Self { path, owner: user, directory: Arc::new(directory) })
    }

    /// The id of the user whose holders are found here.
    pub fn owner(&self) -> u32 {
        self.owner
    }

    /// For messages.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// A path to `name` in the opened directory, short enough for a socket address however long the real path is.
    pub fn short_path(&self, name: &str) -> PathBuf {
        use std::os::fd::AsRawFd;
        PathBuf::from(format!("/proc/self/fd/{}/{name}", self.directory.as_fd().as_raw_fd()))
    }

    /// The same for other processes of this user, as long as this process holds the directory open.
    pub fn short_path_for_others(&self, name: &str) -> PathBuf {
        use std::os::fd::AsRawFd;
        let (pid, directory) = (std::process::id(), self.directory.as_fd().as_raw_fd());
        PathBuf::from(format!("/proc/{pid}/fd/{directory}/{name}"))
    }

    pub fn join(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    /// The names in the directory that end in `suffix`, without it, sorted.
    ///
    /// # Errors
    /// The directory cannot be read.
    pub fn names_with(&self, suffix: &str) -> Result<Vec<String>, DirectoryError> {
        let unreadable = |source| DirectoryError::Open { path: self.path.clone(), source };
        let mut names = Vec::new();
        for entry in fs::read_dir(self.short_path("")).map_err(unreadable)? {
            let entry = entry.map_err(unreadable)?;
            if let Some(name) = entry.file_name().to_str().and_then(|name| name.strip_suffix(suffix)) {
                names.push(name.to_owned());
            }
        }
        names.sort();
        Ok(names)
    }
}

/// `$TMPDIR`, unless it would mean another place in every directory, or none at all.
fn temporary() -> PathBuf {
    Some(std::env::temp_dir()).filter(|path| path.is_absolute() && path.is_dir()).unwrap_or_else(|| "/tmp".into())
}

/// Paths and names in a directory; none if it cannot be read.
fn entries(directory: &Path) -> impl Iterator<Item = (PathBuf, String)> {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    entries.filter_map(|entry| Some((entry.path(), entry.file_name().into_string().ok()?)))
}

/// Whether `path` still leads to `file`. A lock on a file that was replaced or removed says nothing about its name.
pub fn is_at(file: &File, path: &Path) -> bool {
    let (Ok(own), Ok(there)) = (file.metadata(), fs::metadata(path)) else { return false };
    (own.dev(), own.ino()) == (there.dev(), there.ino())
}
