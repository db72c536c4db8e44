//! Bars of followers, whatever happens to them: random histories over memory and sled, against the
//! plain reference. A failure prints its seed: `RINGFEED_BAR_HISTORY_SEED=<seed>` plays that history
//! alone and says what it does.

mod reader;
mod records;
mod truth;

use std::{
    panic::{AssertUnwindSafe, catch_unwind, resume_unwind},
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering::Relaxed},
        mpsc,
    },
    time::Duration,
};

use tokio::time::advance;

use self::{
    reader::{Led, Reader},
    records::{KEYS, Random, Source},
    truth::{Tally, Truth},
};
use crate::{
    hub::{
        BarsFidelity, Batch, End, Feed, Fidelity, Hub, HubOptions, KeyFilter, Mode, OpenBars,
        Start, Wanted,
    },
    model::{self, Retention, Visibility},
    store::{
        Clock, Engine, MemoryEngine,
        sled::{SledEngine, SledOptions},
    },
};

const HISTORIES: u64 = 2_200;
/// One in so many is played over sled.
const SLED: u64 = 11;
const WORKERS: usize = 3;
const PACE: Duration = Duration::from_millis(200);

#[test]
fn followers_have_the_bars_of_all_records() {
    if let Ok(seed) = std::env::var("RINGFEED_BAR_HISTORY_SEED") {
        eprintln!("{:?}", play(seed.parse().expect("a number"), true));
        return;
    }
    let count = std::env::var("RINGFEED_BAR_HISTORIES").ok();
    let count = count.map_or(HISTORIES, |count| count.parse().expect("a number"));
    let first = model::now().cast_unsigned();
    eprintln!("bar histories from seed {first}");
    let tally = play_all(first, count);
    eprintln!("{tally:?}");
    if count >= HISTORIES {
        let Tally {
            bars,
            lost,
            unknown,
            ..
        } = tally;
        assert!(bars > 100 * count, "too few to show anything: {tally:?}");
        assert!(
            (lost + unknown) * 4 < bars,
            "too much was let be: {tally:?}"
        );
        let rare = [tally.late, tally.gaps, tally.resumes, tally.changes];
        let rare = rare
            .iter()
            .chain([&tally.dropped, &tally.full, &tally.ends, &tally.shared]);
        assert!(
            rare.min() > Some(&(count / 4)),
            "what never happened: {tally:?}"
        );
    }
}

/// Plays so many histories, a few side by side.
fn play_all(first: u64, count: u64) -> Tally {
    let (next, sum) = (AtomicU64::new(0), Mutex::new(Tally::default()));
    std::thread::scope(|scope| {
        for _ in 0..WORKERS {
            scope.spawn(|| {
                loop {
                    let nth = next.fetch_add(1, Relaxed);
                    if nth >= count {
                        return;
                    }
                    let seed = first.wrapping_add(nth);
                    match catch_unwind(AssertUnwindSafe(|| play(seed, false))) {
                        Ok(tally) => *sum.lock().unwrap() += tally,
                        Err(panic) => {
                            next.store(count, Relaxed);
                            eprintln!("again: RINGFEED_BAR_HISTORY_SEED={seed}");
                            resume_unwind(panic);
                        }
                    }
                }
            });
        }
    });
    sum.into_inner().unwrap()
}

/// Plays one history in a runtime of its own, whose clock moves only by `advance`.
fn play(seed: u64, is_told: bool) -> Tally {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .start_paused(true)
        .build()
        .unwrap();
    runtime.block_on(Box::pin(async {
        // A runtime does not skip time while work away from its threads is under way.
        let (end, ended) = mpsc::channel::<()>();
        tokio::task::spawn_blocking(move || ended.recv().is_ok());
        let tally = play_in(seed, is_told).await;
        drop(end);
        tally
    }))
}

async fn play_in(seed: u64, is_told: bool) -> Tally {
    let mut run = Run::begin(seed, is_told).await;
    for nth in 0..20 + run.dice.below(40) {
        let mut dice = Random(run.dice.next());
        let kind = dice.below(100);
        if is_told {
            eprintln!("{nth}: {kind} at {:?}", run.feed.bounds());
        }
        run.apply(kind, &mut dice).await;
    }
    run.finish().await
}

struct Run {
    dice: Random,
    hub: Arc<Hub>,
    feed: Arc<Feed>,
    source: Source,
    /// The bars that are asked for.
    choices: Vec<(KeyFilter, Duration)>,
    /// Records are lost in some histories only.
    loses: bool,
    truth: Truth,
    readers: Vec<Reader>,
    tally: Tally,
    is_told: bool,
    _directory: Option<tempfile::TempDir>,
}

impl Run {
    async fn begin(seed: u64, is_told: bool) -> Self {
        let mut dice = Random(seed);
        let directory = seed.is_multiple_of(SLED).then(directory);
        let engine: Arc<dyn Engine> = match &directory {
            Some(directory) => {
                let options = SledOptions {
                    reserve_bytes: 0,
                    ..SledOptions::new(directory.path())
                };
                Arc::new(SledEngine::open(options).unwrap())
            }
            None => Arc::new(MemoryEngine::new()),
        };
        let hub = Hub::open(engine, HubOptions::default()).unwrap();
        let retention = Retention {
            max_bytes: 1 << 20,
            max_age: None,
        };
        let name = "f".parse().unwrap();
        let feed = hub.create_feed(name, Some(retention), Some(Visibility::Durable));
        let interval = dice.pick(&[1, 10, 60, 600, 3_600]);
        let source = Source::new(&mut dice, interval * records::SECOND);
        let interval = Duration::from_secs(interval.unsigned_abs());
        let other = dice.pick(&[interval, 2 * interval]);
        Self {
            feed: feed.await.unwrap(),
            hub,
            source,
            choices: vec![(filter(&mut dice), interval), (filter(&mut dice), other)],
            loses: dice.chance(40),
            dice,
            truth: Truth::default(),
            readers: vec![],
            tally: Tally::default(),
            is_told,
            _directory: directory,
        }
    }

    async fn apply(&mut self, kind: u64, dice: &mut Random) {
        match kind {
            0..30 => self.append(dice).await,
            30..34 if self.loses => self.lose(dice).await,
            30..37 => self.hub.window.remove(self.feed.id()),
            37..46 => advance(Duration::from_millis(dice.below(400))).await,
            46..58 if self.readers.len() < 5 => self.follow(dice).await,
            _ if self.readers.is_empty() => self.follow(dice).await,
            46..62 => self.resume(dice).await,
            62..67 => self.change(dice).await,
            67..85 => self.step(dice).await,
            _ => {
                let nth = dice.below(self.readers.len() as u64);
                self.drain(usize::try_from(nth).unwrap(), dice).await;
            }
        }
    }

    async fn append(&mut self, dice: &mut Random) {
        let large = self.loses && dice.chance(15);
        let count = if large { 60 } else { dice.below(25) + 1 };
        let records: Vec<_> = (0..count)
            .map(|_| match large && dice.chance(90) {
                true => self.source.large(dice),
                false => self.source.record(dice),
            })
            .collect();
        let now = model::now();
        let mut batch = Batch::new(None, Mode::StoreValid, records.len(), 0);
        let limits = self.hub.limits(now);
        batch.check(&self.feed, records.iter().map(|r| &r[..]), &limits, now);
        let pending = self.hub.append(&self.feed, batch).await.unwrap();
        assert_eq!(pending.ack().await.unwrap().stored, count);
        self.truth.read(&self.feed);
    }

    async fn lose(&mut self, dice: &mut Random) {
        let bounds = self.feed.bounds();
        let before = bounds.head + dice.below((bounds.tail - bounds.head) / 3 + 1);
        self.hub.trim_feed(self.feed.name(), before).await.unwrap();
    }

    async fn follow(&mut self, dice: &mut Random) {
        let bounds = self.feed.bounds();
        let place = bounds.head + dice.below(bounds.tail - bounds.head + 1);
        let (filter, bars) = self.bars(dice);
        let start = match dice.below(6) {
            0..2 => Start::Earliest,
            2 => Start::New,
            3 => Start::Time(
                Clock::Event,
                self.source.now() - dice.number(1_000_000_000_000),
            ),
            // Gone, perhaps.
            4 => Start::Offset(dice.below(bounds.tail + 1)),
            _ => Start::Offset(place),
        };
        let end = match dice.below(12) {
            0 => End::Now,
            1 => End::Offset(place + dice.below(60)),
            2 => End::IngestTime(model::now()),
            _ => End::Never,
        };
        let fidelity = match dice.chance(15) {
            true => Fidelity::Full,
            false => Fidelity::Bars(bars),
        };
        let wanted = Wanted {
            filter,
            start,
            end,
            fidelity,
            ..Wanted::default()
        };
        if self.is_told {
            eprintln!("   {wanted:?}");
        }
        let reader = Reader::begin(&self.hub, &self.feed, wanted, bars).await;
        self.truth.begins.insert(reader.since);
        self.readers.push(reader);
    }

    fn bars(&self, dice: &mut Random) -> (KeyFilter, BarsFidelity) {
        let (filter, interval) = &self.choices[usize::from(dice.chance(40))];
        let bars = BarsFidelity {
            interval: *interval,
            open_bars: dice.pick(&[OpenBars::LeftOut, OpenBars::Sent]),
        };
        (filter.clone(), bars)
    }

    fn some(&mut self, dice: &mut Random) -> &mut Reader {
        let nth = dice.below(self.readers.len() as u64);
        &mut self.readers[usize::try_from(nth).unwrap()]
    }

    async fn resume(&mut self, dice: &mut Random) {
        let (hub, mut truth) = (Arc::clone(&self.hub), std::mem::take(&mut self.truth));
        self.some(dice).resume(&hub, &mut truth).await;
        self.truth = truth;
        self.tally.resumes += 1;
    }

    async fn change(&mut self, dice: &mut Random) {
        let nth = usize::try_from(dice.below(self.readers.len() as u64)).unwrap();
        if dice.chance(50) && self.drain(nth, dice).await == Led::Ended {
            return;
        }
        let to = self.bars(dice).1;
        let reader = &mut self.readers[nth];
        let to = (reader.is_full() || dice.chance(30)).then_some(to);
        reader.change(to, &mut self.truth);
        self.tally.changes += 1;
    }

    async fn step(&mut self, dice: &mut Random) {
        let nth = usize::try_from(dice.below(self.readers.len() as u64)).unwrap();
        for _ in 0..dice.below(4) + 1 {
            if self.step_of(nth, dice).await == Led::Ended {
                return;
            }
        }
    }

    async fn step_of(&mut self, nth: usize, dice: &mut Random) -> Led {
        let reader = &mut self.readers[nth];
        let led = reader.step(dice, &mut self.truth, &mut self.tally).await;
        if self.is_told {
            eprintln!("   {nth} led {led:?} to {}", reader.follower.cursor());
        }
        if matches!(led, Led::AtTail | Led::Ended) && reader.is_to_be_checked(led) {
            let (at, head) = (reader.follower.cursor(), self.feed.bounds().head);
            self.tally += self.truth.check(reader, at, head);
        }
        if led == Led::Ended {
            self.readers.swap_remove(nth);
            self.tally.ends += 1;
        }
        led
    }

    /// Reads until it waits or ends.
    async fn drain(&mut self, nth: usize, dice: &mut Random) -> Led {
        loop {
            let led = self.step_of(nth, dice).await;
            if matches!(led, Led::AtTail | Led::Ended) {
                return led;
            }
            tokio::task::yield_now().await;
        }
    }

    async fn finish(mut self) -> Tally {
        advance(PACE).await;
        let mut dice = Random(self.dice.next());
        while !self.readers.is_empty() {
            if self.drain(0, &mut dice).await == Led::AtTail {
                let reader = self.readers.swap_remove(0);
                assert_eq!(reader.follower.cursor(), self.feed.bounds().tail);
            }
        }
        self.tally.shared += self.feed.bar_views.computed.load(Relaxed);
        self.tally.histories += 1;
        self.hub.close().await.unwrap();
        self.tally
    }
}

fn filter(dice: &mut Random) -> KeyFilter {
    let count = dice.pick(&[1, 2, KEYS.len(), KEYS.len()]);
    let few = KEYS[..count].iter().map(|key| (*key).to_owned());
    KeyFilter {
        include: (count < KEYS.len()).then(|| few.collect()),
        ..KeyFilter::default()
    }
}

/// In memory where there is such a place.
fn directory() -> tempfile::TempDir {
    let fast = std::path::Path::new("/dev/shm");
    let directory = if fast.is_dir() {
        tempfile::tempdir_in(fast)
    } else {
        tempfile::tempdir()
    };
    directory.unwrap()
}
