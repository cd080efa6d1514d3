//! Defects that stores were seen to have: each case shows that one of them is absent.

pub mod crowd;
pub mod download;
pub mod ending;
pub mod failure;
pub mod one_blob;
pub mod prefix;
pub mod users_file;

use std::time::Duration;

use blob_traits::Store;

use crate::{Failure, Group};

/// The cases of this group.
pub fn group<S: Store>() -> Group<S> {
    prefix::group()
        .and(users_file::group())
        .and(one_blob::group())
        .and(crowd::group())
        .and(download::group())
        .and(failure::group())
        .and(ending::group())
}

/// What nobody waits for any more ends within this time.
const PATIENCE: Duration = Duration::from_secs(10);

/// Waits until something holds, for as long as that may take.
async fn eventually(what: &str, mut holds: impl FnMut() -> bool) -> Result<(), Failure> {
    let holding = async {
        while !holds() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    tokio::time::timeout(PATIENCE, holding)
        .await
        .map_err(|_| format!("{what}, after {PATIENCE:?} still").into())
}
