//! A follower with what it was told, and what must hold of every step.

use std::{collections::BTreeMap, sync::Arc};

use futures_util::FutureExt as _;
use prost::Message as _;

use super::{
    records::Random,
    truth::{Place, Tally, Truth, place_of},
};
use crate::{
    hub::{BarsFidelity, End, Feed, Fidelity, Follower, Hub, OpenBars, Start, Step, View, Wanted},
    model::{Bounds, GapReason, Offset},
    proto::v1::{self, subscribe_response::Event},
};

#[derive(Debug)]
pub(super) struct Reader {
    pub follower: Follower,
    wanted: Wanted,
    bars: BarsFidelity,
    /// What it was told is settled up to here.
    at: Offset,
    /// It began here, or after its last gap.
    from: Offset,
    /// It has had these bars since here.
    pub since: Offset,
    /// Its bars were checked as of here.
    checked: Option<Offset>,
    /// The newest version of each bar.
    pub held: BTreeMap<Place, v1::ViewBar>,
}

/// How far a step led.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Led {
    On,
    Dropped,
    AtTail,
    Ended,
}

impl Reader {
    pub(super) async fn begin(
        hub: &Arc<Hub>,
        feed: &Arc<Feed>,
        wanted: Wanted,
        bars: BarsFidelity,
    ) -> Self {
        let follower = hub.follow(feed, wanted.clone()).await.unwrap();
        let at = follower.cursor();
        Self {
            follower,
            wanted,
            bars,
            at,
            from: at,
            since: at,
            checked: None,
            held: BTreeMap::new(),
        }
    }

    /// Goes on as another follower.
    pub(super) async fn resume(&mut self, hub: &Arc<Hub>, truth: &mut Truth) {
        let feed = Arc::clone(self.follower.feed());
        let resume = self.follower.resume();
        let cursor = resume.cursor.unwrap();
        assert_eq!(cursor.offset, self.at, "it goes on where it is settled");
        let wanted = Wanted {
            start: Start::Cursor(cursor),
            end: resume.end,
            carried: resume.carried,
            fidelity: self.follower.fidelity(),
            ..self.wanted.clone()
        };
        self.follower = hub.follow(&feed, wanted).await.unwrap();
        truth.begins.insert(self.at);
    }

    /// From now on all records, or other bars.
    pub(super) fn change(&mut self, to: Option<BarsFidelity>, truth: &mut Truth) {
        if to == self.bars() {
            return;
        }
        let fidelity = to.map_or(Fidelity::Full, Fidelity::Bars);
        self.follower.change(Some(fidelity), None);
        self.bars = to.unwrap_or(self.bars);
        self.since = self.at;
        self.checked = None;
        self.held.clear();
        truth.begins.insert(self.at);
    }

    fn bars(&self) -> Option<BarsFidelity> {
        (self.follower.fidelity() != Fidelity::Full).then_some(self.bars)
    }

    pub(super) fn is_full(&self) -> bool {
        self.bars().is_none()
    }

    /// Whether there is something new to be checked.
    pub(super) fn is_to_be_checked(&mut self, led: Led) -> bool {
        let before = self.checked.replace(self.at);
        !self.is_full() && (before != Some(self.at) || led == Led::Ended)
    }

    pub(super) fn interval(&self) -> i64 {
        i64::try_from(self.bars.interval.as_nanos()).unwrap()
    }

    pub(super) fn open(&self) -> OpenBars {
        self.bars.open_bars
    }

    pub(super) fn wants(&self, key: &str) -> bool {
        self.wanted.filter.wants(key)
    }

    /// Takes one step; some are given up in the middle.
    pub(super) async fn step(
        &mut self,
        dice: &mut Random,
        truth: &mut Truth,
        tally: &mut Tally,
    ) -> Led {
        let step = if dice.chance(15) {
            let Some(step) = self.follower.next().now_or_never() else {
                tally.dropped += 1;
                return Led::Dropped;
            };
            step
        } else {
            self.follower.next().await
        };
        match step.unwrap() {
            Step::Bars(view) => self.take_bars(&view, truth),
            Step::Records(view) => {
                self.take_records(&view, truth);
                tally.full += u64::from(view.count > 0);
            }
            Step::Gap { gap, .. } => {
                let head = self.follower.feed().bounds().head;
                assert!(matches!(
                    gap.reason,
                    GapReason::Trimmed | GapReason::Evicted
                ));
                assert_eq!(gap.span.from, self.at, "{gap:?}");
                assert!(
                    gap.span.to > self.at && gap.span.to <= head,
                    "{gap:?} {head}"
                );
                truth.begins.extend([gap.span.from, gap.span.to]);
                (self.at, self.from) = (gap.span.to, gap.span.to);
                tally.gaps += 1;
            }
            Step::AtTail => return self.settle(truth, Led::AtTail),
            Step::Ended => return self.settle(truth, Led::Ended),
            other => panic!("not expected: {other:?}"),
        }
        assert_eq!(self.at, self.follower.cursor());
        Led::On
    }

    fn settle(&mut self, truth: &Truth, led: Led) -> Led {
        if let Some(view) = self.follower.settle_passed() {
            self.take_records(&view, truth);
        }
        let Bounds { tail, .. } = self.follower.feed().bounds();
        let end = match self.follower.resume().end {
            End::Offset(end) => end,
            End::IngestTime(time) => truth.first_in(time),
            End::Never | End::Now => Offset::MAX,
        };
        match led {
            Led::Ended => assert_eq!(self.at, end.max(self.from), "it ends elsewhere"),
            _ if self.is_full() => assert_eq!(self.at, tail, "it is not at the tail"),
            _ => assert!(self.at <= tail.min(end.max(self.from))),
        }
        led
    }

    fn take_records(&mut self, view: &View, truth: &Truth) {
        assert_eq!(view.covers.from, self.at);
        let records = view.records();
        let decoded = records.iter().map(|r| v1::Record::decode(&r[..]).unwrap());
        let offsets: Vec<_> = decoded.map(|record| record.offset).collect();
        match self.is_full() {
            true => assert_eq!(offsets, truth.wanted(self, view.covers)),
            false => assert_eq!((view.count, offsets), (0, vec![]), "bars were asked for"),
        }
        self.at = view.covers.to;
    }

    fn take_bars(&mut self, view: &View, truth: &Truth) {
        assert!(!self.is_full(), "records were asked for");
        let response = v1::SubscribeResponse::decode(&view.message()[5..]).unwrap();
        let Some(Event::Bars(batch)) = response.event else {
            panic!("no bars: {response:?}");
        };
        let covers = batch.covers.unwrap();
        assert_eq!((covers.from, covers.to), (view.covers.from, view.covers.to));
        assert_eq!(covers.from, self.at, "what is settled joins up");
        self.at = covers.to;
        for bar in batch.bars {
            assert!(bar.complete || self.open() == OpenBars::Sent);
            assert!(self.wants(&bar.key));
            let place = place_of(&bar);
            let (revision, complete) = (bar.revision, bar.complete);
            let Some(before) = self.held.insert(place.clone(), bar) else {
                continue;
            };
            let falls = revision < before.revision;
            let reopens = before.complete && !complete && revision == before.revision;
            if falls || reopens {
                let head = self.follower.feed().bounds().head;
                let now = &self.held[&place];
                assert!(truth.is_lost(self, &place, head), "{before:?} then {now:?}");
            }
        }
    }
}
