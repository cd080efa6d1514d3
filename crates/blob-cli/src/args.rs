//! The command line.

mod damage;

use std::{
    ffi::OsString,
    path::{Path, PathBuf},
};

use blob_traits::{Hash, Tag};
use clap::{
    Args, Parser, Subcommand, ValueEnum,
    builder::{OsStringValueParser, TypedValueParser},
};
use clap_complete::Shell;

pub(crate) use damage::{CheckArgs, ValidateArgs, Work};

use crate::{
    range::{ByteRange, Ranges, number},
    target::{Name, Target, parse_tag},
};

/// Stores blobs by their BLAKE3 hash, reads any range of them verified, and keeps what tags name.
#[derive(Debug, Parser)]
#[command(name = "blob", version, after_help = EXIT_CODES, disable_help_subcommand = true)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) global: Global,
    #[command(subcommand)]
    pub(crate) verb: Verb,
}

const EXIT_CODES: &str = "\
Exit codes:
    0  done
    1  error                    5  damage found
    2  wrong usage             10  there is no store
    3  partly done             11  the store is in use
    4  refused for safety     130  interrupted

A TARGET is a hash (64 hex digits) or the name of a tag. Behind a colon it may
have a range of bytes, FROM..TO, FROM.., ..TO or FROM+LENGTH, or several with
commas between them; KiB, MiB, GiB and TiB are understood.";

#[derive(Args, Debug)]
pub(crate) struct Global {
    /// The directory of the store [default: `blob` in the user's data directory]
    #[arg(long, global = true, value_name = "DIR", env = "BLOB_STORE", hide_env_values = true)]
    #[arg(value_parser = OsStringValueParser::new().map(PathBuf::from))]
    pub(crate) store: Option<PathBuf>,
    /// Prints JSON: one document for a query, a line for each event of an operation
    #[arg(long, global = true)]
    pub(crate) json: bool,
    /// How progress is shown
    #[arg(long, global = true, value_name = "HOW", value_enum, default_value_t = ProgressStyle::Auto)]
    pub(crate) progress: ProgressStyle,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum ProgressStyle {
    /// A bar on a terminal, lines where the variable CI is set, otherwise nothing
    Auto,
    /// A bar
    Bar,
    /// A line every ten seconds
    Plain,
    /// Nothing
    None,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Verb {
    /// Stores files, directories (as collections) and standard input
    Add(AddArgs),
    /// Writes a blob or ranges of it, verified
    Get(GetArgs),
    /// Writes blobs or ranges of them to standard output, verified
    Cat(CatArgs),
    /// Writes a blob to a file, or a collection to a directory
    Export(ExportArgs),
    /// Lists the blobs of the store, or of a collection
    Ls(LsArgs),
    /// Shows what is known of blobs
    Stat(StatArgs),
    /// Tells which hashes are there; exit code 1 when one is not, or not completely
    Has(HasArgs),
    /// Sets, lists, removes and renames tags
    #[command(subcommand)]
    Tag(TagVerb),
    /// Removes tags and blobs
    Rm(RmArgs),
    /// Deletes the blobs that no tag keeps
    Gc(GcArgs),
    /// Tells which tags keep a blob; exit code 1 when none does
    Why(WhyArgs),
    /// Shows how much there is: in the store, and under tags
    Du(DuArgs),
    /// Looks for damaged blobs, and mends them; exit code 5 when damage remains
    Validate(ValidateArgs),
    /// Checks that the files of the store and its records agree; exit code 5 when damage remains
    Check(CheckArgs),
    /// Makes and takes verified slices in files
    #[command(subcommand)]
    Bao(BaoVerb),
    /// Prints a completion script for a shell
    Completions {
        /// The shell
        shell: Shell,
    },
}

#[derive(Args, Debug)]
pub(crate) struct AddArgs {
    /// Files, directories, or - for standard input
    #[arg(required = true, value_name = "PATH|-")]
    pub(crate) paths: Vec<PathBuf>,
    /// The tag that keeps it, with one PATH; an existing one is pointed here [default: a new name for each PATH]
    #[arg(long, value_name = "NAME", value_parser = tag_parser())]
    pub(crate) tag: Option<Tag>,
    /// Uses the files where they are instead of copying them
    #[arg(long)]
    pub(crate) reference: bool,
    /// Takes directories, with all below them
    #[arg(short, long)]
    pub(crate) recursive: bool,
    /// Leaves out what a collection cannot hold (links, fifos, sockets, devices, names that are not UTF-8)
    #[arg(long)]
    pub(crate) skip_special: bool,
}

#[derive(Args, Debug)]
pub(crate) struct GetArgs {
    /// A hash or a tag, with ranges where wanted
    #[arg(value_parser = target_parser())]
    pub(crate) target: Target,
    #[command(flatten)]
    pub(crate) output: OutputFile,
}

#[derive(Args, Debug)]
pub(crate) struct OutputFile {
    /// The file to write [default: standard output]
    #[arg(short, long, value_name = "FILE")]
    pub(crate) output: Option<PathBuf>,
    /// Replaces the file where it exists
    #[arg(long)]
    pub(crate) force: bool,
}

impl OutputFile {
    /// The file to write; nothing for standard output, which may be written as `-`.
    pub(crate) fn file(&self) -> Option<&Path> {
        self.output.as_deref().filter(|path| path.as_os_str() != "-")
    }
}

#[derive(Args, Debug)]
pub(crate) struct CatArgs {
    /// Hashes or tags, with ranges where wanted
    #[arg(required = true, value_name = "TARGET", value_parser = target_parser())]
    pub(crate) targets: Vec<Target>,
}

#[derive(Args, Debug)]
pub(crate) struct ExportArgs {
    /// A hash or a tag
    #[arg(value_name = "HASH|TAG", value_parser = name_parser())]
    pub(crate) name: Name,
    /// The file to write; for a collection the directory to write into
    #[arg(value_name = "FILE|DIR")]
    pub(crate) path: PathBuf,
    /// Replaces files that exist
    #[arg(long)]
    pub(crate) force: bool,
    /// What the blob is taken for [default: what the tag says, or what it looks like]
    #[arg(long = "as", value_name = "WHAT", value_enum)]
    pub(crate) format: Option<ExportAs>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum ExportAs {
    Blob,
    Collection,
}

#[derive(Args, Debug)]
pub(crate) struct LsArgs {
    /// A collection whose files are listed instead
    #[arg(value_name = "HASH|TAG", value_parser = name_parser(), conflicts_with_all = ["partial", "untagged"])]
    pub(crate) name: Option<Name>,
    /// Lists the partial blobs instead of the complete ones
    #[arg(long, conflicts_with = "untagged")]
    pub(crate) partial: bool,
    /// Lists the blobs, complete and partial, that no tag reaches
    #[arg(long)]
    pub(crate) untagged: bool,
    /// Shows state, size and tags too
    #[arg(short, long)]
    pub(crate) long: bool,
}

#[derive(Args, Debug)]
pub(crate) struct StatArgs {
    /// Hashes or tags
    #[arg(required = true, value_name = "HASH|TAG", value_parser = name_parser())]
    pub(crate) names: Vec<Name>,
}

#[derive(Args, Debug)]
pub(crate) struct HasArgs {
    /// Hashes; without any, or with -, they are read from standard input, one a line
    #[arg(value_name = "HASH")]
    pub(crate) hashes: Vec<String>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum TagVerb {
    /// Points a tag to a blob
    Set {
        /// The tag; an existing one is pointed elsewhere
        #[arg(value_parser = tag_parser())]
        tag: Tag,
        /// The blob, or another tag to do as it does
        #[arg(value_name = "HASH|TAG", value_parser = name_parser())]
        name: Name,
        /// What the blob is kept as [default: what the other tag says, or what it looks like]
        #[arg(long, value_name = "FORMAT", value_enum)]
        format: Option<TagFormat>,
    },
    /// Lists tags
    Ls {
        /// Only those that begin with this
        #[arg(value_name = "PREFIX")]
        prefix: Option<OsString>,
    },
    /// Removes tags; what they kept stays until it is collected
    Rm {
        /// The tags
        #[arg(required = true, value_name = "TAG", value_parser = tag_parser())]
        tags: Vec<Tag>,
    },
    /// Renames a tag
    Mv {
        /// The tag
        #[arg(value_parser = tag_parser())]
        from: Tag,
        /// Its new name
        #[arg(value_parser = tag_parser())]
        to: Tag,
        /// Replaces a tag that has the new name
        #[arg(long)]
        force: bool,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum TagFormat {
    /// The blob alone
    Raw,
    /// The blob and those that it lists
    HashSeq,
}

#[derive(Args, Debug)]
pub(crate) struct RmArgs {
    /// Tags, or blobs by their hashes
    #[arg(required = true, value_name = "HASH|TAG", value_parser = name_parser())]
    pub(crate) names: Vec<Name>,
    /// Removes a blob even where a tag keeps it
    #[arg(long)]
    pub(crate) force: bool,
}

#[derive(Args, Debug)]
pub(crate) struct GcArgs {
    /// Lists what would be deleted, and deletes nothing
    #[arg(long)]
    pub(crate) dry_run: bool,
    /// Stops when so much has been deleted, in bytes or with KiB, MiB, GiB, TiB
    #[arg(long, value_name = "SIZE", value_parser = number)]
    pub(crate) ensure_free: Option<u64>,
    /// Deletes everything where there are no tags
    #[arg(long)]
    pub(crate) allow_empty: bool,
    /// How much memory the list of what is kept may take; with less than 16 bytes for each blob it takes longer
    #[arg(long, value_name = "SIZE", value_parser = number)]
    pub(crate) max_memory: Option<u64>,
    /// Leaves the log as it is; its space comes back while other commands have the store open
    #[arg(long)]
    pub(crate) no_compact: bool,
}

#[derive(Args, Debug)]
pub(crate) struct WhyArgs {
    /// The blob
    #[arg(value_name = "HASH|TAG", value_parser = name_parser())]
    pub(crate) name: Name,
}

#[derive(Args, Debug)]
pub(crate) struct DuArgs {
    /// What is measured, with what it lists [default: the whole store, and its directory]
    #[arg(value_name = "HASH|TAG", value_parser = name_parser())]
    pub(crate) names: Vec<Name>,
    /// Counts only what nothing but the tag keeps, and what would go with it
    #[arg(long, requires = "names")]
    pub(crate) exclusive: bool,
}

#[derive(Debug, Subcommand)]
pub(crate) enum BaoVerb {
    /// Writes the size (8 bytes, little endian) and the verified stream of ranges of a blob
    Encode {
        /// A hash or a tag, with ranges where wanted
        #[arg(value_parser = target_parser())]
        target: Target,
        #[command(flatten)]
        output: OutputFile,
    },
    /// Checks what `bao encode` wrote, and writes the bytes or imports them
    Decode(DecodeArgs),
    /// Writes the outboard of a blob: the parents above its chunk groups, in pre-order
    Outboard {
        /// A hash or a tag
        #[arg(value_name = "HASH|TAG", value_parser = name_parser())]
        name: Name,
        #[command(flatten)]
        output: OutputFile,
    },
}

#[derive(Args, Debug)]
pub(crate) struct DecodeArgs {
    /// The file with the stream, or - for standard input
    #[arg(value_name = "FILE|-")]
    pub(crate) file: PathBuf,
    /// The blob that it must belong to
    #[arg(long)]
    pub(crate) hash: Hash,
    /// The ranges that it was encoded with [default: all]
    #[arg(short, long, value_name = "RANGES", value_parser = ByteRange::parse_list)]
    pub(crate) range: Option<Ranges>,
    #[command(flatten)]
    pub(crate) output: OutputFile,
    /// Puts the bytes into the store instead, as a complete or a partial blob
    #[arg(long, conflicts_with_all = ["output", "force"])]
    pub(crate) import: bool,
    /// The tag that keeps what is imported [default: a new name]
    #[arg(long, value_name = "NAME", requires = "import", value_parser = tag_parser())]
    pub(crate) tag: Option<Tag>,
}

fn name_parser() -> impl TypedValueParser<Value = Name> {
    OsStringValueParser::new().try_map(|text| Name::parse(&text))
}

fn target_parser() -> impl TypedValueParser<Value = Target> {
    OsStringValueParser::new().try_map(|text| Target::parse(&text))
}

fn tag_parser() -> impl TypedValueParser<Value = Tag> {
    OsStringValueParser::new().try_map(|text| parse_tag(&text))
}
