//! How far an operation is.

use std::{
    collections::HashMap,
    env,
    io::{self, IsTerminal},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use blob_traits::{ExportProgress, ImportProgress, Progress};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle as BarStyle};
use serde_json::{Value, json};
use tokio::{task::AbortHandle, time};

use crate::{args::ProgressStyle, output::Output, output::shown_bytes};

const BYTES: &str = "{spinner} {msg} [{wide_bar}] {bytes}/{total_bytes} {bytes_per_sec} {eta}";
const ITEMS: &str = "{spinner} {msg} [{wide_bar}] {eta}";
const NO_TOTAL: &str = "{spinner} {msg}";

/// Counts what was done in the current phase, and shows it.
#[derive(Debug)]
pub(crate) struct Meter {
    style: ProgressStyle,
    counts: Arc<Counts>,
    shown: Mutex<Shown>,
}

#[derive(Debug, Default)]
struct Counts {
    items: AtomicU64,
    bytes: AtomicU64,
    items_total: AtomicU64,
    bytes_total: AtomicU64,
}

/// What goes on beside the operation and has to end with the phase.
#[derive(Debug, Default)]
struct Shown {
    bar: Option<ProgressBar>,
    ticker: Option<AbortHandle>,
}

/// How much of an operation there is, where that is known.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Total {
    pub(crate) n_items: u64,
    pub(crate) n_bytes: u64,
}

/// What is being done, and what is counted of it.
#[derive(Clone, Copy, Debug)]
struct Phase {
    name: &'static str,
    /// Two kinds of things; items and their bytes where there are none.
    counted: Option<[&'static str; 2]>,
}

impl Meter {
    pub(crate) fn new(style: ProgressStyle) -> Self {
        let style = match style {
            ProgressStyle::Auto if io::stderr().is_terminal() => ProgressStyle::Bar,
            ProgressStyle::Auto if env::var_os("CI").is_some_and(|ci| !ci.is_empty()) => ProgressStyle::Plain,
            other => other,
        };
        Self { style, counts: Arc::default(), shown: Mutex::default() }
    }

    /// Begins a phase in which items and their bytes are counted, and ends the one before.
    pub(crate) fn begin(&self, phase: &'static str, total: Total, output: &Arc<Output>) {
        self.begin_phase(Phase { name: phase, counted: None }, total, output);
    }

    /// Begins a phase in which two kinds of things are counted, and ends the one before.
    pub(crate) fn begin_counting(
        &self,
        phase: &'static str,
        counted: [&'static str; 2],
        output: &Arc<Output>,
    ) {
        self.begin_phase(Phase { name: phase, counted: Some(counted) }, Total::default(), output);
    }

    fn begin_phase(&self, phase: Phase, total: Total, output: &Arc<Output>) {
        self.end(output);
        self.counts.reset(total);
        let mut shown = self.shown.lock().unwrap_or_else(PoisonError::into_inner);
        if !output.is_human() {
            if self.style != ProgressStyle::None {
                shown.ticker = Some(tick(Duration::from_secs(1), self.counts.clone(), output.clone(), phase));
            }
            return;
        }
        match self.style {
            ProgressStyle::Bar => {
                let bar = bar(phase.name, total);
                output.set_bar(Some(bar.clone()));
                shown.ticker = Some(draw(bar.clone(), self.counts.clone(), phase));
                shown.bar = Some(bar);
            }
            ProgressStyle::Plain => {
                shown.ticker =
                    Some(tick(Duration::from_secs(10), self.counts.clone(), output.clone(), phase));
            }
            ProgressStyle::Auto | ProgressStyle::None => {}
        }
    }

    /// Ends the phase; nothing is shown of it any more.
    pub(crate) fn end(&self, output: &Output) {
        let shown = std::mem::take(&mut *self.shown.lock().unwrap_or_else(PoisonError::into_inner));
        if let Some(ticker) = shown.ticker {
            ticker.abort();
        }
        if let Some(bar) = shown.bar {
            bar.finish_and_clear();
            output.set_bar(None);
        }
    }

    /// Sums an operation up for a person who has watched it.
    pub(crate) fn sum_up(&self, text: &str, output: &Output) {
        if output.is_human() && matches!(self.style, ProgressStyle::Bar | ProgressStyle::Plain) {
            eprintln!("{text}");
        }
    }

    /// Counts what was done.
    pub(crate) fn advance(&self, n_items: u64, n_bytes: u64) {
        self.counts.add(n_items, n_bytes);
    }

    /// Says that there are more bytes than was thought.
    pub(crate) fn expect_at_least(&self, n_bytes: u64) {
        self.counts.bytes_total.fetch_max(n_bytes, Ordering::Relaxed);
    }

    /// Says how far a phase with two kinds of things is.
    pub(crate) fn set(&self, n_first: u64, n_second: u64) {
        self.counts.items.store(n_first, Ordering::Relaxed);
        self.counts.bytes.store(n_second, Ordering::Relaxed);
    }

    /// Reports one import here.
    pub(crate) fn import(&self) -> Progress<ImportProgress> {
        let counts = self.counts.clone();
        let (n_seen, size) = (AtomicU64::new(0), AtomicU64::new(0));
        // A file is copied and hashed, one after the other or together: what is further counts.
        let reached = move |counts: &Counts, offset: u64| {
            let before = n_seen.fetch_max(offset, Ordering::Relaxed);
            counts.add(0, offset.saturating_sub(before));
        };
        Progress::from_fn(move |event| {
            match event {
                ImportProgress::Found { .. } => {}
                ImportProgress::CopyProgress { offset, .. }
                | ImportProgress::OutboardProgress { offset, .. } => {
                    reached(&counts, offset);
                }
                ImportProgress::Size { size: n, .. } => size.store(n, Ordering::Relaxed),
                ImportProgress::OutboardDone { .. } => {
                    reached(&counts, size.load(Ordering::Relaxed));
                    counts.add(1, 0);
                }
            }
            Ok(())
        })
    }

    /// Reports exports here.
    pub(crate) fn export(&self) -> Progress<ExportProgress> {
        let (counts, offsets) = (self.counts.clone(), Mutex::new(HashMap::new()));
        Progress::from_fn(move |event| {
            let mut offsets = offsets.lock().unwrap_or_else(PoisonError::into_inner);
            match event {
                ExportProgress::Start { .. } => {}
                ExportProgress::Progress { id, offset } => {
                    let before = offsets.insert(id, offset).unwrap_or_default();
                    counts.add(0, offset.saturating_sub(before));
                }
                ExportProgress::Done { id } => {
                    offsets.remove(&id);
                    counts.add(1, 0);
                }
            }
            Ok(())
        })
    }
}

impl Counts {
    fn reset(&self, total: Total) {
        for (count, n) in [
            (&self.items, 0),
            (&self.bytes, 0),
            (&self.items_total, total.n_items),
            (&self.bytes_total, total.n_bytes),
        ] {
            count.store(n, Ordering::Relaxed);
        }
    }

    fn add(&self, n_items: u64, n_bytes: u64) {
        self.items.fetch_add(n_items, Ordering::Relaxed);
        self.bytes.fetch_add(n_bytes, Ordering::Relaxed);
    }
}

impl Phase {
    fn text(self, counts: &Counts) -> String {
        let load = |count: &AtomicU64| count.load(Ordering::Relaxed);
        let of = |n: u64, total: u64, text: &dyn Fn(u64) -> String| match total {
            0 => text(n),
            total => format!("{}/{}", text(n), text(total)),
        };
        let (name, items, bytes) = (self.name, load(&counts.items), load(&counts.bytes));
        if let Some([first, second]) = self.counted {
            return format!("{name}: {items} {first}, {bytes} {second}");
        }
        let items = of(items, load(&counts.items_total), &|n| n.to_string());
        let bytes = of(bytes, load(&counts.bytes_total), &shown_bytes);
        format!("{name}: {items} done, {bytes}")
    }

    fn fields(self, counts: &Counts) -> Value {
        let load = |count: &AtomicU64| count.load(Ordering::Relaxed);
        let (items, bytes) = (load(&counts.items), load(&counts.bytes));
        match self.counted {
            Some([first, second]) => json!({ "phase": self.name, first: items, second: bytes }),
            None => json!({
                "phase": self.name,
                "items": items,
                "items_total": load(&counts.items_total),
                "bytes": bytes,
                "bytes_total": load(&counts.bytes_total),
            }),
        }
    }
}

/// Reports in regular intervals: an event where those are printed, otherwise a line on standard error.
fn tick(period: Duration, counts: Arc<Counts>, output: Arc<Output>, phase: Phase) -> AbortHandle {
    let report = async move {
        let mut interval = time::interval(period);
        interval.tick().await;
        loop {
            interval.tick().await;
            if output.is_human() {
                eprintln!("{}", phase.text(&counts));
            } else {
                output.progress(&phase.fields(&counts));
            }
        }
    };
    tokio::spawn(report).abort_handle()
}

fn bar(phase: &'static str, total: Total) -> ProgressBar {
    let (template, len) = match total {
        Total { n_bytes: 0, n_items: 0 } => (NO_TOTAL, None),
        Total { n_bytes: 0, n_items } => (ITEMS, Some(n_items)),
        Total { n_bytes, .. } => (BYTES, Some(n_bytes)),
    };
    let style = BarStyle::with_template(template).unwrap_or_else(|_| BarStyle::default_bar());
    ProgressBar::with_draw_target(len, ProgressDrawTarget::stderr()).with_style(style).with_message(phase)
}

fn draw(bar: ProgressBar, counts: Arc<Counts>, phase: Phase) -> AbortHandle {
    let redraw = async move {
        let mut interval = time::interval(Duration::from_millis(100));
        loop {
            interval.tick().await;
            let (items, bytes) = (&counts.items, &counts.bytes);
            let bytes_total = counts.bytes_total.load(Ordering::Relaxed);
            let position = if bytes_total > 0 { bytes } else { items };
            if bytes_total > 0 {
                bar.set_length(bytes_total);
            }
            bar.set_message(phase.text(&counts));
            bar.set_position(position.load(Ordering::Relaxed));
            bar.tick();
        }
    };
    tokio::spawn(redraw).abort_handle()
}
