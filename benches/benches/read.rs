//! Reading from the page cache: whole blobs, ranges, and ranges with proof.

use std::hint::black_box;

use blob_benches::{Bench, blob, each_backend, put, runtime};
use blob_traits::{FullStore, Hash};
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use tokio::runtime::Runtime;

/// How much of a blob a ranged read takes.
const RANGE: u64 = 1000;

struct Read<'a>(&'a mut Criterion);

impl Bench for Read<'_> {
    fn over<S: FullStore>(&mut self, name: &str, runtime: &Runtime, store: S) {
        for (len, count) in [(4 << 10, 4000), (64 << 10, 500), (1 << 20, 64)] {
            let hashes: Vec<Hash> = runtime.block_on(async {
                let mut hashes = Vec::new();
                for seed in 0..count {
                    hashes.push(put(&store, blob(seed, len)).await.expect("the disk has room"));
                }
                hashes
            });
            let mut next = 0;
            let mut pick = || {
                next = (next + 7919) % hashes.len();
                hashes.get(next).copied().unwrap_or(Hash::EMPTY)
            };
            let mut group = self.0.benchmark_group(format!("read/{len}"));
            group.sample_size(30).throughput(Throughput::Bytes(len as u64));
            group.bench_function(format!("{name}/whole"), |bencher| {
                bencher.iter(|| {
                    let bytes = runtime.block_on(store.read_to_bytes(pick()));
                    black_box(bytes).expect("what was imported is there")
                });
            });
            group.throughput(Throughput::Bytes(RANGE));
            let middle = len as u64 / 2;
            group.bench_function(format!("{name}/range"), |bencher| {
                bencher.iter(|| {
                    let bytes = runtime.block_on(store.read_range(pick(), middle..middle + RANGE));
                    black_box(bytes).expect("what was imported is there")
                });
            });
            group.bench_function(format!("{name}/verified-range"), |bencher| {
                bencher.iter(|| {
                    let bytes = runtime.block_on(store.read_verified(pick(), middle..middle + RANGE));
                    black_box(bytes).expect("what was imported is there")
                });
            });
            group.finish();
        }
    }
}

fn read(criterion: &mut Criterion) {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let runtime = runtime().expect("a runtime");
    each_backend(dir.path(), &runtime, &mut Read(criterion)).expect("stores that work");
}

criterion_group!(benches, read);
criterion_main!(benches);
