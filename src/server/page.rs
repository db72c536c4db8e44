//! The plain status page, for a browser without anything else; at `/status`, and at `/` while the
//! server is built without the page of `web/`.

use std::{fmt::Write as _, sync::Arc, time::Duration};

use axum::{
    Router,
    extract::{Request, State},
    http::{HeaderName, StatusCode, header},
    response::{Html, IntoResponse},
    routing::get,
};

use super::web;
use crate::{
    hub::{Feed, Hub},
    layers::{Authenticator, Peer},
    model::{self, Scopes},
};

const STYLE: &str = "body{font:15px system-ui,sans-serif;margin:2rem auto;max-width:60rem;\
    padding:0 1rem;color-scheme:light dark}table{border-collapse:collapse;width:100%}\
    th,td{text-align:right;padding:.3rem .6rem;border-bottom:1px solid #8884}\
    th:first-child,td:first-child{text-align:left}code{background:#8882;padding:.1rem .3rem}";
/// The way to the page that shows values.
const FULL_PAGE: &str = if web::is_built() {
    "<p><a href='/'>Live values and charts</a>"
} else {
    "<p>For live values and charts, build the page and then the server: <code>make web</code>, \
     <code>cargo build --release</code>."
};
/// Nothing but the page's own style runs or loads.
const POLICY: &str = "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'; \
    base-uri 'none'; form-action 'none'";
/// Other sites may not show it as an image or script of theirs.
const RESOURCE_POLICY: HeaderName = HeaderName::from_static("cross-origin-resource-policy");
const REFRESH_SECONDS: u32 = 2;

#[derive(Clone)]
struct Shown {
    hub: Arc<Hub>,
    authenticator: Arc<Authenticator>,
    /// What is open to the network, one sentence each.
    open: Arc<[String]>,
}

pub(super) fn router(
    hub: Arc<Hub>,
    authenticator: Arc<Authenticator>,
    open: Vec<String>,
) -> Router {
    let shown = Shown {
        hub,
        authenticator,
        open: open.into(),
    };
    let pages = Router::new().route("/status", get(status));
    let pages = if web::is_built() {
        pages
    } else {
        pages.route("/", get(status))
    };
    pages.with_state(shown).merge(web::router())
}

/// Shows the feeds that whoever asks may see.
async fn status(State(shown): State<Shown>, request: Request) -> impl IntoResponse {
    let headers: [(HeaderName, &str); 5] = [
        (header::CONTENT_SECURITY_POLICY, POLICY),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::REFERRER_POLICY, "no-referrer"),
        (RESOURCE_POLICY, "same-origin"),
        (header::CACHE_CONTROL, "no-store"),
    ];
    let peer = request.extensions().get::<Peer>();
    let caller = shown.authenticator.caller(request.headers(), peer).await;
    let (code, body) = match caller {
        Ok(caller) => (StatusCode::OK, feeds(&shown.hub, &caller.scopes)),
        Err(why) => (StatusCode::UNAUTHORIZED, refusal(why)),
    };
    (code, headers, Html(render(&shown, &body)))
}

fn refusal(why: &str) -> String {
    let why = escaped(why);
    format!(
        "<p>{why}<p>Ask with a token: <code>curl -H 'authorization: Bearer TOKEN'</code>, or use \
         <code>ringfeed --token-file FILE feeds list</code>."
    )
}

fn feeds(hub: &Hub, scopes: &Scopes) -> String {
    let feeds = hub.feeds(None, usize::MAX).into_iter();
    let seen = feeds.filter(|feed| scopes.see(feed.name().as_str()));
    let rows: String = seen.map(|feed| row(hub, &feed)).collect();
    if rows.is_empty() {
        "<p>No feed yet. Send a record: <code>echo '{\"key\":\"pi17.temp\",\"value\":21.5}' | \
         ringfeed ingest sensors</code></p>"
            .to_owned()
    } else {
        format!(
            "<table><thead><tr><th>feed<th>oldest<th>next<th>keys<th>records/s<th>ring<th>lasts\
             <th>subscribers<th>last record</thead><tbody>{rows}</tbody></table>"
        )
    }
}

fn render(shown: &Shown, body: &str) -> String {
    let open: String = shown
        .open
        .iter()
        .map(|fact| format!("<p><b>{}</b>", escaped(fact)))
        .collect();
    format!(
        "<!doctype html><html lang=en><meta charset=utf-8><title>ringfeed</title>\
         <meta name=viewport content='width=device-width'>\
         <meta http-equiv=refresh content={REFRESH_SECONDS}><style>{STYLE}</style>\
         <h1>ringfeed {version}</h1>{open}{body}\
         <p>Follow a feed: <code>ringfeed subscribe FEED</code>. Engine: {engine}. Times are UTC.</p>\
         {FULL_PAGE}</html>",
        version = env!("CARGO_PKG_VERSION"),
        engine = shown.hub.engine_name(),
    )
}

/// One feed. Its name is the only text of users in here.
fn row(hub: &Hub, feed: &Feed) -> String {
    let (bounds, rates) = (feed.bounds(), feed.rates());
    let mut row = format!("<tr><td>{}", escaped(feed.name().as_str()));
    let fill = 100.0 * bounds.bytes as f64 / feed.spec().retention.max_bytes.max(1) as f64;
    let lasts = feed.ring_duration().map_or_else(|| "–".to_owned(), about);
    let age = feed.last_append().map_or_else(|| "–".to_owned(), ago);
    let subscribers = hub.subscribers(Some(feed)).len();
    // Writing to a string cannot fail.
    let _infallible = write!(
        row,
        "<td>{}<td>{}<td>{}<td>{:.1}<td>{:.0} %<td>{lasts}<td>{subscribers}<td>{age}",
        bounds.head,
        bounds.tail,
        feed.key_count(),
        rates.records_per_second,
        fill.min(100.0),
    );
    row
}

/// Text as HTML shows it, whatever is in it.
fn escaped(text: &str) -> String {
    let mut html = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => html.push_str("&amp;"),
            '<' => html.push_str("&lt;"),
            '>' => html.push_str("&gt;"),
            '"' => html.push_str("&quot;"),
            '\'' => html.push_str("&#39;"),
            c => html.push(c),
        }
    }
    html
}

fn ago(nanos: model::UnixNanos) -> String {
    let age = model::now().saturating_sub(nanos);
    format!(
        "{} ago",
        about(Duration::from_nanos(u64::try_from(age).unwrap_or(0)))
    )
}

fn about(duration: Duration) -> String {
    match duration.as_secs() {
        seconds @ 0..60 => format!("{seconds} s"),
        seconds @ 60..3_600 => format!("{} min", seconds / 60),
        seconds @ 3_600..172_800 => format!("{} h", seconds / 3_600),
        seconds => format!("{} d", seconds / 86_400),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_of_users_is_no_markup() {
        let hostile = "<script>alert('1')</script>&\"";
        let html = escaped(hostile);
        assert!(!html.contains(['<', '>', '"', '\'']), "{html}");
        assert_eq!(
            html,
            "&lt;script&gt;alert(&#39;1&#39;)&lt;/script&gt;&amp;&quot;"
        );
    }
}
