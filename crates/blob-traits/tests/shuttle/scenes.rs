//! What users do while a collector runs.

use std::sync::Arc;

use shuttle::thread;

use crate::{
    Hash, HashAndFormat,
    collector::collect,
    store::{Rule, Toy},
};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Scene {
    /// A blob that nothing keeps is held, tagged, and let go.
    Tagging,
    /// Blobs are imported, one of which is there already.
    Importing,
    /// A sequence that nothing keeps is held, tagged and let go, while another collector tries its luck.
    Sequences,
    /// The rest of a partial sequence arrives.
    Growth,
    /// One removal of a tag fails; a blob goes from the hands of one tag into those of another.
    Removals,
    Everything,
}

type Act = fn(&Toy);

impl Scene {
    /// Plays it once, in one schedule.
    pub(crate) fn play(self, broken: Option<Rule>) {
        let toy = Arc::new(Toy::new(broken));
        toy.prepare(blob(1), &[], 0);
        toy.prepare(blob(2), &[], 0);
        toy.prepare(blob(3), &[], 0);
        toy.prepare(SEQUENCE, &[blob(1)], 1);
        toy.prepare(PARTIAL, &[blob(2), blob(3)], 1);
        toy.set_tag("partial", HashAndFormat::hash_seq(PARTIAL));
        toy.set_tag("unsteady", raw(1));
        if matches!(self, Self::Tagging | Self::Sequences) {
            toy.delete_tag("unsteady");
        }
        let start = |act: Act| {
            let toy = toy.clone();
            thread::spawn(move || act(&toy))
        };
        let tasks: Vec<_> = self.acts().iter().copied().map(start).collect();
        collect(&toy);
        for task in tasks {
            task.join().expect("a panic ends the schedule");
        }
        // In a round that nobody disturbs all garbage goes.
        collect(&toy);
        let state = toy.state();
        let reachable = state.reachable();
        let garbage: Vec<_> = state.blobs.keys().filter(|hash| !reachable.contains(hash)).collect();
        assert!(garbage.is_empty(), "{garbage:?} stays");
    }

    fn acts(self) -> &'static [Act] {
        match self {
            Self::Tagging => &[tag, tag_unheld],
            Self::Importing => &[import_there, import_new, remove],
            Self::Sequences => &[tag_sequence, collect],
            Self::Growth => &[write, look],
            Self::Removals => &[fail_to_remove, hand_over],
            Self::Everything => &[tag, import_there, tag_sequence, write, look, fail_to_remove, replace],
        }
    }
}

const SEQUENCE: Hash = Hash::from_bytes([11; 32]);
const PARTIAL: Hash = Hash::from_bytes([12; 32]);

fn blob(number: u8) -> Hash {
    Hash::from_bytes([number; 32])
}

fn raw(number: u8) -> HashAndFormat {
    HashAndFormat::raw(blob(number))
}

fn tag(toy: &Toy) {
    if let Some(_held) = toy.hold(raw(1)) {
        toy.set_tag("one", raw(1));
    }
}

fn tag_unheld(toy: &Toy) {
    toy.set_tag("unheld", raw(3));
}

fn import_new(toy: &Toy) {
    let held = toy.import(raw(4), &[]);
    toy.set_tag("four", raw(4));
    drop(held);
    drop(toy.import(raw(5), &[]));
}

fn import_there(toy: &Toy) {
    let held = toy.import(raw(3), &[]);
    toy.set_tag("three", raw(3));
    drop(held);
}

fn remove(toy: &Toy) {
    toy.delete_tag("unsteady");
}

fn tag_sequence(toy: &Toy) {
    let content = HashAndFormat::hash_seq(SEQUENCE);
    if let Some(_held) = toy.hold(content) {
        toy.set_tag("sequence", content);
    }
}

fn write(toy: &Toy) {
    toy.write_rest(PARTIAL);
}

fn look(toy: &Toy) {
    toy.learn(PARTIAL);
}

fn fail_to_remove(toy: &Toy) {
    toy.fail_to_delete_tag("unsteady");
}

fn hand_over(toy: &Toy) {
    if let Some(_held) = toy.hold(raw(2)) {
        toy.set_tag("two", raw(2));
        toy.delete_tag("two");
        toy.set_tag("again", raw(2));
    }
}

fn replace(toy: &Toy) {
    toy.delete(SEQUENCE);
    let content = HashAndFormat::hash_seq(SEQUENCE);
    drop(toy.import(content, &[blob(1)]));
}
