//! Importing from memory: one at a time, and 64 at a time.

use std::{
    hint::black_box,
    sync::atomic::{AtomicU64, Ordering},
};

use blob_benches::{Bench, blob, each_backend, put, runtime};
use blob_traits::FullStore;
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use futures_buffered::BufferedStreamExt;
use futures_lite::StreamExt;
use tokio::runtime::Runtime;

/// Never the same blob twice: a blob that is there already costs less.
static SEED: AtomicU64 = AtomicU64::new(0);

struct Import<'a>(&'a mut Criterion);

impl Bench for Import<'_> {
    fn over<S: FullStore>(&mut self, name: &str, runtime: &Runtime, store: S) {
        for len in [1 << 10, 4 << 10, 64 << 10, 1 << 20] {
            let mut group = self.0.benchmark_group(format!("import/{len}"));
            group.sample_size(20).throughput(Throughput::Bytes(len as u64));
            group.bench_function(format!("{name}/1"), |bencher| {
                bencher.to_async(runtime).iter_custom(|n| {
                    let store = store.clone();
                    async move {
                        let blobs: Vec<_> =
                            (0..n).map(|_| blob(SEED.fetch_add(1, Ordering::Relaxed), len)).collect();
                        let begun = std::time::Instant::now();
                        for blob in blobs {
                            black_box(put(&store, blob).await).expect("the disk has room");
                        }
                        begun.elapsed()
                    }
                });
            });
            group.bench_function(format!("{name}/64"), |bencher| {
                bencher.to_async(runtime).iter_custom(|n| {
                    let store = store.clone();
                    async move {
                        let blobs: Vec<_> =
                            (0..n).map(|_| blob(SEED.fetch_add(1, Ordering::Relaxed), len)).collect();
                        let begun = std::time::Instant::now();
                        let mut puts = futures_lite::stream::iter(blobs)
                            .map(|blob| put(&store, blob))
                            .buffered_unordered(64);
                        while let Some(hash) = puts.next().await {
                            black_box(hash).expect("the disk has room");
                        }
                        begun.elapsed()
                    }
                });
            });
            group.finish();
        }
    }
}

fn import(criterion: &mut Criterion) {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let runtime = runtime().expect("a runtime");
    each_backend(dir.path(), &runtime, &mut Import(criterion)).expect("stores that work");
}

criterion_group!(benches, import);
criterion_main!(benches);
