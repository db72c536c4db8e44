//! P1, P2, P3: what was acknowledged survives `kill -9`, in order, without holes or doubles; and a
//! server that starts again reads its state, not its ring.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::SeqCst},
    },
    time::Duration,
};

use bytes::Bytes;
use parking_lot::Mutex;
use ringfeed::proto::v1::GetProducerRequest;
use tokio::task::JoinHandle;
use tonic::Code;

use crate::harness::{
    MIB, Random, Server, Setup, exact, feed_exists, numbered, own_bytes, plain, progress,
    read_to_now, stored, until, upload, vector, within,
};

const FEED: &str = "crash";
const KILLS: u64 = 20;

/// An uploader that knows what it sent and what it was promised.
#[derive(Debug)]
struct Device {
    name: String,
    /// The highest sequence the server called durable.
    acked: AtomicU64,
    /// Offsets of acknowledged records, when the server told them.
    offsets: Mutex<Vec<(u64, u64)>>,
}

impl Device {
    fn new(name: &str) -> Arc<Self> {
        Arc::new(Self {
            name: name.into(),
            acked: AtomicU64::new(0),
            offsets: Mutex::default(),
        })
    }

    /// Sequence `n` always has the same content.
    fn record(&self, n: u64) -> Bytes {
        let channels = 2 + usize::try_from(n % 13).unwrap() * 8;
        vector(&self.name, n, channels)
    }

    /// Uploads call by call until the server is gone.
    async fn run(self: Arc<Self>, server: Arc<Server>, from: u64, mut random: Random) {
        let mut feeds = server.feeds().await;
        let mut next = from;
        loop {
            let messages = 1 + random.below(5);
            let mut call = vec![];
            for _ in 0..messages {
                let size = 1 + random.below(40);
                let records = (next..next + size).map(|n| self.record(n)).collect();
                call.push(numbered(FEED, &self.name, next, records));
                next += size;
            }
            match upload(&mut feeds, call).await {
                Ok(answer) => {
                    let summary = &answer.feeds[0];
                    self.acked.store(summary.durable_sequence.unwrap(), SeqCst);
                    assert_eq!(summary.durable_sequence, Some(next - 1));
                    if let Some(range) = summary.offsets {
                        self.offsets.lock().push((range.from, range.to));
                    }
                }
                Err(cut) => {
                    if let Some(sequence) = progress(&cut).and_then(|p| p.stored_through_sequence) {
                        self.acked.fetch_max(sequence, SeqCst);
                    }
                    return;
                }
            }
        }
    }

    /// Where to go on after a crash: where the server says, or at the very beginning.
    async fn resume_at(&self, server: &Server, resume: Resume) -> u64 {
        let asked = GetProducerRequest {
            feed: FEED.into(),
            producer: self.name.clone(),
        };
        let known = match server.catalog().await.get_producer(asked).await {
            Ok(found) => found.into_inner().producer.unwrap().durable_sequence,
            Err(unknown) => {
                assert_eq!(unknown.code(), Code::NotFound);
                0
            }
        };
        let acked = self.acked.load(SeqCst);
        assert!(
            known >= acked,
            "{}: {acked} was acknowledged, {known} is known",
            self.name
        );
        match resume {
            Resume::WhereTheServerSays => known + 1,
            Resume::FromTheBeginning => {
                self.resend(server, known).await;
                known + 1
            }
        }
    }

    /// Sends everything again: all of it has to be a duplicate.
    async fn resend(&self, server: &Server, known: u64) {
        let all: Vec<Bytes> = (1..=known).map(|n| self.record(n)).collect();
        if all.is_empty() {
            return;
        }
        let messages = (1..).step_by(500).zip(all.chunks(500));
        let messages =
            messages.map(|(first, part)| numbered(FEED, &self.name, first, part.to_vec()));
        let again = upload(&mut server.feeds().await, messages.collect()).await;
        assert_eq!(exact(&again.unwrap()), (0, known, 0), "{}", self.name);
    }
}

#[derive(Clone, Copy, Debug)]
enum Resume {
    WhereTheServerSays,
    FromTheBeginning,
}

/// Everything acknowledged is there once, in the order it was sent, under dense offsets.
async fn check(server: &Server, devices: &[Arc<Device>]) -> u64 {
    let ledger = read_to_now(&mut server.feeds().await, FEED).await;
    assert_eq!(ledger.gap_list(), [], "nothing was evicted or lost");
    let dense = (0..).zip(&ledger.records).all(|(i, (at, _))| i == *at);
    assert!(dense, "offsets have a hole");
    for device in devices {
        let mine = ledger.records.iter().filter(|(_, bytes)| {
            let record = stored(bytes);
            record.key == device.name
        });
        let mine: Vec<_> = mine.collect();
        for (n, (_, bytes)) in (1..).zip(&mine) {
            assert_eq!(own_bytes(bytes), device.record(n), "{} {n}", device.name);
        }
        let acked = device.acked.load(SeqCst);
        assert!(
            mine.len() as u64 >= acked,
            "{}: {acked} were acknowledged, {} are there",
            device.name,
            mine.len()
        );
        for (from, to) in device.offsets.lock().drain(..) {
            for offset in [from, to - 1] {
                let at = usize::try_from(offset).unwrap();
                let key = stored(&ledger.records[at].1).key;
                assert_eq!(key, device.name, "an acknowledged offset is another's");
            }
        }
    }
    ledger.next.unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn acknowledged_records_survive_kill_9_at_random_moments() {
    let mut random = Random::seeded("kill -9");
    let setup = Setup::new();
    let devices: Vec<_> = ["a", "b", "c", "d"].map(Device::new).into();
    let mut next = [1; 4];
    for round in 0..KILLS {
        let server = Arc::new(setup.start().await);
        if round == 0 {
            feed_exists(&mut server.catalog().await, FEED, 4_096 * MIB).await;
        }
        let uploads: Vec<JoinHandle<()>> = devices
            .iter()
            .zip(next)
            .map(|(device, from)| {
                let random = Random(random.next());
                tokio::spawn(Arc::clone(device).run(Arc::clone(&server), from, random))
            })
            .collect();
        // The moment of the kill is the point of the test: any moment will do.
        tokio::time::sleep(Duration::from_micros(random.below(250_000))).await;
        server.kill_now();
        for upload in uploads {
            within("an upload's end", upload).await.unwrap();
        }
        let setup = Arc::into_inner(server).unwrap().kill9().await;
        let server = setup.start().await;
        let before = check(&server, &devices).await;
        for (i, device) in devices.iter().enumerate() {
            let resume = if (round + i as u64).is_multiple_of(4) {
                Resume::FromTheBeginning
            } else {
                Resume::WhereTheServerSays
            };
            next[i] = device.resume_at(&server, resume).await;
        }
        assert_eq!(
            check(&server, &devices).await,
            before,
            "a repeat was stored"
        );
        server.kill9().await;
    }
    let total: u64 = devices.iter().map(|d| d.acked.load(SeqCst)).sum();
    assert!(total > 1_000, "only {total} records were acknowledged");
}

#[tokio::test]
async fn a_server_that_starts_again_does_not_read_its_ring() {
    const RING: u64 = 96 * MIB;
    let server = Server::start().await;
    feed_exists(&mut server.catalog().await, FEED, RING).await;
    let part: Vec<Bytes> = (0..100).map(|n| vector("k", n, 1_024)).collect();
    let messages = vec![plain(FEED, part); 100];
    let filled = upload(&mut server.feeds().await, messages).await;
    assert_eq!(filled.unwrap().stored, 10_000);

    let server = server.kill9().await.start().await;
    let read = block_bytes_read(&server).await;
    // A save is due after 8 MiB, and is flushed with what is written then or next: 4 MiB each.
    assert!(read < 17 * MIB, "{read} bytes were read after a crash");
    let server = server.restart().await;
    let read = block_bytes_read(&server).await;
    assert!(read < 4 * MIB, "{read} bytes were read after a clean stop");

    // The figure is not just always small.
    let all = read_to_now(&mut server.feeds().await, FEED).await;
    assert_eq!(all.records.len(), 10_000);
    until("the figure to rise", async || {
        block_bytes_read(&server).await > 64 * MIB
    })
    .await;
}

async fn block_bytes_read(server: &Server) -> u64 {
    let mut read = 0;
    // Both are set in one go, this one last.
    until("the first figures", async || {
        let scrape = server.scrape().await;
        read = scrape.get("ringfeed_block_read_bytes_total", &[]) as u64;
        scrape.get("ringfeed_disk_free_bytes", &[]) > 0.0
    })
    .await;
    read
}
