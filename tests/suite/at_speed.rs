//! Uploads at full speed: whatever else arrives among them, each record is stored once, in order,
//! or refused by index; and the fast way in answers as the generated service does.

use bytes::Bytes;
use ringfeed::proto::v1::{self, feed_service_client::FeedServiceClient};
use tonic::{Code, Status, codec::CompressionEncoding};

use crate::harness::{
    Server, batches, exact, number, number_of, numbered, plain, progress, read_to_now, reason,
    stored, upload, vector, within,
};

const FEED: &str = "f";
/// A record the scan refuses: it has no key.
const BAD: &[u8] = &[0x11, 0, 0, 0, 0, 0, 0, 0, 0];

fn records(key: &str, range: std::ops::Range<u64>) -> Vec<Bytes> {
    range.map(|n| number(key, n)).collect()
}

/// The values of one key's records, in offset order.
fn values(all: &[v1::Record], key: &str) -> Vec<u64> {
    let of_key = all.iter().filter(|record| record.key == key);
    of_key.map(number_of).collect()
}

/// One message after the other of what nobody should send: each ends its upload.
async fn send_garbage(server: &Server, rounds: u64) {
    for round in 0..rounds {
        let mut feeds = server.feeds().await;
        let good = plain(FEED, records("among", round * 2..round * 2 + 1));
        let half_bad = plain(
            FEED,
            vec![
                number("among", round * 2 + 1),
                Bytes::from_static(BAD),
                Bytes::from_static(b"\x0a\x01k\x3a\xff"),
            ],
        );
        let large = plain(FEED, (0..140).map(|n| vector("large", n, 1_000)).collect());
        let answer = upload(&mut feeds, vec![good, half_bad, large]).await;
        let status = answer.unwrap_err();
        assert_eq!(
            (status.code(), &*reason(&status)),
            (Code::ResourceExhausted, "MESSAGE_TOO_LARGE")
        );
        assert_eq!(progress(&status).unwrap().stored, 2);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn garbage_among_fast_uploads_costs_nobody_a_record() {
    const RECORDS: u64 = 30_000;
    const ROUNDS: u64 = 20;
    let server = Server::start().await;
    let channel = server.channel().await;
    let good = [("one", 1), ("few", 7), ("many", 256)].map(|(key, size)| {
        let mut feeds = FeedServiceClient::new(channel.clone());
        let all = records(key, 0..RECORDS);
        let messages = batches(FEED, key, 1, &all, size);
        tokio::spawn(async move { upload(&mut feeds, messages).await })
    });
    send_garbage(&server, ROUNDS).await;
    for upload in good {
        assert_eq!(exact(&upload.await.unwrap().unwrap()), (RECORDS, 0, 0));
    }
    let ledger = read_to_now(&mut server.feeds().await, FEED).await;
    let all = ledger.decoded();
    assert_eq!(all.len() as u64, 3 * RECORDS + 2 * ROUNDS);
    for key in ["one", "few", "many"] {
        assert_eq!(values(&all, key), (0..RECORDS).collect::<Vec<_>>(), "{key}");
    }
    assert_eq!(values(&all, "among"), (0..2 * ROUNDS).collect::<Vec<_>>());
    assert_eq!(values(&all, "large"), [0_u64; 0]);
}

/// What an upload came to, without the feed's epoch.
type Outcome = Result<v1::IngestResponse, (Code, String, Option<v1::IngestProgress>)>;

async fn outcome(server: &Server, way: Way, messages: Vec<v1::IngestRequest>) -> Outcome {
    let mut feeds = FeedServiceClient::new(server.channel().await);
    if way == Way::Generated {
        feeds = feeds.send_compressed(CompressionEncoding::Gzip);
    }
    let answer = within("an upload", feeds.ingest(tokio_stream::iter(messages))).await;
    let told = |status: Status| {
        let message = status.message().to_owned();
        (status.code(), message, progress(&status))
    };
    let mut summary = answer.map_err(told)?.into_inner();
    summary.feeds.iter_mut().for_each(|feed| feed.epoch = 0);
    Ok(summary)
}

/// Compressed uploads go through the generated service.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    Direct,
    Generated,
}

fn uploads() -> Vec<Vec<v1::IngestRequest>> {
    let bad = || Bytes::from_static(BAD);
    let mixed = |from: u64| vec![number("a", from), bad(), number("b", from), bad()];
    let atomic = |records| v1::IngestRequest {
        mode: v1::IngestMode::Atomic.into(),
        ..plain(FEED, records)
    };
    vec![
        vec![],
        vec![plain(FEED, vec![])],
        vec![
            plain(FEED, mixed(1)),
            plain("", mixed(2)),
            plain("", mixed(3)),
        ],
        batches(FEED, "p", 1, &records("k", 0..1_000), 1),
        // Repeats and what is new, refused records among both.
        vec![
            numbered(FEED, "q", 1, mixed(1)),
            numbered("", "", 5, mixed(2)),
        ],
        vec![
            numbered(FEED, "q", 3, [&mixed(1)[2..], &mixed(2)].concat()),
            numbered("", "", 9, mixed(3)),
            numbered("", "", 13, vec![bad()]),
        ],
        // Numbers that leave a hole, or are used again for something else.
        vec![
            numbered(FEED, "r", 1, records("k", 0..2)),
            numbered("", "", 4, records("k", 3..4)),
        ],
        vec![numbered(FEED, "p", 5, records("other", 0..3))],
        vec![numbered(FEED, "p", 0, records("k", 0..1))],
        vec![
            plain(FEED, records("k", 0..1)),
            numbered("g", "s", 1, records("k", 0..1)),
        ],
        vec![atomic(records("k", 0..3)), atomic(mixed(1))],
        vec![
            plain(FEED, records("k", 0..1)),
            plain("-", records("k", 0..1)),
        ],
    ]
}

#[tokio::test]
async fn both_ways_in_give_the_same_answers_and_store_the_same() {
    let (direct, generated) = (Server::start().await, Server::start().await);
    for (index, messages) in uploads().into_iter().enumerate() {
        let one = outcome(&direct, Way::Direct, messages.clone()).await;
        let other = outcome(&generated, Way::Generated, messages).await;
        assert_eq!(one, other, "upload {index}");
    }
    for feed in [FEED, "g"] {
        let [one, other] = [&direct, &generated].map(|server| async {
            let ledger = read_to_now(&mut server.feeds().await, feed).await;
            let plain = |(_, bytes)| v1::Record {
                ingest_time_unix_nanos: 0,
                ..stored(bytes)
            };
            ledger.records.iter().map(|(o, b)| plain((o, b))).collect()
        });
        let (one, other): (Vec<_>, Vec<_>) = (one.await, other.await);
        assert!(!one.is_empty());
        assert_eq!(one, other, "{feed}");
    }
}
