//! Which names a collection may have to be written out as files.

use unicode_normalization::UnicodeNormalization;

/// The longest path that is written, in bytes.
const MAX_PATH_BYTES: usize = 4096;
/// The longest file or directory name, in bytes.
const MAX_COMPONENT_BYTES: usize = 255;
/// How many names a path may have.
const MAX_COMPONENTS: usize = 128;

/// Says which name kept a collection from being exported, and why.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{name:?} cannot be written as a file: {reason}")]
pub struct ExportNameError {
    /// The name in the collection.
    pub name: String,
    /// The rule that it breaks.
    pub reason: ExportNameReason,
}

/// A rule that a name of a collection can break.
///
/// All rules hold on every system, so that what can be exported on one can be exported on all.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ExportNameReason {
    /// It begins with a slash.
    #[error("it begins with a slash")]
    Absolute,
    /// A component is empty: no name at all, a slash at the end, two slashes in a row.
    #[error("it has an empty component")]
    EmptyComponent,
    /// A component is `.`.
    #[error("it has a component `.`")]
    CurrentDirectory,
    /// A component is `..`.
    #[error("it has a component `..`")]
    ParentDirectory,
    /// It has a backslash, which separates components on Windows.
    #[error("it has a backslash")]
    Backslash,
    /// It has a colon, which ends a drive name or begins a stream name on Windows.
    #[error("it has a colon")]
    Colon,
    /// It has a control character, NUL among them.
    #[error("it has the control character U+{:04X}", u32::from(*.0))]
    ControlCharacter(char),
    /// A component begins or ends with a space.
    #[error("a component begins or ends with a space")]
    OuterSpace,
    /// A component ends with a dot.
    #[error("a component ends with a dot")]
    TrailingDot,
    /// A component is the name of a device on Windows, whatever its case and extension.
    #[error("a component is the name of a device on Windows")]
    ReservedName,
    /// A component is longer than 255 bytes.
    #[error("a component has {0} bytes, more than {MAX_COMPONENT_BYTES}")]
    ComponentTooLong(usize),
    /// The whole is longer than 4096 bytes.
    #[error("it has {0} bytes, more than {MAX_PATH_BYTES}")]
    PathTooLong(usize),
    /// It has more than 128 components.
    #[error("it has {0} components, more than {MAX_COMPONENTS}")]
    TooManyComponents(usize),
    /// Another name is the same once both are composed (NFC) and their case is folded.
    #[error("{other:?} is the same file on some systems")]
    Duplicate {
        /// The other name.
        other: String,
    },
    /// Another name needs a directory where this one is a file.
    #[error("it is a directory on the way to {other:?}")]
    FileAndDirectory {
        /// The name below it.
        other: String,
    },
}

/// Checks that names can be written as files below one directory, on every system, and splits them into components.
///
/// The result is in the order of the names. Nothing about the target directory is looked at: that is for whoever
/// writes below it, without following links.
///
/// # Errors
///
/// The first name that breaks a rule by itself; if there is none, a name that is in the way of another.
pub fn check_export_names<'a>(
    names: impl IntoIterator<Item = &'a str>,
) -> Result<Vec<Vec<&'a str>>, ExportNameError> {
    let fail = |name: &str, reason| ExportNameError { name: name.to_owned(), reason };
    let mut paths = Vec::new();
    let mut folded = Vec::new();
    for name in names {
        paths.push(check_name(name).map_err(|reason| fail(name, reason))?);
        folded.push((fold(name), name));
    }
    folded.sort_unstable();
    for ((key, name), (next_key, next)) in folded.iter().zip(folded.iter().skip(1)) {
        let other = (*next).to_owned();
        match next_key.strip_prefix(key.as_str()) {
            Some("") => return Err(fail(name, ExportNameReason::Duplicate { other })),
            Some(rest) if rest.starts_with('\0') => {
                return Err(fail(name, ExportNameReason::FileAndDirectory { other }));
            }
            _ => {}
        }
    }
    Ok(paths)
}

/// Checks the rules that concern one name alone, and splits it.
fn check_name(name: &str) -> Result<Vec<&str>, ExportNameReason> {
    if name.len() > MAX_PATH_BYTES {
        return Err(ExportNameReason::PathTooLong(name.len()));
    }
    if name.starts_with('/') {
        return Err(ExportNameReason::Absolute);
    }
    for c in name.chars() {
        match c {
            '\\' => return Err(ExportNameReason::Backslash),
            ':' => return Err(ExportNameReason::Colon),
            c if c.is_control() => return Err(ExportNameReason::ControlCharacter(c)),
            _ => {}
        }
    }
    let components: Vec<_> = name.split('/').collect();
    if components.len() > MAX_COMPONENTS {
        return Err(ExportNameReason::TooManyComponents(components.len()));
    }
    components.iter().try_for_each(|component| check_component(component))?;
    Ok(components)
}

fn check_component(component: &str) -> Result<(), ExportNameReason> {
    match component {
        "" => Err(ExportNameReason::EmptyComponent),
        "." => Err(ExportNameReason::CurrentDirectory),
        ".." => Err(ExportNameReason::ParentDirectory),
        _ if component.len() > MAX_COMPONENT_BYTES => {
            Err(ExportNameReason::ComponentTooLong(component.len()))
        }
        _ if component.starts_with(' ') || component.ends_with(' ') => Err(ExportNameReason::OuterSpace),
        _ if component.ends_with('.') => Err(ExportNameReason::TrailingDot),
        _ if is_reserved(component) => Err(ExportNameReason::ReservedName),
        _ => Ok(()),
    }
}

/// Whether Windows takes a name for a device: `NUL`, `com1.txt`, `Aux .tar.gz`.
fn is_reserved(component: &str) -> bool {
    let stem = component.split_once('.').map_or(component, |(stem, _)| stem);
    let stem = stem.trim_end_matches(' ').to_ascii_uppercase();
    if matches!(stem.as_str(), "CON" | "PRN" | "AUX" | "NUL" | "CONIN$" | "CONOUT$") {
        return true;
    }
    let number = stem.strip_prefix("COM").or_else(|| stem.strip_prefix("LPT")).unwrap_or_default();
    matches!(number, "0" | "1" | "2" | "3" | "4" | "5" | "6" | "7" | "8" | "9" | "¹" | "²" | "³")
}

/// What two names have in common that some file system takes for one: composed, and without case.
///
/// Components are separated by NUL, the smallest character: whatever lies below a path sorts right behind it.
fn fold(name: &str) -> String {
    let mut folded = String::with_capacity(name.len());
    for c in name.nfd() {
        match c {
            '/' => folded.push('\0'),
            // a dotless i is a letter of its own
            'ı' => folded.push(c),
            // Upper case first joins what has several lower cases and one upper. Not `str::to_lowercase`, which
            // writes a sigma at the end of a word differently.
            c => folded.extend(c.to_uppercase().flat_map(char::to_lowercase)),
        }
    }
    folded.nfc().collect()
}

#[cfg(test)]
mod tests {
    use std::path::{Component, Path};

    use proptest::prelude::*;

    use super::{ExportNameReason as Reason, *};

    fn reason(names: &[&str]) -> Reason {
        check_export_names(names.iter().copied()).unwrap_err().reason
    }

    fn each(names: &[&str], expected: &Reason) {
        for name in names {
            let error = check_export_names(["ok", name]).unwrap_err();
            assert_eq!((error.name.as_str(), &error.reason), (*name, expected));
        }
    }

    #[test]
    fn ordinary_names_are_split() {
        let names =
            ["a", "dir/b.txt", "dir/c", ".hidden", "a b", "größe/日本語.tar.gz", "...x", "com10", "console"];
        let paths = check_export_names(names).unwrap();
        let expected: Vec<Vec<_>> = names.iter().map(|name| name.split('/').collect()).collect();
        assert_eq!(paths, expected);
        assert_eq!(check_export_names([]).unwrap(), Vec::<Vec<&str>>::new());
    }

    #[test]
    fn empty_component_is_refused() {
        each(&["", "a/", "a//b"], &Reason::EmptyComponent);
    }

    #[test]
    fn dot_component_is_refused() {
        each(&[".", "./a", "a/.", "a/./b"], &Reason::CurrentDirectory);
    }

    #[test]
    fn dot_dot_component_is_refused() {
        each(&["..", "../a", "a/..", "a/../b"], &Reason::ParentDirectory);
    }

    #[test]
    fn leading_slash_is_refused() {
        each(&["/", "/etc/passwd", "//server/share"], &Reason::Absolute);
    }

    #[test]
    fn backslash_is_refused() {
        each(&["a\\b", "\\\\server\\share", "..\\a"], &Reason::Backslash);
    }

    #[test]
    fn colon_is_refused() {
        each(&["C:", "a:b", "dir/file.txt:stream"], &Reason::Colon);
    }

    #[test]
    fn control_characters_are_refused() {
        each(&["\0", "a\0b", "dir/a\0"], &Reason::ControlCharacter('\0'));
        each(&["a\nb", "dir\n/a"], &Reason::ControlCharacter('\n'));
        each(&["\u{7f}", "a/\u{7f}b"], &Reason::ControlCharacter('\u{7f}'));
        each(&["\u{9b}31m", "a\u{9b}"], &Reason::ControlCharacter('\u{9b}'));
    }

    #[test]
    fn outer_spaces_are_refused() {
        each(&[" a", "a ", "dir /a", "dir/ a", " "], &Reason::OuterSpace);
    }

    #[test]
    fn trailing_dot_is_refused() {
        each(&["a.", "...", "dir./a", "dir/a.."], &Reason::TrailingDot);
    }

    #[test]
    fn device_names_are_refused() {
        let names = [
            "CON",
            "prn",
            "Aux.txt",
            "dir/nul",
            "NUL/a",
            "com1",
            "LPT9.tar.gz",
            "COM²",
            "nul .txt",
            "conin$",
        ];
        each(&names, &Reason::ReservedName);
    }

    #[test]
    fn lengths_are_limited() {
        let long = "x".repeat(256);
        each(&[&long, &format!("a/{long}"), &"ö".repeat(128)], &Reason::ComponentTooLong(256));
        let path = vec!["y".repeat(255); 17].join("/");
        each(&[&path, &"/".repeat(path.len())], &Reason::PathTooLong(4351));
        let deep = vec!["z"; 129].join("/");
        each(&[&deep, &format!("{}/b", vec!["a"; 128].join("/"))], &Reason::TooManyComponents(129));
        let limits = [&long[1..], &path[..4096 - 1], &deep[2..]];
        assert!(check_export_names(limits).is_ok());
    }

    #[test]
    fn names_that_fall_together_are_refused() {
        for (a, b) in [
            ("a", "a"),
            ("dir/README", "dir/readme"),
            ("DIR/a", "dir/a"),
            ("\u{e9}", "e\u{301}"),
            ("\u{c9}t\u{c9}", "e\u{301}te\u{301}"),
            ("straße", "STRASSE"),
            ("ΣΑΣ", "σας"),
            ("\u{212a}", "k"),
        ] {
            let found = reason(&["first", a, "zebra", b]);
            assert!(matches!(found, Reason::Duplicate { .. }), "{a} {b} {found:?}");
        }
        assert!(check_export_names(["ı", "i", "é", "e", "A/b", "a/c"]).is_ok());
    }

    #[test]
    fn file_that_is_a_directory_too_is_refused() {
        for (file, below) in [("a", "a/b"), ("dir/X", "dir/x/y/z"), ("a/e\u{301}", "a/\u{e9}/b")] {
            for names in [[file, below, "a-b", "a b"], [below, "a.b", file, "a!"]] {
                let error = check_export_names(names).unwrap_err();
                assert_eq!(error.name, file);
                assert_eq!(error.reason, Reason::FileAndDirectory { other: below.to_owned() });
            }
        }
    }

    #[test]
    fn device_names_fold_like_everything_else() {
        assert_eq!(fold("NUL/Straße"), "nul\0strasse");
    }

    fn name() -> impl Strategy<Value = String> {
        let part = prop::sample::select(vec![
            "a", "B", "b", "/", ".", "..", " ", "\\", ":", "nul", "é", "e\u{301}", "\0",
        ]);
        prop_oneof![prop::collection::vec(part, 0..8).prop_map(|parts| parts.concat()), ".{0,12}"]
    }

    proptest! {
        #[test]
        fn accepted_names_stay_below_the_target(names in prop::collection::vec(name(), 0..6)) {
            if let Ok(paths) = check_export_names(names.iter().map(String::as_str)) {
                prop_assert_eq!(paths.len(), names.len());
                for (path, name) in paths.iter().zip(&names) {
                    prop_assert_eq!(&path.join("/"), name);
                    let joined: std::path::PathBuf = path.iter().collect();
                    prop_assert!(joined.components().all(|c| matches!(c, Component::Normal(_))));
                    prop_assert_eq!(joined.components().count(), path.len());
                    prop_assert!(Path::new("/target").join(&joined).starts_with("/target"));
                }
            }
        }

        #[test]
        fn accepted_names_can_be_written_side_by_side(names in prop::collection::vec(name(), 0..6)) {
            if let Ok(paths) = check_export_names(names.iter().map(String::as_str)) {
                for (i, a) in paths.iter().enumerate() {
                    for b in paths.iter().skip(i + 1) {
                        prop_assert!(!a.starts_with(b) && !b.starts_with(a));
                    }
                }
            }
        }
    }
}
