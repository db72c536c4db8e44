//! A history: what happens to a server, drawn from a seed. The same seed is the same history.

use std::time::Duration;

use super::super::harness::Random;

/// Names that feeds may have; a glob finds all of them.
pub(super) const FEEDS: [&str; 3] = ["t.0", "t.1", "t.2"];
pub(super) const FEED_GLOB: &str = "t.*";

/// A glob, and what it finds.
type KeyGlob = (&'static str, fn(&str) -> bool);

/// Globs of keys, and which of `n.0`, `s.1`, `n.2` .. they find.
pub(super) const KEY_GLOBS: [KeyGlob; 4] = [
    ("n.*", |key| key.starts_with("n.")),
    ("?.?", |key| key.len() == 3),
    ("{n,s}.1*", |key| key.get(2..3) == Some("1")),
    ("*[36]", |key| key.ends_with(['3', '6'])),
];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum EngineKind {
    Memory,
    Sled,
}

/// What a server goes through.
#[derive(Clone, Debug)]
pub(super) struct History {
    pub seed: u64,
    pub engine: EngineKind,
    /// Keys of each feed.
    pub keys: u64,
    /// Bytes of the hot window: with few, followers read the ring.
    pub window_bytes: usize,
    pub ops: Vec<Op>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Sizes {
    Small,
    /// Up to 8 KiB.
    Large,
}

/// Event times of the records of one append.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Times {
    Rising,
    Falling,
    Equal,
    YearsApart,
    /// The server's.
    Absent,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Author {
    Nobody,
    /// With numbered records.
    Producer,
    /// The one before, with what it sent last.
    ProducerAgain,
}

#[derive(Clone, Debug)]
pub(super) enum Op {
    Append {
        feed: usize,
        records: u64,
        sizes: Sizes,
        times: Times,
        author: Author,
    },
    /// Of head..tail, in hundredths.
    Trim {
        feed: usize,
        percent: u64,
    },
    Resize {
        feed: usize,
        mib: u64,
    },
    /// Everything is too old.
    Expire {
        feed: usize,
    },
    Create {
        feed: usize,
        visible_at_once: Immediate,
    },
    Recreate {
        feed: usize,
    },
    Restart(Stop),
    Advance(Duration),
    Open {
        reader: usize,
        call: Call,
        selectors: Vec<SelectorPlan>,
    },
    Read {
        reader: usize,
        messages: u64,
    },
    Resume {
        reader: usize,
        by: ResumeBy,
    },
    /// A command of a session, of one of its selectors.
    Command {
        reader: usize,
        nth: usize,
        command: CommandPlan,
    },
    Acknowledge {
        reader: usize,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Immediate {
    Yes,
    No,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stop {
    Clean,
    /// Only what was flushed is left.
    PowerCut,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Call {
    Subscribe,
    Session,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ResumeBy {
    Token,
    Cursors,
}

#[derive(Clone, Debug)]
pub(super) enum CommandPlan {
    Add(SelectorPlan),
    Replace(SelectorPlan),
    Remove,
    Change(Option<FidelityPlan>, Option<SlowPlan>),
}

#[derive(Clone, Debug)]
pub(super) struct SelectorPlan {
    pub feeds: FeedsPlan,
    pub keys: Vec<String>,
    pub key_globs: Vec<usize>,
    pub exclude: Vec<String>,
    pub exclude_globs: Vec<usize>,
    pub start: StartPlan,
    pub end: EndPlan,
    pub fidelity: FidelityPlan,
    pub slow: SlowPlan,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum FeedsPlan {
    One(usize),
    /// `FEED_GLOB`, perhaps without one of them.
    Globs {
        without: Option<usize>,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum StartPlan {
    Earliest,
    New,
    /// A hundredth of head..tail, or beyond.
    Offset(u64),
    Cursor(u64),
    /// The time of the record there.
    Event(u64),
    Ingest(u64),
    LastPerKey(u32),
    Snapshot,
    Named,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum EndPlan {
    Never,
    Now,
    /// So many records after the tail.
    Offset(u64),
    /// What comes in from now on.
    IngestNow,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum FidelityPlan {
    Full,
    Conflate(Duration),
    Bars { interval: Duration, open: bool },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum SlowPlan {
    CatchUp,
    Conflate(u64),
    Jump(u64),
    Disconnect(u64),
}

impl History {
    pub(super) fn of(seed: u64) -> Self {
        let mut draw = Draw(Random(seed));
        let keys = draw.range(1, 21);
        let turnover = draw.one_in(4);
        let mut history = Self {
            seed,
            engine: if draw.one_in(7) {
                EngineKind::Sled
            } else {
                EngineKind::Memory
            },
            keys,
            window_bytes: if draw.one_in(3) { 64 << 10 } else { 8 << 20 },
            ops: vec![],
        };
        let feeds = draw.range(1, 3) as usize;
        for feed in 0..feeds {
            let visible_at_once = draw.immediate();
            history.ops.push(Op::Create {
                feed,
                visible_at_once,
            });
        }
        let ops = draw.range(12, 44);
        for _ in 0..ops {
            let op = draw.op(keys, turnover);
            history.ops.push(op);
        }
        history
    }
}

/// Draws parts of a history.
struct Draw(Random);

impl Draw {
    fn range(&mut self, from: u64, to: u64) -> u64 {
        from + self.0.below(to - from)
    }

    fn one_in(&mut self, n: u64) -> bool {
        self.0.below(n) == 0
    }

    fn of<T: Copy>(&mut self, choices: &[T]) -> T {
        choices[self.0.below(choices.len() as u64) as usize]
    }

    fn feed(&mut self) -> usize {
        self.of(&[0, 0, 0, 1, 1, 2])
    }

    fn immediate(&mut self) -> Immediate {
        if self.one_in(4) {
            Immediate::Yes
        } else {
            Immediate::No
        }
    }

    fn op(&mut self, keys: u64, turnover: bool) -> Op {
        let (reader, feed) = (self.range(0, 4) as usize, self.feed());
        match self.0.below(100) {
            0..=29 => self.append(feed, turnover),
            30..=43 => self.open(reader, keys),
            44..=61 => {
                let messages = self.of(&[1, 3, 10, 100]);
                Op::Read { reader, messages }
            }
            62..=69 => {
                let by = self.of(&[ResumeBy::Token, ResumeBy::Cursors]);
                Op::Resume { reader, by }
            }
            70..=81 => {
                let command = self.command(keys);
                let nth = self.range(0, 3) as usize;
                Op::Command {
                    reader,
                    nth,
                    command,
                }
            }
            82..=84 => Op::Acknowledge { reader },
            85..=86 => {
                let percent = self.range(0, 110);
                Op::Trim { feed, percent }
            }
            87..=88 => {
                let mib = self.range(1, 4);
                Op::Resize { feed, mib }
            }
            89 => Op::Expire { feed },
            90..=91 => {
                let visible_at_once = self.immediate();
                Op::Create {
                    feed,
                    visible_at_once,
                }
            }
            92 => Op::Recreate { feed },
            93..=94 => Op::Restart(self.of(&[Stop::Clean, Stop::Clean, Stop::PowerCut])),
            _ => Op::Advance(Duration::from_millis(self.of(&[1, 5, 10, 50, 300, 3_000]))),
        }
    }

    fn append(&mut self, feed: usize, turnover: bool) -> Op {
        let large = turnover && !self.one_in(3);
        Op::Append {
            feed,
            records: if large {
                self.range(20, 200)
            } else {
                self.of(&[1, 2, 5, 20, 50, 200])
            },
            sizes: if large { Sizes::Large } else { Sizes::Small },
            times: self.of(&[
                Times::Rising,
                Times::Rising,
                Times::Falling,
                Times::Equal,
                Times::YearsApart,
                Times::Absent,
            ]),
            author: self.of(&[
                Author::Nobody,
                Author::Nobody,
                Author::Producer,
                Author::ProducerAgain,
            ]),
        }
    }

    fn open(&mut self, reader: usize, keys: u64) -> Op {
        let call = self.of(&[Call::Subscribe, Call::Session]);
        let count = self.range(1, 4);
        let selectors = (0..count).map(|_| self.selector(keys)).collect();
        Op::Open {
            reader,
            call,
            selectors,
        }
    }

    fn command(&mut self, keys: u64) -> CommandPlan {
        match self.0.below(6) {
            0 => CommandPlan::Add(self.selector(keys)),
            1 => CommandPlan::Replace(self.selector(keys)),
            2 => CommandPlan::Remove,
            3 => CommandPlan::Change(None, Some(self.slow())),
            _ => {
                let slow = self.one_in(3).then(|| self.slow());
                CommandPlan::Change(Some(self.fidelity()), slow)
            }
        }
    }

    fn selector(&mut self, keys: u64) -> SelectorPlan {
        let mut plan = SelectorPlan {
            feeds: self.feeds(),
            keys: vec![],
            key_globs: vec![],
            exclude: vec![],
            exclude_globs: vec![],
            start: self.start(),
            end: self.of(&[
                EndPlan::Never,
                EndPlan::Never,
                EndPlan::Never,
                EndPlan::Never,
                EndPlan::Now,
                EndPlan::Offset(30),
                EndPlan::IngestNow,
            ]),
            fidelity: self.fidelity(),
            slow: self.slow(),
        };
        self.choose_keys(&mut plan, keys);
        plan
    }

    fn feeds(&mut self) -> FeedsPlan {
        if self.one_in(4) {
            let without = self.one_in(2).then(|| self.feed());
            FeedsPlan::Globs { without }
        } else {
            FeedsPlan::One(self.feed())
        }
    }

    fn choose_keys(&mut self, plan: &mut SelectorPlan, keys: u64) {
        let mut some = |most: u64| -> Vec<String> {
            let count = self.range(1, most + 1);
            (0..count).map(|_| key(self.0.below(keys))).collect()
        };
        let (few, out) = (some(4), some(2));
        match self.0.below(8) {
            0 | 1 => plan.keys = few,
            2 => plan.key_globs = vec![self.0.below(4) as usize],
            3 => {
                plan.keys = few;
                plan.key_globs = vec![self.0.below(4) as usize];
            }
            4 => plan.exclude_globs = vec![self.0.below(4) as usize],
            _ => {}
        }
        if self.one_in(4) {
            plan.exclude = out;
        }
    }

    fn start(&mut self) -> StartPlan {
        let percent = self.range(0, 120);
        match self.0.below(13) {
            0..=2 => StartPlan::Earliest,
            3 | 4 => StartPlan::New,
            5 => StartPlan::Offset(percent),
            6 => StartPlan::Cursor(percent),
            7 => StartPlan::Event(percent.min(100)),
            8 => StartPlan::Ingest(percent.min(100)),
            9 => StartPlan::LastPerKey(self.of(&[1, 2, 7])),
            10 | 11 => StartPlan::Snapshot,
            _ => StartPlan::Named,
        }
    }

    fn fidelity(&mut self) -> FidelityPlan {
        let millis = self.of(&[10, 10, 50, 250]);
        match self.0.below(6) {
            0..=2 => FidelityPlan::Full,
            3 | 4 => FidelityPlan::Conflate(Duration::from_millis(millis)),
            _ => FidelityPlan::Bars {
                interval: Duration::from_secs(self.of(&[1, 5, 60, 86_400])),
                open: self.one_in(2),
            },
        }
    }

    fn slow(&mut self) -> SlowPlan {
        let lag = self.of(&[20, 100, 300]);
        match self.0.below(8) {
            0 => SlowPlan::Conflate(lag),
            1 => SlowPlan::Jump(lag),
            2 => SlowPlan::Disconnect(lag),
            _ => SlowPlan::CatchUp,
        }
    }
}

/// The `n`th key.
pub(super) fn key(n: u64) -> String {
    let class = if n.is_multiple_of(2) { 'n' } else { 's' };
    format!("{class}.{n}")
}
