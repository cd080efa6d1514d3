//! A store, and beside it the reference: what it should show.

use std::collections::{BTreeMap, BTreeSet};

use bao_tree::ChunkRanges;
use blob_traits::{
    BaoBlobSize, EntryStatus, Hash, HashAndFormat, MapEntry, Store, Tag, TagRange, TempTag, collect,
};
use tempfile::TempDir;

use super::{
    Check, Setup, done, expect,
    files::Files,
    handles::Handle,
    op::{Blob, N_HANDLES, Op},
    partial::{Partial, numbers},
    universe::{Known, Universe, n_chunks},
};

pub(super) struct World<'a, S: Store> {
    pub(super) setup: &'a Setup<S>,
    pub(super) universe: &'a Universe,
    pub(super) blobs: Vec<State>,
    pub(super) tags: BTreeMap<Tag, HashAndFormat>,
    pub(super) temp_tags: Vec<TempTag>,
    pub(super) handles: [Option<Handle<S>>; N_HANDLES],
    pub(super) files: Files,
    /// The partial blobs that became complete, by number.
    pub(super) completed: BTreeSet<u64>,
    n_partials: u64,
    /// `None` while it is opened again.
    pub(super) store: Option<S>,
    pub(super) home: TempDir,
}

/// What should be there of a blob. The empty one is complete whatever this says; this says whether it is listed.
#[derive(Clone, Debug)]
pub(super) enum State {
    Absent,
    Partial(Box<Partial>),
    Complete,
}

impl<'a, S: Store> World<'a, S> {
    /// Opens a new store.
    pub(super) async fn open(setup: &'a Setup<S>, universe: &'a Universe) -> Check<Self> {
        let home = TempDir::new_in(&setup.dir).map_err(|e| format!("make a directory: {e}"))?;
        let mut world = Self {
            setup,
            universe,
            blobs: vec![State::Absent; universe.0.len()],
            tags: BTreeMap::new(),
            temp_tags: Vec::new(),
            handles: std::array::from_fn(|_| None),
            files: Files::new(home.path())?,
            completed: BTreeSet::new(),
            n_partials: 0,
            store: None,
            home,
        };
        world.open_store().await?;
        Ok(world)
    }

    pub(super) async fn open_store(&mut self) -> Check {
        self.store = Some(done("open", (self.setup.open)(&self.home.path().join("store")).await)?);
        Ok(())
    }

    pub(super) fn store(&self) -> Check<S> {
        self.store.clone().ok_or_else(|| "the store is not open".to_owned())
    }

    pub(super) async fn apply(&mut self, op: &Op) -> Check {
        match op {
            Op::Import { blob, by, format, tag, keep } => self.import(*blob, *by, *format, *tag, *keep).await,
            Op::ImportFails { blob } => self.import_fails(*blob).await,
            Op::GetOrCreate { blob, claim } => self.get_or_create(*blob, *claim).await.map(drop),
            Op::Write { blob, claim, span, order, sync } => {
                self.write(*blob, *claim, *span, *order, *sync).await
            }
            Op::ImportBao { blob, claim, span } => self.import_bao(*blob, *claim, *span).await,
            Op::InsertComplete { blob } => self.insert_complete(*blob).await,
            Op::Open { handle, blob, claim } => self.open_handle(*handle, *blob, *claim).await,
            Op::WriteOpen { handle, span, order, sync } => {
                self.write_open(*handle, *span, *order, *sync).await
            }
            Op::ReadOpen { handle, at, len } => self.read_open(*handle, *at, *len).await,
            Op::InsertOpen { handle } => self.insert_open(*handle).await,
            Op::Read { blob, at, len, proof } => self.read(*blob, *at, *len, *proof).await,
            Op::Delete { blobs } => self.delete(blobs).await,
            Op::Export { blob, target, mode, existing } => {
                self.export(*blob, *target, *mode, *existing).await
            }
            Op::EditExported { target } => self.files.edit(*target),
            Op::ListAll => self.list_all().await,
            Op::Sync => self.sync().await,
            Op::ShutdownAndOpen => self.shutdown_and_open().await,
            Op::DropAndOpen => self.drop_and_open().await,
            _ => self.apply_to_names(op).await,
        }
    }

    pub(super) fn known(&self, blob: Blob) -> Known {
        self.universe.get(blob).clone()
    }

    pub(super) fn state(&mut self, blob: Blob) -> &mut State {
        let n = self.blobs.len();
        self.blobs.get_mut(blob % n).expect("the universe has blobs, each with a state")
    }

    pub(super) fn is_complete(&mut self, blob: Blob) -> bool {
        self.known(blob).hash == Hash::EMPTY || matches!(self.state(blob), State::Complete)
    }

    pub(super) fn begin(&mut self, blob: Blob, claim: u64) -> &mut State {
        self.n_partials += 1;
        let partial = Partial::new(self.n_partials, claim);
        let state = self.state(blob);
        *state = State::Partial(Box::new(partial));
        state
    }

    /// The blob is complete from now on, by whatever way.
    pub(super) fn complete(&mut self, blob: Blob) {
        if let State::Partial(partial) = std::mem::replace(self.state(blob), State::Complete) {
            self.completed.insert(partial.no);
        }
    }

    /// Compares what the store says about a blob.
    pub(super) async fn look(&mut self, blob: Blob) -> Check {
        let (store, known) = (self.store()?, self.known(blob));
        let complete = self.is_complete(blob);
        let expected = match self.state(blob) {
            _ if complete => EntryStatus::Complete,
            State::Partial(_) => EntryStatus::Partial,
            _ => EntryStatus::NotFound,
        };
        let about = format!("blob {blob}");
        expect(&about, &done(&about, store.entry_status(&known.hash).await)?, &expected)?;
        expect(&about, &done(&about, store.entry_status_sync(&known.hash))?, &expected)?;
        let entry = done(&about, store.get(&known.hash).await)?;
        let present = done(&about, store.present_ranges(&known.hash).await)?;
        let found = entry.map(|entry| (entry.hash(), entry.size(), entry.is_complete()));
        match (expected, found, present) {
            (EntryStatus::NotFound, None, None) => Ok(()),
            (EntryStatus::Complete, Some(found), Some(present)) => {
                expect(&about, &found, &(known.hash, BaoBlobSize::Verified(known.size()), true))?;
                let all = (0..n_chunks(known.size())).collect();
                expect(&about, &numbers(&present)?, &all)
            }
            (EntryStatus::Partial, Some((hash, size, false)), Some(present)) if hash == known.hash => {
                let State::Partial(partial) = self.state(blob) else { return Ok(()) };
                partial.look(&numbers(&present)?, size).map_err(|e| format!("{about}: {e}"))
            }
            (_, found, present) => Err(format!(
                "{about}: {expected:?} by its status, get returns {found:?}, present: {present:?}"
            )),
        }
    }

    pub(super) fn check_temp_tags(&self) -> Check {
        let held: BTreeSet<_> = self.temp_tags.iter().map(TempTag::hash_and_format).collect();
        let found: Vec<_> = self.store()?.temp_tags().collect();
        expect("temporary tags", &found, &held.into_iter().collect())
    }

    pub(super) async fn list_all(&mut self) -> Check {
        let store = self.store()?;
        let of = |wanted: fn(&State) -> bool| {
            let listed = self.universe.0.iter().zip(&self.blobs).filter(|(_, state)| wanted(state));
            listed.map(|(known, _)| known.hash).collect::<BTreeSet<_>>().into_iter().collect::<Vec<_>>()
        };
        let found = done("blobs", async { collect(store.blobs().await?).await }.await)?;
        expect("blobs", &found, &of(|state| matches!(state, State::Complete)))?;
        let found = done("partial_blobs", async { collect(store.partial_blobs().await?).await }.await)?;
        expect("partial_blobs", &found, &of(|state| matches!(state, State::Partial(_))))?;
        self.check_tags(TagRange::all()).await
    }

    /// Compares everything, bytes and all.
    pub(super) async fn check_all(&mut self) -> Check {
        let store = self.store()?;
        self.list_all().await?;
        for blob in 0..self.blobs.len() {
            self.look(blob).await?;
            let known = self.known(blob);
            let about = format!("blob {blob}");
            let present = match self.state(blob) {
                State::Complete => ChunkRanges::all(),
                State::Absent => continue,
                State::Partial(partial) => {
                    let present = partial.present();
                    self.read_each(blob, &present).await?;
                    continue;
                }
            };
            let found = done(&about, store.read_verified(known.hash, 0..u64::MAX).await)?;
            expect(&about, &(found == known.data), &true)?;
            let stream = done(&about, store.export_bao(known.hash, present.clone(), Vec::new()).await)?;
            expect(&about, &(stream == known.encode(&present)), &true)?;
        }
        self.files.check()
    }
}
