//! Every call × every caller × every way to the server comes to exactly what the table says. A call
//! without a row fails, so a new one needs its line.

mod callers;
mod raw;
mod rows;

use futures_util::{StreamExt as _, stream};
use ringfeed::{
    layers::{Needs, RPCS, Rpc},
    proto::v1::{
        CreateFeedRequest, GetFeedRequest, ListFeedsRequest, ListKeysRequest,
        catalog_service_client::CatalogServiceClient,
    },
};
use tonic::{Code, Request, transport::Channel};

use self::{
    callers::{CASES, Callers, Case, WAYS, Way},
    raw::outcome,
    rows::{DENIED, OK, Outcome, Row, table},
};

/// Calls at the same time.
const AT_ONCE: usize = 32;

const NO_CREDENTIALS: Outcome = (Code::Unauthenticated, "NO_CREDENTIALS");
const INVALID_TOKEN: Outcome = (Code::Unauthenticated, "INVALID_TOKEN");
const TOKEN_EXPIRED: Outcome = (Code::Unauthenticated, "TOKEN_EXPIRED");

fn expected(rpc: &Rpc, row: &Row, way: Way, case: Case) -> Outcome {
    if rpc.needs == Needs::Nothing {
        return OK;
    }
    match case {
        Case::NoToken => match way {
            Way::Plaintext | Way::Tls | Way::NoProxy => NO_CREDENTIALS,
            Way::TokenOverMtls => DENIED,
            Way::Mtls | Way::ProxyByAddress | Way::ProxyByCertificate | Way::NoProxyOverMtls => {
                row.right
            }
        },
        // Whatever else the caller has to show.
        Case::BadToken => INVALID_TOKEN,
        Case::Expired => TOKEN_EXPIRED,
        Case::WrongFeed => row.wrong_feed,
        Case::WrongKey => row.wrong_key,
        Case::Right => row.right,
    }
}

fn feed_and_key(case: Case) -> (&'static str, &'static str) {
    match case {
        Case::WrongFeed => ("foreign", "k"),
        Case::WrongKey => ("own", "other"),
        _ => ("own", "k"),
    }
}

/// Requests of somebody who may do everything.
fn asking<T>(token: &str, message: T) -> Request<T> {
    let mut request = Request::new(message);
    let token = token.parse().unwrap();
    request.metadata_mut().insert("authorization", token);
    request
}

async fn create(channel: &Channel, token: &str) {
    let mut catalog = CatalogServiceClient::new(channel.clone());
    for feed in ["own", "foreign"] {
        let create = CreateFeedRequest {
            name: feed.into(),
            ..CreateFeedRequest::default()
        };
        catalog.create_feed(asking(token, create)).await.unwrap();
    }
}

/// Nothing came of what was refused.
async fn check_untouched(channel: &Channel, token: &str) {
    let mut catalog = CatalogServiceClient::new(channel.clone());
    let list = asking(token, ListFeedsRequest::default());
    let feeds = catalog.list_feeds(list).await.unwrap().into_inner().feeds;
    let names: Vec<_> = feeds.iter().map(|feed| feed.name.as_str()).collect();
    assert_eq!(names, ["foreign", "own"]);
    let get = GetFeedRequest {
        name: "foreign".into(),
    };
    let foreign = catalog.get_feed(asking(token, get)).await.unwrap();
    let foreign = foreign.into_inner().feed.unwrap();
    assert_eq!((foreign.next, foreign.keys, foreign.producers), (0, 0, 0));
    let list = ListKeysRequest {
        feed: "own".into(),
        ..ListKeysRequest::default()
    };
    let keys = catalog.list_keys(asking(token, list)).await.unwrap();
    let keys = keys.into_inner().keys;
    assert!(keys.iter().all(|key| key.key == "k"), "{keys:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_call_comes_to_what_the_table_says_for_each_caller() {
    let table = table();
    let row = |rpc: &Rpc| {
        let found = table.iter().find(|row| row.name == rpc.name);
        found.unwrap_or_else(|| panic!("{} is not in the table", rpc.name))
    };
    let rows: Vec<_> = RPCS.iter().map(|rpc| (rpc, row(rpc))).collect();
    assert_eq!(table.len(), rows.len(), "a row of no call");

    let callers = Callers::start().await;
    let (channels, token) = callers.admin();
    for channel in &channels {
        create(channel, &token).await;
    }
    let mut cells = vec![];
    for &(rpc, row) in &rows {
        for way in WAYS {
            cells.extend(CASES.map(|case| (rpc, row, way, case)));
        }
    }
    let callers = &callers;
    let asked = cells.iter().map(|&(rpc, row, way, case)| async move {
        let (channel, headers) = callers.caller(way, case);
        let (feed, key) = feed_and_key(case);
        let (code, reason) = outcome(channel, rpc.path, (row.ask)(feed, key), headers).await;
        let expected = expected(rpc, row, way, case);
        let same = (code, reason.as_str()) == expected;
        let told = || {
            let name = rpc.name;
            format!("{name}, {way:?}, {case:?}: {code:?} {reason}, not {expected:?}")
        };
        (!same).then(told)
    });
    let wrong = stream::iter(asked).buffer_unordered(AT_ONCE);
    let wrong: Vec<_> = wrong.filter_map(async |wrong| wrong).collect().await;
    assert!(wrong.is_empty(), "{:#?} of {} cells", wrong, cells.len());
    for channel in &channels {
        check_untouched(channel, &token).await;
    }
    // Where nothing better was shown: without a token, and with a certificate in four cases.
    let in_need = rows.iter().filter(|(rpc, _)| rpc.needs != Needs::Nothing);
    let ignored = in_need.count() as f64;
    assert_eq!(callers.not_believed().await, [ignored, 4.0 * ignored]);
}
