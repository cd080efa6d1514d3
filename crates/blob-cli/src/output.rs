//! What is printed, for people or as JSON.
//!
//! Results go to standard output; warnings, errors and progress to standard error. With `--json` a query prints one
//! document, and an operation a line for each event, the last of them its summary.

use std::{
    env,
    fmt::{self, Display},
    io::{self, BufWriter, IsTerminal, Stdout, Write},
    path::Path,
    sync::{Mutex, MutexGuard, PoisonError},
};

use blob_traits::Tag;
use indicatif::ProgressBar;
use serde_json::{Map, Value, json};

use crate::exit::{Exit, Failure};

/// The version of the JSON that is printed.
const VERSION: u64 = 1;

/// How results are printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Form {
    /// Lines for people.
    Human,
    /// One JSON document, of this type.
    Document(&'static str),
    /// JSON Lines, of this verb.
    Lines(&'static str),
}

/// Where everything is printed.
#[derive(Debug)]
pub(crate) struct Output {
    form: Form,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    out: BufWriter<Stdout>,
    bar: Option<ProgressBar>,
    n_items: u64,
    n_errors: u64,
    n_warnings: u64,
    n_bytes: u64,
    /// What the summary has besides.
    summary: Map<String, Value>,
    /// The array of a document has begun, with so many elements.
    listing: Option<u64>,
    finished: bool,
}

impl Output {
    pub(crate) fn new(form: Form) -> Self {
        let state = State {
            out: BufWriter::new(io::stdout()),
            bar: None,
            n_items: 0,
            n_errors: 0,
            n_warnings: 0,
            n_bytes: 0,
            summary: Map::new(),
            listing: None,
            finished: false,
        };
        Self { form, state: Mutex::new(state) }
    }

    /// Tells whether a person reads the results.
    pub(crate) fn is_human(&self) -> bool {
        self.form == Form::Human
    }

    /// Prints one result of an operation.
    pub(crate) fn item(&self, line: impl Display, fields: &Value) -> Result<(), Failure> {
        let mut state = self.state();
        state.n_items += 1;
        match self.form {
            Form::Human => state.line(&line),
            _ => state.line(&event("item", fields)),
        }
    }

    /// Counts bytes for the summary.
    pub(crate) fn count_bytes(&self, n: u64) {
        self.state().n_bytes += n;
    }

    /// Adds members to the summary, or replaces them.
    pub(crate) fn summarize(&self, fields: Value) {
        if let Value::Object(fields) = fields {
            self.state().summary.extend(fields);
        }
    }

    /// Prints what only a person needs; others find it in the summary.
    pub(crate) fn remark(&self, line: impl Display) -> Result<(), Failure> {
        if self.is_human() { self.state().line(&line) } else { Ok(()) }
    }

    /// Prints the answer to a query that is no list.
    pub(crate) fn document(&self, lines: impl Display, fields: &Value) -> Result<(), Failure> {
        let mut state = self.state();
        let Form::Document(kind) = self.form else { return state.line(&lines) };
        state.write(format_args!("{}\n", event(kind, fields)))?;
        state.finished = true;
        Ok(())
    }

    /// Prints one element of the answer to a query; `array` is the name of the list in the document.
    pub(crate) fn element(&self, array: &str, line: impl Display, element: &Value) -> Result<(), Failure> {
        if self.is_human() {
            return self.state().write(format_args!("{line}\n"));
        }
        self.begin_listing(array)?;
        let mut state = self.state();
        let n = state.listing.get_or_insert_default();
        *n += 1;
        let separator = if *n == 1 { "" } else { "," };
        state.write(format_args!("{separator}\n{element}"))
    }

    /// Ends the answer to a query, which may have had no elements.
    pub(crate) fn end_listing(&self, array: &str) -> Result<(), Failure> {
        if !self.is_human() {
            self.begin_listing(array)?;
            self.state().write(format_args!("\n]}}\n"))?;
            self.state().finished = true;
        }
        Ok(())
    }

    fn begin_listing(&self, array: &str) -> Result<(), Failure> {
        let (Form::Document(kind), mut state) = (self.form, self.state()) else { return Ok(()) };
        if state.listing.is_none() {
            state.listing = Some(0);
            state.write(format_args!("{{\"v\":{VERSION},\"type\":\"{kind}\",\"{array}\":["))?;
        }
        Ok(())
    }

    /// Reports progress where the form has a place for it.
    pub(crate) fn progress(&self, fields: &Value) {
        if matches!(self.form, Form::Lines(_)) {
            // Whoever stops reading is noticed by the next result.
            let _ = self.state().line(&event("progress", fields));
        }
    }

    /// Prints a warning.
    pub(crate) fn warning(&self, message: &str) {
        let mut state = self.state();
        state.n_warnings += 1;
        match self.form {
            Form::Lines(_) => {
                let _ = state.line(&event("warning", &json!({ "message": message })));
            }
            _ => state.complain("warning", "33", message),
        }
    }

    /// Prints a failure. The verb may go on with its other arguments.
    pub(crate) fn error(&self, failure: &Failure) {
        if matches!(failure, Failure::Closed) {
            return;
        }
        let mut state = self.state();
        state.n_errors += 1;
        match self.form {
            Form::Human => state.complain_of(failure),
            Form::Lines(_) => {
                let _ = state.line(&event("error", &error_fields(failure)));
            }
            Form::Document(_) => {
                let _ = state.error_document(failure);
            }
        }
    }

    /// Lets messages be printed above a progress bar, or ends that.
    pub(crate) fn set_bar(&self, bar: Option<ProgressBar>) {
        self.state().bar = bar;
    }

    /// Ends all output; prints the summary of an operation.
    pub(crate) fn finish(&self, exit: Exit) -> Result<(), Failure> {
        let mut state = self.state();
        if let (Form::Lines(verb), false) = (self.form, state.finished) {
            let mut fields = json!({
                "verb": verb,
                "status": exit.name(),
                "exit": exit as u8,
                "items": state.n_items,
                "bytes": state.n_bytes,
                "warnings": state.n_warnings,
                "errors": state.n_errors,
            });
            if let Value::Object(fields) = &mut fields {
                fields.extend(std::mem::take(&mut state.summary));
            }
            state.line(&event("summary", &fields))?;
        }
        state.finished = true;
        state.out.flush().map_err(Failure::output)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Prints a whole line at once.
    fn line(&mut self, line: &dyn Display) -> Result<(), Failure> {
        self.write(format_args!("{line}\n"))?;
        self.out.flush().map_err(Failure::output)
    }

    fn write(&mut self, text: fmt::Arguments<'_>) -> Result<(), Failure> {
        if self.finished {
            return Ok(());
        }
        self.out.write_fmt(text).map_err(Failure::output)
    }

    /// A query that fails still prints one document.
    fn error_document(&mut self, failure: &Failure) -> Result<(), Failure> {
        let fields = error_fields(failure);
        match self.listing {
            Some(_) => self.write(format_args!("\n],\"error\":{fields}}}\n"))?,
            None => self.write(format_args!("{}\n", event("error", &fields)))?,
        }
        self.finished = true;
        self.out.flush().map_err(Failure::output)
    }

    fn complain_of(&mut self, failure: &Failure) {
        self.complain("error", "31", &failure.info().message);
        if let Some(hint) = failure.hint() {
            self.complain("hint", "36", hint);
        }
    }

    fn complain(&mut self, word: &str, color: &str, message: &str) {
        let _ = self.out.flush();
        let message = shown(message);
        let line = if has_colors() {
            format!("\u{1b}[1;{color}m{word}:\u{1b}[0m {message}")
        } else {
            format!("{word}: {message}")
        };
        // There is nowhere to report a failure of this to.
        let print = || drop(writeln!(io::stderr(), "{line}"));
        match &self.bar {
            Some(bar) => bar.suspend(print),
            None => print(),
        }
    }
}

/// The version and the type first, for those who read it.
fn event(kind: &str, fields: &Value) -> String {
    let fields = fields.to_string();
    let rest = fields.strip_prefix('{').unwrap_or("}");
    let comma = if rest == "}" { "" } else { "," };
    format!("{{\"v\":{VERSION},\"type\":\"{kind}\"{comma}{rest}")
}

fn error_fields(failure: &Failure) -> Value {
    let info = failure.info();
    let mut fields = Map::new();
    fields.insert("code".to_owned(), info.code.into());
    fields.insert("exit".to_owned(), (failure.exit() as u8).into());
    fields.insert("message".to_owned(), info.message.into());
    let more = [
        ("hint", failure.hint().map(Value::from)),
        ("hash", info.hash.map(|hash| hash.to_string().into())),
        ("path", info.path.map(Value::from)),
    ];
    fields.extend(more.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?))));
    Value::Object(fields)
}

/// Puts a tag into a JSON object: as it is printed, and in hex where that is not the whole truth.
pub(crate) fn insert_tag(fields: &mut Value, tag: &Tag) {
    let printed = tag.to_string();
    if printed.as_bytes() != tag.as_ref() {
        let hex = tag.as_ref().iter().fold(String::new(), |hex, byte| hex + &format!("{byte:02x}"));
        set(fields, "tag_hex", hex);
    }
    set(fields, "tag", printed);
}

/// Puts a value into a JSON object.
pub(crate) fn set(fields: &mut Value, name: &str, value: impl Into<Value>) {
    if let Value::Object(fields) = fields {
        fields.insert(name.to_owned(), value.into());
    }
}

/// Escapes what would move the cursor or change colours.
pub(crate) fn shown(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    for c in text.chars() {
        if c.is_control() { shown.extend(c.escape_default()) } else { shown.push(c) }
    }
    shown
}

/// The same for a path; what is no UTF-8 in it is replaced.
pub(crate) fn shown_path(path: &Path) -> String {
    shown(&path.to_string_lossy())
}

/// `1 blob`, `2,500 blobs`.
pub(crate) fn counted(n: u64, what: &str) -> String {
    format!("{} {what}{}", indicatif::HumanCount(n), if n == 1 { "" } else { "s" })
}

/// `123 B`, `4.5 MiB`.
pub(crate) fn shown_bytes(n: u64) -> String {
    indicatif::HumanBytes(n).to_string()
}

fn has_colors() -> bool {
    let wanted = env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
    wanted && env::var_os("TERM").is_none_or(|term| term != "dumb") && io::stderr().is_terminal()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn terminal_sequences_are_escaped() {
        assert_eq!(shown("a\u{1b}[31m\nb\u{9b}ö"), "a\\u{1b}[31m\\nb\\u{9b}ö");
    }

    #[test]
    fn a_tag_that_is_no_text_is_given_in_hex_too() {
        let mut fields = json!({});
        insert_tag(&mut fields, &Tag::from(&b"\xffx"[..]));
        assert_eq!(fields, json!({ "tag": "\\xffx", "tag_hex": "ff78" }));
        let mut fields = json!({});
        insert_tag(&mut fields, &Tag::from("x"));
        assert_eq!(fields, json!({ "tag": "x" }));
    }

    #[test]
    fn an_event_begins_with_its_version_and_type() {
        assert_eq!(event("item", &json!({ "a": [1] })), r#"{"v":1,"type":"item","a":[1]}"#);
        assert_eq!(event("item", &json!({})), r#"{"v":1,"type":"item"}"#);
    }

    #[test]
    fn an_error_says_what_to_do() {
        let fields = error_fields(&Failure::NoStore { dir: "/x".into() });
        assert_eq!((fields["code"].as_str(), fields["exit"].as_u64()), (Some("no-store"), Some(10)));
        assert!(fields["hint"].is_string() && fields["path"] == "/x" && fields.get("hash").is_none());
    }
}
