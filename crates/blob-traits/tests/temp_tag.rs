//! Temporary tags as they are counted.

use blob_traits::{Hash, HashAndFormat, TempTagRegistry};

#[test]
fn the_last_clone_releases() {
    let registry = TempTagRegistry::new();
    let content = HashAndFormat::raw(Hash::new(b"a"));
    let first = registry.issue(content);
    let second = first.clone();
    drop(first);
    assert!(registry.holds(&content.hash));
    assert_eq!(registry.snapshot(), [content]);
    drop(second);
    assert!(!registry.holds(&content.hash));
}

#[test]
fn formats_are_counted_apart() {
    let registry = TempTagRegistry::new();
    let hash = Hash::new(b"a");
    let raw = registry.issue(HashAndFormat::raw(hash));
    let seq = registry.issue(HashAndFormat::hash_seq(hash));
    drop(raw);
    assert_eq!(registry.snapshot(), [seq.hash_and_format()]);
}

#[test]
fn a_leaked_tag_protects_for_ever() {
    let registry = TempTagRegistry::new();
    let content = HashAndFormat::raw(Hash::new(b"a"));
    registry.issue(content).leak();
    drop(registry.issue(content));
    assert_eq!(registry.snapshot(), [content]);
}

#[test]
fn a_tag_outlives_its_registry() {
    let registry = TempTagRegistry::new();
    let tag = registry.issue(HashAndFormat::raw(Hash::EMPTY));
    drop(registry);
    drop(tag.clone());
    assert_eq!(tag.hash(), Hash::EMPTY);
}
