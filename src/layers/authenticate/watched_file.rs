//! A file that is read again when its content changes, whatever its times say.

use std::{
    fs, io,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    thread,
    time::Duration,
};

use xxhash_rust::xxh3::xxh3_128;

/// All that others than the owner may do, less reading by the group.
const OPEN_TO_OTHERS: u32 = 0o037;
/// Whoever writes in place is given this long to go on before the file is believed.
const SETTLE: Duration = Duration::from_millis(20);

#[derive(Debug)]
pub(super) struct WatchedFile {
    path: PathBuf,
    seen: u128,
    failing: bool,
}

impl WatchedFile {
    /// The file, and what is in it.
    pub(super) fn open(path: &Path) -> io::Result<(Self, Vec<u8>)> {
        let content = fs::read(path)?;
        let file = Self {
            path: path.to_owned(),
            seen: xxh3_128(&content),
            failing: false,
        };
        Ok((file, content))
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// What is in it if that is new. Each content, and each run of errors, is told once. A file
    /// that is being written is left for the next time. Blocks.
    pub(super) fn changed(&mut self) -> io::Result<Option<Vec<u8>>> {
        match fs::read(&self.path) {
            Ok(content) => {
                self.failing = false;
                let hash = xxh3_128(&content);
                if hash == self.seen {
                    return Ok(None);
                }
                thread::sleep(SETTLE);
                if fs::read(&self.path).map(|again| xxh3_128(&again)).ok() != Some(hash) {
                    return Ok(None);
                }
                self.seen = hash;
                Ok(Some(content))
            }
            Err(_) if self.failing => Ok(None),
            Err(error) => {
                self.failing = true;
                Err(error)
            }
        }
    }

    /// Secrets, or what grants rights, are for their owner.
    pub(super) fn warn_if_open_to_others(&self) {
        let mode = fs::metadata(&self.path).map_or(0, |meta| meta.permissions().mode());
        if mode & OPEN_TO_OTHERS != 0 {
            tracing::warn!(
                file = %self.path.display(),
                mode = format_args!("{:o}", mode & 0o777),
                "others can read or change this file: chmod 600 it"
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs::{File, FileTimes};

    use super::*;

    #[test]
    fn a_change_is_seen_once_though_length_and_time_stay() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("f");
        fs::write(&path, "one").unwrap();
        let time = fs::metadata(&path).unwrap().modified().unwrap();
        let (mut file, content) = WatchedFile::open(&path).unwrap();
        assert_eq!(content, b"one");
        assert_eq!(file.changed().unwrap(), None);
        fs::write(&path, "two").unwrap();
        let times = FileTimes::new().set_modified(time);
        File::options()
            .write(true)
            .open(&path)
            .unwrap()
            .set_times(times)
            .unwrap();
        assert_eq!(file.changed().unwrap().as_deref(), Some(&b"two"[..]));
        assert_eq!(file.changed().unwrap(), None);
    }

    #[test]
    fn a_file_that_is_gone_is_said_once_and_taken_up_when_it_is_back() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("f");
        fs::write(&path, "one").unwrap();
        let (mut file, _) = WatchedFile::open(&path).unwrap();
        fs::remove_file(&path).unwrap();
        assert!(file.changed().is_err());
        assert_eq!(file.changed().unwrap(), None);
        fs::write(&path, "one").unwrap();
        assert_eq!(file.changed().unwrap(), None);
        fs::remove_file(&path).unwrap();
        assert!(file.changed().is_err());
    }
}
