//! Whether CMD can be started at all, asked before anything is reserved for it.

use std::ffi::OsStr;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::fs::{Access, access};
use rustix::io::Errno;

use super::{SpawnError, Spec};

/// Where execvp(3) looks when there is no `PATH`.
const PATH: &str = "/bin:/usr/bin";

impl Spec {
    /// Finds CMD as execvp(3) does. Success is no promise: what a file really is only shows when it is executed.
    ///
    /// # Errors
    /// It is not there, or may not be executed.
    pub fn look_up(&self) -> Result<PathBuf, SpawnError> {
        let program = self.program.as_os_str();
        look_up(program, std::env::var_os("PATH").as_deref().unwrap_or(OsStr::new(PATH))).map_err(|why| {
            let (program, why) = (program.to_owned(), io::Error::from(why));
            SpawnError::of_exec(program, why)
        })
    }
}

fn look_up(program: &OsStr, path: &OsStr) -> Result<PathBuf, Errno> {
    let mut why = Errno::NOENT;
    for candidate in candidates(program, path) {
        match may_execute(&candidate) {
            Ok(()) => return Ok(candidate),
            Err(Errno::NOENT | Errno::NOTDIR) => {}
            Err(other) => why = other,
        }
    }
    Err(why)
}

fn candidates(program: &OsStr, path: &OsStr) -> Vec<PathBuf> {
    if program.is_empty() || program.as_bytes().contains(&b'/') {
        return vec![program.into()];
    }
    // An empty entry of `PATH` is the current directory, which the join below comes to.
    path.as_bytes().split(|byte| *byte == b':').map(|place| Path::new(OsStr::from_bytes(place)).join(program)).collect()
}

fn may_execute(file: &Path) -> Result<(), Errno> {
    access(file, Access::EXEC_OK)?;
    if file.is_dir() { Err(Errno::ACCESS) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn the_answer_is_the_one_of_exec() {
        let place = tempfile::tempdir().unwrap();
        let make = |name: &str, mode| {
            let file = place.path().join(name);
            fs::write(&file, "").unwrap();
            fs::set_permissions(&file, fs::Permissions::from_mode(mode)).unwrap();
        };
        make("runs", 0o755);
        make("text", 0o644);
        fs::create_dir(place.path().join("directory")).unwrap();
        let in_path = |program: &str| {
            let path = [b"/none:", place.path().as_os_str().as_bytes()].concat();
            look_up(OsStr::new(program), OsStr::from_bytes(&path))
                .map(|found| assert_eq!(found, place.path().join(program)))
        };
        assert_eq!(in_path("runs"), Ok(()));
        assert_eq!(in_path("text"), Err(Errno::ACCESS));
        assert_eq!(in_path("directory"), Err(Errno::ACCESS));
        assert_eq!(in_path("absent"), Err(Errno::NOENT));
        assert_eq!(in_path(""), Err(Errno::NOENT));
        let by_path = |name: &str| look_up(place.path().join(name).as_os_str(), OsStr::new("")).map(drop);
        assert_eq!(by_path("runs"), Ok(()));
        assert_eq!(by_path("text"), Err(Errno::ACCESS));
        assert_eq!(by_path("absent"), Err(Errno::NOENT));
        assert_eq!(by_path("runs/below"), Err(Errno::NOENT));
    }
}
