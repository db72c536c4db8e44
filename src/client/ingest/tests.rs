use super::*;
use crate::client::fake::Fake;

fn record(number: u8) -> Bytes {
    Bytes::copy_from_slice(&[number])
}

async fn uploader(fake: &Fake, cuts: &[usize], options: UploadOptions) -> Uploader {
    *fake.cuts.lock() = cuts.iter().copied().collect();
    let options = UploadOptions {
        batch_records: 2,
        ..options
    };
    Uploader::new(fake.start().await, options)
}

async fn send(uploader: &mut Uploader) -> Result<UploadSummary, UploadError> {
    for number in 0..9 {
        uploader.send(record(number)).await?;
    }
    uploader.commit().await.cloned()
}

#[tokio::test]
async fn a_cut_upload_is_sent_again_and_counted_once() {
    let fake = Fake::default();
    let options = UploadOptions::to("f").producer("p");
    let mut uploader = uploader(&fake, &[2, 3, 1], options).await;
    let summary = send(&mut uploader).await.unwrap();
    assert_eq!((summary.stored, summary.duplicates), (9, 0));
    assert_eq!(summary.resumed, 3);
    let stored: Vec<_> = fake.stored.lock().clone().into_iter().collect();
    let sent: Vec<_> = (1..).zip((0..9).map(record)).collect();
    assert_eq!(stored, sent);
}

#[tokio::test]
async fn without_a_producer_a_cut_upload_stops_and_says_what_is_not_known() {
    let fake = Fake::default();
    let mut uploader = uploader(&fake, &[1], UploadOptions::to("f")).await;
    match send(&mut uploader).await {
        Err(UploadError::Cut { undecided, .. }) => assert!(undecided > 0),
        other => panic!("{other:?}"),
    }
    assert_eq!(uploader.summary().stored, 0);
}

#[tokio::test]
async fn calls_are_bounded_and_all_of_them_count() {
    let fake = Fake::default();
    let options = UploadOptions {
        call_bytes: 1,
        ..UploadOptions::to("f").producer("p")
    };
    let mut uploader = uploader(&fake, &[], options).await;
    let summary = send(&mut uploader).await.unwrap();
    assert_eq!((summary.stored, uploader.taken()), (9, 9));
}

#[tokio::test]
async fn a_record_that_fits_no_message_is_refused_here() {
    let fake = Fake::default();
    let mut uploader = uploader(&fake, &[], UploadOptions::to("f")).await;
    let huge = vec![0; 2 << 20].into();
    let refused = uploader.send(huge).await;
    assert!(matches!(
        refused,
        Err(UploadError::TooLarge { index: 0, .. })
    ));
}
