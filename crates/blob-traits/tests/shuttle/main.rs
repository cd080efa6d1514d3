//! Explores the interleavings of the protocol that collection rests on: temporary tags, what a round notes, and the decision
//! about a batch.
//!
//! The protocol is compiled into this crate a second time, with primitives that let [`shuttle`] choose who goes on at every
//! lock. A store made of nothing else ([`Toy`](store::Toy)) does its acts as real ones do, and a collector goes through the
//! steps of a real one. Nothing that a root reaches may be deleted in any schedule, and what is garbage goes in the end. Each
//! rule of the protocol is also switched off, and the exploration has to find the schedule in which a blob is lost.

mod collector;
mod scenes;
mod store;

/// What `sync.rs` of the protocol's crate has, with other primitives.
mod sync {
    pub(crate) use std::sync::PoisonError;

    pub(crate) use shuttle::sync::{Arc, Mutex, MutexGuard, Weak};
}

#[expect(
    dead_code,
    unreachable_pub,
    unused_imports,
    reason = "it is the code of the library, and not all of it is needed here"
)]
#[path = "../../src/temp_tag.rs"]
mod temp_tag;

pub(crate) use blob_traits::{BlobFormat, Hash, HashAndFormat};

use crate::{scenes::Scene, store::Rule};

/// So many schedules of every scene are random ones, ...
const N_RANDOM: usize = 14_000;
/// ... and so many are random but for a few changes of priority, which finds what needs a rare order of few events.
const N_PRIORITIES: usize = 7_000;
/// So many changes.
const DEPTH: usize = 4;
/// So many schedules are enough to find a loss where a rule is switched off.
const N_BROKEN: usize = 50_000;

fn explore(scene: Scene) {
    shuttle::check_random(move || scene.play(None), N_RANDOM);
    shuttle::check_pct(move || scene.play(None), N_PRIORITIES, DEPTH);
}

fn find_loss(rule: Rule, scene: Scene) {
    shuttle::check_pct(move || scene.play(Some(rule)), N_BROKEN, DEPTH);
    shuttle::check_random(move || scene.play(Some(rule)), N_BROKEN);
}

#[test]
fn a_tagged_blob_is_never_lost() {
    explore(Scene::Tagging);
}

#[test]
fn an_imported_blob_is_never_lost() {
    explore(Scene::Importing);
}

#[test]
fn what_a_new_sequence_lists_is_never_lost() {
    explore(Scene::Sequences);
}

#[test]
fn what_a_growing_sequence_lists_is_never_lost() {
    explore(Scene::Growth);
}

#[test]
fn what_a_failed_removal_brings_back_is_never_lost() {
    explore(Scene::Removals);
}

#[test]
fn all_at_once_loses_nothing() {
    explore(Scene::Everything);
}

#[test]
#[should_panic(expected = "is lost")]
fn reading_tags_before_temporary_tags_loses_a_blob() {
    find_loss(Rule::TemporaryTagsFirst, Scene::Tagging);
}

#[test]
#[should_panic(expected = "is lost")]
fn a_tag_that_is_not_noted_loses_its_blob() {
    find_loss(Rule::ActsAreNoted, Scene::Tagging);
}

#[test]
#[should_panic(expected = "is lost")]
fn a_pin_dropped_before_the_tag_can_be_seen_loses_its_blob() {
    find_loss(Rule::PinnedUntilVisible, Scene::Tagging);
}

#[test]
#[should_panic(expected = "is lost")]
fn a_pin_taken_after_the_look_up_loses_the_blob() {
    find_loss(Rule::PinnedBeforeLookUp, Scene::Importing);
}

#[test]
#[should_panic(expected = "is lost")]
fn a_decision_without_the_state_lock_loses_a_blob() {
    find_loss(Rule::DecidedUnderStateLock, Scene::Importing);
}

#[test]
#[should_panic(expected = "is lost")]
fn a_reached_sequence_that_is_not_marked_loses_its_children() {
    find_loss(Rule::ReachedAreMarked, Scene::Sequences);
}

#[test]
#[should_panic(expected = "is lost")]
fn two_rounds_at_once_lose_children() {
    find_loss(Rule::OneRound, Scene::Sequences);
}

#[test]
#[should_panic(expected = "is lost")]
fn a_sequence_that_is_watched_after_it_was_read_loses_its_children() {
    find_loss(Rule::WatchedBeforeRead, Scene::Growth);
}

#[test]
#[should_panic(expected = "is lost")]
fn growth_that_is_noted_after_it_can_be_seen_loses_children() {
    find_loss(Rule::GrowthNotedFirst, Scene::Growth);
}

#[test]
#[should_panic(expected = "is lost")]
fn a_failed_removal_that_does_not_spoil_the_round_loses_a_blob() {
    find_loss(Rule::FailureSpoils, Scene::Removals);
}
