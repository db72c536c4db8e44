//! The plain status page: what there is, for a browser without anything else.

use std::{fmt::Write as _, sync::Arc, time::Duration};

use axum::{
    Router,
    extract::State,
    http::{HeaderName, header},
    response::{Html, IntoResponse},
    routing::get,
};

use crate::{
    hub::{Feed, Hub},
    model,
};

const STYLE: &str = "body{font:15px system-ui,sans-serif;margin:2rem auto;max-width:60rem;\
    padding:0 1rem;color-scheme:light dark}table{border-collapse:collapse;width:100%}\
    th,td{text-align:right;padding:.3rem .6rem;border-bottom:1px solid #8884}\
    th:first-child,td:first-child{text-align:left}code{background:#8882;padding:.1rem .3rem}\
    .warning{border-left:.3rem solid #d80;padding-left:.6rem}";
/// Nothing but the page's own style runs or loads.
const POLICY: &str = "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'";
const REFRESH_SECONDS: u32 = 2;

/// What the page is about.
#[derive(Clone, Debug)]
pub(super) struct Shown {
    pub(super) hub: Arc<Hub>,
    /// What the settings allow and everybody should know.
    pub(super) warnings: Arc<[String]>,
}

pub(super) fn router(shown: Shown) -> Router {
    Router::new().route("/", get(status)).with_state(shown)
}

async fn status(State(shown): State<Shown>) -> impl IntoResponse {
    let headers: [(HeaderName, &str); 4] = [
        (header::CONTENT_SECURITY_POLICY, POLICY),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::REFERRER_POLICY, "no-referrer"),
        (header::CACHE_CONTROL, "no-store"),
    ];
    (headers, Html(render(&shown)))
}

fn render(shown: &Shown) -> String {
    let hub = &shown.hub;
    let warnings: String = shown.warnings.iter().map(|text| warning(text)).collect();
    let feeds = hub.feeds(None, usize::MAX);
    let rows: String = feeds.iter().map(|feed| row(hub, feed)).collect();
    let body = if rows.is_empty() {
        "<p>No feed yet. Send a record: <code>echo '{\"key\":\"pi17.temp\",\"value\":21.5}' | \
         ringfeed ingest sensors</code></p>"
            .to_owned()
    } else {
        format!(
            "<table><thead><tr><th>feed<th>oldest<th>next<th>keys<th>records/s<th>ring<th>lasts\
             <th>subscribers<th>last record</thead><tbody>{rows}</tbody></table>"
        )
    };
    format!(
        "<!doctype html><html lang=en><meta charset=utf-8><title>ringfeed</title>\
         <meta name=viewport content='width=device-width'>\
         <meta http-equiv=refresh content={REFRESH_SECONDS}><style>{STYLE}</style>\
         <h1>ringfeed {version}</h1>{warnings}{body}\
         <p>Follow a feed: <code>ringfeed subscribe FEED</code>. Engine: {engine}. Times are UTC.</p>\
         </html>",
        version = env!("CARGO_PKG_VERSION"),
        engine = hub.engine_name(),
    )
}

fn warning(text: &str) -> String {
    format!("<p class=warning>⚠ {}</p>", escaped(text))
}

/// A text as HTML that says no more than the text.
fn escaped(text: &str) -> String {
    let mut html = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '&' => html.push_str("&amp;"),
            '<' => html.push_str("&lt;"),
            '>' => html.push_str("&gt;"),
            '"' => html.push_str("&quot;"),
            '\'' => html.push_str("&#39;"),
            character => html.push(character),
        }
    }
    html
}

/// One feed. Its name is the only text of users in here, and has no character HTML knows.
fn row(hub: &Hub, feed: &Feed) -> String {
    let (bounds, rates) = (feed.bounds(), feed.rates());
    let mut row = format!("<tr><td>{}", feed.name());
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
    fn a_warning_stays_a_text() {
        let html = warning("<script>\"a\" & 'b'</script>");
        assert_eq!(
            html,
            "<p class=warning>⚠ &lt;script&gt;&quot;a&quot; &amp; &#39;b&#39;&lt;/script&gt;</p>"
        );
    }
}
