//! The contract and the suite: every promise names cases, every case serves a promise, and neither names what is not there.

use std::collections::BTreeSet;

use super::{
    Finding, rules,
    tree::{File, Tree},
};

const CONTRACT: &str = "docs/contract.md";
const MANIFESTS: &str = "crates/blob-conformance/tests/";

pub(super) fn check(tree: &Tree, findings: &mut Vec<Finding>) {
    let Some(contract) = tree.file(CONTRACT) else { return };
    let cases = all_cases(tree);
    let mut named = BTreeSet::new();
    let mut last: Option<(u32, usize, bool)> = None;
    for (line, text) in contract.lines() {
        if let Some(promise) = rules::stated_by('G', text).filter(|_| text.starts_with('#')) {
            close(contract, last, findings);
            if last.is_some_and(|(before, ..)| promise <= before) {
                findings.push(Finding::failure(contract, line, format!("G{promise} is out of order")));
            }
            last = Some((promise, line, false));
        }
        for case in quoted_cases(text) {
            if !cases.contains(case) {
                findings.push(Finding::failure(
                    contract,
                    line,
                    format!("names `{case}`, which no manifest has"),
                ));
            }
            named.insert(case);
            last = last.map(|(promise, line, _)| (promise, line, true));
        }
    }
    close(contract, last, findings);
    for case in cases.iter().filter(|case| !named.contains(**case)) {
        findings.push(Finding::failure(contract, 0, format!("no promise names the case `{case}`")));
    }
}

/// A promise that no case shows is only described.
fn close(contract: &File, promise: Option<(u32, usize, bool)>, findings: &mut Vec<Finding>) {
    if let Some((promise, line, false)) = promise {
        findings.push(Finding::failure(contract, line, format!("G{promise} names no case")));
    }
}

/// The cases of all manifests, as `group::case`.
fn all_cases(tree: &Tree) -> BTreeSet<&str> {
    let is_manifest = |file: &&File| file.path.starts_with(MANIFESTS) && file.has_extension("manifest");
    let lines = tree.files().iter().filter(is_manifest).flat_map(File::lines);
    lines
        .filter(|(_, text)| !text.starts_with('#'))
        .filter_map(|(_, text)| text.split([' ', ':']).next().map(|group| (text, group)))
        .filter_map(|(text, group)| {
            let rest = text.strip_prefix(group)?.strip_prefix("::")?;
            let end = rest.find([' ', ':']).unwrap_or(rest.len());
            text.get(..group.len() + 2 + end)
        })
        .collect()
}

/// What stands in backticks and has the form of a case: `group::case`, in lower case.
fn quoted_cases(text: &str) -> impl Iterator<Item = &str> {
    let is_name = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
    text.split('`').skip(1).step_by(2).filter(move |quote| {
        quote.split_once("::").is_some_and(|(group, case)| {
            [group, case].into_iter().all(|part| !part.is_empty() && part.chars().all(is_name))
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const MANIFEST: &str = "# head\ntags::one: run\ntags::two [mem]: waived: no disk\n";

    fn findings(contract: &str) -> Vec<String> {
        let manifest = format!("{MANIFESTS}fs.manifest");
        let tree = Tree::of(&[(CONTRACT, contract), (&manifest, MANIFEST)]);
        let mut found = Vec::new();
        check(&tree, &mut found);
        found.into_iter().map(|finding| finding.message).collect()
    }

    #[test]
    fn a_contract_that_names_all_cases_is_fine() {
        let contract = "### G1. One\n`tags::one`\n### G2. Two\n`tags::two`, `Error::Closed`\n";
        assert_eq!(findings(contract), Vec::<String>::new());
    }

    #[test]
    fn both_directions_are_checked() {
        assert_eq!(findings("### G1. One\n`tags::one`\n"), ["no promise names the case `tags::two`"]);
        let unknown = "### G1. One\n`tags::one` `tags::two` `tags::three`\n";
        assert_eq!(findings(unknown), ["names `tags::three`, which no manifest has"]);
    }

    #[test]
    fn a_promise_without_a_case_and_one_out_of_order_are_found() {
        let contract = "### G2. One\n`tags::one` `tags::two`\n### G1. Two\n";
        assert_eq!(findings(contract), ["G1 is out of order", "G1 names no case"]);
    }
}
