//! What one selector was told, and whether it adds up: every offset is delivered, filtered or in a
//! gap, in order, exactly once.

use bytes::Bytes;
use prost::Message as _;
use ringfeed::proto::v1::{
    self, End, GapReason, Now, Selector, Start, SubscribeRequest, SubscribeResponse,
    feed_service_client::FeedServiceClient, start::From, subscribe_response::Event,
};
use tonic::{Status, Streaming, transport::Channel};

use super::{records::stored, within};

const MAX_RESPONSE_BYTES: usize = 256 * 1024;

#[derive(Debug, Default)]
pub(crate) struct Ledger {
    /// The next offset to be accounted for; known from the start, or from the first message.
    pub(crate) next: Option<u64>,
    pub(crate) epoch: Option<u64>,
    /// Offset and bytes, as delivered.
    pub(crate) records: Vec<(u64, Bytes)>,
    pub(crate) gaps: Vec<v1::Gap>,
    pub(crate) caught_up: Vec<v1::CaughtUp>,
    pub(crate) heartbeats: Vec<v1::Heartbeat>,
    pub(crate) reconnect: Option<v1::Reconnect>,
    pub(crate) infos: Vec<v1::KeyInfoUpdate>,
}

impl Ledger {
    pub(crate) fn from(next: u64) -> Self {
        Self {
            next: Some(next),
            ..Self::default()
        }
    }

    /// Enters a response, which must fit to what came before.
    pub(crate) fn take(&mut self, response: SubscribeResponse) {
        let len = response.encoded_len();
        assert!(len >= 256, "a response of {len} bytes");
        match event_of(response) {
            Event::Records(batch) => self.take_records(batch, len),
            Event::Gap(gap) => self.take_gap(gap),
            Event::CaughtUp(caught_up) => {
                let next = caught_up.next.as_ref().unwrap().offset;
                assert_eq!(*self.next.get_or_insert(next), next, "caught up elsewhere");
                self.caught_up.push(caught_up);
            }
            Event::Heartbeat(beat) => {
                let at = beat.cursor.as_ref().unwrap().offset;
                assert_eq!(*self.next.get_or_insert(at), at, "a heartbeat elsewhere");
                let next = beat.next.as_ref().unwrap().offset;
                assert_eq!(beat.lag_records, next - at);
                self.heartbeats.push(beat);
            }
            Event::KeyInfo(info) => self.infos.push(info),
            Event::Reconnect(reconnect) => self.reconnect = Some(reconnect),
            other => panic!("not expected: {other:?}"),
        }
    }

    fn take_records(&mut self, batch: v1::RecordBatch, len: usize) {
        assert!(
            len <= MAX_RESPONSE_BYTES || batch.records.len() == 1,
            "a response of {len} bytes"
        );
        let covers = batch.covers.unwrap();
        assert!(covers.from < covers.to, "{covers:?}");
        assert_eq!(*self.next.get_or_insert(covers.from), covers.from, "a hole");
        assert_eq!(*self.epoch.get_or_insert(batch.epoch), batch.epoch);
        assert_eq!(batch.count as usize, batch.records.len());
        let cursor = batch.cursor.unwrap();
        assert_eq!((cursor.epoch, cursor.offset), (batch.epoch, covers.to));
        let mut above = covers.from;
        for bytes in batch.records {
            let offset = stored(&bytes).offset;
            assert!(
                (above..covers.to).contains(&offset),
                "{offset} in {covers:?}"
            );
            above = offset + 1;
            self.records.push((offset, bytes));
        }
        self.next = Some(covers.to);
    }

    fn take_gap(&mut self, gap: v1::Gap) {
        let oldest = gap.oldest.clone().unwrap();
        if gap.reason() == GapReason::EpochChanged {
            self.next = Some(oldest.offset);
            self.epoch = Some(oldest.epoch);
        } else {
            assert!(gap.from < gap.to, "{gap:?}");
            let expected = *self.next.get_or_insert(gap.from);
            assert_eq!(expected, gap.from, "a gap elsewhere: {gap:?}");
            assert_eq!(*self.epoch.get_or_insert(gap.epoch), gap.epoch);
            self.next = Some(gap.to);
        }
        self.gaps.push(gap);
    }

    /// The records decoded.
    pub(crate) fn decoded(&self) -> Vec<v1::Record> {
        self.records
            .iter()
            .map(|(_, bytes)| stored(bytes))
            .collect()
    }

    /// Gaps as (from, to, count, reason).
    pub(crate) fn gap_list(&self) -> Vec<(u64, u64, Option<u64>, GapReason)> {
        let list = self.gaps.iter();
        list.map(|gap| (gap.from, gap.to, gap.count, gap.reason()))
            .collect()
    }
}

pub(crate) fn event_of(response: SubscribeResponse) -> Event {
    response.event.expect("a response has an event")
}

/// A subscription and its ledgers, one for each selector.
#[derive(Debug)]
pub(crate) struct Follow {
    stream: Streaming<SubscribeResponse>,
    pub(crate) ledgers: Vec<Ledger>,
}

impl Follow {
    pub(crate) async fn open(
        feeds: &mut FeedServiceClient<Channel>,
        request: SubscribeRequest,
    ) -> Result<Self, Status> {
        let selectors = request.selectors.len().max(1);
        let opened = within("a subscription", feeds.subscribe(request)).await?;
        Ok(Self {
            stream: opened.into_inner(),
            ledgers: (0..selectors).map(|_| Ledger::default()).collect(),
        })
    }

    /// One selector of one feed.
    pub(crate) async fn feed(
        feeds: &mut FeedServiceClient<Channel>,
        feed: &str,
        from: From,
    ) -> Self {
        let known = match &from {
            From::Offset(offset) => Some(*offset),
            _ => None,
        };
        let mut follow = Self::open(feeds, one(feed, from, None)).await.unwrap();
        follow.ledgers[0].next = known;
        follow
    }

    /// Goes on with a token.
    pub(crate) async fn resume(feeds: &mut FeedServiceClient<Channel>, token: &str) -> Self {
        let request = SubscribeRequest {
            resume_token: token.into(),
            ..SubscribeRequest::default()
        };
        Self::open(feeds, request).await.unwrap()
    }

    /// The next response, after it was entered; `None` at the end.
    pub(crate) async fn step(&mut self) -> Result<Option<SubscribeResponse>, Status> {
        let next = within("a response", self.stream.message()).await?;
        if let Some(response) = &next {
            self.ledgers[response.selector as usize].take(response.clone());
        }
        Ok(next)
    }

    /// Reads on until `enough`.
    pub(crate) async fn read_until(&mut self, mut enough: impl FnMut(&[Ledger]) -> bool) {
        while !enough(&self.ledgers) {
            let next = self.step().await.unwrap();
            assert!(next.is_some(), "the stream ended: {self:?}");
        }
    }

    /// Reads until every offset below `to` is accounted for.
    pub(crate) async fn read_to(&mut self, to: u64) {
        let there = |ledgers: &[Ledger]| ledgers[0].next.is_some_and(|next| next >= to);
        self.read_until(there).await;
    }

    /// Reads to the end of the stream.
    pub(crate) async fn read_out(&mut self) -> Result<(), Status> {
        while self.step().await?.is_some() {}
        Ok(())
    }

    pub(crate) fn ledger(&self) -> &Ledger {
        &self.ledgers[0]
    }
}

pub(crate) fn one(feed: &str, from: From, end: Option<End>) -> SubscribeRequest {
    let selector = Selector {
        feed: feed.into(),
        start: Some(Start { from: Some(from) }),
        end,
        ..Selector::default()
    };
    SubscribeRequest {
        selectors: vec![selector],
        ..SubscribeRequest::default()
    }
}

/// Everything from `from` to what is the tail now.
pub(crate) async fn read_from(
    feeds: &mut FeedServiceClient<Channel>,
    feed: &str,
    from: u64,
) -> Ledger {
    let now = End {
        at: Some(v1::end::At::Now(Now {})),
    };
    let request = one(feed, From::Offset(from), Some(now));
    let mut follow = Follow::open(feeds, request).await.unwrap();
    follow.ledgers[0].next = Some(from);
    follow.read_out().await.unwrap();
    follow.ledgers.remove(0)
}

/// Everything from offset 0 to what is the tail now.
pub(crate) async fn read_to_now(feeds: &mut FeedServiceClient<Channel>, feed: &str) -> Ledger {
    read_from(feeds, feed, 0).await
}
