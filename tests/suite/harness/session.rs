//! One end of a Session: commands, their answers in order, and a ledger for each selector and feed.

use std::collections::{BTreeMap, HashMap};

use ringfeed::proto::v1::{
    self, Cursor, Selector, SessionRequest, SessionResponse, SubscribeResponse,
    feed_service_client::FeedServiceClient, session_request::Command, session_response,
    subscribe_response::Event,
};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Status, Streaming, transport::Channel};

use super::{Ledger, within};

#[derive(Debug)]
pub(crate) struct Talk {
    commands: Option<mpsc::Sender<SessionRequest>>,
    stream: Streaming<SessionResponse>,
    sent: u64,
    /// What a command will have done when it is answered.
    effects: HashMap<u64, (u32, Effect)>,
    /// By selector and feed; what a selector is told after it was removed is a mistake.
    pub(crate) ledgers: BTreeMap<(u32, String), Ledger>,
    selectors: Vec<u32>,
    pub(crate) answers: Vec<v1::SessionAnswer>,
    pub(crate) ended: Vec<v1::SelectorEnded>,
    pub(crate) beats: Vec<(u32, v1::Heartbeat)>,
    pub(crate) reconnect: Option<v1::Reconnect>,
    /// The last one that was told.
    pub(crate) token: String,
}

#[derive(Clone, Copy, Debug)]
enum Effect {
    Begins,
    Ends,
}

impl Talk {
    pub(crate) async fn open(feeds: &mut FeedServiceClient<Channel>) -> Self {
        let (commands, requests) = mpsc::channel(64);
        let opened = feeds.session(ReceiverStream::new(requests));
        let opened = within("a session", opened).await.unwrap();
        Self {
            commands: Some(commands),
            stream: opened.into_inner(),
            sent: 0,
            effects: HashMap::new(),
            ledgers: BTreeMap::new(),
            selectors: vec![],
            answers: vec![],
            ended: vec![],
            beats: vec![],
            reconnect: None,
            token: String::new(),
        }
    }

    /// A session that goes on where a token says, with these selectors.
    pub(crate) async fn resume(
        feeds: &mut FeedServiceClient<Channel>,
        token: &str,
        selectors: &[u32],
    ) -> Self {
        let mut talk = Self::open(feeds).await;
        talk.selectors = selectors.to_vec();
        talk.done(hello("", token)).await;
        talk
    }

    /// Sends a command; its id.
    pub(crate) async fn send(&mut self, command: Command) -> u64 {
        self.send_as(Some(command)).await
    }

    pub(crate) async fn send_as(&mut self, command: Option<Command>) -> u64 {
        self.sent += 1;
        let effect = match &command {
            Some(Command::Set(set)) => Some((set.selector_id, Effect::Begins)),
            Some(Command::Remove(remove)) => Some((remove.selector_id, Effect::Ends)),
            _ => None,
        };
        self.effects
            .extend(effect.map(|effect| (self.sent, effect)));
        let request = SessionRequest {
            request_id: self.sent,
            command,
        };
        let commands = self.commands.as_ref().unwrap();
        within("sending a command", commands.send(request))
            .await
            .unwrap();
        self.sent
    }

    /// Sends a command and reads until it is answered.
    pub(crate) async fn ask(&mut self, command: Command) -> v1::SessionAnswer {
        let id = self.send(command).await;
        self.answer(id).await
    }

    /// Reads until a command is answered.
    pub(crate) async fn answer(&mut self, id: u64) -> v1::SessionAnswer {
        self.read_until(|talk| talk.answers.last().is_some_and(|a| a.request_id >= id))
            .await;
        let answer = self.answers.last().unwrap().clone();
        assert_eq!(answer.request_id, id, "answers come in order");
        answer
    }

    /// Sends a command that must be carried out.
    pub(crate) async fn done(&mut self, command: Command) {
        let answer = self.ask(command).await;
        assert_eq!(answer.reason, "", "{answer:?}");
    }

    /// No more commands.
    pub(crate) fn close(&mut self) {
        self.commands = None;
    }

    /// The next message, after it was entered; `None` at the end.
    pub(crate) async fn step(&mut self) -> Result<Option<session_response::Event>, Status> {
        let Some(next) = within("an answer", self.stream.message()).await? else {
            return Ok(None);
        };
        let len = prost::Message::encoded_len(&next);
        assert!(len >= 256, "a message of {len} bytes");
        let event = next.event.expect("a message has an event");
        match event.clone() {
            session_response::Event::Answer(answer) => self.take_answer(answer),
            session_response::Event::Response(response) => self.take(response),
            session_response::Event::Ended(ended) => {
                self.selectors.retain(|id| *id != ended.selector_id);
                self.ended.push(ended);
            }
        }
        Ok(Some(event))
    }

    fn take_answer(&mut self, answer: v1::SessionAnswer) {
        let before = self.answers.last().map_or(0, |last| last.request_id);
        assert_eq!(answer.request_id, before + 1, "answers come in order");
        assert_eq!(answer.reason.is_empty(), answer.message.is_empty());
        if let Some((id, effect)) = self.effects.remove(&answer.request_id)
            && answer.reason.is_empty()
        {
            self.ledgers.retain(|(selector, _), _| *selector != id);
            self.selectors.retain(|selector| *selector != id);
            if matches!(effect, Effect::Begins) {
                self.selectors.push(id);
            }
        }
        self.answers.push(answer);
    }

    fn take(&mut self, response: SubscribeResponse) {
        let id = response.selector;
        match response.event.clone().unwrap() {
            Event::Reconnect(reconnect) => {
                self.reconnect = Some(reconnect);
                return;
            }
            Event::Heartbeat(beat) => {
                self.note_token(&beat.resume_token);
                self.beats.push((id, beat.clone()));
                if beat.acknowledged || beat.cursor.is_none() {
                    return;
                }
            }
            Event::CaughtUp(caught_up) => self.note_token(&caught_up.resume_token),
            _ => {}
        }
        assert!(
            self.selectors.contains(&id),
            "{id} is no selector: {response:?}"
        );
        let feed = feed_of(response.event.as_ref().unwrap());
        self.ledgers.entry((id, feed)).or_default().take(response);
    }

    fn note_token(&mut self, token: &str) {
        if !token.is_empty() {
            self.token = token.into();
        }
    }

    /// Reads on until `enough`.
    pub(crate) async fn read_until(&mut self, mut enough: impl FnMut(&Self) -> bool) {
        while !enough(self) {
            let next = self.step().await.unwrap();
            assert!(next.is_some(), "the session ended: {self:?}");
        }
    }

    /// Reads to the end.
    pub(crate) async fn read_out(&mut self) -> Result<(), Status> {
        while self.step().await?.is_some() {}
        Ok(())
    }

    pub(crate) fn next_of(&self, selector: u32, feed: &str) -> Option<u64> {
        let ledger = self.ledgers.get(&(selector, feed.to_owned()))?;
        ledger.next
    }

    /// Reads until a selector has everything before `to`.
    pub(crate) async fn read_to(&mut self, selector: u32, feed: &str, to: u64) {
        self.read_until(|talk| talk.next_of(selector, feed).is_some_and(|next| next >= to))
            .await;
    }

    pub(crate) fn ledger(&self, selector: u32, feed: &str) -> &Ledger {
        &self.ledgers[&(selector, feed.to_owned())]
    }
}

/// The feed a message is about.
pub(crate) fn feed_of(event: &Event) -> String {
    let of = |cursor: &Option<Cursor>| cursor.as_ref().unwrap().feed.clone();
    match event {
        Event::Records(batch) => batch.feed.clone(),
        Event::Gap(gap) => gap.feed.clone(),
        Event::CaughtUp(caught_up) => of(&caught_up.next),
        Event::Heartbeat(beat) => of(&beat.cursor),
        Event::KeyInfo(update) => update.feed.clone(),
        other => panic!("not expected: {other:?}"),
    }
}

pub(crate) fn hello(subscriber: &str, token: &str) -> Command {
    Command::Hello(v1::SessionHello {
        subscriber: subscriber.into(),
        resume_token: token.into(),
        ..v1::SessionHello::default()
    })
}

pub(crate) fn set(selector_id: u32, selector: Selector) -> Command {
    Command::Set(v1::SetSelector {
        selector_id,
        selector: Some(selector),
    })
}

pub(crate) fn remove(selector_id: u32) -> Command {
    Command::Remove(v1::RemoveSelector { selector_id })
}

pub(crate) fn acknowledge(selector_id: u32, feed: &str, offset: u64) -> Command {
    Command::Acknowledge(v1::Acknowledge {
        selector_id,
        cursor: Some(Cursor {
            feed: feed.into(),
            epoch: 0,
            offset,
        }),
    })
}
