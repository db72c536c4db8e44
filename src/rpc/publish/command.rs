//! Reading what a device says.

use bytes::Bytes;
use prost::Message as _;
use tonic::Status;

use crate::{
    hub::{Hello, ProducerKey, Will},
    model::Principal,
    proto::{
        v1::{self, publish_request},
        wire::{Limits, PublishMessage},
    },
    rpc::{request, status},
};

const MAX_INSTANCE_BYTES: usize = 64;
const MAX_GRACE_SECONDS: u64 = 30 * 24 * 3_600;

pub(super) enum Command {
    Hello(v1::PublishHello),
    /// As it lies on the wire.
    Batch(Bytes),
}

impl Command {
    pub(super) fn read(message: Bytes) -> Result<Self, Status> {
        if let Some(batch) = PublishMessage::only_batch(&message) {
            let batch = message.slice_ref(batch);
            return Ok(Self::Batch(batch));
        }
        let request = v1::PublishRequest::decode(message);
        let request = request.map_err(|_malformed| status::not_protobuf())?;
        match request.command {
            Some(publish_request::Command::Hello(hello)) => Ok(Self::Hello(hello)),
            Some(publish_request::Command::Batch(batch)) => {
                Ok(Self::Batch(batch.encode_to_vec().into()))
            }
            None => {
                let text = "is missing: say hello, then send batches";
                Err(status::invalid_argument("command", text))
            }
        }
    }
}

/// Who publishes.
pub(super) fn hello(
    hello: v1::PublishHello,
    principal: Principal,
    limits: &Limits,
) -> Result<Hello, Status> {
    if hello.producer.is_empty() {
        let text = "is missing; name the device";
        return Err(status::invalid_argument("hello.producer", text));
    }
    let producer = request::producer_name("hello.producer", &hello.producer)?;
    if !(1..=MAX_INSTANCE_BYTES).contains(&hello.instance.len()) {
        let text = "is 1 to 64 random bytes, made anew when the process starts";
        return Err(status::invalid_argument("hello.instance", text));
    }
    let will = hello.will.map(|wanted| will(wanted, limits)).transpose()?;
    Ok(Hello {
        key: ProducerKey {
            producer,
            principal,
        },
        instance: hello.instance.to_vec(),
        will,
    })
}

fn will(will: v1::Will, limits: &Limits) -> Result<Will, Status> {
    let grace = will.grace.unwrap_or_default();
    let grace = request::duration("hello.will.grace", &grace)?;
    if grace.as_secs() > MAX_GRACE_SECONDS {
        let text = "is at most 30 days";
        return Err(status::invalid_argument("hello.will.grace", text));
    }
    Will::new(will, grace, limits).map_err(|invalid| {
        let field = format!("hello.will.{}", invalid.field);
        status::invalid_argument(&field, &invalid.cause.message)
    })
}
