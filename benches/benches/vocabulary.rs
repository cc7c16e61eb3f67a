//! What every request pays for in `registry-core`: digests, names, hashing, manifests.

#![allow(missing_docs)] // criterion's macros make public items

use std::hint::black_box;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use registry_core::manifest::{self, media_type};
use registry_core::{Algorithm, Digest, Hasher, Reference, RepositoryName};

fn vocabulary(c: &mut Criterion) {
    let text = Digest::sha256(b"some bytes").to_string();
    c.bench_function("digest: parse", |b| b.iter(|| black_box(text.as_str()).parse::<Digest>().expect("a digest")));
    let digest: Digest = text.parse().expect("a digest");
    c.bench_function("digest: write", |b| b.iter(|| black_box(&digest).to_string()));
    c.bench_function("name: parse", |b| {
        b.iter(|| black_box("organisation/team/some-project/app").parse::<RepositoryName>().expect("a name"));
    });
    c.bench_function("reference: parse a tag", |b| b.iter(|| black_box("v1.27.3-alpine").parse::<Reference>().expect("a tag")));
}

fn hashing(c: &mut Criterion) {
    let mut group = c.benchmark_group("hasher");
    for (name, size) in [("4 KiB", 4 << 10), ("1 MiB", 1 << 20)] {
        let bytes = vec![7; size];
        group.throughput(Throughput::Bytes(size as u64));
        for algorithm in [Algorithm::Sha256, Algorithm::Sha512] {
            group.bench_function(format!("{algorithm}, {name}"), |b| {
                b.iter(|| {
                    let mut hasher = Hasher::new(algorithm);
                    hasher.update(black_box(&bytes));
                    hasher.finalize()
                });
            });
        }
    }
    group.finish();
}

/// An image of ten layers: reading it is most of what a manifest push costs outside the stores.
fn manifests(c: &mut Criterion) {
    let descriptor = |n: u8| format!(r#""size":{n},"digest":"{}""#, Digest::sha256(&[n]));
    let layers: Vec<_> =
        (1..=10).map(|n| format!(r#"{{"mediaType":"application/vnd.oci.image.layer.v1.tar+gzip",{}}}"#, descriptor(n))).collect();
    let text = format!(
        r#"{{"schemaVersion":2,"config":{{"mediaType":"application/vnd.oci.image.config.v1+json",{}}},"layers":[{}]}}"#,
        descriptor(0),
        layers.join(",")
    );
    c.bench_function("manifest: parse an image of ten layers", |b| {
        b.iter(|| manifest::ParsedManifest::parse(Some(media_type::OCI_MANIFEST), black_box(text.as_bytes())).expect("a manifest"));
    });
}

criterion_group!(benches, vocabulary, hashing, manifests);
criterion_main!(benches);
