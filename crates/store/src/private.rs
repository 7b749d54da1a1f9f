//! Files and directories that contain secrets. Only their owner has access, and symbolic links
//! planted by others are never followed.

use std::fs::{File, Metadata, OpenOptions, Permissions};
use std::io::{Error, ErrorKind, Result};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::Path;

use rustix::fs::OFlags;

/// The mode bits that grant access to others.
const OF_OTHERS: u32 = 0o077;
const WRITABLE_BY_ALL: u32 = 0o002;
const WRITABLE_BY_GROUP: u32 = 0o020;

/// The repairs that were made, in one sentence for the operator.
pub type Repaired = Option<String>;

fn no_follow() -> i32 {
    // The flag is a bit of an int on every system (open(2)).
    OFlags::NOFOLLOW.bits().cast_signed()
}

fn refused(why: impl Into<String>) -> Error {
    Error::new(ErrorKind::PermissionDenied, why.into())
}

fn is_trusted(owner: u32) -> bool {
    owner == rustix::process::geteuid().as_raw() || owner == 0
}

/// Creates a new file with mode 0600. Never opens an existing file or follows a link.
///
/// # Errors
///
/// Returns [`ErrorKind::AlreadyExists`] if the name is taken, and any other error of the system.
pub fn create(path: &Path) -> Result<File> {
    OpenOptions::new().write(true).create_new(true).mode(0o600).custom_flags(no_follow()).open(path)
}

/// Opens a file for writing, with mode 0600 if it is new.
///
/// # Errors
///
/// Returns an error if the path is a link, and any other error of the system.
pub fn open_or_create(path: &Path) -> Result<File> {
    let mut options = OpenOptions::new();
    options.write(true).create(true).truncate(false).mode(0o600).custom_flags(no_follow());
    options.open(path)
}

/// Checks that a file is a regular file that belongs to this program's user or to root.
///
/// # Errors
///
/// Returns [`ErrorKind::PermissionDenied`] with the problem.
pub fn check_file(found: &Metadata) -> Result<()> {
    if !found.is_file() {
        return Err(refused("it is not a regular file"));
    }
    if !is_trusted(found.uid()) {
        return Err(refused(format!(
            "it belongs to another user (uid {}), who could have changed it",
            found.uid()
        )));
    }
    Ok(())
}

/// Creates a directory with mode 0700, or checks an existing one: nobody else may write to it or
/// read it. A directory that belongs to this program's user is repaired, and the repair is
/// reported.
///
/// # Errors
///
/// Returns an error if others can write to it and it cannot be repaired, and any other error of the
/// system.
pub fn directory(dir: &Path) -> Result<Repaired> {
    let found = match std::fs::metadata(dir) {
        Ok(found) => found,
        Err(error) if error.kind() == ErrorKind::NotFound => {
            std::fs::DirBuilder::new().recursive(true).mode(0o700).create(dir)?;
            std::fs::metadata(dir)?
        }
        Err(error) => return Err(error),
    };
    if !found.is_dir() {
        return Err(Error::from(ErrorKind::NotADirectory));
    }
    let (owner, mode) = (found.uid(), found.mode() & 0o7777);
    if !is_trusted(owner) {
        return Err(refused(format!("it belongs to another user (uid {owner})")));
    }
    if mode & OF_OTHERS == 0 {
        return Ok(None);
    }
    if owner == rustix::process::geteuid().as_raw() {
        std::fs::set_permissions(dir, Permissions::from_mode(0o700))?;
        let what = if mode & (WRITABLE_BY_ALL | WRITABLE_BY_GROUP) == 0 { "read" } else { "change" };
        return Ok(Some(format!(
            "other users could {what} the data directory {} (mode {mode:03o}); changed its mode to 700",
            dir.display()
        )));
    }
    // In containers, a volume is often mounted by root for this program's group.
    if mode & WRITABLE_BY_ALL != 0 || (mode & WRITABLE_BY_GROUP != 0 && !is_of_group(found.gid())) {
        return Err(refused(format!("other users can write to it (mode {mode:03o}); run `chmod 700` on it")));
    }
    Ok(None)
}

fn is_of_group(group: u32) -> bool {
    rustix::process::getegid().as_raw() == group
        || rustix::process::getgroups().is_ok_and(|groups| groups.iter().any(|one| one.as_raw() == group))
}

/// Checks a file of a data directory, if it exists, and removes the access of others.
///
/// # Errors
///
/// Returns an error if it is a link, not a regular file, or belongs to another user.
pub(crate) fn claim(path: &Path) -> Result<()> {
    let found = match std::fs::symlink_metadata(path) {
        Ok(found) => found,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
    };
    check_file(&found)?;
    if found.mode() & OF_OTHERS != 0 {
        // SQLite gives its write-ahead log the mode of the database (sqlite.org/wal.html), so both
        // are set.
        match std::fs::set_permissions(path, Permissions::from_mode(0o600)) {
            // Another process has closed the database meanwhile, which removed its write-ahead log.
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            done => done?,
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn mode(path: &Path) -> u32 {
        std::fs::metadata(path).unwrap().mode() & 0o777
    }

    #[test]
    fn a_new_file_is_never_written_through_a_link() {
        let place = tempfile::tempdir().unwrap();
        let (link, target) = (place.path().join("link"), place.path().join("target"));
        std::os::unix::fs::symlink(&target, &link).unwrap();
        assert_eq!(create(&link).unwrap_err().kind(), ErrorKind::AlreadyExists);
        assert!(open_or_create(&link).is_err());
        assert!(!target.exists());
        drop(create(&target).unwrap());
        assert_eq!(mode(&target), 0o600);
        assert_eq!(create(&target).unwrap_err().kind(), ErrorKind::AlreadyExists);
        open_or_create(&target).unwrap();
        claim(&link).unwrap_err();
    }

    #[test]
    fn a_directory_that_others_can_use_is_repaired_and_that_is_said() {
        let place = tempfile::tempdir().unwrap();
        let dir = place.path().join("deep/data");
        assert_eq!(directory(&dir).unwrap(), None);
        assert_eq!(mode(&dir), 0o700);
        for (open, what) in [(0o755, "read"), (0o777, "change"), (0o720, "change"), (0o701, "read")] {
            std::fs::set_permissions(&dir, Permissions::from_mode(open)).unwrap();
            let said = directory(&dir).unwrap().unwrap();
            assert!(said.contains(what) && said.contains(&format!("{open:o}")), "{said}");
            assert_eq!(mode(&dir), 0o700);
            assert_eq!(directory(&dir).unwrap(), None);
        }
        let file = dir.join("file");
        drop(create(&file).unwrap());
        directory(&file).unwrap_err();
        std::fs::set_permissions(&file, Permissions::from_mode(0o644)).unwrap();
        claim(&file).unwrap();
        assert_eq!(mode(&file), 0o600);
        claim(&dir).unwrap_err();
    }
}
