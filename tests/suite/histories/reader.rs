//! A subscriber: reads when it is told to, remembers everything, and resumes.

use std::{
    collections::{BTreeMap, BTreeSet},
    pin::pin,
};

use ringfeed::{
    client::{Ledger, Reopened},
    hub::Hub,
    model::{Bounds, Cursor, FeedName},
    proto::v1::{self, start::From, subscribe_response::Event},
};
use tokio::{sync::mpsc, time::Instant};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Status, Streaming};

use super::{
    history::{Call, ResumeBy},
    pipe::{Incoming, connect, in_turns},
    select::{Ends, Place},
};

type Failure = String;

/// What happened to a subscriber, in order.
#[expect(clippy::large_enum_variant, reason = "most entries are responses")]
#[derive(Debug)]
pub(super) enum Entry {
    /// A selector begins, perhaps in the place of one before.
    Began {
        id: u32,
        selector: Box<v1::Selector>,
        places: Vec<Place>,
        at: Instant,
    },
    /// All go on after a cut.
    Reopened {
        how: Reopened,
        at: Instant,
    },
    /// A selector gets another view from here on, or has another slow policy.
    Changed {
        id: u32,
        change: v1::ChangeSelector,
        at: Instant,
    },
    Removed {
        id: u32,
    },
    /// A selector of a session ended by itself; it is removed next.
    Ended(v1::SelectorEnded),
    Said {
        response: v1::SubscribeResponse,
        /// Of the feed, when it came.
        bounds: Option<Bounds>,
        at: Instant,
    },
}

#[derive(Debug)]
enum Stream {
    Subscribe(Streaming<v1::SubscribeResponse>),
    Session(
        Streaming<v1::SessionResponse>,
        mpsc::Sender<v1::SessionRequest>,
    ),
}

/// What came.
#[expect(clippy::large_enum_variant, reason = "most of it are responses")]
#[derive(Debug)]
enum Came {
    Response(v1::SubscribeResponse),
    Answer(v1::SessionAnswer),
    Ended(v1::SelectorEnded),
}

/// Whether there was something to read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Read {
    Some,
    Nothing,
    Closed,
}

#[derive(Debug)]
pub(super) struct Reader {
    pub name: String,
    pub call: Call,
    pub asked: BTreeMap<u32, v1::Selector>,
    pub places: BTreeMap<(u32, String), Place>,
    /// Of which there were records or gaps.
    pub heard: BTreeSet<(u32, String)>,
    pub ledger: Ledger,
    pub log: Vec<Entry>,
    token: Option<String>,
    stream: Option<Stream>,
    requests: u64,
}

impl Reader {
    pub(super) fn new(name: String, call: Call) -> Self {
        Self {
            name,
            call,
            asked: BTreeMap::new(),
            places: BTreeMap::new(),
            heard: BTreeSet::new(),
            ledger: Ledger::default(),
            log: vec![],
            token: None,
            stream: None,
            requests: 0,
        }
    }

    pub(super) fn is_open(&self) -> bool {
        self.stream.is_some()
    }

    pub(super) fn cut(&mut self) {
        self.stream = None;
    }

    /// A selector begins, once its request was taken.
    pub(super) fn begin(&mut self, id: u32, selector: v1::Selector, places: Vec<Place>) {
        // One from before stands for something else.
        self.token = None;
        self.places.retain(|(of, _), _| *of != id);
        self.heard.retain(|(of, _)| *of != id);
        for place in &places {
            self.places.insert((id, place.feed.clone()), place.clone());
        }
        self.ledger.add(id, &selector);
        self.asked.insert(id, selector.clone());
        self.log.push(Entry::Began {
            id,
            selector: Box::new(selector),
            places,
            at: Instant::now(),
        });
    }

    /// Subscribes to what was asked for, or goes on by a token.
    pub(super) async fn subscribe(
        &mut self,
        incoming: &Incoming,
        selectors: Vec<v1::Selector>,
        token: Option<String>,
    ) -> Result<(), Status> {
        let request = v1::SubscribeRequest {
            selectors,
            resume_token: token.unwrap_or_default(),
            subscriber: self.name.clone(),
            heartbeat_interval: Some(prost_types::Duration {
                seconds: 0,
                nanos: 500_000_000,
            }),
            ..v1::SubscribeRequest::default()
        };
        let stream = connect(incoming).await.subscribe(request).await?;
        self.stream = Some(Stream::Subscribe(stream.into_inner()));
        Ok(())
    }

    /// Opens a session, which may go on by a token.
    pub(super) async fn session(
        &mut self,
        incoming: &Incoming,
        hub: &Hub,
        token: Option<String>,
    ) -> Result<String, Failure> {
        let (commands, requests) = mpsc::channel(8);
        let mut client = connect(incoming).await;
        let stream = client.session(ReceiverStream::new(requests)).await;
        let stream = stream.map_err(|status| format!("no session: {status}"))?;
        self.stream = Some(Stream::Session(stream.into_inner(), commands));
        let hello = v1::SessionHello {
            subscriber: self.name.clone(),
            resume_token: token.unwrap_or_default(),
            heartbeat_interval: Some(prost_types::Duration {
                seconds: 0,
                nanos: 500_000_000,
            }),
            ..v1::SessionHello::default()
        };
        let command = v1::session_request::Command::Hello(hello);
        self.command(hub, command).await
    }

    /// Sends a command and reads on to its answer: the reason of a refusal, else nothing.
    pub(super) async fn command(
        &mut self,
        hub: &Hub,
        command: v1::session_request::Command,
    ) -> Result<String, Failure> {
        self.requests += 1;
        let request = v1::SessionRequest {
            request_id: self.requests,
            command: Some(command),
        };
        let Some(Stream::Session(_, commands)) = &self.stream else {
            return Ok("CLOSED".into());
        };
        if commands.send(request).await.is_err() {
            self.stream = None;
            return Ok("CLOSED".into());
        }
        loop {
            match self.message().await {
                Ok(Some(Came::Answer(answer))) => {
                    if answer.request_id != self.requests {
                        return Err(format!("answer {answer:?} of request {}", self.requests));
                    }
                    // A token from before the command stands for something else.
                    self.token = None;
                    return Ok(answer.reason);
                }
                Ok(Some(came)) => self.take(hub, came)?,
                Ok(None) | Err(_) => {
                    self.stream = None;
                    return Ok("CLOSED".into());
                }
            }
        }
    }

    /// Reads one message that is there already or comes while the others have their turns.
    pub(super) async fn read_now(&mut self, hub: &Hub) -> Result<Read, Failure> {
        if self.stream.is_none() {
            return Ok(Read::Closed);
        }
        let came = in_turns(pin!(self.message())).await;
        match came {
            None => Ok(Read::Nothing),
            Some(came) => self.came(hub, came),
        }
    }

    /// Waits for a message.
    pub(super) async fn read(&mut self, hub: &Hub) -> Result<Read, Failure> {
        if self.stream.is_none() {
            return Ok(Read::Closed);
        }
        let came = self.message().await;
        self.came(hub, came)
    }

    fn came(&mut self, hub: &Hub, came: Result<Option<Came>, Status>) -> Result<Read, Failure> {
        match came {
            Ok(Some(came)) => {
                self.take(hub, came)?;
                Ok(Read::Some)
            }
            Ok(None) | Err(_) => {
                self.stream = None;
                Ok(Read::Closed)
            }
        }
    }

    async fn message(&mut self) -> Result<Option<Came>, Status> {
        use v1::session_response::Event as Said;
        match &mut self.stream {
            None => Ok(None),
            Some(Stream::Subscribe(stream)) => Ok(stream.message().await?.map(Came::Response)),
            Some(Stream::Session(stream, _)) => {
                let Some(message) = stream.message().await? else {
                    return Ok(None);
                };
                let came = match message.event {
                    Some(Said::Answer(answer)) => Came::Answer(answer),
                    Some(Said::Response(response)) => Came::Response(response),
                    Some(Said::Ended(ended)) => Came::Ended(ended),
                    None => return Err(Status::internal("an empty response")),
                };
                Ok(Some(came))
            }
        }
    }

    fn take(&mut self, hub: &Hub, came: Came) -> Result<(), Failure> {
        let response = match came {
            Came::Response(response) => response,
            Came::Answer(answer) => return Err(format!("nobody asked: {answer:?}")),
            Came::Ended(ended) => {
                let id = ended.selector_id;
                self.log.push(Entry::Ended(ended));
                // One from before would bring it back.
                self.token = None;
                self.remove(id);
                return Ok(());
            }
        };
        if let Err(broken) = self.ledger.observe(&response) {
            let bounds = None;
            let at = Instant::now();
            self.log.push(Entry::Said {
                response,
                bounds,
                at,
            });
            let log = super::check::before(self, self.log.len());
            return Err(format!("subscriber {}: {broken}{log}", self.name));
        }
        if let Some(token) = response.event.as_ref().and_then(token) {
            self.token = Some(token.to_owned());
        }
        if let Some(
            Event::Records(v1::RecordBatch { feed, .. }) | Event::Gap(v1::Gap { feed, .. }),
        ) = &response.event
        {
            self.heard.insert((response.selector, feed.clone()));
        }
        let bounds = response.event.as_ref().and_then(|event| bounds(hub, event));
        self.log.push(Entry::Said {
            response,
            bounds,
            at: Instant::now(),
        });
        Ok(())
    }

    /// A selector gets something else, or has another slow policy.
    pub(super) fn change(&mut self, change: v1::ChangeSelector) {
        let id = change.selector_id;
        if let Some(asked) = self.asked.get_mut(&id) {
            asked.fidelity = change.fidelity.or(asked.fidelity);
            asked.slow_policy = change.slow_policy.or(asked.slow_policy);
        }
        self.log.push(Entry::Changed {
            id,
            change,
            at: Instant::now(),
        });
    }

    pub(super) fn remove(&mut self, id: u32) {
        self.asked.remove(&id);
        self.places.retain(|(of, _), _| *of != id);
        self.ledger.remove(id);
        self.log.push(Entry::Removed { id });
    }

    /// The token to go on with, if it is wanted and there is one.
    pub(super) fn token(&self, by: ResumeBy) -> Option<String> {
        let needed = self.asked.values().any(|selector| {
            !selector.feed_globs.is_empty() || super::select::is_bars(selector.fidelity.as_ref())
        });
        let wanted = by == ResumeBy::Token || needed;
        self.token.clone().filter(|_| wanted)
    }

    /// Everything goes on.
    pub(super) fn reopened(&mut self, how: Reopened) {
        self.ledger.reopened(how);
        self.log.push(Entry::Reopened {
            how,
            at: Instant::now(),
        });
    }

    /// The selectors from where they stand; `None` for one that has to begin anew.
    pub(super) fn going_on(&self) -> Vec<(u32, v1::Selector, Option<Cursor>)> {
        let asked = self.asked.iter().map(|(id, asked)| {
            let mut selector = asked.clone();
            let lane = self.ledger.lane(*id, &asked.feed);
            let needs_token =
                !asked.feed_globs.is_empty() || super::select::is_bars(asked.fidelity.as_ref());
            // Of one that was not heard of yet, a ledger knows what the request said.
            let next = lane.and_then(|lane| lane.next());
            let next = next.filter(|next| !needs_token && next.epoch != 0);
            if let Some(next) = next {
                let place = v1::Cursor {
                    feed: asked.feed.clone(),
                    epoch: next.epoch,
                    offset: next.offset,
                };
                let from = Some(From::Cursor(place));
                selector.start = Some(v1::Start { from });
                self.keep_end(*id, &mut selector);
            } else {
                super::select::make_askable(&mut selector);
            }
            (*id, selector, next)
        });
        asked.collect()
    }

    /// "Now" was when it began.
    fn keep_end(&self, id: u32, selector: &mut v1::Selector) {
        let place = self.places.get(&(id, selector.feed.clone()));
        if let Some(Ends::At(offset)) = place.map(|place| place.end) {
            let at = Some(v1::end::At::Offset(offset));
            selector.end = Some(v1::End { at });
        }
    }
}

fn token(event: &Event) -> Option<&str> {
    let token = match event {
        Event::CaughtUp(caught_up) => &caught_up.resume_token,
        Event::Heartbeat(heartbeat) => &heartbeat.resume_token,
        Event::Reconnect(reconnect) => &reconnect.resume_token,
        _ => return None,
    };
    Some(token.as_str()).filter(|token| !token.is_empty())
}

/// What can be read of the feed that a message speaks of, where the check wants to know.
fn bounds(hub: &Hub, event: &Event) -> Option<Bounds> {
    let (feed, epoch) = match event {
        Event::Gap(gap) => {
            let oldest = gap.oldest.as_ref();
            (&gap.feed, oldest.map_or(gap.epoch, |oldest| oldest.epoch))
        }
        Event::CaughtUp(v1::CaughtUp {
            next: Some(next), ..
        }) => (&next.feed, next.epoch),
        _ => return None,
    };
    let feed = hub.feed(&feed.parse::<FeedName>().ok()?).ok()?;
    (feed.epoch() == epoch).then(|| feed.bounds())
}
