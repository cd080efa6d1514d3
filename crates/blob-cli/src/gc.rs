//! `blob gc`: deletes what no tag keeps.

use blob_fs::{CompactOptions, FsStore};
use blob_gc::{Event, GcMarkEvent, GcMode, GcOptions, GcReport, GcSweepEvent, NoRoots, collect};
use blob_traits::{EntryStatus, Error, Hash, Progress};
use futures_lite::future::zip;
use serde_json::json;

use crate::{
    args::GcArgs,
    exit::{Exit, Failure},
    open::Access,
    output::{shown_bytes, shown_path},
    progress::Total,
    run::Context,
};

/// So many events wait to be shown before collection waits for them.
const MAX_WAITING: usize = 1024;
/// How many sequences that do not say all that they keep are named.
const MAX_NAMED: u64 = 20;

/// Deletes, or lists what would be deleted.
pub(crate) async fn run(context: &Context, args: GcArgs) -> Result<Exit, Failure> {
    let store = context.open(Access::Existing).await?;
    let shown = Shown { context, is_dry_run: args.dry_run, phase: None };
    let mut report = round(context, &store, options(&args), shown).await?;
    if !args.dry_run && !args.no_compact {
        give_back(context, &store, &mut report).await?;
    }
    context.meter.end(&context.output);
    sum_up(context, args.dry_run, &report)?;
    Ok(Exit::Ok)
}

/// Lets the log and the index shrink to what is needed of them, and counts what comes back with that. The store would do it
/// by itself, while it is open; a command does not stay open for that.
async fn give_back(context: &Context, store: &FsStore, report: &mut GcReport) -> Result<(), Failure> {
    context.meter.begin("compact", Total::default(), &context.output);
    let compacted = match store.compact(CompactOptions::default()).await {
        Ok(compacted) => compacted,
        Err(Error::NoSpace { .. }) => {
            context.output.warning(
                "there is too little room to rewrite the log: its space comes back when there is more",
            );
            return Ok(());
        }
        Err(error) => return Err(error.into()),
    };
    for path in &compacted.damaged_segments {
        let path = shown_path(path);
        context.output.warning(&format!("{path} is damaged: its space does not come back"));
    }
    let (swept, freed) = (&mut report.swept, compacted.freed_bytes());
    swept.freed_bytes = swept.freed_bytes.saturating_add(freed);
    // The rest is too little to be worth it, unless it waits for somebody.
    let waits = compacted.pending_segments > 0 || !compacted.damaged_segments.is_empty();
    swept.pending_bytes = if waits { swept.pending_bytes.saturating_sub(freed) } else { 0 };
    Ok(())
}

fn options(args: &GcArgs) -> GcOptions {
    let mut options = GcOptions::default();
    options.ensure_free = args.ensure_free;
    if args.dry_run {
        options.mode = GcMode::DryRun;
    }
    if args.allow_empty {
        options.no_roots = NoRoots::DeleteAll;
    }
    if let Some(n_bytes) = args.max_memory {
        options.max_memory = usize::try_from(n_bytes).unwrap_or(usize::MAX);
    }
    options
}

/// Who is told of a round.
pub(crate) trait Watch: Send {
    fn see(&mut self, event: Event) -> impl Future<Output = Result<(), Failure>> + Send;
}

/// Runs a round of collection and hands its events to `watch`; warns of sequences that do not say all that they keep.
///
/// Whoever drops the future ends the round between two batches.
pub(crate) async fn round(
    context: &Context,
    store: &FsStore,
    options: GcOptions,
    mut watch: impl Watch,
) -> Result<GcReport, Failure> {
    let (progress, mut events) = Progress::channel(MAX_WAITING);
    let show_all = async move {
        let mut n_unsure = 0;
        while let Some(event) = events.recv().await {
            if let Some(hash) = unsure_sequence(&event) {
                n_unsure += 1;
                if n_unsure <= MAX_NAMED {
                    context.output.warning(&format!(
                        "hash sequence {hash} is not complete: what else it lists counts as not kept"
                    ));
                }
            }
            watch.see(event).await?;
        }
        if n_unsure > MAX_NAMED {
            let n_more = n_unsure - MAX_NAMED;
            context.output.warning(&format!("{n_more} more hash sequences are not complete"));
        }
        Ok(())
    };
    let (report, shown) = zip(collect(store, options, progress), show_all).await;
    // Where nothing can be shown any more, the round has ended for that reason.
    shown.and(report.map_err(Failure::from))
}

fn unsure_sequence(event: &Event) -> Option<Hash> {
    match event {
        Event::Mark(GcMarkEvent::PartialSequence { hash, .. }) => Some(*hash),
        Event::Mark(GcMarkEvent::Missing { root }) if root.format.is_hash_seq() => Some(root.hash),
        _ => None,
    }
}

/// What is shown of the round that runs.
struct Shown<'a> {
    context: &'a Context,
    is_dry_run: bool,
    phase: Option<Phase>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Mark,
    Sweep,
}

impl Watch for Shown<'_> {
    async fn see(&mut self, event: Event) -> Result<(), Failure> {
        match event {
            Event::GcStarted => self.enter(Phase::Mark),
            Event::Mark(GcMarkEvent::Progress { n_sequences, n_children }) => {
                self.enter(Phase::Mark);
                self.context.meter.set(n_sequences, n_children);
            }
            Event::Mark(GcMarkEvent::Marked { .. }) => self.enter(Phase::Sweep),
            Event::Sweep(GcSweepEvent::Progress { n_seen, n_deleted }) => {
                self.enter(Phase::Sweep);
                self.context.meter.set(n_seen, n_deleted);
                // All that is known where the round is interrupted.
                self.context.output.summarize(json!({ "seen": n_seen, "deleted": n_deleted }));
            }
            Event::Sweep(GcSweepEvent::Garbage { hash, status, n_bytes }) => {
                let status = if status == EntryStatus::Complete { "complete" } else { "partial" };
                let fields = json!({ "hash": hash.to_string(), "status": status, "size": n_bytes });
                let line = format_args!("would delete {hash}  {status:8}  {n_bytes:>12}").to_string();
                self.context.output.item(line, &fields)?;
            }
            _ => {}
        }
        Ok(())
    }
}

impl Shown<'_> {
    /// With little memory the phases alternate.
    fn enter(&mut self, phase: Phase) {
        if self.phase.replace(phase) == Some(phase) {
            return;
        }
        let (name, counted) = match phase {
            Phase::Mark => ("mark", ["sequences", "children"]),
            Phase::Sweep => ("sweep", ["seen", if self.is_dry_run { "garbage" } else { "deleted" }]),
        };
        self.context.meter.begin_counting(name, counted, &self.context.output);
    }
}

fn sum_up(context: &Context, is_dry_run: bool, report: &GcReport) -> Result<(), Failure> {
    let swept = report.swept;
    context.output.count_bytes(swept.logical_bytes);
    context.output.summarize(json!({
        "dry_run": is_dry_run,
        "roots": report.n_roots,
        "sequences": report.n_sequences,
        "missing": report.n_missing,
        "live": report.n_live,
        "seen": report.n_seen,
        "deleted": swept.n_complete + swept.n_partial,
        "complete": swept.n_complete,
        "partial": swept.n_partial,
        "freed_bytes": swept.freed_bytes,
        "pending_bytes": swept.pending_bytes,
        "put_off": report.n_put_off,
        "passes": report.n_passes,
    }));
    let verb = if is_dry_run { "would delete" } else { "deleted" };
    let (freed, pending) = (shown_bytes(swept.freed_bytes), shown_bytes(swept.pending_bytes));
    let where_to = if is_dry_run { String::new() } else { format!("; {freed} freed now, {pending} later") };
    let put_off = match report.n_put_off {
        0 => String::new(),
        n => format!("; {n} left to the next round"),
    };
    context.output.remark(format_args!(
        "{verb} {} complete and {} partial blobs, {}{where_to}{put_off}",
        swept.n_complete,
        swept.n_partial,
        shown_bytes(swept.logical_bytes)
    ))
}
