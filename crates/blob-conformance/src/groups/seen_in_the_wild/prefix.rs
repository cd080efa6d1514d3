//! Prefixes of tags.

use blob_traits::{HashAndFormat, ReadTags, ReadTagsExt, Store, Tag, TagRange, WriteTags, collect};

use crate::{Outcome, Sample, Trial, case::group};

group! {
    "seen_in_the_wild", for S: Store;
    prefix_ending_in_0xff_lists_no_tag_outside_it,
    prefix_ending_in_0xff_deletes_no_tag_outside_it,
}

const PREFIXES: [&[u8]; 6] = [b"", b"a", b"a\xff", b"a\xff\xff", b"\xff", b"\xff\xff"];

const NAMES: [&[u8]; 14] = [
    b"",
    b"a",
    b"a\xfe\xff",
    b"a\xff",
    b"a\xff\x00",
    b"a\xff\xfe",
    b"a\xff\xff",
    b"a\xff\xffz",
    b"b",
    b"b\x00",
    b"\xfe\xff",
    b"\xff",
    b"\xff\x00",
    b"\xff\xff\xff",
];

async fn set_all<S: WriteTags>(store: &S) -> blob_traits::Result<()> {
    for name in NAMES {
        store.set_tag(name.into(), Some(HashAndFormat::raw(Sample::new(1).hash))).await?;
    }
    Ok(())
}

/// The names with a prefix, or those without.
fn names(prefix: &[u8], with: bool) -> Vec<Tag> {
    NAMES.into_iter().filter(|name| name.starts_with(prefix) == with).map(Tag::from).collect()
}

async fn prefix_ending_in_0xff_lists_no_tag_outside_it<S: WriteTags>(_: &Trial<S>, store: S) -> Outcome {
    set_all(&store).await?;
    for prefix in PREFIXES {
        let listed = collect(store.tags_with_prefix(prefix).await?).await?;
        let listed: Vec<_> = listed.into_iter().map(|(tag, _)| tag).collect();
        assert_eq!(listed, names(prefix, true), "{}", prefix.escape_ascii());
    }
    Ok(())
}

async fn prefix_ending_in_0xff_deletes_no_tag_outside_it<S: WriteTags + ReadTags>(
    _: &Trial<S>,
    store: S,
) -> Outcome {
    for prefix in PREFIXES {
        set_all(&store).await?;
        store.delete_tags(TagRange::prefix(prefix)).await?;
        let left = collect(store.tags(..).await?).await?;
        let left: Vec<_> = left.into_iter().map(|(tag, _)| tag).collect();
        assert_eq!(left, names(prefix, false), "{}", prefix.escape_ascii());
    }
    Ok(())
}
