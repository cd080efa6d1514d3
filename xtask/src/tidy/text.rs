//! What holds for every text file: line ends and white space.

use super::{Finding, tree::File};

pub(super) fn check(file: &File, findings: &mut Vec<Finding>) {
    if file.text.contains('\r') {
        findings.push(Finding::failure(file, 0, "carriage return; lines end with a line feed alone"));
        return;
    }
    for (number, line) in file.lines() {
        if line.ends_with([' ', '\t']) {
            findings.push(Finding::failure(file, number, "white space at the end of the line"));
        }
    }
    if !file.text.is_empty() && !file.text.ends_with('\n') {
        findings.push(Finding::failure(file, 0, "no line feed at the end of the file"));
    }
    if file.text.ends_with("\n\n") {
        findings.push(Finding::failure(file, 0, "empty lines at the end of the file"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn findings(text: &str) -> usize {
        let mut found = Vec::new();
        check(&File::new("a.md", text), &mut found);
        found.len()
    }

    #[test]
    fn clean_text_passes() {
        assert_eq!(findings(""), 0);
        assert_eq!(findings("a\n\nb\n"), 0);
    }

    #[test]
    fn each_blemish_is_found() {
        for bad in ["a\r\nb\r\n", "a \n", "a\t\nb\n", "a", "a\n\n"] {
            assert_eq!(findings(bad), 1, "{bad:?}");
        }
    }
}
