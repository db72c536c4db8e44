//! A full disk refuses uploads by name, harms no subscriber, and is over when there is room again.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use bytes::Bytes;
use ringfeed::proto::v1::start::From;
use tonic::Code;

use crate::harness::{
    Follow, MIB, Setup, exact, expected_of, feed_exists, numbered, read_to_now, reason, upload,
    vector,
};

const FEED: &str = "f";

/// A file system of its own, unmounted with this.
#[derive(Debug)]
struct SmallDisk(PathBuf);

impl SmallDisk {
    fn mount(at: &Path, bytes: u64) -> Result<Self, String> {
        fs::create_dir_all(at).map_err(|e| e.to_string())?;
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", &format!("size={bytes}"), "tmpfs"])
            .arg(at)
            .output()
            .map_err(|e| e.to_string())?;
        if mounted.status.success() {
            return Ok(Self(at.to_owned()));
        }
        Err(String::from_utf8_lossy(&mounted.stderr).into_owned())
    }

    fn free(&self) -> u64 {
        let stat = rustix::fs::statvfs(&self.0).unwrap();
        stat.f_bavail * stat.f_frsize
    }

    /// Takes all room but `left` bytes.
    fn fill(&self, left: u64) -> PathBuf {
        let ballast = self.0.join("ballast");
        let size = usize::try_from(self.free().saturating_sub(left)).unwrap();
        fs::write(&ballast, vec![1; size]).unwrap();
        ballast
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // Lazily: the server may still be on its way out.
        let unmounted = Command::new("umount").arg("-l").arg(&self.0).status();
        if !unmounted.is_ok_and(|status| status.success()) {
            eprintln!("{} is still mounted", self.0.display());
        }
    }
}

fn batch(first: u64) -> Vec<Bytes> {
    (first..first + 100)
        .map(|n| vector("k", n, 1_000))
        .collect()
}

#[tokio::test]
async fn a_full_disk_refuses_uploads_and_nothing_else() {
    let setup = Setup::new().with("store__reserve_bytes", "4MiB");
    let disk = match SmallDisk::mount(&setup.home().join("disk"), 96 * MIB) {
        Ok(disk) => disk,
        Err(why) => {
            eprintln!("skipped: a small file system cannot be mounted here: {why}");
            return;
        }
    };
    let setup = setup.at(&disk.0.join("data"));
    let server = setup.start().await;
    feed_exists(&mut server.catalog().await, FEED, 32 * MIB).await;
    let mut feeds = server.feeds().await;
    upload(&mut feeds, vec![numbered(FEED, "p", 1, batch(1))])
        .await
        .unwrap();
    let mut live = Follow::feed(&mut server.feeds().await, FEED, From::Offset(0)).await;
    live.read_to(100).await;

    let ballast = disk.fill(3 * MIB);
    let mut stored = 100;
    let refused = loop {
        let message = numbered(FEED, "p", stored + 1, batch(stored + 1));
        match upload(&mut feeds, vec![message]).await {
            Ok(_) => stored += 100,
            Err(refused) => break refused,
        }
        assert!(stored < 2_000, "the disk is full and takes more and more");
    };
    assert_eq!(refused.code(), Code::ResourceExhausted);
    assert_eq!(reason(&refused), "DISK_FULL");
    // What comes after the refused batch is refused as well, until that one is there.
    let beyond = numbered(FEED, "p", stored + 101, batch(stored + 101));
    let beyond = upload(&mut feeds, vec![beyond]).await.unwrap_err();
    assert_eq!(reason(&beyond), "SEQUENCE_GAP");
    assert_eq!(expected_of(&beyond), stored + 1);
    // New producers are refused, and are as unknown afterwards as before.
    let newcomer = upload(&mut feeds, vec![numbered(FEED, "q", 7, batch(0))]).await;
    assert_eq!(reason(&newcomer.unwrap_err()), "DISK_FULL");

    live.read_to(stored).await;
    assert_eq!(
        read_to_now(&mut feeds, FEED).await.records.len() as u64,
        stored
    );

    // Room again: writing goes on without a restart.
    fs::remove_file(&ballast).unwrap();
    let next = numbered(FEED, "p", stored + 1, batch(stored + 1));
    let goes_on = upload(&mut feeds, vec![next.clone()]).await.unwrap();
    assert_eq!(exact(&goes_on), (100, 0, 0));
    stored += 100;
    live.read_to(stored).await;
    let newcomer = upload(&mut feeds, vec![numbered(FEED, "q", 1, batch(0))]).await;
    assert_eq!(exact(&newcomer.unwrap()), (100, 0, 0));

    // Full again, and stopped: what was stored is there, and writing goes on after a start.
    let ballast = disk.fill(3 * MIB);
    let server = server.kill9().await.start().await;
    let mut feeds = server.feeds().await;
    let all = read_to_now(&mut feeds, FEED).await;
    assert_eq!(all.records.len() as u64, stored + 100);
    fs::remove_file(ballast).unwrap();
    let again = upload(&mut feeds, vec![next]).await.unwrap();
    assert_eq!(exact(&again), (0, 100, 0));
    let again = upload(&mut feeds, vec![numbered(FEED, "q", 1, batch(0))]).await;
    assert_eq!(exact(&again.unwrap()), (0, 100, 0));
    let next = numbered(FEED, "p", stored + 1, batch(stored + 1));
    let goes_on = upload(&mut feeds, vec![next]).await.unwrap();
    assert_eq!(exact(&goes_on), (100, 0, 0));
    server.sigterm().await;
}
