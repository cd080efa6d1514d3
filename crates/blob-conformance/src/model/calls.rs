//! Making the calls of a concurrent history, and noting what was answered.

use std::{collections::BTreeSet, fmt::Debug, sync::Arc};

use bao_tree::{ChunkNum, ChunkRanges};
use blob_traits::{
    BaoBatchWriter, BlobFormat, Error, Hash, HashAndFormat, ImportOptions, ImportSource, MapEntryMut,
    Progress, Result, Store, Tag, TagRange, collect,
};

use super::{
    concurrent::Recorder,
    explain::Timed,
    spec::{Call, N_BLOBS, N_GROUPS, N_TAGS, Told, What},
    universe::{GROUP, Known, groups, n_chunks, random_bytes, to_usize},
};

/// The blobs and tags that all tasks work on.
#[derive(Debug)]
pub(super) struct Shared {
    blobs: Vec<Known>,
}

/// One that makes calls.
#[derive(Clone, Debug)]
pub(super) struct Caller<S> {
    pub(super) store: S,
    pub(super) shared: Arc<Shared>,
    pub(super) recorder: Arc<Recorder>,
    pub(super) task: usize,
}

impl Shared {
    pub(super) fn new(seed: u64) -> Self {
        Self { blobs: [500, 40_000, 70_000].map(|size| Known::new(random_bytes(seed, size))).into() }
    }

    fn known(&self, blob: u8) -> &Known {
        self.blobs.get(usize::from(blob)).expect("programs name blobs that there are")
    }

    fn content(&self, blob: u8) -> HashAndFormat {
        HashAndFormat::raw(self.known(blob).hash)
    }

    /// The number of a blob; one that nobody wrote is none of a history's.
    fn number(&self, hash: Hash) -> u8 {
        (0..N_BLOBS).find(|blob| self.known(*blob).hash == hash).unwrap_or(u8::MAX)
    }

    fn numbers(&self, hashes: Vec<Hash>) -> Told {
        let ascending = hashes.is_sorted();
        let mut numbers: Vec<_> = hashes.into_iter().map(|hash| self.number(hash)).collect();
        numbers.sort_unstable();
        if ascending { Told::Blobs(numbers) } else { Told::Refused("a listing out of order") }
    }
}

fn tag(number: u8) -> Tag {
    Tag::from(&[b't', number][..])
}

impl<S: Store> Caller<S> {
    /// Looks at everything, one after the other.
    pub(super) async fn look(&self) {
        for blob in 0..N_BLOBS {
            self.call(What::Status { blob }).await;
            self.call(What::Present { blob }).await;
        }
        for tag in 0..N_TAGS {
            self.call(What::GetTag { tag }).await;
        }
    }

    /// Makes a call. Writing and promoting take a handle first, which is a call, too.
    pub(super) async fn call(&self, what: What) {
        let handle = to_usize(self.recorder.now());
        match what {
            What::Write { blob, group, .. } => {
                let group = group % N_GROUPS.get(usize::from(blob)).copied().unwrap_or(1);
                let Some(entry) = self.get_or_create(blob, handle).await else { return };
                self.record(What::Write { blob, handle, group }, self.write(entry, blob, group)).await;
            }
            What::InsertComplete { blob, .. } => {
                let Some(entry) = self.get_or_create(blob, handle).await else { return };
                let inserted = async { done(self.store.insert_complete(entry).await) };
                self.record(What::InsertComplete { blob, handle }, inserted).await;
            }
            What::Blobs => self.list(what, self.store.blobs(), |hashes| self.shared.numbers(hashes)).await,
            What::PartialBlobs => {
                self.list(what, self.store.partial_blobs(), |hashes| self.shared.numbers(hashes)).await;
            }
            What::Tags => {
                let number = |(tag, content): (Tag, HashAndFormat)| {
                    (tag.0.last().copied().unwrap_or(u8::MAX), self.shared.number(content.hash))
                };
                let told = |tags: Vec<_>| Told::Tags(tags.into_iter().map(number).collect());
                self.list(what, self.store.tags(TagRange::all()), told).await;
            }
            what => self.record(what.clone(), self.ask(what)).await,
        }
    }

    async fn record(&self, what: What, answer: impl Future<Output = Told> + Send) {
        let invoked = self.recorder.now();
        let told = answer.await;
        self.answered(what, invoked, self.recorder.now(), told);
    }

    fn answered(&self, what: What, invoked: u64, returned: u64, told: Told) {
        self.recorder.add(Timed { task: self.task, invoked, returned, call: Call { what, told } });
    }

    /// A listing is of the time of the call, not of that when it is read.
    async fn list<T: Debug + Send>(
        &self,
        what: What,
        listing: impl Future<Output = Result<blob_traits::BoxStream<T>>> + Send,
        told: impl FnOnce(Vec<T>) -> Told + Send,
    ) {
        let invoked = self.recorder.now();
        let listing = listing.await;
        let returned = self.recorder.now();
        let told = match async { collect(listing?).await }.await {
            Ok(items) => told(items),
            Err(e) => Told::Refused(e.code()),
        };
        self.answered(what, invoked, returned, told);
    }

    async fn get_or_create(&self, blob: u8, handle: usize) -> Option<S::EntryMut> {
        let known = self.shared.known(blob);
        let invoked = self.recorder.now();
        let got = self.store.get_or_create(known.hash, known.size()).await;
        let (entry, told) = match got {
            Ok(entry) => (Some(entry), Told::Done),
            Err(e) => (None, Told::Refused(e.code())),
        };
        self.answered(What::GetOrCreate { blob, handle }, invoked, self.recorder.now(), told);
        entry
    }

    async fn write(&self, entry: S::EntryMut, blob: u8, group: u8) -> Told {
        let known = self.shared.known(blob);
        let (items, _) = known.items(known.size(), &groups(group.into(), u64::from(group) + 1));
        let written = async {
            let mut writer = entry.batch_writer().await?;
            writer.write_batch(known.size(), items).await
        };
        done(written.await.map_err(Error::from))
    }

    /// Makes a call that is one.
    async fn ask(&self, what: What) -> Told {
        let (store, shared) = (&self.store, &self.shared);
        match what {
            What::Import { blob, tag: number } => {
                let options = ImportOptions { format: BlobFormat::Raw, tag: number.map(tag) };
                let source = self.source(blob, number.is_some());
                done(store.import(source, options, Progress::none()).await.map(drop))
            }
            What::Delete { blob } => done(store.delete(vec![shared.known(blob).hash]).await),
            What::Status { blob } => answer(store.entry_status(&shared.known(blob).hash).await, Told::Status),
            What::Present { blob } => answer(store.present_ranges(&shared.known(blob).hash).await, |found| {
                Told::Present(found.map(|found| shared.known(blob).whole_groups(&found)))
            }),
            What::SetTag { tag: number, blob } => {
                done(store.set_tag(tag(number), Some(shared.content(blob))).await)
            }
            What::DeleteTag { tag: number } => done(store.delete_tag(tag(number)).await),
            What::GetTag { tag: number } => answer(store.get_tag(&tag(number)).await, |content| {
                Told::Tag(content.map(|content| shared.number(content.hash)))
            }),
            What::RenameTag { from, to } => done(store.rename_tag(tag(from), tag(to)).await),
            What::DeleteTags => done(store.delete_tags(TagRange::prefix("t")).await),
            _ => Told::Refused("made elsewhere"),
        }
    }

    /// Some of each kind.
    fn source(&self, blob: u8, as_stream: bool) -> ImportSource {
        let data = self.shared.known(blob).data.clone();
        if as_stream {
            ImportSource::Stream(Box::pin(futures_lite::stream::iter([Ok(data)])))
        } else {
            ImportSource::Bytes(data)
        }
    }
}

impl Known {
    /// The groups of which all chunks are in a range set.
    fn whole_groups(&self, present: &ChunkRanges) -> BTreeSet<u8> {
        let n_chunks = n_chunks(self.size());
        let n_groups = u8::try_from(n_chunks.div_ceil(GROUP)).unwrap_or(u8::MAX);
        let chunks = |group: u8| {
            let start = u64::from(group) * GROUP;
            ChunkRanges::from(ChunkNum(start)..ChunkNum((start + GROUP).min(n_chunks)))
        };
        (0..n_groups).filter(|group| chunks(*group).is_subset(present)).collect()
    }
}

fn done(result: Result<()>) -> Told {
    answer(result, |()| Told::Done)
}

fn answer<T>(result: Result<T>, told: impl FnOnce(T) -> Told) -> Told {
    result.map_or_else(|e| Told::Refused(e.code()), told)
}
