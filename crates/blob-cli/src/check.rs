//! `blob check`: whether the files of the store and its records agree.

mod quarantine;
mod rebuild;

use blob_fs::FsStore;
use blob_traits::{
    CheckMode, ConsistencyCheck, ConsistencyCheckProgress, Error, Hash, Progress, ReportLevel, prelude::*,
};
use futures_lite::{StreamExt, future::zip};
use serde_json::json;

use crate::{
    args::CheckArgs,
    exit::{Exit, Failure},
    open::Access,
    output::{counted, set, shown},
    progress::Total,
    run::Context,
    stat::n_lost,
};

/// So many updates wait to be shown before the check waits for them.
const MAX_WAITING: usize = 1024;

/// Checks, and mends what it was told to mend.
pub(crate) async fn run(context: &Context, args: CheckArgs) -> Result<Exit, Failure> {
    if args.purge_quarantine {
        return quarantine::purge(context).await;
    }
    let access = if args.rebuild_index { Access::Rebuild } else { Access::Existing };
    let store = context.open(access).await?;
    let lost = if args.rebuild_index { rebuild::report(context, &store).await? } else { Lost::Nothing };
    context.meter.begin("check", Total::default(), &context.output);
    let least = if args.verbose { ReportLevel::Trace } else { ReportLevel::Info };
    let mode = if args.repair { CheckMode::Repair } else { CheckMode::Report };
    let found = round(context, &store, mode, Show::From(least)).await?;
    let left = if args.repair && found.is_odd() {
        // What a repair reports it has mended, mostly.
        round(context, &store, CheckMode::Report, Show::Left).await?
    } else {
        found
    };
    let n_lost = list_lost(context, &store).await?;
    context.meter.end(&context.output);
    sum_up(context, args.repair, found, left, n_lost)?;
    let is_sound = left.n_errors == 0 && n_lost == 0 && lost == Lost::Nothing;
    Ok(if is_sound { Exit::Ok } else { Exit::Damage })
}

/// Whether the store was opened without parts of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Lost {
    Nothing,
    Something,
}

/// What is printed of a round.
#[derive(Clone, Copy, Debug)]
enum Show {
    /// Whatever is as bad as this, or worse.
    From(ReportLevel),
    /// What a repair has left.
    Left,
}

/// How much a round has found.
#[derive(Clone, Copy, Debug, Default)]
struct Found {
    n_warnings: u64,
    n_errors: u64,
}

impl Found {
    fn is_odd(self) -> bool {
        self.n_warnings + self.n_errors > 0
    }

    fn count(&mut self, level: ReportLevel) {
        match level {
            ReportLevel::Error => self.n_errors += 1,
            ReportLevel::Warn => self.n_warnings += 1,
            ReportLevel::Info | ReportLevel::Trace => {}
        }
    }
}

async fn round(context: &Context, store: &FsStore, mode: CheckMode, show: Show) -> Result<Found, Failure> {
    let (progress, mut events) = Progress::channel(MAX_WAITING);
    let show_all = async move {
        let mut found = Found::default();
        while let Some(event) = events.recv().await {
            let ConsistencyCheckProgress::Update { message, entry, level } = event else { continue };
            found.count(level);
            context.meter.advance(1, 0);
            print(context, show, level, &message, entry)?;
        }
        Ok(found)
    };
    let (checked, found) = zip(store.consistency_check(mode, progress), show_all).await;
    // Where nothing can be shown any more, the round has ended for that reason.
    let found: Result<Found, Failure> = found;
    let found = found?;
    match checked {
        // What was found until then has been shown.
        Err(e @ Error::DamagedStore { .. }) if found.n_errors > 0 => context.output.error(&e.into()),
        checked => checked?,
    }
    Ok(found)
}

fn print(
    context: &Context,
    show: Show,
    level: ReportLevel,
    message: &str,
    entry: Option<Hash>,
) -> Result<(), Failure> {
    let least = match show {
        Show::From(least) => least,
        Show::Left => ReportLevel::Warn,
    };
    if level < least {
        return Ok(());
    }
    let level = level.to_string();
    let (mut line, mut fields) =
        (format!("{level:5}  {}", shown(message)), json!({ "level": level, "message": message }));
    if let Show::Left = show {
        line = format!("left: {line}");
        set(&mut fields, "left", true);
    }
    if let Some(hash) = entry {
        line = format!("{line}  (blob {hash})");
        set(&mut fields, "hash", hash.to_string());
    }
    context.output.item(line, &fields)
}

/// Lists the blobs that a repair, this one or an earlier, has made partial; returns how many.
async fn list_lost(context: &Context, store: &FsStore) -> Result<u64, Failure> {
    let mut n_blobs = 0;
    let mut partial = store.partial_blobs().await?;
    while let Some(hash) = partial.next().await {
        let hash = hash?;
        let Some(entry) = store.get(&hash).await? else { continue };
        let Some(n_bytes) = n_lost(store, &entry).await? else { continue };
        n_blobs += 1;
        let message = format!("{n_bytes} bytes missing since a repair");
        print(context, Show::From(ReportLevel::Error), ReportLevel::Error, &message, Some(hash))?;
    }
    Ok(n_blobs)
}

fn sum_up(context: &Context, repairs: bool, found: Found, left: Found, n_lost: u64) -> Result<(), Failure> {
    context.output.summarize(json!({
        "found_errors": found.n_errors,
        "found_warnings": found.n_warnings,
        "left_errors": left.n_errors,
        "left_warnings": left.n_warnings,
        "demoted": n_lost,
    }));
    context.output.remark(line(repairs, found, left, n_lost))
}

fn line(repairs: bool, found: Found, left: Found, n_lost: u64) -> String {
    let counts = |found: Found| {
        format!("{}, {}", counted(found.n_errors, "error"), counted(found.n_warnings, "warning"))
    };
    let verdict = match (found.is_odd(), repairs, left.is_odd()) {
        (false, _, _) => "files and records agree".to_owned(),
        (true, false, _) => format!("{}; --repair mends what can be mended", counts(found)),
        (true, true, false) => format!("{}; all mended", counts(found)),
        (true, true, true) => format!("{}; left of them: {}", counts(found), counts(left)),
    };
    match n_lost {
        0 => verdict,
        n => format!(
            "{verdict}; bytes of {} are missing: `blob validate --repair --from` gets them back from a copy",
            counted(n, "blob")
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_remains_is_said() {
        let (none, some) = (Found::default(), Found { n_warnings: 1, n_errors: 2 });
        assert_eq!(line(false, none, none, 0), "files and records agree");
        assert!(line(false, some, some, 0).ends_with("--repair mends what can be mended"));
        assert_eq!(line(true, some, none, 0), "2 errors, 1 warning; all mended");
        assert!(line(true, some, some, 3).contains("left of them: 2 errors, 1 warning; bytes of 3 blobs"));
    }
}
