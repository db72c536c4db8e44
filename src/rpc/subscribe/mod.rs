//! Subscribe: several selectors on one stream, in fair turns, each accounting for every offset.

mod body;
mod info;
mod leg;
mod outgoing;
mod route;

use std::{collections::VecDeque, pin::Pin, sync::Arc, time::Duration};

use futures_util::future::select_all;
use prost::Message as _;
use tokio::time::{Instant, Sleep, sleep_until};
use tokio_stream::Stream;
use tonic::Status;

use self::leg::Leg;
pub(super) use self::outgoing::Outgoing;
pub use self::route::SubscribeRoute;
use super::{Context, request, selector, status, stream::StreamGuard, token};
use crate::{
    hub::FollowError,
    model::Principal,
    proto::v1::{self, subscribe_response::Event},
};

const MAX_SELECTORS: usize = 64;
const MAX_NAME_BYTES: usize = 128;
const HEARTBEATS: std::ops::RangeInclusive<Duration> =
    Duration::from_millis(100)..=Duration::from_secs(3_600);
/// A larger token (very long key lists) is only sent when the stream has to end.
const MAX_FREQUENT_TOKEN_BYTES: usize = 4_096;

/// One Subscribe stream.
#[derive(Debug)]
pub(super) struct Subscription {
    context: Arc<Context>,
    /// As asked for, encoded, without its selectors: the legs keep those.
    request: Box<[u8]>,
    legs: Vec<Leg>,
    /// Whose turn it is.
    turn: usize,
    ready: VecDeque<Outgoing>,
    period: Duration,
    heartbeat: Pin<Box<Sleep>>,
}

/// Checks a request and finds every selector's place.
pub(super) async fn open(
    context: &Arc<Context>,
    asked: v1::SubscribeRequest,
    principal: Principal,
) -> Result<Subscription, Status> {
    let mut request = resumed(context, asked)?;
    let period = heartbeat(context, &request)?;
    if request.subscriber.len() > MAX_NAME_BYTES {
        return Err(status::invalid_argument("subscriber", "is over 128 bytes"));
    }
    let mut legs = Vec::with_capacity(request.selectors.len());
    for (index, selector) in std::mem::take(&mut request.selectors)
        .into_iter()
        .enumerate()
    {
        let (feed, wanted) = selector::parse(context, index, &selector)?;
        let follower = context.hub.follow(&feed, wanted).await;
        let follower = follower.map_err(|e| status::follow(&e))?;
        let guard = context.hub.register_subscriber(
            request.subscriber.clone(),
            Arc::clone(&principal),
            &feed,
            follower.cursor(),
        );
        legs.push(Leg::new(
            index,
            &selector,
            follower,
            guard,
            request.include_info,
        ));
    }
    Ok(Subscription {
        context: Arc::clone(context),
        request: request.encode_to_vec().into(),
        legs,
        turn: 0,
        ready: VecDeque::new(),
        period,
        heartbeat: Box::pin(sleep_until(Instant::now() + period)),
    })
}

/// The request itself, or what its token stands for.
fn resumed(
    context: &Context,
    mut request: v1::SubscribeRequest,
) -> Result<v1::SubscribeRequest, Status> {
    let invalid = |message| Err(status::invalid_argument("selectors", message));
    match (request.resume_token.is_empty(), request.selectors.len()) {
        (true, 0) => invalid("is empty; say what to follow, or send a resume_token"),
        (true, 1..=MAX_SELECTORS) => Ok(request),
        (true, _) => invalid("has more than 64 entries; open another stream"),
        (false, 0) => {
            let resumed = token::read(context.hub.secret(), &request.resume_token)?;
            request.resume_token.clear();
            request.selectors = resumed.selectors;
            request.include_info |= resumed.include_info;
            request.heartbeat_interval = request.heartbeat_interval.or(resumed.heartbeat_interval);
            if request.subscriber.is_empty() {
                request.subscriber = resumed.subscriber;
            }
            Ok(request)
        }
        (false, _) => invalid("and resume_token exclude each other; send one of them"),
    }
}

fn heartbeat(context: &Context, request: &v1::SubscribeRequest) -> Result<Duration, Status> {
    let Some(asked) = &request.heartbeat_interval else {
        return Ok(context.heartbeat);
    };
    let asked = request::duration("heartbeat_interval", asked)?;
    if !HEARTBEATS.contains(&asked) {
        return Err(status::invalid_argument(
            "heartbeat_interval",
            "is 100 ms to 1 h",
        ));
    }
    Ok(asked)
}

impl Subscription {
    /// The responses, until the end that was asked for, a failure, or the server's stop.
    pub(super) fn into_stream(
        mut self,
        mut guard: StreamGuard,
    ) -> impl Stream<Item = Result<Outgoing, Status>> + Send {
        async_stream::stream! {
            // One wait for all of the stream: a new one each time would queue up anew.
            let stopping = self.context.stopping.clone().cancelled_owned();
            tokio::pin!(stopping);
            loop {
                let next = tokio::select! {
                    biased;
                    () = &mut stopping => {
                        guard.stopped();
                        // The token goes on after these.
                        while let Some(response) = self.ready.pop_front() {
                            yield Ok(response);
                        }
                        yield Ok(self.reconnect());
                        return;
                    }
                    next = self.next() => next,
                };
                match next {
                    Ok(Some(response)) => yield Ok(response),
                    Ok(None) => {
                        guard.set(None);
                        return;
                    }
                    Err(error) => {
                        let error = status::follow(&error);
                        guard.set(Some(&error));
                        yield Err(error);
                        return;
                    }
                }
            }
        }
    }

    /// The next response; `None` when every selector reached its end.
    async fn next(&mut self) -> Result<Option<Outgoing>, FollowError> {
        loop {
            if let Some(response) = self.ready.pop_front() {
                return Ok(Some(response));
            }
            // Also when busy: a subscriber that is behind must hear how far.
            if self.heartbeat.deadline() <= Instant::now() {
                self.beat();
                continue;
            }
            if self.take_turns().await? {
                continue;
            }
            if self.legs.iter().all(Leg::is_done) {
                return Ok(None);
            }
            self.wait().await;
        }
    }

    /// Waits until a selector may have something to say, or a heartbeat is due.
    async fn wait(&mut self) {
        // An idle stream keeps nothing that it can do without.
        self.ready.shrink_to_fit();
        let heartbeat = self.heartbeat.as_mut();
        if let [leg] = self.legs.as_mut_slice() {
            tokio::select! {
                () = leg.wait() => {}
                () = heartbeat => {}
            }
            return;
        }
        let waits = self.legs.iter_mut().filter(|leg| !leg.is_done());
        let moved = select_all(waits.map(|leg| Box::pin(leg.wait())));
        tokio::select! {
            _ = moved => {}
            () = heartbeat => {}
        }
    }

    /// Lets each selector say what it comes upon, beginning with the one whose turn it is, until
    /// one has something. Whether one had.
    async fn take_turns(&mut self) -> Result<bool, FollowError> {
        for _ in 0..self.legs.len() {
            let turn = self.turn % self.legs.len();
            self.turn = turn + 1;
            if let Some(leg) = self.legs.get_mut(turn) {
                leg.advance(&mut self.ready).await?;
            }
            if !self.ready.is_empty() {
                self.sign();
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Fills in the resume token where a response carries one.
    fn sign(&mut self) {
        if !self.ready.iter_mut().any(|r| r.caught_up().is_some()) {
            return;
        }
        let token = self.frequent_token();
        let caught_up = self.ready.iter_mut().filter_map(Outgoing::caught_up);
        caught_up.for_each(|caught_up| caught_up.resume_token.clone_from(&token));
    }

    fn beat(&mut self) {
        self.heartbeat.as_mut().reset(Instant::now() + self.period);
        let beating = self.legs.iter_mut().filter(|leg| !leg.is_done());
        beating.for_each(|leg| leg.settle(&mut self.ready));
        let resume_token = self.frequent_token();
        let beats = self.legs.iter().filter(|leg| !leg.is_done());
        self.ready
            .extend(beats.map(|leg| leg.heartbeat(resume_token.clone())));
    }

    fn frequent_token(&self) -> String {
        let token = self.resume_token();
        if token.len() > MAX_FREQUENT_TOKEN_BYTES {
            String::new()
        } else {
            token
        }
    }

    fn resume_token(&self) -> String {
        let selectors = self.legs.iter().map(Leg::resume).collect();
        let asked = v1::SubscribeRequest::decode(&*self.request).unwrap_or_default();
        let request = v1::SubscribeRequest { selectors, ..asked };
        token::issue(self.context.hub.secret(), &request)
    }

    fn reconnect(&self) -> Outgoing {
        let reconnect = v1::Reconnect {
            resume_token: self.resume_token(),
            reason: "the server is stopping".into(),
        };
        Outgoing::new(0, Event::Reconnect(reconnect))
    }
}

#[cfg(test)]
mod tests {
    use tokio_stream::StreamExt as _;
    use tokio_util::sync::CancellationToken;

    use super::*;
    use crate::{
        hub::{Hub, HubOptions},
        store::MemoryEngine,
    };

    /// Memory of 10,000 idle streams is mostly this, h2's own, and what is behind pointers.
    #[tokio::test]
    async fn a_stream_that_waits_is_small() {
        let engine = Arc::new(MemoryEngine::new());
        let hub = Hub::open(engine, HubOptions::default()).unwrap();
        let name = "f".parse().unwrap();
        hub.create_feed(name, None, None).await.unwrap();
        let context = Arc::new(Context {
            hub,
            heartbeat: Duration::from_secs(10),
            publish_window: 1 << 20,
            stopping: CancellationToken::new(),
        });
        let selector = v1::Selector {
            feed: "f".into(),
            ..v1::Selector::default()
        };
        let request = v1::SubscribeRequest {
            selectors: vec![selector],
            ..v1::SubscribeRequest::default()
        };
        let subscription = open(&context, request, "me".into()).await.unwrap();
        let leg = size_of::<Leg>();
        let stream = subscription.into_stream(StreamGuard::open("Subscribe"));
        let size = size_of_val(&stream);
        assert!(leg <= 400, "a selector of {leg} bytes");
        assert!(size <= 1_500, "a stream of {size} bytes");
        tokio::pin!(stream);
        let first = stream.next().await.unwrap().unwrap().response();
        assert!(matches!(first.event, Some(Event::CaughtUp(_))), "{first:?}");
    }
}
