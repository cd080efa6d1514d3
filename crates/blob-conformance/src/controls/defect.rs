//! The defects, one for each way in which stores have been seen to go wrong.

macro_rules! defects {
    ($($name:ident [$($base:ident)?] $text:literal;)+) => {
        /// What is wrong with a [`Broken`](super::Broken) store.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Defect {
            $(#[doc = concat!("It ", $text, ".")] $name,)+
        }

        impl Defect {
            /// All of them.
            pub const ALL: &'static [Self] = &[$(Self::$name),+];

            /// Says what it does.
            pub fn what_it_does(self) -> &'static str {
                match self { $(Self::$name => $text,)+ }
            }

            /// Whether it shows only on a store that outlives its process or uses files in place.
            pub fn needs_a_disk(self) -> bool {
                match self { $(Self::$name => defects!(@ $($base)?),)+ }
            }
        }
    };
    (@) => { false };
    (@ on_disk) => { true };
}

defects! {
    TruncatedTail [] "loses the last byte of every blob that is read";
    IgnoredOffset [] "reads from the start, whatever the offset";
    ErrorPastTheEnd [] "fails reads past the end";
    ZerosForMissing [] "reads zeros where a partial blob has nothing";
    ZerosAfterDelete [] "turns what an open reader reads into zeros once the blob is deleted";
    SizeUnverified [] "says that the size of a complete blob is not verified";
    DamagedOutboard [] "returns wrong hashes from every tree";
    MissingIsAnError [] "fails the look-up of a blob that is not there";
    NoEmptyBlob [] "does not know the empty blob until it is imported";
    SyncStatusDisagrees [] "does not know of partial blobs in its synchronous status";
    StatusIsRemembered [] "answers the status of a blob as it was when it was asked first";
    AllIsPresent [] "says that all chunks of a partial blob are present";
    CompleteTooEarly [] "calls a partial blob complete when its last chunk is there";
    PartialIsListed [] "lists partial blobs as complete ones";
    ListedBackwards [] "lists in descending order";
    ListedLater [] "lists tags as they are when the listing is read, not when it was asked for";
    RangeEndIncluded [] "takes the end of a range of tags for a part of it";
    TagKept [] "does not overwrite a tag";
    MissingTagIsAnError [] "fails the deletion of a tag that is not there";
    TagNameReused [] "gives every new tag the same name";
    RenamedTagStays [] "keeps the old name of a renamed tag";
    TagCut [] "cuts long tags";
    ReleasedEarly [] "returns temporary tags that hold nothing";
    TemporaryFormatLost [] "lists all temporary tags as raw";
    TagOfImportForgotten [] "imports without setting the tag";
    FormatOfImportLost [] "holds what it imports as raw, whatever was asked for";
    StreamErrorSwallowed [] "stores what came before the error of a stream";
    EmptyPieceEndsStream [] "takes an empty piece of a stream for its end";
    RelativePathTaken [] "imports files by relative paths";
    DirectoryIsAbsent [] "says that a directory is not there when it is imported";
    ChangedFileServed [on_disk] "serves the bytes of a referenced file without looking whether it has changed";
    LimitIgnored [] "ignores the limit on the size of blobs";
    LastEventMissing [] "never reports the end of an import or export";
    OffsetsBackwards [] "reports offsets that go back";
    CancellationIgnored [] "goes on when nobody takes its progress";
    CompleteIsOverwritten [] "begins a complete blob anew when somebody wants to write to it";
    ConflictIgnored [] "takes any size for a blob whose size is verified";
    MalformedBatchIgnored [] "accepts malformed batches and writes nothing of them";
    FirstLeafOnly [] "writes the first leaf of a batch";
    PromotedWithoutCheck [] "accepts to complete a blob whose chunks are missing";
    PromotionForgotten [] "says that a blob is complete now, and leaves it partial";
    DeletedFirstOnly [] "deletes the first of several blobs";
    TagsStopDeletion [] "does not delete by force what a tag holds";
    MissingStopsDeletion [] "fails to delete a blob that is not there";
    ExportedTargetReplaced [] "replaces an existing target, whatever it was told";
    ExportedHalf [] "leaves a half file where an export fails";
    ExportedShort [] "loses the last byte of an exported file";
    ExportedPartial [] "exports what there is of a partial blob";
    NotClosed [] "goes on after its shutdown";
    ShutdownTwiceFails [] "fails a second shutdown";
    BusyReaders [] "fails the ninth reader of a blob at the same time";
    QueuedWriteLost [on_disk] "loses the latest import at the shutdown";
    TagsLost [on_disk] "forgets its tags at the shutdown";
    PartialLost [on_disk] "forgets its partial blobs at the shutdown";
    SyncDropped [on_disk] "does nothing when a writer or the store is to be synced, and loses partial blobs when it is dropped";
    TemporaryTagsKept [on_disk] "holds its temporary tags after it was opened again";
    KindsLost [] "tells every failure as one of the system";
    RenamedInTwoSteps [] "renames a tag in two steps";
    TagsDeletedInSteps [] "deletes a range of tags one by one";
    MissingTagRenamed [] "renames a tag that is not there";
    LatestLostByKill [on_disk] "loses its latest import when it was not shut down";
    SweepDeletesBlindly [] "sweeps what was reached since the round began";
    SweepDoesNothing [] "sweeps nothing";
    NewSequencesForgotten [] "does not say which hash sequences were reached during a round";
    GrowthUnnoticed [] "does not notice when more of a hash sequence arrives during a round";
    TwoRounds [] "lets two rounds run at once";
    ScanLosesPartial [] "leaves partial blobs out of a scan";
    ScanLosesLast [] "leaves the last blob out of a scan";
    ScanTwice [] "hands out the first blob of a scan twice";
    DemotedInName [] "keeps what is taken back from a blob";
    DemotedWholly [] "takes back all of a blob when a part of it is damaged";
    DemotedByDeletion [] "deletes a blob that is demoted";
    DemotedBlindly [] "demotes a blob whatever it has become";
    DemotionForgotten [] "does not say that a blob was demoted";
    DemotionRemembered [] "says that every partial blob was demoted";
    PairsUnmended [on_disk] "demotes a blob and leaves its tree as it was";
    CheckNeverDone [] "never says that a check is done";
    CheckSaysNothing [] "finds nothing in a check";
    CheckCriesWolf [] "warns of something in every check";
    CheckMendsUnasked [on_disk] "mends in a check that is only to report";
    CheckNeverMends [on_disk] "mends nothing in a check that is to mend";
    TwoOwners [on_disk] "lets a directory be opened twice";
}
