//! Session: what Subscribe does, with selectors that come, change and go while it runs. Commands are
//! carried out and answered in their order, beside what the selectors have to say.

mod commands;
mod route;
mod said;

use std::{collections::VecDeque, sync::Arc};

use futures_util::FutureExt as _;
use tokio_stream::Stream;
use tonic::{Status, Streaming};

use self::commands::{Commands, Done, Event};
pub use self::route::SessionRoute;
pub(super) use self::said::Said;
use super::{
    Context, status,
    subscribe::{self, Following, Kind, MAX_SELECTORS, Opened, Who},
};
use crate::{
    errors::Reason,
    layers::Call,
    proto::v1::{self, session_request::Command},
};

#[derive(Debug)]
pub(super) struct Session {
    context: Arc<Context>,
    call: Arc<Call>,
    following: Following,
    commands: Commands,
    /// To be sent before anything else.
    said: VecDeque<Said>,
}

impl Session {
    pub(super) fn new(
        context: &Arc<Context>,
        call: Arc<Call>,
        requests: Streaming<v1::SessionRequest>,
    ) -> Result<Self, Status> {
        let nobody = v1::SubscribeRequest::default();
        let who = Who::read(context, Arc::clone(&call), &nobody)?;
        Ok(Self {
            context: Arc::clone(context),
            call,
            following: Following::new(who, Kind::Session),
            commands: Commands::new(requests),
            said: VecDeque::new(),
        })
    }

    /// Answers and responses, until the client has left and no selector goes on, a failure, or the
    /// server's stop.
    pub(super) fn into_stream(mut self) -> impl Stream<Item = Result<Said, Status>> + Send {
        async_stream::stream! {
            let mut over = self.call.over(&self.context.stopping);
            loop {
                let next = tokio::select! {
                    biased;
                    why = &mut over => {
                        self.say_what_is_ready();
                        // The token goes on after these.
                        while let Some(said) = self.said.pop_front() {
                            yield Ok(said);
                        }
                        yield Ok(Said::Response(self.following.reconnect(why.text())));
                        match why.failure() {
                            Some(failure) => yield Err(failure),
                            None => self.call.stopped(),
                        }
                        return;
                    }
                    next = self.next() => next,
                };
                match next {
                    Ok(Some(said)) => yield Ok(said),
                    Ok(None) => return,
                    Err(error) => {
                        yield Err(error);
                        return;
                    }
                }
            }
        }
    }

    /// What is to be sent next; `None` at the end. Safe to cancel. A command is read only when the
    /// answer of the one before was taken: who reads no answers is not served either.
    async fn next(&mut self) -> Result<Option<Said>, Status> {
        loop {
            if let Some(said) = self.said.pop_front() {
                return Ok(Some(said));
            }
            if self.commands.are_over() && self.following.selectors() == 0 {
                return Ok(None);
            }
            tokio::select! {
                happening = self.following.next() => {
                    if let Some(said) = Said::of(happening?) {
                        return Ok(Some(said));
                    }
                }
                event = self.commands.next() => self.see_to(event?),
            }
        }
    }

    fn see_to(&mut self, event: Event) {
        match event {
            Event::Command(request) => self.begin(*request),
            Event::Done(id, done) => {
                let done = self.finish(done);
                self.answer(id, done);
            }
            Event::Acknowledged(id, result) => self.answer(id, result),
            Event::Closed => {}
        }
    }

    /// Carries a command out, or begins to.
    fn begin(&mut self, request: v1::SessionRequest) {
        let id = request.request_id;
        let done = match request.command {
            Some(Command::Hello(hello)) => match self.hello(id, hello) {
                Ok(()) => return,
                Err(refused) => Err(refused),
            },
            Some(Command::Set(set)) => match self.set(id, set) {
                Ok(()) => return,
                Err(refused) => Err(refused),
            },
            Some(Command::Acknowledge(said)) => return self.acknowledge(id, &said),
            Some(Command::Remove(remove)) => self.remove(remove.selector_id),
            Some(Command::Change(change)) => self.following.change(&change),
            None => {
                let text = "is missing, or of a later version of the API";
                Err(status::invalid_argument("command", text))
            }
        };
        self.answer(id, done);
    }

    fn hello(&mut self, id: u64, hello: v1::SessionHello) -> Result<(), Status> {
        if self.following.selectors() > 0 {
            let text = "hello comes before any selector; remove the selectors first";
            return Err(status::precondition(Reason::HelloTooLate, "hello", text));
        }
        let request = v1::SubscribeRequest {
            selectors: vec![],
            resume_token: hello.resume_token,
            include_info: hello.include_info,
            heartbeat_interval: hello.heartbeat_interval,
            subscriber: hello.subscriber,
        };
        let (context, call) = (Arc::clone(&self.context), Arc::clone(&self.call));
        let work = async move {
            let following = if request.resume_token.is_empty() {
                let who = Who::read(&context, call, &request);
                who.map(|who| Following::new(who, Kind::Session))
            } else {
                subscribe::resumed(&context, request, call, Kind::Session).await
            };
            Done::Hello(following.map(Box::new))
        };
        self.commands.begin(id, work.boxed());
        Ok(())
    }

    fn set(&mut self, id: u64, set: v1::SetSelector) -> Result<(), Status> {
        let (selector_id, path) = (set.selector_id, "set.selector");
        let missing = || status::invalid_argument(path, "is missing; say what to follow");
        let asked = set.selector.ok_or_else(missing)?;
        if !self.following.has(selector_id) && self.following.selectors() >= MAX_SELECTORS {
            return Err(status::too_many_selectors(MAX_SELECTORS));
        }
        let who = Arc::clone(self.following.who());
        let work = async move {
            let opened = Opened::anew(&who, path, selector_id, &asked).await;
            Done::Selector(opened.map(Box::new))
        };
        self.commands.begin(id, work.boxed());
        Ok(())
    }

    fn finish(&mut self, done: Done) -> Result<(), Status> {
        match done {
            Done::Hello(following) => {
                self.following = *following?;
                Ok(())
            }
            Done::Selector(opened) => {
                let opened = opened?;
                // What is ready is of the selector that it may replace.
                self.say_what_is_ready();
                self.following.put(*opened)
            }
        }
    }

    fn remove(&mut self, id: u32) -> Result<(), Status> {
        self.say_what_is_ready();
        if self.following.remove(id) {
            Ok(())
        } else {
            Err(status::unknown_selector(id))
        }
    }

    /// Many may wait for the same flush: it is answered when it is durable, the next commands are
    /// read meanwhile.
    fn acknowledge(&mut self, id: u64, said: &v1::Acknowledge) {
        let work = match self.following.acknowledge(said) {
            Ok(Some(durable)) => {
                let durable = durable.map(|result| result.map_err(|e| status::catalog(&e)));
                durable.boxed()
            }
            Ok(None) => std::future::ready(Ok(())).boxed(),
            Err(refused) => std::future::ready(Err(refused)).boxed(),
        };
        self.commands.wait(id, work);
    }

    fn answer(&mut self, id: u64, result: Result<(), Status>) {
        self.said.push_back(Said::answer(id, result.err().as_ref()));
    }

    fn say_what_is_ready(&mut self) {
        while let Some(happening) = self.following.pop_ready() {
            self.said.extend(Said::of(happening));
        }
    }
}
