//! Publish: a device says hello, sends batches within its credit, and gets an ack for each when it
//! is durable.
//!
//! ```text
//! messages -> Device, a task of its own -> hub/append -> acks -> Queue -> Answers -> the wire
//! ```
//! A device over its rate gets its ack as soon as others, and its credit when the rate allows.
//! The task reads on while the device does not: what is on its way is bounded by the credit, which
//! comes back only with answers that went out. It pauses when 8 MiB of answers wait.

mod ack;
mod answers;
mod command;
mod credit;

use std::sync::Arc;

use bytes::Bytes;
use futures_util::{
    FutureExt as _, StreamExt as _,
    future::{BoxFuture, Shared},
    stream::{Fuse, FuturesOrdered},
};
use tokio::time::{Instant, sleep};
use tokio_stream::Stream;
use tonic::Status;
use tracing::Instrument as _;

pub(super) use self::answers::Answers;
use self::{
    ack::Sent,
    answers::{End, Queue},
    command::Command,
    credit::Held,
};
use super::{Context, access, ingest, request, status};
use crate::{
    hub::{Ack, AppendError, Batch, Feed, Hello, KeyGate, Pending, ProducerGuard, Welcome, Will},
    layers::{Call, Over, Seldom},
    model::{self, Action, Keys},
    proto::{
        v1::{self, publish_response::Event},
        wire::PublishMessage,
    },
    trace::Source,
};

/// Batches whose ack is awaited at the same time.
const MAX_WAITING: usize = 4_096;

type Acks = FuturesOrdered<BoxFuture<'static, (Sent, Result<Ack, AppendError>)>>;
type Appending = BoxFuture<'static, (Sent, Result<Pending, AppendError>)>;

/// Begins a stream. Whatever is wrong with it, its answers say.
pub(super) fn start(
    context: Arc<Context>,
    messages: impl Stream<Item = Result<Bytes, Status>> + Send + Unpin + 'static,
    call: Arc<Call>,
) -> Answers {
    let (queue, answers) = answers::queue(Arc::clone(&call));
    let device = async move {
        let left = queue.left();
        let device = run(context, messages.fuse(), call, queue);
        tokio::select! {
            () = device => {}
            // Nobody reads the answers any more.
            () = left.cancelled() => {}
        }
    };
    // Its lines in the log are of this call too.
    tokio::spawn(device.in_current_span());
    answers
}

async fn run(
    context: Arc<Context>,
    mut messages: Fuse<impl Stream<Item = Result<Bytes, Status>> + Unpin>,
    call: Arc<Call>,
    queue: Queue,
) {
    let mut over = call.over(&context.stopping);
    let first = tokio::select! {
        biased;
        why = &mut over => return queue.end(End::Over(why)),
        first = messages.next() => first,
    };
    let Some(first) = first else {
        return queue.end(End::Done);
    };
    match welcome(&context, first, &call).await {
        Ok((feed, keys, welcome)) => {
            if let Err(end) = first_credit(&call, &welcome.upload, &mut over).await {
                return queue.end(end);
            }
            let next = v1::Cursor {
                feed: feed.name().to_string(),
                epoch: feed.epoch(),
                offset: feed.bounds().tail,
            };
            let answer = Event::Welcome(v1::PublishWelcome {
                next_sequence: welcome.next_sequence,
                next: Some(next),
                credit_bytes: context.publish_window,
            });
            queue.push(answer, 0, std::future::ready(())).await;
            let mut device = Device {
                context,
                feed,
                source: call.source().map(Arc::clone),
                call,
                upload: welcome.upload,
                gate: KeyGate::new(keys),
                queue,
                acks: FuturesOrdered::new(),
                appending: None,
                received: 0,
                held: Held::default(),
                over: over.shared(),
            };
            let end = device.run(messages).await;
            let Device { upload, queue, .. } = device;
            // Who reads the end finds the producer gone.
            drop(upload);
            queue.end(end);
        }
        Err(failure) => queue.end(End::Failed(failure)),
    }
}

/// The welcome is the first credit: it waits for the rate as well, else a device that comes back
/// again and again would have none.
async fn first_credit(
    call: &Call,
    upload: &ProducerGuard,
    over: &mut Seldom<Over>,
) -> Result<(), End> {
    let debt = call.quota().debt();
    if debt.is_zero() {
        return Ok(());
    }
    tokio::select! {
        biased;
        () = upload.fenced() => Err(End::Failed(status::append(&AppendError::Fenced))),
        why = over => Err(End::Over(why)),
        () = sleep(debt) => Ok(()),
    }
}

/// Reads the hello, and has it answered.
async fn welcome(
    context: &Context,
    first: Result<Bytes, Status>,
    call: &Call,
) -> Result<(Arc<Feed>, Keys, Welcome), Status> {
    let first = first.map_err(status::of_request)?;
    let Command::Hello(hello) = Command::read(first)? else {
        let text = "is missing: the first message says who publishes";
        return Err(status::invalid_argument("hello", text));
    };
    let name = request::feed_name("hello.feed", &hello.feed)?;
    let limits = context.hub.limits(model::now());
    let hello: Hello = command::hello(hello, call.principal(), &limits)?;
    let keys = access::keys(call, Action::Ingest, &name)?;
    let will = hello.will.iter().map(Will::key);
    access::each_key(&keys, Action::Ingest, &name, will)?;
    let feed = context.hub.feed_for_append(&name).await;
    let feed = feed.map_err(|e| status::catalog(&e))?;
    let welcome = context.hub.hello(&feed, hello).await;
    Ok((feed, keys, welcome.map_err(|e| status::append(&e))?))
}

/// A device that said hello.
struct Device {
    context: Arc<Context>,
    feed: Arc<Feed>,
    call: Arc<Call>,
    upload: ProducerGuard,
    gate: KeyGate,
    queue: Queue,
    acks: Acks,
    /// The batch that waits for room in the hub.
    appending: Option<Appending>,
    /// The call, where it is traced.
    source: Option<Arc<Source>>,
    /// Bytes of all messages since the hello.
    received: u64,
    /// Credit for later.
    held: Held,
    /// Why the server has to end it.
    over: Shared<Seldom<Over>>,
}

impl Device {
    /// Takes batches until something ends it; then waits for what was accepted.
    async fn run(
        &mut self,
        mut messages: Fuse<impl Stream<Item = Result<Bytes, Status>> + Unpin>,
    ) -> End {
        let mut end = self.take_batches(&mut messages).await;
        drop(messages);
        if let (Some(appending), End::Done | End::Over(_)) = (self.appending.take(), &end)
            && let Err(failure) = self.appended(appending.await)
        {
            end = End::Failed(failure);
        }
        while let Some(answer) = self.acks.next().await {
            if let Err(failure) = self.answer(answer).await {
                // What follows a failed batch fails because of it.
                if !matches!(end, End::Failed(_)) {
                    end = End::Failed(failure);
                }
            }
        }
        end
    }

    async fn take_batches(
        &mut self,
        messages: &mut (impl Stream<Item = Result<Bytes, Status>> + Unpin),
    ) -> End {
        let mut complete = false;
        loop {
            let room = !complete && self.appending.is_none() && self.acks.len() < MAX_WAITING;
            let step = tokio::select! {
                biased;
                () = self.upload.fenced() => Err(status::append(&AppendError::Fenced)),
                Some(answer) = self.acks.next() => self.answer(answer).await,
                why = self.over.clone() => return End::Over(why),
                appended = some(&mut self.appending) => {
                    self.appending = None;
                    self.appended(appended)
                }
                () = self.held.due(), if !self.held.is_empty() => {
                    let bytes = self.held.take_due();
                    self.grant(bytes).await;
                    Ok(())
                }
                message = messages.next(), if room => match message {
                    Some(message) => self.take(message),
                    None => {
                        complete = true;
                        Ok(())
                    }
                },
            };
            if let Err(failure) = step {
                return End::Failed(failure);
            }
            if complete && self.appending.is_none() {
                return End::Done;
            }
        }
    }

    /// Checks a batch, and has it appended.
    fn take(&mut self, message: Result<Bytes, Status>) -> Result<(), Status> {
        let message = message.map_err(status::of_request)?;
        let bytes = message.len() as u64;
        self.received += bytes;
        let (in_flight, window) = (
            self.received - self.queue.granted(),
            self.context.publish_window,
        );
        if in_flight > window {
            return Err(status::credit_exceeded(in_flight, window));
        }
        let Command::Batch(message) = Command::read(message)? else {
            let text = "was said already: one stream is for one device";
            return Err(status::invalid_argument("hello", text));
        };
        let message =
            PublishMessage::read(&message).map_err(|_malformed| status::not_protobuf())?;
        if message.first_sequence == 0 {
            let text = "is required; sequences count from 1";
            return Err(status::invalid_argument("batch.first_sequence", text));
        }
        let mode = ingest::mode(message.mode)?;
        let numbered = (self.upload.key().clone(), message.first_sequence);
        let now = model::now();
        let mut batch = Batch::new(Some(numbered), mode, message.count, message.record_bytes)
            .under(&self.upload)
            .from(self.source.as_ref());
        let limits = self.context.hub.limits(now);
        let (gate, records) = (&mut self.gate, message.records());
        batch.check_at(gate, &self.feed, records, &limits, now);
        let debt = self.call.quota().owe(message.count as u64, bytes);
        let sent = Sent {
            first_sequence: message.first_sequence,
            bytes,
            credit_due: (!debt.is_zero()).then(|| Instant::now() + debt),
        };
        let (context, feed) = (Arc::clone(&self.context), Arc::clone(&self.feed));
        let appending = async move { (sent, context.hub.append(&feed, batch).await) };
        self.appending = Some(appending.boxed());
        Ok(())
    }

    /// The hub took a batch.
    fn appended(
        &mut self,
        (sent, pending): (Sent, Result<Pending, AppendError>),
    ) -> Result<(), Status> {
        let pending = pending.map_err(|e| status::append(&e))?;
        let acked = pending.ack().map(move |ack| (sent, ack));
        self.acks.push_back(acked.boxed());
        Ok(())
    }

    /// Sends an ack and those that are there behind it, then the credit for all of them, as far as
    /// the rate allows.
    async fn answer(&mut self, answer: (Sent, Result<Ack, AppendError>)) -> Result<(), Status> {
        let mut next = Some(answer);
        let (mut bytes, mut failure) = (0, None);
        while let Some((sent, ack)) = next.take() {
            match ack {
                Ok(ack) => {
                    match sent.credit_due {
                        Some(due) => self.held.put(due, sent.bytes),
                        None => bytes += sent.bytes,
                    }
                    self.push(Event::Ack(ack::of(&sent, ack)), 0).await;
                    next = self.acks.next().now_or_never().flatten();
                }
                Err(error) => failure = Some(status::append(&error)),
            }
        }
        self.grant(bytes).await;
        failure.map_or(Ok(()), Err)
    }

    async fn grant(&mut self, bytes: u64) {
        if bytes > 0 {
            let credit = Event::Credit(v1::PublishCredit { bytes });
            self.push(credit, bytes).await;
        }
    }

    /// A device that does not read is not waited for when its stream is to end.
    async fn push(&mut self, event: Event, grants: u64) {
        let (upload, over) = (&self.upload, self.over.clone());
        let ending = async {
            tokio::select! {
                () = upload.fenced() => {}
                _ = over => {}
            }
        };
        self.queue.push(event, grants, ending).await;
    }
}

/// The answer of a future that is there, or never.
async fn some<T>(future: &mut Option<BoxFuture<'static, T>>) -> T {
    match future {
        Some(future) => future.await,
        None => std::future::pending().await,
    }
}
