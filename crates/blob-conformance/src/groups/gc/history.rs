//! Long random histories, and many readers.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use blob_gc::{GcError, GcReport, GcStore, collect};
use blob_traits::{
    BlobFormat, Delete, EntryStatus, Hash, HashAndFormat, Import, ImportExt, MapExt, MapMut, Progress, Store,
    Sweep, Tag, TempTag, WriteTags, collect as list,
};
use tokio::{task::JoinHandle, time::timeout};

use super::{all, assert_kept, sequence, sweep, tag_seq};
use crate::{Dice, Failure, Outcome, Sample, Trial, case::group, group_ranges};

group! {
    "gc", for S: Store, Sweep;
    gc_random_history_vs_reachability_model,
    gc_random_history_of_10k_operations_vs_reachability_model [deep],
    gc_64_readers_of_2000_children_lose_nothing,
}

async fn gc_random_history_vs_reachability_model<
    S: GcStore + Import + MapMut + WriteTags + Delete + std::fmt::Debug,
>(
    trial: &Trial<S>,
    store: S,
) -> Outcome {
    History::new(store, trial.dice()).play(2000).await
}

async fn gc_random_history_of_10k_operations_vs_reachability_model<
    S: GcStore + Import + MapMut + WriteTags + Delete + std::fmt::Debug,
>(
    trial: &Trial<S>,
    store: S,
) -> Outcome {
    History::new(store, trial.dice()).play(10_000).await
}

/// What has been done, and what follows from that.
struct History<S> {
    store: S,
    dice: Dice,
    /// Blobs, and behind them the sequences of some of them.
    samples: Vec<Sample>,
    children: BTreeMap<Hash, Vec<Hash>>,
    tags: BTreeMap<Tag, HashAndFormat>,
    held: Vec<TempTag>,
    /// Complete blobs that were seen since something reaches them: they have to stay.
    known: BTreeSet<Hash>,
    round: Option<JoinHandle<Result<GcReport, GcError>>>,
}

impl<S: GcStore + Import + MapMut + WriteTags + Delete> History<S> {
    fn new(store: S, dice: Dice) -> Self {
        let mut samples: Vec<_> = (0..20).map(|number| Sample::numbered(300, number)).collect();
        samples.extend([Sample::numbered(20_000, 1), Sample::numbered(70_000, 2)]);
        let mut children = BTreeMap::new();
        for part in [0..6, 4..12, 10..22, 0..22] {
            let listed = samples.get(part).unwrap_or_default().iter().map(|sample| sample.hash);
            let listed: Vec<_> = listed.collect();
            let sequence = sequence(listed.iter().copied());
            children.insert(sequence.hash, listed);
            samples.push(sequence);
        }
        let (tags, held, known) = (BTreeMap::new(), Vec::new(), BTreeSet::new());
        Self { store, dice, samples, children, tags, held, known, round: None }
    }

    async fn play(mut self, n_operations: usize) -> Outcome {
        for number in 0..n_operations {
            self.act().await?;
            if number % 100 == 99 {
                self.check().await?;
            }
        }
        self.end_round().await?;
        self.check().await?;
        sweep(&self.store).await?;
        self.check().await?;
        let reachable = self.reachable();
        let mut there = list(self.store.blobs().await?).await?;
        there.extend(list(self.store.partial_blobs().await?).await?);
        let garbage: Vec<_> = there.iter().filter(|hash| !reachable.contains(hash)).collect();
        assert!(garbage.is_empty(), "after a quiet round there are still {garbage:?}");
        Ok(())
    }

    async fn act(&mut self) -> Outcome {
        let sample = self.dice.pick(&self.samples).cloned().ok_or("there are samples")?;
        let content = self.content(&sample);
        let tag = Tag::from(format!("tag-{}", self.dice.below(6)).as_str());
        match self.dice.below(20) {
            0..=5 => drop(self.store.import_bytes(sample.data.clone(), BlobFormat::Raw).await?),
            6 | 7 => {
                self.held.push(self.store.import_bytes(sample.data.clone(), content.format).await?);
                assert_eq!(self.store.entry_status(&sample.hash).await?, EntryStatus::Complete);
            }
            8 | 9 => self.held.push(self.store.temp_tag(content)),
            10 | 11 => self.let_go(),
            12 | 13 => {
                self.store.set_tag(tag.clone(), Some(content)).await?;
                self.tags.insert(tag, content);
            }
            14 => {
                self.store.set_tag(tag.clone(), None).await?;
                self.tags.remove(&tag);
            }
            15 => self.begin_round().await?,
            16 => self.end_round().await?,
            17 => self.write_some(&sample).await?,
            18 => self.hand_over(tag).await?,
            _ => {
                self.known.remove(&sample.hash);
                self.store.delete(vec![sample.hash]).await?;
            }
        }
        self.learn(content).await
    }

    fn content(&mut self, sample: &Sample) -> HashAndFormat {
        let is_sequence = self.children.contains_key(&sample.hash) && self.dice.below(3) > 0;
        if is_sequence { HashAndFormat::hash_seq(sample.hash) } else { HashAndFormat::raw(sample.hash) }
    }

    fn let_go(&mut self) {
        while self.held.len() > 4 {
            let at = self.dice.index(self.held.len());
            drop(self.held.swap_remove(at));
        }
        self.held.pop();
    }

    /// From a temporary tag to a tag.
    async fn hand_over(&mut self, tag: Tag) -> Outcome {
        let Some(pin) = self.held.pop() else { return Ok(()) };
        self.store.set_tag(tag.clone(), Some(pin.hash_and_format())).await?;
        self.tags.insert(tag, pin.hash_and_format());
        drop(pin);
        Ok(())
    }

    /// A part of a blob. One that is collected meanwhile is said to be missing.
    async fn write_some(&mut self, sample: &Sample) -> Outcome {
        let at = self.dice.below(sample.n_groups());
        match sample.write(&self.store, &group_ranges(at..at + 1)).await {
            Ok(()) | Err(blob_traits::Error::NotFound { .. }) => {}
            Err(other) => return Err(other.into()),
        }
        match self.store.get_mut(&sample.hash).await? {
            Some(entry) if self.dice.below(2) == 0 => match self.store.insert_complete(entry).await {
                Ok(())
                | Err(
                    blob_traits::Error::NotFound { .. }
                    | blob_traits::Error::Incomplete { .. }
                    | blob_traits::Error::SizeUnverified { .. },
                ) => Ok(()),
                Err(other) => Err(other.into()),
            },
            _ => Ok(()),
        }
    }

    async fn begin_round(&mut self) -> Outcome {
        self.end_round().await?;
        let store = self.store.clone();
        self.round = Some(tokio::spawn(async move { collect(&store, all(), Progress::none()).await }));
        tokio::task::yield_now().await;
        Ok(())
    }

    async fn end_round(&mut self) -> Outcome {
        let Some(round) = self.round.take() else { return Ok(()) };
        match timeout(Duration::from_secs(20), round).await?? {
            // A sequence that is deleted by force while it is read.
            Ok(_) | Err(GcError::UnreadableSequence { .. }) => Ok(()),
            Err(other) => Err(other.into()),
        }
    }

    fn roots(&self) -> impl Iterator<Item = HashAndFormat> {
        self.tags.values().copied().chain(self.held.iter().map(TempTag::hash_and_format))
    }

    /// What roots reach, as far as it is known that they do.
    fn reachable(&self) -> BTreeSet<Hash> {
        let mut reachable = BTreeSet::new();
        for root in self.roots() {
            reachable.insert(root.hash);
            if root.format.is_hash_seq() && self.known.contains(&root.hash) {
                reachable.extend(self.children.get(&root.hash).into_iter().flatten());
            }
        }
        reachable
    }

    /// Looks at what the latest act may have made reachable, and forgets what is not reachable any more.
    async fn learn(&mut self, content: HashAndFormat) -> Outcome {
        if self.roots().any(|root| root.hash == content.hash) {
            self.look_at(content.hash).await?;
        }
        if self.known.contains(&content.hash) && self.roots().any(|root| root == content) {
            let listed = self.children.get(&content.hash).filter(|_| content.format.is_hash_seq());
            for child in listed.cloned().unwrap_or_default() {
                self.look_at(child).await?;
            }
        }
        let reachable = self.reachable();
        self.known.retain(|hash| reachable.contains(hash));
        Ok(())
    }

    async fn look_at(&mut self, hash: Hash) -> Outcome {
        if self.store.entry_status(&hash).await? == EntryStatus::Complete {
            self.known.insert(hash);
        }
        Ok(())
    }

    async fn check(&self) -> Outcome {
        for sample in self.samples.iter().filter(|sample| self.known.contains(&sample.hash)) {
            let status = self.store.entry_status(&sample.hash).await?;
            assert_eq!(status, EntryStatus::Complete, "{} is lost", sample.hash);
            assert_eq!(self.store.read_to_bytes(sample.hash).await?, sample.data);
        }
        Ok(())
    }
}

async fn gc_64_readers_of_2000_children_lose_nothing<S: GcStore + Import + WriteTags>(
    trial: &Trial<S>,
    store: S,
) -> Outcome {
    const N_READERS: usize = 64;
    let children: Arc<[Sample]> = (0..2000).map(|number| Sample::numbered(64, number)).collect();
    import_together(&store, &children).await?;
    let list = sequence(children.iter().map(|child| child.hash));
    drop(list.import(&store).await?);
    tag_seq(&store, "seq", &list).await?;
    let n_done = Arc::new(AtomicUsize::new(0));
    let mut readers = Vec::new();
    for reader in 0..N_READERS {
        let mut dice = Dice::new(trial.seed().wrapping_add(reader as u64));
        let (store, children, n_done) = (store.clone(), children.clone(), n_done.clone());
        readers.push(tokio::spawn(async move {
            let mut outcome = Ok(());
            for _ in 0..40 {
                let Some(child) = dice.pick(&children) else { break };
                outcome = store.read_to_bytes(child.hash).await.map(|bytes| assert_eq!(bytes, child.data));
                if outcome.is_err() {
                    break;
                }
            }
            n_done.fetch_add(1, Ordering::Relaxed);
            outcome
        }));
    }
    for number in 0..1000 {
        drop(Sample::numbered(65, number).import(&store).await?);
        sweep(&store).await?;
        if n_done.load(Ordering::Relaxed) == N_READERS {
            break;
        }
    }
    for reader in readers {
        timeout(Duration::from_secs(20), reader).await???;
    }
    assert_kept(&store, children.iter().chain([&list])).await
}

async fn import_together<S: Import + Clone + 'static>(
    store: &S,
    samples: &Arc<[Sample]>,
) -> Result<(), Failure> {
    const N_TASKS: usize = 16;
    let mut importing = Vec::new();
    for first in 0..N_TASKS {
        let (store, samples) = (store.clone(), samples.clone());
        importing.push(tokio::spawn(async move {
            for sample in samples.iter().skip(first).step_by(N_TASKS) {
                drop(sample.import(&store).await?);
            }
            Ok::<(), blob_traits::Error>(())
        }));
    }
    for task in importing {
        task.await??;
    }
    Ok(())
}
