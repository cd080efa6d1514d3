//! Validating a store from the page cache, beside hashing the same blobs from memory on two threads.

use blob_benches::{Bench, blob, each_backend, put, runtime};
use blob_traits::{FullStore, Hash, Progress};
use blob_validate::{ValidateExt, ValidateOptions};
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use tokio::runtime::Runtime;

/// How many blobs of how many bytes.
const SETS: [(u64, usize); 3] = [(10_000, 4 << 10), (500, 256 << 10), (1, 128 << 20)];

struct Validate<'a>(&'a mut Criterion);

impl Bench for Validate<'_> {
    fn over<S: FullStore>(&mut self, name: &str, runtime: &Runtime, store: S) {
        for (count, len) in SETS {
            let hashes: Vec<_> = (0..count)
                .map(|seed| runtime.block_on(put(&store, blob(seed, len))).expect("the disk has room"))
                .collect();
            runtime.block_on(store.sync()).expect("the disk has room");
            let mut group = self.0.benchmark_group(format!("validate/{count}x{len}"));
            group.sample_size(10).throughput(Throughput::Bytes(count * len as u64));
            group.bench_function(name, |bencher| {
                bencher.to_async(runtime).iter(|| async {
                    let report = store.validate(ValidateOptions::default(), Progress::none()).await;
                    assert!(report.expect("nothing fails").is_clean());
                });
            });
            drop(group);
            runtime.block_on(store.delete(hashes)).expect("the disk has room");
        }
    }
}

fn hashing(criterion: &mut Criterion) {
    for (count, len) in SETS {
        let blobs: Vec<_> = (0..count).map(|seed| blob(seed, len)).collect();
        let mut group = criterion.benchmark_group(format!("validate/{count}x{len}"));
        group.sample_size(10).throughput(Throughput::Bytes(count * len as u64));
        group.bench_function("hash", |bencher| {
            bencher.iter(|| {
                std::thread::scope(|scope| {
                    for half in blobs.chunks(blobs.len().div_ceil(2)) {
                        scope.spawn(move || {
                            for blob in half {
                                std::hint::black_box(Hash::new(blob));
                            }
                        });
                    }
                });
            });
        });
    }
}

fn benches(criterion: &mut Criterion) {
    let dir = tempfile::tempdir().expect("there is room for a directory");
    let runtime = runtime().expect("a runtime starts");
    hashing(criterion);
    each_backend(dir.path(), &runtime, &mut Validate(criterion)).expect("stores open and close");
}

criterion_group!(validate, benches);
criterion_main!(validate);
