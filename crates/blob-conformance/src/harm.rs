//! Harm to what is stored of a blob: done to the files of a store that has some while it is closed, and to what is read from
//! any other.

use std::{
    fs::{self, File},
    io::{self, BufRead},
    ops::Range,
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
};

use bao_tree::ChunkRanges;
use blob_traits::Store;
use bytes::Bytes;

use crate::{Capability, Failure, Home, Outcome, Sample, Trial, copied::paths_below, harmed::Harmed};

/// What is harmed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Part {
    /// The bytes of a blob.
    Data,
    /// Its hash tree, in pre-order.
    Tree,
}

/// What happens to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Harm {
    /// One bit of the byte at this offset is flipped.
    Flipped(u64),
    /// These bytes become zeros.
    Zeroed(Range<u64>),
    /// It ends after so many bytes.
    Cut(u64),
    /// So many bytes are added to it.
    Extended(usize),
    /// It has become these bytes.
    Replaced(Bytes),
    /// It is not there any more.
    Lost,
}

impl Harm {
    /// What becomes of some bytes; `None`: they are gone.
    pub(crate) fn applied(&self, bytes: &[u8]) -> Option<Vec<u8>> {
        let index = |at: u64| usize::try_from(at).unwrap_or(usize::MAX).min(bytes.len());
        let mut harmed = bytes.to_vec();
        match self {
            Self::Flipped(at) => harmed.iter_mut().skip(index(*at)).take(1).for_each(|byte| *byte ^= 0x10),
            Self::Zeroed(range) => {
                let (start, end) = (index(range.start), index(range.end));
                harmed.iter_mut().take(end).skip(start).for_each(|byte| *byte = 0);
            }
            Self::Cut(len) => harmed.truncate(index(*len)),
            Self::Extended(n) => harmed.extend(std::iter::repeat_n(0xa5, *n)),
            Self::Replaced(with) => harmed = with.to_vec(),
            Self::Lost => return None,
        }
        Some(harmed)
    }
}

/// What is harmed of which blob, and how.
#[derive(Clone, Debug)]
pub(crate) struct Harmful {
    pub(crate) sample: Sample,
    pub(crate) part: Part,
    pub(crate) harm: Harm,
}

impl Harmful {
    pub(crate) fn data(sample: &Sample, harm: Harm) -> Self {
        Self { sample: sample.clone(), part: Part::Data, harm }
    }

    pub(crate) fn tree(sample: &Sample, harm: Harm) -> Self {
        Self { sample: sample.clone(), part: Part::Tree, harm }
    }

    /// The chunks whose bytes are not what they were, in whole chunk groups.
    pub(crate) fn hit(&self) -> ChunkRanges {
        let after = self.harm.applied(&self.sample.data).unwrap_or_default();
        let mut hit = ChunkRanges::empty();
        for group in (0..self.sample.n_groups()).filter(|_| self.part == Part::Data) {
            let range = self.sample.bytes_of_group(group);
            if after.get(range.clone()) != self.sample.data.get(range) {
                hit |= self.sample.group_range(group);
            }
        }
        hit
    }
}

/// Does harm to the store of a trial. One with files is closed meanwhile, and opened again.
pub(crate) async fn harmed<S: Store>(
    trial: &Trial<S>,
    store: S,
    harms: &[Harmful],
) -> Result<Harmed<S>, Failure> {
    harmed_in(trial, trial.home(), store, harms).await
}

/// Does harm to the store in a home.
pub(crate) async fn harmed_in<S: Store>(
    trial: &Trial<S>,
    home: &Home,
    store: S,
    harms: &[Harmful],
) -> Result<Harmed<S>, Failure> {
    if !trial.has(Capability::Files) || !trial.has(Capability::Persistence) {
        let store = Harmed::new(store);
        for harm in harms {
            store.harm(harm);
        }
        return Ok(store);
    }
    let mut known = Vec::new();
    for Harmful { sample, part, .. } in harms {
        let present = store.present_ranges(&sample.hash).await?.ok_or("it has no such blob")?;
        known.push(runs(sample, *part, &present));
    }
    store.shutdown().await?;
    trial.abandon(store);
    harm_files(home.dir(), harms, &known)?;
    Ok(Harmed::new(trial.open(home).await?))
}

/// Bytes that are stored one after the other, and where they begin in the blob or its tree.
type Run = (u64, Bytes);

/// What is stored for certain.
fn runs(sample: &Sample, part: Part, present: &ChunkRanges) -> Vec<Run> {
    match part {
        Part::Tree => vec![(0, sample.outboard.data.clone().into())],
        Part::Data => {
            let is_there = |group: &u64| sample.group_range(*group).is_subset(present);
            let run = |group| {
                let range = sample.bytes_of_group(group);
                (range.start as u64, sample.data.slice(range))
            };
            (0..sample.n_groups()).filter(is_there).map(run).collect()
        }
    }
}

/// All are found before any is harmed.
fn harm_files(dir: &Path, harms: &[Harmful], known: &[Vec<Run>]) -> Outcome {
    let files = read_all(dir)?;
    let mut found = Vec::new();
    for (harm, runs) in harms.iter().zip(known) {
        let places = find(&files, runs);
        if places.is_empty() {
            return Err(format!("no file has the {:?} of {}", harm.part, harm.sample.hash).into());
        }
        found.push(places);
    }
    for (harm, places) in harms.iter().zip(found) {
        places.iter().try_for_each(|place| place.harm(harm))?;
    }
    Ok(())
}

fn read_all(dir: &Path) -> io::Result<Vec<(PathBuf, Vec<u8>)>> {
    let paths = paths_below(dir)?.into_iter().map(|path| dir.join(path));
    paths.map(|path| fs::read(&path).map(|bytes| (path, bytes))).collect()
}

/// Where a blob's bytes, or those of its tree, begin.
#[derive(Debug)]
struct Place {
    path: PathBuf,
    offset: u64,
}

/// Finds the files that have some bytes, whatever else they have.
fn find(files: &[(PathBuf, Vec<u8>)], runs: &[Run]) -> Vec<Place> {
    let Some((first, needle)) = runs.first().filter(|(_, bytes)| !bytes.is_empty()) else {
        return Vec::new();
    };
    let mut places = Vec::new();
    for (path, bytes) in files {
        let offsets = starts_of(bytes, needle).filter_map(|at| (at as u64).checked_sub(*first));
        let has_all = |offset: &u64| {
            runs.iter().all(|(at, run)| {
                let start = usize::try_from(offset + at).unwrap_or(usize::MAX);
                bytes.get(start..).is_some_and(|rest| rest.starts_with(run))
            })
        };
        places.extend(offsets.filter(has_all).map(|offset| Place { path: path.clone(), offset }));
    }
    places
}

/// Where a needle begins. Quick also without optimisation: the search for its first byte is the standard library's.
fn starts_of<'a>(bytes: &'a [u8], needle: &'a [u8]) -> impl Iterator<Item = usize> + 'a {
    let (first, mut at) = (needle.first().copied().unwrap_or_default(), 0);
    std::iter::from_fn(move || {
        loop {
            let mut rest = bytes.get(at..).filter(|rest| rest.len() >= needle.len())?;
            at += rest.skip_until(first).ok().filter(|skipped| *skipped > 0)?;
            if bytes.get(at - 1..).is_some_and(|rest| rest.starts_with(needle)) {
                return Some(at - 1);
            }
        }
    })
}

impl Place {
    fn harm(&self, Harmful { sample, part, harm }: &Harmful) -> Outcome {
        let len = match part {
            Part::Data => sample.data.len(),
            Part::Tree => sample.outboard.data.len(),
        };
        let file = File::options().read(true).write(true).open(&self.path)?;
        let file_len = file.metadata()?.len();
        let there = usize::try_from(file_len.saturating_sub(self.offset))?.min(len);
        let mut bytes = vec![0; there];
        file.read_exact_at(&mut bytes, self.offset)?;
        let after = harm.applied(&bytes);
        if after.as_ref().is_some_and(|after| after.len() == there) {
            file.write_all_at(&after.unwrap_or_default(), self.offset)?;
            return Ok(());
        }
        if self.offset > 0 || file_len > len as u64 {
            return Err(format!("{} has other bytes, too", self.path.display()).into());
        }
        match after {
            Some(after) => {
                file.set_len(after.len() as u64)?;
                file.write_all_at(&after, 0)?;
            }
            None => fs::remove_file(&self.path)?,
        }
        Ok(())
    }
}

/// The files below a directory that have these bytes.
pub(crate) fn files_with(dir: &Path, bytes: &Bytes) -> io::Result<Vec<PathBuf>> {
    let places = find(&read_all(dir)?, &[(0, bytes.clone())]);
    Ok(places.into_iter().map(|place| place.path).collect())
}

/// Changes what lies before a blob in the files that it shares with others, and the blob with it. Tells in how many places.
pub(crate) fn change_around(
    dir: &Path,
    sample: &Sample,
    n_before: u64,
    change: impl Fn(&mut [u8]),
) -> io::Result<usize> {
    let mut places = find(&read_all(dir)?, &[(0, sample.data.clone())]);
    places.retain(|place| place.offset >= n_before);
    for Place { path, offset } in &places {
        let file = File::options().read(true).write(true).open(path)?;
        let start = offset - n_before;
        let mut bytes = vec![0; usize::try_from(n_before).unwrap_or_default() + sample.data.len()];
        file.read_exact_at(&mut bytes, start)?;
        change(&mut bytes);
        file.write_all_at(&bytes, start)?;
    }
    Ok(places.len())
}
