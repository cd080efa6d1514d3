//! From the command line to the exit code.

use std::{
    env,
    ffi::OsString,
    path::PathBuf,
    process::ExitCode,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use blob_fs::FsStore;
use blob_traits::{Error, Lifecycle};
use clap::{CommandFactory, Parser, error::ErrorKind};
use tokio::{
    runtime::Builder,
    select,
    signal::unix::{Signal, SignalKind, signal},
    time::timeout,
};

use crate::{
    add,
    args::{BaoVerb, Cli, TagVerb, Verb},
    bao, check, completions, du,
    exit::{Exit, Failure},
    export, gc, get, has, ls,
    open::{Access, directory, open, open_source},
    output::{Form, Output},
    progress::Meter,
    rm, stat, tag, validate, why,
};

/// How long an interrupted verb, and then the store, may take to end.
const GRACE: Duration = Duration::from_secs(5);

/// What every verb works with.
#[derive(Debug)]
pub(crate) struct Context {
    pub(crate) output: Arc<Output>,
    pub(crate) meter: Meter,
    dir: Option<PathBuf>,
    /// Kept for the shutdown at the end.
    stores: Mutex<Vec<FsStore>>,
}

impl Context {
    /// Opens the store, once.
    pub(crate) async fn open(&self, access: Access) -> Result<FsStore, Failure> {
        Ok(self.keep(open(self.directory()?, access).await?))
    }

    /// Opens another store to read from it.
    pub(crate) async fn open_source(&self, dir: PathBuf) -> Result<FsStore, Failure> {
        Ok(self.keep(open_source(dir, &self.directory()?).await?))
    }

    fn keep(&self, store: FsStore) -> FsStore {
        self.stores.lock().unwrap_or_else(PoisonError::into_inner).push(store.clone());
        store
    }

    /// Shuts all stores down; returns the first error.
    async fn shut_down(&self) -> Result<(), Error> {
        let stores = std::mem::take(&mut *self.stores.lock().unwrap_or_else(PoisonError::into_inner));
        let mut result = Ok(());
        for store in stores {
            result = result.and(store.shutdown().await);
        }
        result
    }

    /// The directory of the store.
    pub(crate) fn directory(&self) -> Result<PathBuf, Failure> {
        directory(self.dir.clone())
    }
}

/// Runs the command.
pub(crate) fn run() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => return wrong_usage(&error, &env::args_os().collect::<Vec<_>>()).into(),
    };
    if let Verb::Completions { shell } = cli.verb {
        return completions::run(shell, &mut Cli::command()).into();
    }
    let form = if cli.global.json { json_form(&cli.verb) } else { Form::Human };
    let output = Arc::new(Output::new(form));
    let context = Context {
        output,
        meter: Meter::new(cli.global.progress),
        dir: cli.global.store,
        stores: Mutex::default(),
    };
    let runtime = match Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return end(&context.output, Err(Failure::Bug(format!("no threads: {error}")))).into(),
    };
    let exit = runtime.block_on(supervise(Arc::new(context), cli.verb));
    // A read from a terminal that nobody answers must not keep the process.
    runtime.shutdown_background();
    exit.into()
}

/// Runs a verb until it ends or a signal comes, and shuts the store down.
async fn supervise(context: Arc<Context>, verb: Verb) -> Exit {
    let mut signals = match Signals::new() {
        Ok(signals) => signals,
        Err(error) => return end(&context.output, Err(Failure::Bug(format!("no signals: {error}")))),
    };
    let mut work = tokio::spawn(dispatch(context.clone(), verb));
    let mut result = select! {
        ended = &mut work => ended.unwrap_or_else(|e| Err(Failure::Bug(e.to_string()))),
        () = signals.next() => {
            work.abort();
            let _ = timeout(GRACE, &mut work).await;
            Err(Failure::Interrupted)
        }
    };
    context.meter.end(&context.output);
    let shut_down = async {
        match &result {
            Err(Failure::Interrupted) => timeout(GRACE, context.shut_down()).await.unwrap_or(Ok(())),
            _ => context.shut_down().await,
        }
    };
    select! {
        done = shut_down => if let (Err(error), Ok(_)) = (done, &result) { result = Err(error.into()) },
        () = signals.next() => {}
    }
    end(&context.output, result)
}

async fn dispatch(context: Arc<Context>, verb: Verb) -> Result<Exit, Failure> {
    match verb {
        Verb::Add(args) => add::run(context, args).await,
        Verb::Get(args) => get::run(&context, args).await,
        Verb::Cat(args) => get::run_cat(&context, args).await,
        Verb::Export(args) => export::run(&context, args).await,
        Verb::Ls(args) => ls::run(&context, args).await,
        Verb::Stat(args) => stat::run(&context, args).await,
        Verb::Has(args) => has::run(&context, args).await,
        Verb::Tag(verb) => tag::run(&context, verb).await,
        Verb::Rm(args) => rm::run(&context, args).await,
        Verb::Gc(args) => gc::run(&context, args).await,
        Verb::Why(args) => why::run(&context, args).await,
        Verb::Du(args) => du::run(&context, args).await,
        Verb::Validate(args) => validate::run(context, args).await,
        Verb::Check(args) => check::run(&context, args).await,
        Verb::Bao(verb) => bao::run(&context, verb).await,
        Verb::Completions { shell } => Ok(completions::run(shell, &mut Cli::command())),
    }
}

/// Prints the failure, if any, and the summary.
fn end(output: &Output, result: Result<Exit, Failure>) -> Exit {
    let exit = match result {
        Ok(exit) => exit,
        Err(failure) => {
            output.error(&failure);
            failure.exit()
        }
    };
    match output.finish(exit) {
        Ok(()) | Err(Failure::Closed) => exit,
        Err(failure) => {
            output.error(&failure);
            failure.exit()
        }
    }
}

fn json_form(verb: &Verb) -> Form {
    match verb {
        Verb::Add(_) => Form::Lines("add"),
        Verb::Get(_) => Form::Lines("get"),
        Verb::Cat(_) => Form::Lines("cat"),
        Verb::Export(_) => Form::Lines("export"),
        Verb::Rm(_) => Form::Lines("rm"),
        Verb::Gc(_) => Form::Lines("gc"),
        Verb::Validate(_) => Form::Lines("validate"),
        Verb::Check(_) => Form::Lines("check"),
        Verb::Tag(TagVerb::Set { .. }) => Form::Lines("tag set"),
        Verb::Tag(TagVerb::Rm { .. }) => Form::Lines("tag rm"),
        Verb::Tag(TagVerb::Mv { .. }) => Form::Lines("tag mv"),
        Verb::Bao(BaoVerb::Encode { .. }) => Form::Lines("bao encode"),
        Verb::Bao(BaoVerb::Decode(_)) => Form::Lines("bao decode"),
        Verb::Bao(BaoVerb::Outboard { .. }) => Form::Lines("bao outboard"),
        Verb::Tag(TagVerb::Ls { .. }) => Form::Document("tags"),
        Verb::Ls(args) if args.name.is_some() => Form::Document("collection"),
        Verb::Ls(_) => Form::Document("ls"),
        Verb::Stat(_) => Form::Document("stat"),
        Verb::Has(_) => Form::Document("has"),
        Verb::Why(_) => Form::Document("why"),
        Verb::Du(args) if args.names.is_empty() => Form::Document("du"),
        Verb::Du(_) => Form::Document("sizes"),
        Verb::Completions { .. } => Form::Human,
    }
}

/// Prints what clap has to say: help, or what is wrong, as JSON too where that was asked for.
fn wrong_usage(error: &clap::Error, args: &[OsString]) -> Exit {
    if matches!(error.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion) {
        let _ = error.print();
        return Exit::Ok;
    }
    if !args.iter().take_while(|arg| *arg != "--").any(|arg| arg == "--json") {
        let _ = error.print();
        return Exit::Usage;
    }
    let text = error.render().to_string();
    let message = text.split("\n\nUsage:").next().unwrap_or(&text);
    let message = message.trim().trim_start_matches("error: ").to_owned();
    end(&Output::new(intended_form(args)), Err(Failure::Usage { message, hint: "see --help" }))
}

/// Guesses from words that make no command line whether lines or a document are expected.
fn intended_form(args: &[OsString]) -> Form {
    let mut words = args.iter().skip(1).filter_map(|arg| arg.to_str()).filter(|arg| !arg.starts_with('-'));
    let verbs = [
        "add", "get", "cat", "export", "rm", "gc", "validate", "check", "bao", "tag", "ls", "stat", "has",
        "why", "du",
    ];
    match words.by_ref().find_map(|word| verbs.into_iter().find(|verb| *verb == word)) {
        Some("ls" | "stat" | "has" | "why" | "du") => Form::Document("error"),
        Some("tag") if words.next() == Some("ls") => Form::Document("error"),
        verb => Form::Lines(verb.unwrap_or_default()),
    }
}

/// The signals that end the command in good order.
struct Signals {
    interrupt: Signal,
    terminate: Signal,
}

impl Signals {
    fn new() -> std::io::Result<Self> {
        Ok(Self { interrupt: signal(SignalKind::interrupt())?, terminate: signal(SignalKind::terminate())? })
    }

    async fn next(&mut self) {
        select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
    }
}
