//! Where everything lies: pure paths (E7), and back from names.

use std::{
    ffi::OsStr,
    fmt,
    path::{Path, PathBuf},
};

use blob_traits::Hash;

/// The number in a file's name that makes it new: 64 random bits, 16 hex digits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct FileNo(pub(crate) u64);

impl fmt::Display for FileNo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

impl FileNo {
    /// Stands in records for a file that there is not.
    pub(crate) const NONE: Self = Self(0);
}

/// The paths of one store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Layout {
    root: PathBuf,
}

impl Layout {
    pub(crate) fn new(root: PathBuf) -> Self {
        Self { root }
    }

    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    pub(crate) fn index(&self) -> PathBuf {
        self.root.join("index.redb")
    }

    pub(crate) fn lock(&self) -> PathBuf {
        self.root.join("LOCK")
    }

    pub(crate) fn reserve(&self) -> PathBuf {
        self.root.join("reserve")
    }

    pub(crate) fn log_dir(&self) -> PathBuf {
        self.root.join("log")
    }

    pub(crate) fn segment(&self, id: u32) -> PathBuf {
        self.root.join(format!("log/{id:016x}.seg"))
    }

    pub(crate) fn data_dir(&self) -> PathBuf {
        self.root.join("data")
    }

    /// One of 256 directories, named by the first byte of the hash.
    pub(crate) fn data_subdir(&self, hash: &Hash) -> PathBuf {
        let [first, ..] = hash.as_bytes();
        self.root.join(format!("data/{first:02x}"))
    }

    pub(crate) fn data(&self, hash: &Hash, no: FileNo) -> PathBuf {
        self.data_subdir(hash).join(blob_file(hash, no, Part::Data))
    }

    pub(crate) fn data_outboard(&self, hash: &Hash, no: FileNo) -> PathBuf {
        self.data_subdir(hash).join(blob_file(hash, no, Part::Outboard))
    }

    pub(crate) fn partial_dir(&self) -> PathBuf {
        self.root.join("partial")
    }

    pub(crate) fn partial_data(&self, hash: &Hash, no: FileNo) -> PathBuf {
        self.partial_dir().join(blob_file(hash, no, Part::Data))
    }

    pub(crate) fn partial_outboard(&self, hash: &Hash, no: FileNo) -> PathBuf {
        self.partial_dir().join(blob_file(hash, no, Part::Outboard))
    }

    /// The pairs of a partial blob, by the number of their parents.
    pub(crate) fn partial_pairs(&self, hash: &Hash, no: FileNo) -> PathBuf {
        self.partial_dir().join(blob_file(hash, no, Part::Pairs))
    }

    pub(crate) fn partial_bits(&self, hash: &Hash, no: FileNo) -> PathBuf {
        self.partial_dir().join(blob_file(hash, no, Part::Bits))
    }

    pub(crate) fn temp_dir(&self) -> PathBuf {
        self.root.join("temp")
    }

    /// A file whose hash is not known yet, or that never belongs to one.
    pub(crate) fn temp(&self, no: FileNo, suffix: &str) -> PathBuf {
        self.root.join(format!("temp/{no}.{suffix}"))
    }

    pub(crate) fn temp_data(&self, hash: &Hash, no: FileNo) -> PathBuf {
        self.temp_dir().join(blob_file(hash, no, Part::Data))
    }

    pub(crate) fn temp_outboard(&self, hash: &Hash, no: FileNo) -> PathBuf {
        self.temp_dir().join(blob_file(hash, no, Part::Outboard))
    }

    pub(crate) fn quarantine_dir(&self) -> PathBuf {
        self.root.join("quarantine")
    }
}

/// Which of the files of a blob.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Part {
    /// Its bytes: `.data`.
    Data,
    /// Its hash tree: `.obao4`.
    Outboard,
    /// The pairs of its hash tree while it is partial: `.pairs`.
    Pairs,
    /// Which of its ranges are valid: `.bits`.
    Bits,
}

impl Part {
    pub(crate) const fn extension(self) -> &'static str {
        match self {
            Self::Data => "data",
            Self::Outboard => "obao4",
            Self::Pairs => "pairs",
            Self::Bits => "bits",
        }
    }
}

/// The name of a file that belongs to a blob: `<hash>-<no>.<extension>`.
fn blob_file(hash: &Hash, no: FileNo, part: Part) -> String {
    format!("{hash}-{no}.{}", part.extension())
}

/// Reads the id out of a segment's name. Only names that [`Layout::segment`] gives are taken.
pub(crate) fn parse_segment(name: &OsStr) -> Option<u32> {
    let digits = name.to_str()?.strip_suffix(".seg")?;
    u32::try_from(parse_hex(digits)?).ok().filter(|id| *id != 0)
}

/// Reads hash, number and part out of the name of a blob's file. Only names that [`Layout`] gives are taken.
pub(crate) fn parse_blob_file(name: &OsStr) -> Option<(Hash, FileNo, Part)> {
    let (stem, extension) = name.to_str()?.split_once('.')?;
    let (hash, no) = stem.split_once('-')?;
    let part = [Part::Data, Part::Outboard, Part::Pairs, Part::Bits]
        .into_iter()
        .find(|p| p.extension() == extension)?;
    if hash.len() != 64 || !is_lower_hex(hash) {
        return None;
    }
    Some((hash.parse().ok()?, FileNo(parse_hex(no)?), part))
}

/// Reads the number out of the name of a file whose hash is not known. Only names that [`Layout::temp`] gives are taken.
pub(crate) fn parse_temp_file(name: &OsStr) -> Option<FileNo> {
    let (no, suffix) = name.to_str()?.split_once('.')?;
    let is_plain = !suffix.is_empty() && suffix.bytes().all(|b| b.is_ascii_alphanumeric());
    parse_hex(no).filter(|_| is_plain).map(FileNo)
}

/// Reads exactly 16 lower-case hex digits.
fn parse_hex(digits: &str) -> Option<u64> {
    if digits.len() != 16 || !is_lower_hex(digits) {
        return None;
    }
    u64::from_str_radix(digits, 16).ok()
}

fn is_lower_hex(text: &str) -> bool {
    text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
}

#[cfg(test)]
mod tests {
    use std::ffi::OsString;

    use proptest::prelude::*;

    use super::*;

    fn name(path: &Path) -> &OsStr {
        path.file_name().unwrap()
    }

    #[test]
    fn paths_are_those_of_the_format() {
        let layout = Layout::new("/s".into());
        let hash = Hash::EMPTY;
        let stem = format!("{hash}-00000000000000ff");
        assert_eq!(layout.segment(26), Path::new("/s/log/000000000000001a.seg"));
        assert_eq!(layout.data(&hash, FileNo(255)), PathBuf::from(format!("/s/data/af/{stem}.data")));
        assert_eq!(
            layout.data_outboard(&hash, FileNo(255)),
            PathBuf::from(format!("/s/data/af/{stem}.obao4"))
        );
        assert_eq!(layout.partial_bits(&hash, FileNo(255)), PathBuf::from(format!("/s/partial/{stem}.bits")));
        assert_eq!(layout.temp_data(&hash, FileNo(255)), PathBuf::from(format!("/s/temp/{stem}.data")));
        assert_eq!(layout.temp(FileNo(1), "redb"), Path::new("/s/temp/0000000000000001.redb"));
    }

    #[test]
    fn names_that_no_layout_gives_are_refused() {
        for bad in [
            "",
            ".seg",
            "0000000000000000.seg",
            "0000000100000000.seg",
            "000000000000001A.seg",
            "+00000000000001a.seg",
            "000000000000001a.seg.seg",
            "1a.seg",
        ] {
            assert_eq!(parse_segment(OsStr::new(bad)), None, "{bad}");
        }
        let hash = Hash::EMPTY;
        for bad in [
            format!("{hash}-00000000000000ff"),
            format!("{hash}-ff.data"),
            format!("{hash}-00000000000000ff.dat"),
            format!("{hash}-00000000000000ff.data.data"),
            format!("{}-00000000000000ff.data", hash.to_string().to_uppercase()),
            "-00000000000000ff.data".into(),
        ] {
            assert_eq!(parse_blob_file(OsStr::new(&bad)), None, "{bad}");
        }
    }

    proptest! {
        #[test]
        fn names_come_back(hash: [u8; 32], no: u64, id in 1..=u32::MAX) {
            let (layout, hash, no) = (Layout::new("/s".into()), Hash::from_bytes(hash), FileNo(no));
            prop_assert_eq!(parse_segment(name(&layout.segment(id))), Some(id));
            for (path, part) in [
                (layout.data(&hash, no), Part::Data),
                (layout.temp_outboard(&hash, no), Part::Outboard),
                (layout.partial_bits(&hash, no), Part::Bits),
            ] {
                prop_assert_eq!(parse_blob_file(name(&path)), Some((hash, no, part)));
            }
        }

        #[test]
        fn parsers_are_total(text in "\\PC*|[0-9a-f]{16}\\.seg|[0-9a-fA-F]{64}-[0-9a-f]{16}\\.(data|bits)") {
            let text = OsString::from(text);
            if let Some(id) = parse_segment(&text) {
                let path = Layout::new("/s".into()).segment(id);
                prop_assert_eq!(name(&path), &text);
            }
            if let Some((hash, no, part)) = parse_blob_file(&text) {
                prop_assert_eq!(blob_file(&hash, no, part), text.to_str().unwrap());
            }
        }
    }
}
