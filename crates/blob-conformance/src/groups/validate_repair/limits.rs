//! How fast a repair reads, and when it begins nothing more.

use std::{
    io::Cursor,
    num::NonZeroU64,
    time::{Duration, Instant},
};

use blob_traits::{FullStore, Progress};
use blob_validate::{BaoStream, Outcome as Left, RepairOptions, Source, ValidateOptions, repair, validate};

use super::{assert_complete, copy, import, repaired, validated, with_sources};
use crate::{
    Failure, Outcome, Sample, Trial,
    case::group,
    harm::{Harm, Harmful, harmed},
    harmed::Harmed,
};

group! {
    "validate_repair", for S: FullStore;
    repair_reads_every_source_at_the_rate,
    validate_reads_the_top_of_a_large_blob_at_the_rate,
    repair_begins_nothing_when_its_budget_is_spent,
}

/// All bytes of a blob are lost.
fn wiped(sample: &Sample) -> Harmful {
    Harmful::data(sample, Harm::Zeroed(0..sample.size()))
}

fn at_rate(rate: u64) -> ValidateOptions {
    let mut options = ValidateOptions::default();
    options.rate = NonZeroU64::new(rate);
    options
}

async fn repair_reads_every_source_at_the_rate<S: FullStore>(trial: &Trial<S>, store: S) -> Outcome {
    let sample = Sample::new(200_000);
    let copy = copy(trial, "copy", [&sample]).await?;
    let path = trial.user_file("copy-of-it", &sample.data)?;
    let known = sample.clone();
    let stream = Source::stream("stream", move |_, _, ranges| {
        let encoded = known.encode(&ranges);
        async move { Ok(Some(Box::new(Cursor::new(encoded)) as BaoStream)) }
    });
    import(&store, [&sample]).await?;
    let store = Harmed::new(store);
    for source in [Source::store("copy", copy), Source::file(sample.hash, path), stream] {
        store.harm(&wiped(&sample));
        let name = source.name().to_owned();
        let mut options = with_sources(vec![source]);
        options.validate = at_rate(3 << 20);
        let begun = Instant::now();
        let report = repair(&store, options, Progress::none()).await?;
        let took = begun.elapsed();
        assert!(report.is_clean(), "{name}: {report:?}");
        // What is read first is not waited for: it takes no time to look at so little, and then to look once more.
        assert!(took > Duration::from_millis(60), "{name}: {took:?}");
        assert_complete(&store, &sample).await?;
    }
    Ok(())
}

/// Without the pair at its root, all of a blob is read to tell what that pair was.
async fn validate_reads_the_top_of_a_large_blob_at_the_rate<S: FullStore>(_: &Trial<S>, store: S) -> Outcome {
    let sample = Sample::new(10 << 20);
    import(&store, [&sample]).await?;
    let store = Harmed::new(store);
    // The pair below it on the left, and the root's own.
    store.harm(&Harmful::tree(&sample, Harm::Zeroed(0..128)));
    let begun = Instant::now();
    let report = validate(&store, at_rate(60 << 20), Progress::none()).await?;
    let took = begun.elapsed();
    assert!(report.damaged.iter().all(|blob| blob.bad.is_empty() && blob.n_bad_pairs == 2), "{report:?}");
    // A sixth of a second for the bytes below the root; its two parts come after that.
    assert!(took > Duration::from_millis(250), "{took:?}");
    Ok(())
}

async fn repair_begins_nothing_when_its_budget_is_spent<S: FullStore>(trial: &Trial<S>, store: S) -> Outcome {
    let samples: Vec<_> = (0..3).map(|number| Sample::numbered(trial.large().max(200_000), number)).collect();
    import(&store, &samples).await?;
    let harms: Vec<_> = samples.iter().map(wiped).collect();
    let store = harmed(trial, store, &harms).await?;
    let source = Source::store("copy", copy(trial, "copy", &samples).await?);
    let mut options: RepairOptions = with_sources(vec![source.clone()]);
    // Enough to look at all three. Each that is repaired is looked at once more, and then fetched.
    options.validate.budget.n_bytes = Some(samples.iter().map(Sample::size).sum());
    let report = repair(&store, options, Progress::none()).await?;
    assert_eq!((report.found.damaged.len(), report.blobs.len()), (3, 3));
    let left: Vec<_> = report.blobs.iter().filter(|blob| blob.outcome == Left::NotBegun).collect();
    assert_eq!(left.len(), 1, "{report:?}");
    assert!(!report.is_clean());
    let hash = left.first().ok_or("none")?.hash;
    for sample in samples.iter().filter(|sample| sample.hash != hash) {
        assert_complete(&store, sample).await?;
    }
    // It is as it was, and the next run repairs it.
    let damaged: Vec<_> = validated(&store).await?.damaged.into_iter().map(|blob| blob.hash).collect();
    assert_eq!(damaged, [hash]);
    assert!(!store.inner().was_demoted(&hash).await?);
    let report = repaired(&store, vec![source]).await?;
    assert!(report.is_clean(), "{report:?}");
    Ok::<_, Failure>(())
}
