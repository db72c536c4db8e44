//! The server of one history: hub and engine without a process, gRPC over pipes, and the truth
//! beside it. Time stands still but for what a history says.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use ringfeed::{
    hub::{
        Batch, CatalogError, FeedChange, Follower, Hub, HubOptions, Mode, ProducerKey, Start, Step,
        Wanted,
    },
    model::{self, Cursor, FeedName, Retention, Visibility},
    rpc::{Context, Services},
    store::{
        Engine, MemoryEngine, StoreError,
        sled::{SledEngine, SledOptions},
    },
};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;

use super::{
    super::harness::{MIB, Random},
    history::{Author, EngineKind, FEEDS, History, Immediate, Sizes, Stop, Times},
    model::{Cause, Truth},
    pipe::Incoming,
    records::{self, Sent},
};

const HOUR: Duration = Duration::from_secs(3_600);
const BEGIN: i64 = 1_700_000_000_000_000_000;

/// What outlives a restart.
enum Store {
    Memory(Arc<MemoryEngine>),
    Sled(tempfile::TempDir),
}

/// What a producer sent last, and its number.
type LastSent = (u64, Vec<Sent>);

pub(super) struct World {
    store: Store,
    options: HubOptions,
    pub hub: Arc<Hub>,
    pub incoming: Incoming,
    stopping: CancellationToken,
    pub truth: Truth,
    followers: BTreeMap<String, Follower>,
    random: Random,
    keys: u64,
    clock: i64,
    last_sent: BTreeMap<String, LastSent>,
    /// What each subscriber acknowledged, by name and feed.
    pub named: BTreeMap<(String, String), Cursor>,
    pub refused: u64,
}

impl World {
    pub(super) fn new(history: &History) -> Self {
        let store = match history.engine {
            EngineKind::Memory => Store::Memory(Arc::new(MemoryEngine::new())),
            EngineKind::Sled => Store::Sled(directory()),
        };
        let options = HubOptions {
            window_bytes: history.window_bytes,
            ..HubOptions::default()
        };
        let hub = Hub::open(engine(&store).expect("a store"), options.clone()).expect("a hub");
        let (incoming, stopping) = serve(&hub);
        Self {
            store,
            options,
            hub,
            incoming,
            stopping,
            truth: Truth::default(),
            followers: BTreeMap::new(),
            random: Random(history.seed ^ 0x5eed),
            keys: history.keys,
            clock: BEGIN,
            last_sent: BTreeMap::new(),
            named: BTreeMap::new(),
            refused: 0,
        }
    }

    /// A feed that there is.
    pub(super) fn feed_name(&self, nth: usize) -> String {
        let there: Vec<_> = self.truth.feeds().collect();
        there[nth % there.len()].to_owned()
    }

    pub(super) async fn create(&mut self, nth: usize, visible_at_once: Immediate) {
        let name = FEEDS[nth];
        if self.truth.present(name).is_none() {
            self.begin(name, visible_at_once).await;
        }
    }

    async fn begin(&mut self, name: &str, visible_at_once: Immediate) {
        let retention = Retention {
            max_bytes: MIB,
            max_age: None,
        };
        let visibility = match visible_at_once {
            Immediate::Yes => Visibility::Immediate,
            Immediate::No => Visibility::Durable,
        };
        let created = self
            .hub
            .create_feed(feed_name(name), Some(retention), Some(visibility));
        let feed = created.await.expect("a new feed");
        self.truth.begin(name, feed.epoch());
        self.follow(name).await;
    }

    pub(super) async fn recreate(&mut self, nth: usize) {
        let name = self.feed_name(nth);
        let deleted = self.hub.delete_feed(&feed_name(&name)).await;
        deleted.expect("a feed to delete");
        self.last_sent.remove(&name);
        self.named.retain(|(_, feed), _| *feed != name);
        let visible_at_once = match self.random.below(2) {
            0 => Immediate::Yes,
            _ => Immediate::No,
        };
        self.begin(&name, visible_at_once).await;
    }

    /// Follows a feed from behind what is known of it.
    async fn follow(&mut self, name: &str) {
        let feed = self.hub.feed(&feed_name(name)).expect("a feed");
        let life = self.truth.present(name).expect("a life");
        let next = life.records.last().map_or(0, |last| last.offset + 1);
        let wanted = Wanted {
            start: Start::Offset(next.max(life.bounds.tail)),
            ..Wanted::default()
        };
        let follower = self.hub.follow(&feed, wanted).await.expect("a follower");
        self.followers.insert(name.to_owned(), follower);
    }

    /// Appends records and sees to it that the feed has just them.
    pub(super) async fn append(
        &mut self,
        nth: usize,
        records: u64,
        sizes: Sizes,
        times: Times,
        author: Author,
    ) -> Result<(), String> {
        let name = self.feed_name(nth);
        let (first, sent) = match (author, self.last_sent.get(&name)) {
            (Author::ProducerAgain, Some((first, sent))) => (*first, sent.clone()),
            (_, last) => {
                let next = last.map_or(1, |(first, sent)| first + sent.len() as u64);
                self.clock += 2_000_000_000;
                let mut author = records::Author {
                    random: &mut self.random,
                    keys: self.keys,
                    sizes,
                    times,
                    clock: self.clock,
                };
                (next, author.write(records))
            }
        };
        let is_again = author == Author::ProducerAgain && self.last_sent.contains_key(&name);
        let producer = (author != Author::Nobody).then(|| (producer(), first));
        if producer.is_some() {
            self.last_sent.insert(name.clone(), (first, sent.clone()));
        }
        let valid: Vec<Sent> = sent
            .iter()
            .filter(|s| s.record.is_some())
            .cloned()
            .collect();
        self.send(
            &name,
            producer,
            &sent,
            if is_again { 0 } else { valid.len() },
        )
        .await?;
        let expected = if is_again { vec![] } else { valid };
        self.learn(&name, &expected, Cause::Retention).await
    }

    async fn send(
        &mut self,
        name: &str,
        producer: Option<(ProducerKey, u64)>,
        sent: &[Sent],
        stored: usize,
    ) -> Result<(), String> {
        let feed = self.hub.feed(&feed_name(name)).expect("a feed");
        let now = model::now();
        let mut batch = Batch::new(producer, Mode::StoreValid, sent.len(), 0);
        let records = sent.iter().map(|sent| &sent.bytes[..]);
        batch.check(&feed, records, &self.hub.limits(now), now);
        let pending = self.hub.append(&feed, batch).await;
        let ack = pending.map_err(|e| e.to_string())?.ack().await;
        let ack = ack.map_err(|e| format!("an append to {name} failed: {e}"))?;
        self.refused += ack.refused.len() as u64;
        if ack.stored != stored as u64 {
            return Err(format!(
                "{} of {stored} records were stored in {name}",
                ack.stored
            ));
        }
        Ok(())
    }

    /// Reads what is new in a feed, which must be these records.
    async fn learn(&mut self, name: &str, sent: &[Sent], cause: Cause) -> Result<(), String> {
        let follower = self.followers.get_mut(name).expect("a follower");
        let life = self.truth.present_mut(name);
        let mut expected = sent.iter();
        loop {
            match follower.next().await.map_err(|e| e.to_string())? {
                Step::Records(view) => {
                    for bytes in view.records() {
                        life.add(bytes);
                        let stored = &life.records[life.records.len() - 1];
                        let same = expected
                            .next()
                            .is_some_and(|sent| is_same(sent, &stored.record));
                        if !same {
                            return Err(format!("{name} has what was not sent: {stored:?}"));
                        }
                    }
                }
                Step::Gap { gap, .. } if gap.reason == model::GapReason::Lost => {
                    life.lost.push(gap.span);
                }
                Step::AtTail => break,
                other => return Err(format!("the truth of {name} came upon {other:?}")),
            }
        }
        if let Some(missing) = expected.next() {
            return Err(format!("{name} lacks {missing:?}"));
        }
        life.moved(follower.feed().bounds(), cause);
        Ok(())
    }

    pub(super) async fn trim(&mut self, nth: usize, percent: u64) {
        let name = self.feed_name(nth);
        let bounds = self.truth.present_mut(&name).bounds;
        let before = bounds.head + (bounds.tail - bounds.head) * percent / 100;
        let trimmed = self.hub.trim_feed(&feed_name(&name), before).await;
        let bounds = trimmed.expect("a trim").bounds();
        let life = self.truth.present_mut(&name);
        life.trimmed = life.trimmed.max(before.min(bounds.tail));
        life.moved(bounds, Cause::Trim);
        life.note(Some(bounds.head));
    }

    pub(super) async fn resize(&mut self, nth: usize, mib: u64) {
        let name = self.feed_name(nth);
        let change = FeedChange {
            max_bytes: Some(mib * MIB),
            ..FeedChange::default()
        };
        let resized = self.hub.update_feed(&feed_name(&name), change).await;
        let bounds = match resized {
            Ok(feed) => feed.bounds(),
            // The one before is still under way.
            Err(CatalogError::Store(StoreError::Resizing)) => return,
            Err(error) => panic!("a resize: {error}"),
        };
        self.truth
            .present_mut(&name)
            .moved(bounds, Cause::Retention);
    }

    /// Lets everything be too old for a moment.
    pub(super) async fn expire(&mut self, nth: usize) {
        let name = self.feed_name(nth);
        let mut before = None;
        for max_age in [Some(Duration::from_nanos(1)), None] {
            let change = FeedChange {
                max_age: Some(max_age),
                ..FeedChange::default()
            };
            let feed = self.hub.update_feed(&feed_name(&name), change).await;
            before.get_or_insert_with(|| feed.expect("a change").bounds());
            self.hub.housekeep().await.expect("housekeeping");
        }
        let bounds = self.hub.feed(&feed_name(&name)).expect("a feed").bounds();
        let life = self.truth.present_mut(&name);
        life.moved(bounds, Cause::Retention);
        if before.is_some_and(|before| before.head != bounds.head) {
            life.note(Some(bounds.head));
        }
    }

    /// The streams are about to end.
    pub(super) fn announce_stop(&self) {
        self.stopping.cancel();
    }

    /// Closes the store or cuts its power, and opens it again. Nobody may be connected.
    pub(super) async fn restart(&mut self, stop: Stop) -> Result<(), String> {
        self.stopping.cancel();
        self.followers.clear();
        let is_cut = stop == Stop::PowerCut && matches!(self.store, Store::Memory(_));
        if !is_cut {
            self.hub.close().await.map_err(|e| e.to_string())?;
        }
        if let Store::Memory(engine) = &mut self.store {
            *engine = Arc::new(engine.reopen());
        }
        self.hub = self.reopen().await?;
        (self.incoming, self.stopping) = serve(&self.hub);
        let names: Vec<String> = self.truth.feeds().map(str::to_owned).collect();
        for name in names {
            self.follow(&name).await;
            self.learn(&name, &[], Cause::Retention).await?;
        }
        Ok(())
    }

    /// The directory is locked as long as anything of the hub before is there.
    async fn reopen(&self) -> Result<Arc<Hub>, String> {
        loop {
            let opened = engine(&self.store).and_then(|e| Hub::open(e, self.options.clone()));
            match opened {
                Err(StoreError::Locked { .. }) => tokio::task::yield_now().await,
                opened => return opened.map_err(|e| e.to_string()),
            }
        }
    }
}

/// Whether a stored record says what was sent.
fn is_same(sent: &Sent, stored: &ringfeed::proto::v1::Record) -> bool {
    let Some(record) = &sent.record else {
        return false;
    };
    let mut expected = record.clone();
    if expected.event_time_unix_nanos.is_none() {
        expected.time_assigned = true;
        expected.event_time_unix_nanos = stored.event_time_unix_nanos;
    }
    expected.offset = stored.offset;
    expected.ingest_time_unix_nanos = stored.ingest_time_unix_nanos;
    expected == *stored
}

fn engine(store: &Store) -> Result<Arc<dyn Engine>, StoreError> {
    Ok(match store {
        Store::Memory(engine) => Arc::clone(engine) as Arc<dyn Engine>,
        Store::Sled(directory) => {
            let options = SledOptions {
                reserve_bytes: 0,
                ..SledOptions::new(directory.path())
            };
            Arc::new(SledEngine::open(options)?)
        }
    })
}

/// In memory where there is such a place: power is not cut here.
fn directory() -> tempfile::TempDir {
    let fast = std::path::Path::new("/dev/shm");
    if fast.is_dir() {
        tempfile::tempdir_in(fast).expect("a directory")
    } else {
        tempfile::tempdir().expect("a directory")
    }
}

/// Serves whoever comes through a pipe.
fn serve(hub: &Arc<Hub>) -> (Incoming, CancellationToken) {
    let (incoming, pipes) = mpsc::channel(4);
    let stopping = CancellationToken::new();
    let services = Services::new(Context {
        publish_window: 1 << 20,
        hub: Arc::clone(hub),
        heartbeat: HOUR,
        stopping: stopping.clone(),
    });
    let server = tonic::transport::Server::builder()
        .add_service(services.feed_service())
        .serve_with_incoming(ReceiverStream::new(pipes));
    tokio::spawn(async move { server.await.expect("a server") });
    (incoming, stopping)
}

fn producer() -> ProducerKey {
    ProducerKey {
        producer: "device".into(),
        principal: "".into(),
    }
}

pub(super) fn feed_name(name: &str) -> FeedName {
    name.parse().expect("a feed's name")
}
