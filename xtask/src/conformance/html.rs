//! One page that needs nothing else and shows everything.

use std::{collections::BTreeMap, fmt::Write};

use super::{
    matrix::{Counts, counts},
    records::{Cell, Records, Status},
};

const STYLE: &str = include_str!("html/style.css");

pub(super) fn page(records: &Records) -> String {
    let mut body = String::new();
    if !records.trials.is_empty() {
        body += &summary(records);
        body += &matrix(records);
        for group in records.groups() {
            body += &details(records, group);
        }
    }
    if !records.controls.is_empty() {
        body += &controls(records);
    }
    format!(
        "<!doctype html>\n<html lang=\"en\">\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <title>Conformance of the blob stores</title>\n<style>\n{STYLE}</style>\n\
         <main>\n<h1>Conformance of the blob stores</h1>\n{body}</main>\n</html>\n"
    )
}

fn summary(records: &Records) -> String {
    let rows = counts(records);
    let total = rows.last().map(|(_, row)| row.clone()).unwrap_or_default();
    let n_cases: usize = records.groups().into_iter().map(|group| records.cases(group).len()).sum();
    let n_failed: usize = total.values().map(|counts| counts.failed).sum();
    let verdict = if n_failed == 0 {
        "<strong class=\"passed\">nothing failed</strong>".to_owned()
    } else {
        format!("<strong class=\"failed\">{n_failed} failed</strong>")
    };
    format!(
        "<p>{n_cases} cases on {} configurations, {} trials: {verdict}. A case counts as passed when it did on a \
         current-thread and on a multi-thread runtime. Waived cases need what a backend lacks; pending ones need what \
         the project does not have yet.</p>\n",
        total.len(),
        records.trials.len(),
    )
}

fn matrix(records: &Records) -> String {
    let backends = records.backends();
    let mut text = "<div class=\"wide\"><table class=\"matrix\">\n<thead><tr><th>group</th>".to_owned();
    for backend in &backends {
        let _ = write!(text, "<th>{}</th>", escape(backend));
    }
    text += "</tr></thead>\n<tbody>\n";
    for (group, row) in counts(records) {
        let name = if group == "total" {
            "total".to_owned()
        } else {
            format!("<a href=\"#{0}\">{0}</a>", escape(&group))
        };
        let _ = write!(text, "<tr><th>{name}</th>");
        for backend in &backends {
            text += &count_cell(row.get(backend).copied().unwrap_or_default());
        }
        text += "</tr>\n";
    }
    text + "</tbody></table></div>\n"
}

fn count_cell(counts: Counts) -> String {
    let Counts { passed, failed, waived, pending, not_run } = counts;
    let class = match counts {
        Counts { failed: 1.., .. } => "failed",
        Counts { passed: 1.., .. } => "passed",
        Counts { pending: 1.., .. } => "pending",
        _ => "waived",
    };
    let notes: Vec<_> = [(failed, "failed"), (waived, "waived"), (pending, "pending"), (not_run, "not run")]
        .into_iter()
        .filter(|(n, _)| *n > 0)
        .map(|(n, word)| format!("<small>{n} {word}</small>"))
        .collect();
    format!("<td class=\"{class}\"><b>{passed}</b>{}</td>", notes.concat())
}

fn details(records: &Records, group: &str) -> String {
    let backends = records.backends();
    let cases = records.cases(group);
    let has_failed = cases.values().flat_map(BTreeMap::values).any(|cell| cell.status == Status::Failed);
    let open = if has_failed { " open" } else { "" };
    let mut text = format!(
        "<details id=\"{0}\"{open}><summary>{0} <small>{1} cases</small></summary>\n<div class=\"wide\"><table>\n\
         <thead><tr><th>case</th>",
        escape(group),
        cases.len()
    );
    for backend in &backends {
        let _ = write!(text, "<th>{}</th>", escape(backend));
    }
    text += "</tr></thead>\n<tbody>\n";
    for (case, cells) in &cases {
        let _ = write!(text, "<tr><th>{}</th>", escape(&case.replace('_', " ")));
        for backend in &backends {
            text += &cell(cells.get(backend));
        }
        text += "</tr>\n";
    }
    text += "</tbody></table></div>\n";
    text += &reasons(&cases);
    text + "</details>\n"
}

fn cell(cell: Option<&Cell<'_>>) -> String {
    let Some(cell) = cell else { return "<td></td>".to_owned() };
    let (class, mark) = match cell.status {
        Status::Passed => ("passed", "✓"),
        Status::Failed => ("failed", "✗"),
        Status::Waived => ("waived", "waived"),
        Status::Pending => ("pending", "pending"),
        Status::Skipped => ("waived", "skipped"),
        Status::Deep => ("waived", "deep"),
    };
    let title = match cell.status {
        Status::Passed => format!("{} ms", cell.ms),
        _ => escape(cell.reason),
    };
    format!("<td class=\"{class}\" title=\"{title}\">{mark}</td>")
}

/// Why cases did not run or failed; the first is the same for many cases.
fn reasons(cases: &BTreeMap<&str, BTreeMap<&str, Cell<'_>>>) -> String {
    let mut not_run: BTreeMap<&str, usize> = BTreeMap::new();
    let mut failed = String::new();
    for (case, cells) in cases {
        for (backend, cell) in cells {
            match cell.status {
                Status::Passed => {}
                Status::Failed => {
                    let _ = writeln!(
                        failed,
                        "<p>{} on {}:</p><pre>{}</pre>",
                        escape(case),
                        escape(backend),
                        escape(cell.reason)
                    );
                }
                _ => *not_run.entry(cell.reason).or_default() += 1,
            }
        }
    }
    let mut text = failed;
    if !not_run.is_empty() {
        text += "<ul>\n";
        for (reason, n) in not_run {
            let _ = writeln!(text, "<li>{}: {n}</li>", escape(reason));
        }
        text += "</ul>\n";
    }
    text
}

fn controls(records: &Records) -> String {
    let verdicts = records.verdicts();
    let n_caught = verdicts.iter().filter(|(_, verdict)| !verdict.caught_by.is_empty()).count();
    let mut text = format!(
        "<h2>Negative controls</h2>\n<p>{n_caught} of {} stores with a known defect were caught. Open one to see by \
         which cases.</p>\n<div class=\"wide\"><table>\n<thead><tr><th>defect</th><th>on</th><th>caught by</th></tr></thead>\n\
         <tbody>\n",
        verdicts.len()
    );
    for (control, verdict) in verdicts {
        let n = verdict.caught_by.len();
        let class = if n == 0 { "failed" } else { "passed" };
        let mut cases = String::new();
        for record in verdict.caught_by {
            let [group, case, how] = [&record.group, &record.case, &record.how].map(|text| escape(text));
            let _ = write!(cases, "<li>{group}::{case} <small>{how}</small></li>");
        }
        let _ = writeln!(
            text,
            "<tr><th>{}<small>{}</small></th><td>{}</td><td class=\"{class}\"><details><summary>{n} {}</summary>\
             <ul>{cases}</ul></details></td></tr>",
            escape(control),
            escape(verdict.what),
            escape(verdict.on),
            if n == 1 { "case" } else { "cases" }
        );
    }
    text += "</tbody></table></div>\n";
    let idle = records.idle_cases();
    let _ = write!(text, "<details><summary>{} cases caught none of them</summary><ul>", idle.len());
    for case in idle {
        let _ = write!(text, "<li>{}</li>", escape(&case));
    }
    text + "</ul></details>\n"
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use super::{super::records::tests::some, *};

    #[test]
    fn what_a_store_says_is_escaped() {
        let page = page(&some());
        assert!(page.contains("left: &lt;1&gt;"), "{page}");
        assert!(!page.contains("<1>"));
    }

    #[test]
    fn a_group_with_a_failure_is_open() {
        assert!(page(&some()).contains("<details id=\"tags\" open>"));
    }
}
