//! The other end of the wire: connect, upload, follow. For the command line, the demo, benches and
//! users of the library.
//!
//! ```text
//! ConnectOptions -> Connection -> Uploader       batches, resends what a cut left undecided
//!                              -> Subscription   resumes from its own cursors, checks P1 and P2
//! ```

mod connect;
#[cfg(test)]
mod fake;
mod ingest;
mod ledger;
mod retry;
mod subscribe;

pub use connect::{
    CatalogClient, ConnectError, ConnectOptions, Connection, FeedClient, TlsOptions, Token,
};
pub use ingest::{UploadError, UploadEvent, UploadOptions, UploadSummary, Uploader};
pub use ledger::{Broken, Fault, GapEntry, Lane, Ledger, Report, record_offset};
pub use retry::{Backoff, FirstConnect, Retry, RetryOptions, retry, unreachable};
pub use subscribe::{Event, SelectorCursor, SubscribeError, Subscription};
