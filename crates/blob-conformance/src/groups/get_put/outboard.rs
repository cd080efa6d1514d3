//! The hash tree that is stored with a blob.

use bao_tree::{
    ChunkRanges,
    io::{fsm::Outboard as _, outboard::PreOrderMemOutboard, sync::Outboard as _},
};
use blob_traits::{Import, Map, MapEntry, MapExt, MapMut, Store};

use crate::{Outcome, Sample, Trial, case::group};

group! {
    "get_put", for S: Store;
    outboard_equals_reference_outboard_boundary_sizes,
    outboard_of_a_written_blob_equals_reference,
}

/// Compares all nodes with those of the reference.
async fn check_outboard(entry: &impl MapEntry, reference: &PreOrderMemOutboard) -> Outcome {
    let mut outboard = entry.outboard().await?;
    assert_eq!(outboard.root(), reference.root);
    assert_eq!(outboard.tree(), reference.tree);
    for node in reference.tree.pre_order_nodes_iter() {
        if let Some(expected) = reference.load(node)? {
            assert_eq!(outboard.load(node).await?, Some(expected), "{node:?}");
        }
    }
    Ok(())
}

async fn outboard_equals_reference_outboard_boundary_sizes<S: Map + Import>(
    trial: &Trial<S>,
    store: S,
) -> Outcome {
    for sample in trial.sizes().into_iter().map(Sample::new) {
        let _pinned = sample.import(&store).await?;
        check_outboard(&store.existing(sample.hash).await?, &sample.outboard).await?;
    }
    Ok(())
}

async fn outboard_of_a_written_blob_equals_reference<S: MapMut>(trial: &Trial<S>, store: S) -> Outcome {
    for sample in trial.ways().into_iter().map(Sample::new) {
        let entry = store.get_or_create(sample.hash, sample.size()).await?;
        sample.write(&store, &ChunkRanges::all()).await?;
        check_outboard(&store.existing(sample.hash).await?, &sample.outboard).await?;
        store.insert_complete(entry).await?;
        check_outboard(&store.existing(sample.hash).await?, &sample.outboard).await?;
    }
    Ok(())
}
