//! Syncing a store, and opening it again after a good end or a bad one.

use blob_traits::{EntryStatus, MapEntry, Store};

use super::{
    Check, done,
    partial::numbers,
    refused,
    world::{State, World},
};

impl<S: Store> World<'_, S> {
    pub(super) async fn sync(&mut self) -> Check {
        done("sync", self.store()?.sync().await)?;
        for state in &mut self.blobs {
            if let State::Partial(partial) = state {
                partial.synced();
            }
        }
        Ok(())
    }

    pub(super) async fn shutdown_and_open(&mut self) -> Check {
        if !self.setup.persistent {
            return Ok(());
        }
        let store = self.store()?;
        done("shutdown", store.shutdown().await)?;
        let hash = self.known(0).hash;
        refused("a call after the shutdown", store.get(&hash).await, &["closed"])?;
        drop(store);
        self.open_again().await?;
        let store = self.store()?;
        for (blob, state) in self.blobs.iter_mut().enumerate() {
            let (State::Partial(partial), Some(known)) = (state, self.universe.0.get(blob)) else { continue };
            let present = done("present_ranges", store.present_ranges(&known.hash).await)?;
            let present = present.ok_or_else(|| format!("partial blob {blob} did not survive a shutdown"))?;
            partial.shut_down(&numbers(&present)?).map_err(|e| format!("blob {blob}: {e}"))?;
        }
        self.check_all().await
    }

    /// Drops a store as a kill would end it.
    pub(super) async fn drop_and_open(&mut self) -> Check {
        if !self.setup.persistent {
            return Ok(());
        }
        self.open_again().await?;
        let store = self.store()?;
        for (blob, state) in self.blobs.iter_mut().enumerate() {
            let (State::Partial(partial), Some(known)) = (&mut *state, self.universe.0.get(blob)) else {
                continue;
            };
            let status = done("entry_status", store.entry_status(&known.hash).await)?;
            if status == EntryStatus::NotFound && partial.may_be_lost() {
                *state = State::Absent;
                continue;
            }
            let entry = done("get", store.get(&known.hash).await)?;
            let entry = entry.ok_or_else(|| format!("blob {blob} was synced and is lost"))?;
            let present = done("present_ranges", store.present_ranges(&known.hash).await)?;
            let found = numbers(&present.unwrap_or_default())?;
            partial.killed(&found, entry.size()).map_err(|e| format!("blob {blob}: {e}"))?;
        }
        self.check_all().await
    }

    async fn open_again(&mut self) -> Check {
        self.handles = std::array::from_fn(|_| None);
        self.store = None;
        self.open_store().await?;
        // These outlive the store that they were for, and go without a trace.
        self.temp_tags.clear();
        Ok(())
    }
}
